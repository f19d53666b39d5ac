/* pace — a rank's own time for a step: without its waiting, and without steps that are given up. */
#include "base/activity.h"
#include "base/clock.h"
#include "base/err.h"
#include "check.h"
#include "train/pace.h"

#include <time.h>

static const double PAUSE = 0.02; /* seconds */
static Comm comm;

static void pause_a_moment(void) {
  double start = clock_now();
  while (clock_now() - start < PAUSE) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void wait_for_others(void) {
  activity_begin(ACTIVITY_COLLECTIVE, "an all-reduce");
  pause_a_moment();
  activity_end();
}

static void mean_of_the_steps(void **state) {
  (void)state;
  Pace p = {0};
  PaceResult r;
  double sum = 0;
  for (int turn = 0; turn < 2; turn++, sum = 0) {
    for (int i = 0; i < 2; i++) {
      pace_begin(&p);
      pause_a_moment();
      double seconds = pace_end(&p);
      assert_true(seconds >= PAUSE);
      sum += seconds;
    }
    pace_begin(&p); /* given up */
    pause_a_moment();
    assert_int_equal(pace_compare(&p, 2, &comm, &r), OK);
    assert_true(r.median == sum / 2 && r.slowest == r.median);
    assert_int_equal(r.rank, 0);
  }
}

static void waiting_is_left_out(void **state) {
  (void)state;
  Pace p = {0};
  PaceResult r;
  activity_follow();
  wait_for_others();
  pace_begin(&p);
  wait_for_others();
  double seconds = pace_end(&p);
  assert_int_equal(pace_compare(&p, 1, &comm, &r), OK);
  assert_true(r.slowest > 0 && r.slowest <= seconds - PAUSE);
}

static void uneven(void **state) {
  (void)state;
  assert_true(pace_uneven(&(PaceResult){.median = 1, .slowest = 1.3}, 1));
  assert_false(pace_uneven(&(PaceResult){.median = 1, .slowest = 1.1}, 100));
  assert_false(pace_uneven(&(PaceResult){.median = 0.001, .slowest = 0.002}, 100)); /* 0.2 s in all */
}

static int setup(void **state) { return (void)state, comm_null_create(&comm); }
static int teardown(void **state) { return (void)state, comm_destroy(&comm), 0; }

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(mean_of_the_steps), cmocka_unit_test(waiting_is_left_out),
                                     cmocka_unit_test(uneven)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
