/* lr — the rates of all schedules at their turning points and between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "train/lr.h"

#include <math.h>
#include <string.h>

static const double PEAK = 3e-4, LOW = 1e-6;

static void near(double got, double want) {
  if (!(fabs(got - want) <= 1e-14 * PEAK)) fail_msg("the rate is %.17g, not %.17g", got, want);
}

static Lr make(const char *name, int64_t warmup, int64_t steps) {
  Lr lr;
  assert_int_equal(
      lr_create(&lr, &(LrOptions){.name = name, .peak = PEAK, .min = LOW, .warmup = warmup, .steps = steps}), OK);
  return lr;
}

static void constant(void **state) {
  (void)state;
  Lr lr = make("constant", 2500, 1000000), none = make("constant", 0, 10);
  near(lr_at(&lr, 0), 0);
  near(lr_at(&lr, 1), PEAK / 2500);
  near(lr_at(&lr, 1250), PEAK / 2);
  near(lr_at(&lr, 2500), PEAK);
  near(lr_at(&lr, 999999), PEAK);
  near(lr_at(&none, 0), PEAK);
}

/* The cosine schedule ignores the warm-up key. */
static void cosine(void **state) {
  (void)state;
  for (int64_t warmup = 0; warmup <= 2500; warmup += 2500) {
    Lr lr = make("cosine", warmup, 1000000);
    near(lr_at(&lr, 0), LOW);
    near(lr_at(&lr, 50000), LOW + (PEAK - LOW) / 2);
    near(lr_at(&lr, 100000), PEAK);
    near(lr_at(&lr, 325000), LOW + (PEAK - LOW) * (1 + sqrt(0.5)) / 2); /* a quarter of the decay: cos 45° */
    near(lr_at(&lr, 550000), LOW + (PEAK - LOW) / 2);
    near(lr_at(&lr, 700000), LOW + (PEAK - LOW) / 4); /* two thirds: cos 120° = −1/2 */
    near(lr_at(&lr, 1000000), LOW);
  }
}

static void cosine_is_smooth(void **state) {
  (void)state;
  Lr lr = make("cosine", 0, 1234);
  for (int64_t n = 1; n <= 1234; n++) {
    double rise = lr_at(&lr, n) - lr_at(&lr, n - 1);
    assert_true(n <= 123 ? rise > 0 : n == 124 || rise < 0); /* the maximum is at 123.4 */
    assert_true(fabs(rise) <= 1.01 * (PEAK - LOW) / 123.4);
  }
}

static Lr wsd(const char *shape, double share) {
  Lr lr;
  const LrOptions o = {"wsd", PEAK, LOW, 100, 1000, share, shape};
  assert_int_equal(lr_create(&lr, &o), OK);
  return lr;
}

/* warm-up to step 100, decay from step 800 to 1000; its shapes at a quarter and half of it */
static void warmup_stable_decay(void **state) {
  (void)state;
  const char *const shapes[] = {"linear", "cosine", "sqrt"};
  const double left[][2] = {{0.75, 0.5}, {(1 + sqrt(0.5)) / 2, 0.5}, {0.5, 1 - sqrt(0.5)}};
  for (int i = 0; i < 3; i++) {
    Lr lr = wsd(shapes[i], 0.2), never = wsd(shapes[i], 0);
    near(lr_at(&lr, 0), 0);
    near(lr_at(&lr, 50), PEAK / 2);
    near(lr_at(&lr, 100), PEAK);
    near(lr_at(&lr, 800), PEAK);
    for (int k = 0; k < 2; k++) near(lr_at(&lr, 850 + 50 * k), LOW + (PEAK - LOW) * left[i][k]);
    near(lr_at(&lr, 1000), LOW);
    near(lr_at(&never, 1000), PEAK);
  }
  Lr all = wsd("linear", 1); /* the decay begins within the warm-up: the lower of the two */
  near(lr_at(&all, 50), PEAK / 2);
  near(lr_at(&all, 500), LOW + (PEAK - LOW) / 2);
}

/* A run with another number of steps has the same rates up to the decay. */
static void other_numbers_of_steps(void **state) {
  (void)state;
  Lr lr = wsd("linear", 0.2), flat = make("constant", 10, 1000), wave = make("cosine", 10, 1000);
  assert_true(lr_same(&lr, 2000, 801) && !lr_same(&lr, 2000, 802));
  assert_true(lr_same(&lr, 900, 721) && !lr_same(&lr, 900, 722));
  assert_true(lr_same(&flat, 5, 1000) && lr_same(&wave, 1000, 1000) && !lr_same(&wave, 1001, 2));
}

static void one_step(void **state) {
  (void)state;
  Lr lr = make("cosine", 0, 1);
  near(lr_at(&lr, 0), LOW);
}

static void refused(void **state) {
  (void)state;
  Lr lr;
  assert_int_equal(lr_create(&lr, &(LrOptions){.name = "cosin", .peak = PEAK, .steps = 10}), ERR_USAGE);
  assert_non_null(strstr(err_message(), "train.lr_schedule = cosin"));
  assert_int_equal(lr_create(&lr, &(LrOptions){.name = "cosine", .peak = LOW, .min = PEAK, .steps = 10}), ERR_USAGE);
  assert_non_null(strstr(err_message(), "train.lr_min = 0.0003"));
  assert_int_equal(lr_create(&lr, &(LrOptions){.name = "wsd", .peak = PEAK, .decay_shape = "step"}), ERR_USAGE);
  assert_non_null(strstr(err_message(), "train.decay_shape = step"));
  err_clear();
  assert_int_equal(lr_create(&lr, &(LrOptions){.name = "constant", .min = LOW, .steps = 10}), OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(constant),
                                     cmocka_unit_test(cosine),
                                     cmocka_unit_test(cosine_is_smooth),
                                     cmocka_unit_test(warmup_stable_decay),
                                     cmocka_unit_test(other_numbers_of_steps),
                                     cmocka_unit_test(one_step),
                                     cmocka_unit_test(refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
