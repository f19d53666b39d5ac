/* test_schedule — identities of the noise schedules. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "diffusion/schedule.h"

static const double epsilons[] = {1e-3, 1e-6, 0.1, 0.5};
enum { EPSILONS = sizeof epsilons / sizeof *epsilons, TIMES = 1000 };

/* a grid from 10⁻⁵ (where samplers end) to 1, dense at both ends */
static double time_of(int i) {
  double u = (double)i / (TIMES - 1);
  return 1e-5 + (1 - 1e-5) * u * u * (3 - 2 * u);
}

static bool close_to(double got, double want, double tolerance) { return fabs(got - want) <= tolerance * fabs(want); }

/* loglinear: 1 − alpha = (1 − ε)t, weight 1/t, alpha = exp(−σ) */
static void test_loglinear(void **state) {
  (void)state;
  for (int e = 0; e < EPSILONS; e++) {
    Schedule s;
    double eps = epsilons[e];
    MUST(schedule_create(&s, "loglinear", eps, 1e-3, 0));
    for (int i = 0; i < TIMES; i++) {
      double t = time_of(i);
      assert_true(close_to(schedule_masked(&s, t), (1 - eps) * t, 1e-12));
      assert_true(close_to(schedule_weight(&s, t), 1 / t, 1e-12));
      assert_true(close_to(exp(-schedule_sigma(&s, t)), 1 - (1 - eps) * t, 1e-12));
    }
    assert_true(schedule_sigma(&s, 0) == 0);
    assert_true(schedule_masked(&s, 0) == 0);
    assert_true(close_to(schedule_sigma(&s, 1), -log(eps), 1e-10)); /* 1 − ε has a rounding error */
    assert_true(close_to(1 - schedule_masked(&s, 1), eps, 1e-9));
  }
}

static const char *const names[] = {"loglinear", "linear", "geometric", "cosine", "cosinesqr"};
enum { NAMES = sizeof names / sizeof *names };

/* Each schedule with each ε, which only some of them use. */
static Schedule schedule(int i) {
  Schedule s;
  MUST(schedule_create(&s, names[i / EPSILONS], epsilons[i % EPSILONS], 1e-3, 0));
  return s;
}

/* rate = dσ/dt and weight = rate/(e^σ − 1), for any schedule */
static void test_rate(void **state) {
  (void)state;
  for (int k = 0; k < EPSILONS * NAMES; k++) {
    const Schedule s = schedule(k);
    double last = -1;
    for (int i = 0; i < TIMES; i++) {
      double t = 0.01 + 0.98 * i / (TIMES - 1), h = 1e-4 * fmin(t, 1 - t);
      double slope = (8 * (schedule_sigma(&s, t + h) - schedule_sigma(&s, t - h)) -
                      (schedule_sigma(&s, t + 2 * h) - schedule_sigma(&s, t - 2 * h))) /
                     (12 * h);
      assert_true(close_to(schedule_rate(&s, t), slope, 1e-8));
      assert_true(close_to(schedule_weight(&s, t) * (exp(schedule_sigma(&s, t)) - 1), slope, 1e-8));
      assert_true(schedule_sigma(&s, t) > last);
      last = schedule_sigma(&s, t);
    }
  }
}

/* schedule_time inverts schedule_sigma; the masked share never decreases. */
static void test_time(void **state) {
  (void)state;
  for (int k = 0; k < EPSILONS * NAMES; k++) {
    const Schedule s = schedule(k);
    /* cosinesqr is flat near its end: a rounding error of sigma moves t by its square root */
    const double tolerance = strcmp(s.table->name, "cosinesqr") == 0 ? 1e-6 : 1e-9;
    double last = -1;
    for (int i = 0; i < TIMES; i++) {
      double t = time_of(i), masked = schedule_masked(&s, t);
      if (!close_to(schedule_time(&s, schedule_sigma(&s, t)), t, tolerance))
        fail_msg("%s: %.15g comes back as %.15g", s.table->name, t, schedule_time(&s, schedule_sigma(&s, t)));
      assert_true(masked > last && masked <= 1);
      last = masked;
    }
  }
}

/* Each schedule against its textbook formula, away from where that loses digits; and the default ends. */
static void test_formulas(void **state) {
  (void)state;
  Schedule s[NAMES];
  const double pi = acos(-1), e = 1e-3;
  for (int i = 0; i < NAMES; i++) MUST(schedule_create(&s[i], names[i], e, 1e-3, 0));
  for (double t = 0.05; t <= 1; t += 0.05) {
    const double want[NAMES] = {-log(1 - (1 - e) * t), 1e-3 + t * (7 - 1e-3), exp((1 - t) * log(1e-3)),
                                -log(e + (1 - e) * cos(pi * t / 2)), -log(e + (1 - e) * pow(cos(pi * t / 2), 2))};
    for (int i = 0; i < NAMES; i++) assert_true(close_to(schedule_sigma(&s[i], t), want[i], 1e-10));
  }
  /* for small t: masked = (1 − ε)(πt)²/8 and (1 − ε)(πt/2)², accurate far below what 1 − alpha resolves in f32 */
  assert_true(close_to(schedule_masked(&s[3], 1e-5), (1 - e) * pow(pi * 1e-5, 2) / 8, 1e-9));
  assert_true(close_to(schedule_masked(&s[4], 1e-5), (1 - e) * pow(pi * 1e-5 / 2, 2), 1e-9));
  double least, most;
  schedule_ends(&s[0], &least, &most);
  assert_true(least == e && close_to(most, -log(e), 1e-10));
  schedule_ends(&s[1], &least, &most);
  assert_true(least == 1e-3 && most == 7);
}

/* ∫ weight·(1 − alpha) dt = ∫ −alpha' = alpha(τ) − alpha(1): the bound depends only on the schedule's ends. Simpson's
 * rule. */
static void test_weights_integrate_to_the_ends(void **state) {
  (void)state;
  enum { PANELS = 2000 };
  for (int e = 0; e < EPSILONS; e++) {
    Schedule s;
    const double tau = 1e-3, h = (1 - tau) / (2 * PANELS);
    MUST(schedule_create(&s, "loglinear", epsilons[e], 1e-3, 0));
    double sum = 0;
    for (int i = 0; i <= 2 * PANELS; i++) {
      double t = tau + h * i, f = schedule_rate(&s, t) * exp(-schedule_sigma(&s, t));
      double same = schedule_weight(&s, t) * schedule_masked(&s, t);
      assert_true(close_to(f, same, 1e-11));
      sum += f * (i == 0 || i == 2 * PANELS ? 1 : i % 2 ? 4 : 2);
    }
    double ends = exp(-schedule_sigma(&s, tau)) - exp(-schedule_sigma(&s, 1));
    assert_true(close_to(sum * h / 3, ends, 1e-9));
    assert_true(close_to(ends, (1 - epsilons[e]) * (1 - tau), 1e-9));
  }
}

static void test_unknown(void **state) {
  (void)state;
  Schedule s;
  check_refused(schedule_create(&s, "logarithmic", 1e-3, 1e-3, 0), ERR_USAGE, "an unknown schedule");
  check_refused(schedule_create(&s, "linear", 1e-3, 7, 0), ERR_USAGE, "no room between the ends");
  check_refused(schedule_create(&s, "geometric", 1e-3, 0.5, 0.4), ERR_USAGE, "ends in the wrong order");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_loglinear),
                                     cmocka_unit_test(test_rate),
                                     cmocka_unit_test(test_time),
                                     cmocka_unit_test(test_formulas),
                                     cmocka_unit_test(test_weights_integrate_to_the_ends),
                                     cmocka_unit_test(test_unknown)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
