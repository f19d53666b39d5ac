/* peers — what the watchdog concludes from the pulses of the ranks, with times that the test sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/thread.h"
#include "dist/peers.h"

#include <stdio.h>
#include <string.h>

static const double SILENCE = 30, TIMEOUT = 600;
static char text[PEERS_TEXT];

static Peers ranks(int rank, int size) {
  Peers p;
  assert_int_equal(peers_create(&p, rank, size, SILENCE, TIMEOUT, 0), OK);
  for (int r = 0; r < size; r++) snprintf(p.peer[r].host, PEERS_HOST, "node%d", r);
  return p;
}

static void hear(Peers *p, int rank, ActivityKind kind, const char *what, int64_t step, uint64_t count, double now) {
  Activity a = {.kind = kind, .what = what, .step = step, .count = count};
  Pulse pulse = pulse_of(1, rank, PULSE_ALIVE, &a);
  peers_hear(p, &pulse, now);
}

static void leave(Peers *p, int rank, double now) {
  Activity a = {.what = "start-up", .step = -1};
  Pulse pulse = pulse_of(1, rank, PULSE_LEAVES, &a);
  peers_hear(p, &pulse, now);
}

/* The time of the first verdict that is not NONE, second by second from `from`; 0 if there is none up to `to`. Ranks of
 * `alive` (bits) are heard every second: with progress if `moves`, and waiting if their bit of `waiting` is set. */
static double first(Peers *p, double from, double to, unsigned alive, unsigned waiting, bool moves, Verdict *v) {
  for (double now = from; now <= to; now++) {
    for (int r = 0; r < p->size; r++) {
      bool waits = waiting >> r & 1;
      if (alive >> r & 1)
        hear(p, r, waits ? ACTIVITY_COLLECTIVE : ACTIVITY_COMPUTE, waits ? "an all-reduce" : "the forward pass",
             waits ? 12 : 11, moves ? (uint64_t)now : 0, now);
    }
    *v = peers_judge(p, now, text);
    if (*v != VERDICT_NONE) return now;
  }
  return 0;
}

static void a_silent_rank_ends_the_job(void **state) {
  (void)state;
  Verdict v;
  Peers p = ranks(0, 3);
  assert_true(first(&p, 1, 100, 7, 1, true, &v) == 0);
  assert_true(first(&p, 101, 200, 3, 1, true, &v) == 131); /* rank 2 was last heard at 100 */
  assert_int_equal(v, VERDICT_END);
  assert_string_equal(text, "rank 2 on node2 has not answered for 31 s: it is stopped or lost (it last said that it is "
                            "in the forward pass of step 11); rank 0 waits in an all-reduce of step 12");
  peers_destroy(&p);
}

/* Rank 1 reports a silent rank 0; the ranks above leave it the time to do so. */
static void rank_0_is_missed_by_one_rank_first(void **state) {
  (void)state;
  for (int rank = 1; rank < 3; rank++) {
    Verdict v;
    Peers p = ranks(rank, 3);
    assert_true(first(&p, 1, 100, 1 | 1u << rank, 0, true, &v) == 0);
    double when = first(&p, 101, 200, 1u << rank, 1u << rank, true, &v);
    assert_true(when == (rank == 1 ? 131 : 138));
    assert_int_equal(v, VERDICT_END);
    assert_non_null(strstr(text, "rank 0 on node0 has not answered"));
    peers_destroy(&p);
  }
}

static void a_rank_that_leaves_is_not_missed(void **state) {
  (void)state;
  Verdict v;
  Peers p = ranks(0, 2);
  assert_true(first(&p, 1, 10, 3, 0, true, &v) == 0);
  leave(&p, 1, 11);
  assert_true(first(&p, 12, 2000, 1, 1, true, &v) == 0);
  peers_destroy(&p);
}

/* A job that is suspended as a whole goes on when it continues, even if the others' pulses take a while. */
static void a_suspended_job_is_not_ended(void **state) {
  (void)state;
  Verdict v;
  Peers p = ranks(0, 2);
  assert_true(first(&p, 1, 10, 3, 3, true, &v) == 0);
  assert_true(first(&p, 5000, 5029, 1, 3, true, &v) == 0);
  assert_true(first(&p, 5030, 5100, 1, 3, true, &v) == 5031); /* rank 1 does not come back */
  peers_destroy(&p);
}

static void a_rank_never_heard_is_warned_of_once(void **state) {
  (void)state;
  Verdict v;
  Peers p = ranks(0, 3);
  assert_true(first(&p, 1, 500, 3, 1, true, &v) == 31);
  assert_int_equal(v, VERDICT_WARN);
  assert_non_null(strstr(text, "from rank 2 on node2"));
  assert_true(first(&p, 32, 500, 3, 1, true, &v) == 0);
  peers_destroy(&p);
  p = ranks(1, 3);
  assert_true(first(&p, 1, 500, 2, 2, true, &v) == 0); /* the warning is rank 0's */
  peers_destroy(&p);
}

static void a_long_computation_is_no_fault(void **state) {
  (void)state;
  Verdict v;
  Peers p = ranks(0, 2);
  assert_true(first(&p, 1, 5000, 3, 0, false, &v) == 0);
  peers_destroy(&p);
}

static void no_progress_ends_the_job(void **state) {
  (void)state;
  Verdict v;
  Peers p = ranks(0, 3);
  assert_true(first(&p, 1, 5000, 7, 5, false, &v) == 602); /* since 1 */
  assert_int_equal(v, VERDICT_END);
  assert_string_equal(text, "no progress for dist.timeout = 600 s: rank 1 on node1 is in the forward pass of step 11; "
                            "rank 0 waits in an all-reduce of step 12");
  peers_destroy(&p);
  p = ranks(0, 2);
  assert_true(first(&p, 1, 5000, 3, 3, false, &v) == 602);
  assert_string_equal(text, "no progress for dist.timeout = 600 s: all ranks wait; rank 0 on node0 waits "
                            "in an all-reduce of step 12");
  peers_destroy(&p);
}

/* Ranks wait for hours while another one moves on, as in an evaluation whose last rank has more to do. */
static void progress_of_one_rank_is_progress(void **state) {
  (void)state;
  Peers p = ranks(0, 2);
  for (double now = 1; now < 5000; now++) {
    hear(&p, 0, ACTIVITY_COLLECTIVE, "a gather", -1, 7, now);
    hear(&p, 1, ACTIVITY_COMPUTE, "the forward pass", -1, (uint64_t)(now / 500), now);
    assert_int_equal(peers_judge(&p, now, text), VERDICT_NONE);
  }
  peers_destroy(&p);
}

/* The other ranks leave it to rank 0 to judge progress, unless they do not hear it. */
static void ranks_judge_progress_for_themselves_without_rank_0(void **state) {
  (void)state;
  Verdict v;
  Peers p = ranks(1, 2);
  assert_true(first(&p, 1, 5000, 3, 3, false, &v) == 0);
  peers_destroy(&p);
  p = ranks(1, 2);
  assert_true(first(&p, 1, 5000, 2, 2, false, &v) == 602);
  assert_int_equal(v, VERDICT_END);
  assert_string_equal(text, "no progress for dist.timeout = 600 s: rank 0 on node0 was never heard; rank 1 waits in an "
                            "all-reduce of step 12");
  peers_destroy(&p);
}

static void a_file_that_hangs_is_the_culprit(void **state) {
  (void)state;
  Verdict v = VERDICT_NONE;
  Peers p = ranks(0, 1);
  for (double now = 1; now < 1000 && v == VERDICT_NONE; now++) {
    hear(&p, 0, ACTIVITY_IO, "a file write", 3, 7, now);
    v = peers_judge(&p, now, text);
  }
  assert_int_equal(v, VERDICT_END);
  assert_string_equal(text, "no progress for dist.timeout = 600 s: rank 0 on node0 waits for a file write of step 3");
  peers_destroy(&p);
}

/* ---- activity */

static void *elsewhere(void *arg) {
  activity_begin(ACTIVITY_IO, "a file read");
  return arg;
}

static void activity_follows_one_thread(void **state) {
  (void)state;
  pthread_t other;
  activity_phase("the backward pass"); /* nobody is followed yet */
  assert_string_equal(activity_now().what, "start-up");
  activity_follow();
  activity_step(4);
  activity_phase("the forward pass");
  activity_begin(ACTIVITY_COLLECTIVE, "a barrier");
  Activity a = activity_now();
  assert_true(a.kind == ACTIVITY_COLLECTIVE && a.step == 4);
  assert_string_equal(a.what, "a barrier");
  assert_int_equal(thread_start(&other, elsewhere, NULL, "test"), OK);
  pthread_join(other, NULL);
  assert_string_equal(activity_now().what, "a barrier");
  activity_end();
  assert_string_equal(activity_now().what, "the forward pass");
  assert_int_equal(activity_now().kind, ACTIVITY_COMPUTE);
  assert_true(activity_now().count > a.count);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_silent_rank_ends_the_job),
      cmocka_unit_test(rank_0_is_missed_by_one_rank_first),
      cmocka_unit_test(a_rank_that_leaves_is_not_missed),
      cmocka_unit_test(a_suspended_job_is_not_ended),
      cmocka_unit_test(a_rank_never_heard_is_warned_of_once),
      cmocka_unit_test(a_long_computation_is_no_fault),
      cmocka_unit_test(no_progress_ends_the_job),
      cmocka_unit_test(progress_of_one_rank_is_progress),
      cmocka_unit_test(ranks_judge_progress_for_themselves_without_rank_0),
      cmocka_unit_test(a_file_that_hangs_is_the_culprit),
      cmocka_unit_test(activity_follows_one_thread),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
