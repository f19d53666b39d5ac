/* log — durations, which rank prints, and the progress line with and without a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void durations(void **state) {
  (void)state;
  const struct {
    double seconds;
    const char *text;
  } cases[] = {
      {0, "0:00"},         {4.4, "0:04"},           {59.6, "1:00"},        {184, "3:04"},
      {3599.7, "1:00:00"}, {7384, "2:03:04"},       {86399.4, "23:59:59"}, {93784, "1d 02:03:04"},
      {-5, "0:00"},        {1e8, "1157d 09:46:40"}, {INFINITY, "?"},       {NAN, "?"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char buf[64];
    assert_ptr_equal(log_duration(buf, sizeof buf, cases[i].seconds), buf);
    assert_string_equal(buf, cases[i].text);
  }
  char small[5];
  log_duration(small, sizeof small, 7384);
  assert_string_equal(small, "2:03");
}

/* The text that `speak` writes to file descriptor fd. */
static void capture(char *text, size_t n, FILE *stream, int fd, void (*speak)(void)) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  fflush(stream);
  int kept = dup(fd);
  assert_true(kept >= 0 && dup2(ends[1], fd) == fd);
  close(ends[1]);
  speak();
  fflush(stream);
  dup2(kept, fd);
  close(kept);
  ssize_t got = read(ends[0], text, n - 1);
  close(ends[0]);
  text[got > 0 ? got : 0] = '\0';
}

static void speak_info(void) { log_info("loss %.2f", 1.5); }
static void speak_warn(void) { log_warn("slow %s", "disk"); }
static void speak_error(void) { log_error("no %s", "data"); }
static void speak_long(void) {
  char text[9000];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  log_info("%s", text);
}

static void rank_zero_speaks(void **state) {
  (void)state;
  char text[10000];
  log_init(0, 1);
  capture(text, sizeof text, stdout, STDOUT_FILENO, speak_info);
  assert_string_equal(text, "loss 1.50\n");
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_warn);
  assert_string_equal(text, "warning: slow disk\n");
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_error);
  assert_string_equal(text, "mdlm: error: no data\n");
  capture(text, sizeof text, stdout, STDOUT_FILENO, speak_long);
  assert_in_range(strlen(text), 4000, 4096);
  assert_int_equal(text[strlen(text) - 1], '\n');
}

static void other_ranks_only_err(void **state) {
  (void)state;
  char text[1000];
  log_init(3, 4);
  capture(text, sizeof text, stdout, STDOUT_FILENO, speak_info);
  assert_string_equal(text, "");
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_warn);
  assert_string_equal(text, "");
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_error);
  assert_string_equal(text, "mdlm: error on rank 3: no data\n");
  log_init(0, 1);
}

/* A loop that began 100 s ago and reports progress twice; only the first report is due. */
static void speak_progress(void) {
  Progress p;
  progress_start(&p, "valid", "seq", 400);
  p.start -= 100;
  p.shown -= 100;
  progress_show(&p, 100);
  progress_show(&p, 101);
  progress_end(&p, 400);
}

static void speak_short_progress(void) {
  Progress p;
  progress_start(&p, "valid", "seq", 2);
  progress_show(&p, 1);
  progress_end(&p, 2);
}

static void progress_in_a_file(void **state) {
  (void)state;
  char text[1000];
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_progress);
  assert_string_equal(text, "valid 100/400 seq (1 seq/s, ETA 5:00)\nvalid 400/400 seq (4 seq/s, took 1:40)\n");
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_short_progress);
  assert_string_equal(text, "");
  log_init(1, 2);
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_progress);
  assert_string_equal(text, "");
  log_init(0, 1);
}

/* ---- on a terminal: a pseudo-terminal of 40 columns in place of stderr */

/* The text that the terminal receives from `speak`, with escape sequences. */
static void capture_terminal(char *text, size_t n, void (*speak)(void)) {
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
  const struct winsize size = {.ws_row = 24, .ws_col = 40};
  assert_true(slave >= 0 && ioctl(slave, TIOCSWINSZ, &size) == 0);
  fflush(stderr);
  int kept = dup(STDERR_FILENO);
  assert_true(kept >= 0 && dup2(slave, STDERR_FILENO) == STDERR_FILENO);
  assert_int_equal(log_columns(stderr), 40);
  speak();
  fflush(stderr);
  dup2(kept, STDERR_FILENO);
  close(kept);
  close(slave);
  size_t used = 0; /* the text arrives in pieces; after it read fails, because no writer is left */
  for (ssize_t got; (got = read(master, text + used, n - 1 - used)) > 0;) used += (size_t)got;
  text[used] = '\0';
  close(master);
}

/* A loop resumed at step 10 of 20: the first call starts the clock, the next one is 100 s and 5 steps later. */
static void speak_live(void) {
  Progress p;
  progress_start(&p, "step", "tokens", 20);
  progress_live(&p, 10, 5000, "loss %.2f", 9.0);
  p.start -= 100;
  p.shown -= 100;
  progress_live(&p, 15, 5500, "loss %.2f", 1.5);
  progress_live(&p, 16, 5600, "loss %.2f", 1.25); /* not due */
  log_warn("slow");
}

static void live_on_a_terminal(void **state) {
  (void)state;
  char text[1000];
  capture_terminal(text, sizeof text, speak_live);
  assert_string_equal(text, "\rstep 15/20  loss 1.50  5 tokens/s  eta \033[K" /* cut at the terminal's width */
                            "\r\033[Kwarning: slow\r\n");
  log_init(1, 2);
  capture_terminal(text, sizeof text, speak_live);
  assert_string_equal(text, "");
  log_init(0, 1);
}

static void no_live_in_a_file(void **state) {
  (void)state;
  char text[1000];
  capture(text, sizeof text, stderr, STDERR_FILENO, speak_live);
  assert_string_equal(text, "warning: slow\n");
}

static void progress_on_a_terminal(void **state) {
  (void)state;
  char text[1000];
  capture_terminal(text, sizeof text, speak_progress);
  assert_string_equal(text, "\rvalid 100/400 seq (1 seq/s, ETA 5:00)\033[K"
                            "\rvalid 400/400 seq (4 seq/s, took 1:40)\033[K\r\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(durations),
      cmocka_unit_test(rank_zero_speaks),
      cmocka_unit_test(other_ranks_only_err),
      cmocka_unit_test(progress_in_a_file),
      cmocka_unit_test(progress_on_a_terminal),
      cmocka_unit_test(live_on_a_terminal),
      cmocka_unit_test(no_live_in_a_file),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
