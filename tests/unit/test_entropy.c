/* entropy — the entropy of token counts against values computed by hand; independent of the order of the tokens. */
#include "check.h"
#include "measure/entropy.h"

#include <math.h>

static void expect(const int32_t *ids, int64_t n, double want) {
  double nat = entropy(ids, n);
  assert_true(fabs(nat - want) < 1e-12 * (1 + want));
  assert_false(signbit(nat));
}

static void test_values(void **state) {
  (void)state;
  int32_t many[1000];
  expect((int32_t[]){7}, 1, 0);
  expect((int32_t[]){3, 3, 3, 3}, 4, 0);
  expect((int32_t[]){3, 0, 3, 0}, 4, log(2));
  expect((int32_t[]){5, 50257, 0, 50257}, 4, 1.5 * log(2));
  for (int i = 0; i < 1000; i++) many[i] = (i * 7) % 1000;
  expect(many, 1000, log(1000));
  for (int i = 0; i < 1000; i++) many[i] = i % 10 == 0; /* shares of 0.1 and 0.9 */
  expect(many, 1000, -0.1 * log(0.1) - 0.9 * log(0.9));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
