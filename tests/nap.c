/* nap — preloaded into ranks of tests (e2e/mpi.sh): a rank that waits for others calls sched_yield in a loop. On a core
 * without other work that loop burns CPU time, and among other processes it gets turns that they could use. Here every
 * 8th call sleeps instead. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int sched_yield(void);

int sched_yield(void) {
  enum { YIELDS = 8 };
  static _Thread_local unsigned calls;
  if (++calls % YIELDS) return (int)syscall(SYS_sched_yield);
  nanosleep(&(struct timespec){.tv_nsec = 10000}, NULL); /* the kernel's timer makes some 60 µs of it */
  return 0;
}
