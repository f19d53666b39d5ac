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
  assert_true(lock.held && run.lock.held);
  lock_release(&lock, bench_path("out.h5"));
  assert_false(bench_there(bench_path("out.h5.lock")));
  rundir_close(&run);
}

/* stderr of what follows until the next call goes to a file, whose text that call returns; without locks meanwhile. */
static const char *heard(bool begin) {
  static int old, fd;
  static char text[3000];
  no_locks = begin;
  if (begin) {
    old = dup(STDERR_FILENO), fd = open(bench_path("stderr"), O_RDWR | O_CREAT | O_TRUNC, 0666);
    dup2(fd, STDERR_FILENO);
    return NULL;
  }
  dup2(old, STDERR_FILENO);
  ssize_t n = pread(fd, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = 0;
  close(old), close(fd);
  return text;
}

/* The warning comes once; both hold a file that only one job can create. */
static void without_locks(void **unused) {
  Lock lock = {0}, second = {0};
  RunDir run;
  (void)unused;
  heard(true);
  int output = lock_take(&lock, bench_path("none.h5")), directory = rundir_open(&run, bench_path("run"));
  const char *line = heard(false);
  must(output);
  must(directory);
  assert_true(lock.held && bench_there(bench_path("none.h5.lock.held")));
  assert_true(run.lock.held && bench_there(bench_path("run/lock.held")));
  assert_non_null(strstr(line, "none.h5.lock: its file system has no locks (No locks available)"));
  assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
  no_locks = true;
  refused(lock_take(&second, bench_path("none.h5")), ERR_BUSY, "none.h5 is being written by another job (host ",
          "if it has ended, remove ");
  no_locks = false;
  lock_release(&lock, bench_path("none.h5"));
  rundir_close(&run);
  assert_false(bench_there(bench_path("none.h5.lock.held")) || bench_there(bench_path("none.h5.lock")) ||
               bench_there(bench_path("run/lock.held")));
}

static void leave(const char *host, long process, unsigned long long start) {
  FILE *f = fopen(bench_path("none.h5.lock.held"), "w");
  assert_non_null(f);
  fprintf(f, "host %s, process %ld, since long\nstart %llu job none restarts 0\n", host, process, start);
  fclose(f);
}

/* What ended processes of this host leave is replaced: one that is gone, one whose number another process has now. */
static void what_is_left(void **unused) {
  char host[128] = "";
  Lock lock = {0};
  (void)unused;
  gethostname(host, sizeof host - 1);
  pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, NULL, 0);
  const long gone[] = {(long)child, (long)getpid()};
  for (int i = 0; i < 2; i++) {
    leave(host, gone[i], 1);
    heard(true);
    int err = lock_take(&lock, bench_path("none.h5"));
    const char *line = heard(false);
    must(err);
    assert_non_null(strstr(line, "none.h5.lock.held: replaced: the job that held it has ended (host "));
    lock_release(&lock, bench_path("none.h5"));
  }
  leave("elsewhere", (long)child, 1);
  no_locks = true;
  refused(lock_take(&lock, bench_path("none.h5")), ERR_BUSY, "(host elsewhere, process ", "if it has ended, remove ");
  no_locks = false;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_second_job_is_refused), cmocka_unit_test(without_locks),
                                     cmocka_unit_test(what_is_left)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
