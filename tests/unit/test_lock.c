/* lock — who holds an output or a run directory, and file systems without locks. */
#include "check.h"
#include "store/lock.h"
#include "store_bench.h"
#include "train/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static bool no_locks;

/* In place of the C library's. All commands that the program uses have an argument of a pointer's size, or none. */
int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (no_locks && command == F_SETLK) {
    errno = ENOLCK;
    return -1;
  }
  return (int)syscall(SYS_fcntl, fd, command, argument);
}

/* fork: locks are those of a process. Runs `act` while the child, whose number is returned, holds output and run. */
static pid_t other_job(int *release) {
  int ready[2], go[2];
  char byte = 0;
  assert_int_equal(pipe(ready), 0);
  assert_int_equal(pipe(go), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    Lock lock;
    RunDir run;
    bool good = lock_take(&lock, bench_path("out.h5")) == OK && rundir_open(&run, bench_path("run")) == OK;
    close(go[1]);
    if (!good || write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 0) _exit(1);
    lock_release(&lock, bench_path("out.h5"));
    _exit(0);
  }
  close(go[0]), close(ready[1]);
  assert_int_equal(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  *release = go[1];
  return child;
}

static void a_second_job_is_refused(void **unused) {
  int release, status;
  char who[64];
  Lock lock = {0};
  RunDir run;
  (void)unused;
  pid_t child = other_job(&release);
  snprintf(who, sizeof who, ", process %d): wait", (int)child);
  refused(lock_take(&lock, bench_path("out.h5")), ERR_BUSY, "out.h5 is being written by another job (host ", who);
  assert_false(lock.held);
  refused(rundir_open(&run, bench_path("run")), ERR_BUSY, "run is in use by another job (host ", who);
  close(release);
  waitpid(child, &status, 0);
  assert_int_equal(status, 0);
  assert_false(bench_there(bench_path("out.h5.lock")));
  must(lock_take(&lock, bench_path("out.h5")));
  must(rundir_open(&run, bench_path("run")));
  assert_true(lock.held && run.lock >= 0);
  lock_release(&lock, bench_path("out.h5"));
  assert_false(bench_there(bench_path("out.h5.lock")));
  rundir_close(&run);
}

/* Both go on, the warning comes once, and a run directory stays usable. */
static void without_locks(void **unused) {
  char line[600] = "";
  Lock lock = {0};
  RunDir run;
  (void)unused;
  int old = dup(STDERR_FILENO), fd = open(bench_path("stderr"), O_RDWR | O_CREAT | O_TRUNC, 0666);
  dup2(fd, STDERR_FILENO);
  no_locks = true;
  int output = lock_take(&lock, bench_path("none.h5")), directory = rundir_open(&run, bench_path("run"));
  no_locks = false;
  dup2(old, STDERR_FILENO);
  close(old);
  must(output);
  must(directory);
  assert_false(lock.held || bench_there(bench_path("none.h5.lock")));
  assert_int_equal(run.lock, -1);
  assert_true(pread(fd, line, sizeof line - 1, 0) > 0);
  close(fd);
  assert_non_null(strstr(line, "none.h5.lock: its file system has no locks (No locks available)"));
  assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
  lock_release(&lock, bench_path("none.h5"));
  rundir_close(&run);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_second_job_is_refused), cmocka_unit_test(without_locks)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
