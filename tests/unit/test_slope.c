/* test_slope — finite differences and their error bound on functions with known derivatives; and the rejection of an op
 * gradient that is wrong by one part in 10⁴. */
#include "slope.h"

#include <math.h>

#include "check.h"

/* ---- functions with known derivatives */
typedef struct Known {
  const char *label;
  double (*f)(double x, double *size);
  double slope;
} Known;

static double one_term(double y, double *size) {
  *size = fabs(y);
  return y;
}
static double line(double x, double *size) { return one_term(3 * x, size); }
static double growth(double x, double *size) { return one_term(exp(2 * x + 1), size); }
static double wave(double x, double *size) { return one_term(sin(5 * x + 0.3), size); }
static double fifth_power(double x, double *size) { return one_term(pow(1 + x, 5), size); }
static double far_up(double x, double *size) { return one_term(1e3 + sin(x), size); }
static double cancelling(double x, double *size) {
  double y = (1e3 + sin(x)) - 1e3;
  *size = 2e3;
  return y;
}

static const Known known[] = {{"line", line, 3},
                              {"growth", growth, 2 * 2.718281828459045},
                              {"wave", wave, 5 * 0.955336489125606},
                              {"fifth power", fifth_power, 5},
                              {"far up", far_up, 1},
                              {"cancelling", cancelling, 1}};

static double at(void *arg, double step, double *size) { return ((const Known *)arg)->f(step, size); }

static void test_known_slopes(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    Known k = known[i];
    Slope s = slope_measure(at, &k);
    if (!slope_agrees(s, k.slope)) fail_msg("%s: %.15g ± %.2g, not %.15g", k.label, s.value, s.error, k.slope);
    assert_true(s.error < SLOPE_SHARP * k.slope);
    assert_false(slope_agrees(s, (1 + 1e-4) * k.slope));
    assert_false(slope_agrees(s, NAN));
  }
}

/* If the step is too long, the reported error is large. */
static double ripple(double x, double *size) { return one_term(sin(700 * x), size); }

static void test_rough(void **state) {
  (void)state;
  Known k = {"ripple", ripple, 700};
  Slope s = slope_measure(at, &k);
  assert_true(slope_agrees(s, k.slope) && s.error > SLOPE_SHARP * k.slope);
}

/* ---- the gradient of an op */
typedef struct Square {
  Tensor x;
} Square;

static double squares(Check *c, void *state, double *size) {
  const double *x = check_read(c, ((Square *)state)->x);
  return check_terms(x, x, tensor_count(((Square *)state)->x), size);
}

static void op_gradient(Check *c, const void *factor) {
  Square s = {check_random(c, 3, 5)};
  double *grad = check_read(c, s.x);
  for (int i = 0; i < 15; i++) grad[i] *= 2 * *(const double *)factor;
  check_title(c, "squares");
  CheckWhy why;
  bool agrees = check_slope_agrees(c, squares, &s, s.x, grad, why);
  assert_true(agrees == (*(const double *)factor == 1));
}

static void test_op_gradient(void **state) {
  (void)state;
  const double factors[] = {1, 1 + 1e-4, 1 - 1e-4, 0};
  for (int i = 0; i < 4; i++) check_once(op_gradient, &factors[i], CHECK_F64);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_known_slopes), cmocka_unit_test(test_rough),
                                     cmocka_unit_test(test_op_gradient)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
