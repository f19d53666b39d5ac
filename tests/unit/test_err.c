/* err — codes are passed up the call chain; messages and traces belong to the thread that raised the error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int inner(int x) {
  CHECK(x > 0, ERR_DATA, "x is %d; make it positive", x);
  return OK;
}

static int outer(int x) {
  TRY(inner(x));
  return OK;
}

static int with_cleanup(int x, int *cleaned) {
  int err = OK;
  TRY_TO(done, inner(x));
done:
  (*cleaned)++;
  return err;
}

static int clear(void **state) {
  (void)state;
  err_clear();
  return 0;
}

static void nothing_at_first(void **state) {
  (void)state;
  assert_string_equal(err_message(), "");
  assert_string_equal(err_backtrace(), "");
  assert_int_equal(err_agreed(), 0);
  assert_int_equal(outer(1), OK);
  assert_string_equal(err_message(), "");
}

static void climbs_with_trace(void **state) {
  (void)state;
  assert_int_equal(outer(-3), ERR_DATA);
  assert_string_equal(err_message(), "x is -3; make it positive");
  const char *trace = err_backtrace(), *raised = strstr(trace, "raised here"), *call = strstr(trace, "inner(x)");
  assert_non_null(raised);
  assert_non_null(call);
  assert_true(raised < call); /* innermost first */
  assert_non_null(strstr(trace, "test_err.c:"));
}

static void cleanup_runs(void **state) {
  (void)state;
  int cleaned = 0;
  assert_int_equal(with_cleanup(-1, &cleaned), ERR_DATA);
  assert_int_equal(cleaned, 1);
  assert_non_null(strstr(err_backtrace(), "inner(x)"));
  assert_int_equal(with_cleanup(1, &cleaned), OK);
  assert_int_equal(cleaned, 2);
}

static void latest_error_counts(void **state) {
  (void)state;
  assert_int_equal(outer(-1), ERR_DATA);
  err_set_agreed(1);
  assert_int_equal(RAISE(ERR_IO, "while saving: %s", err_message()), ERR_IO);
  assert_string_equal(err_message(), "while saving: x is -1; make it positive");
  assert_null(strstr(err_backtrace(), "inner(x)"));
  assert_int_equal(err_agreed(), 0); /* the ranks have not agreed on the new error */
}

static void clear_forgets(void **state) {
  (void)state;
  (void)RAISE(ERR_IO, "something");
  err_set_agreed(1);
  assert_int_equal(err_agreed(), 1);
  err_clear();
  assert_string_equal(err_message(), "");
  assert_string_equal(err_backtrace(), "");
  assert_int_equal(err_agreed(), 0);
}

static void long_texts_are_cut(void **state) {
  (void)state;
  char text[10000];
  memset(text, 'a', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  assert_int_equal(RAISE(ERR_USAGE, "%s", text), ERR_USAGE);
  assert_in_range(strlen(err_message()), 1000, sizeof text - 2);
  for (int i = 0; i < 1000; i++) err_trace(ERR_USAGE, "file.c", i, "some_call(with, arguments)");
  const char *trace = err_backtrace();
  assert_in_range(strlen(trace), 1000, 20000);
  assert_int_equal(trace[strlen(trace) - 1], '\n'); /* whole frames only */
  assert_non_null(strstr(trace, "file.c:0:"));
}

static void *raise_elsewhere(void *seen) {
  *(int *)seen = err_message()[0] != '\0';
  (void)RAISE(ERR_COMM, "of the other thread");
  return NULL;
}

static void threads_have_their_own(void **state) {
  (void)state;
  pthread_t other;
  int seen = -1;
  (void)RAISE(ERR_DATA, "of this thread");
  assert_int_equal(pthread_create(&other, NULL, raise_elsewhere, &seen), 0);
  assert_int_equal(pthread_join(other, NULL), 0);
  assert_int_equal(seen, 0);
  assert_string_equal(err_message(), "of this thread");
}

static void assert_aborts(void **state) {
  (void)state;
  ASSERT(1 + 1 == 2);
  int ends[2], status = 0;
  char text[512] = "";
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    dup2(ends[1], STDERR_FILENO);
    ASSERT(1 + 1 == 3);
    _exit(0);
  }
  close(ends[1]);
  assert_true(read(ends[0], text, sizeof text - 1) > 0);
  close(ends[0]);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  assert_non_null(strstr(text, "1 + 1 == 3"));
  assert_non_null(strstr(text, "test_err.c:"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(nothing_at_first, clear),       cmocka_unit_test_setup(climbs_with_trace, clear),
      cmocka_unit_test_setup(cleanup_runs, clear),           cmocka_unit_test_setup(latest_error_counts, clear),
      cmocka_unit_test_setup(clear_forgets, clear),          cmocka_unit_test_setup(long_texts_are_cut, clear),
      cmocka_unit_test_setup(threads_have_their_own, clear), cmocka_unit_test_setup(assert_aborts, clear),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
