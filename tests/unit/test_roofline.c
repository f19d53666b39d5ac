/* test_roofline — floors and predictions for another device against numbers by hand; the ceilings of this processor. */
#include "base/err.h"
#include "check.h"
#include "train/roofline.h"
#include <math.h>

static const Ceilings here = {100, 10};

static Work made(void) {
  Work w = {0};
  w.flops[GROUP_DENSE] = 1000; /* 10 s at least */
  w.seconds[GROUP_DENSE] = 20;
  w.bytes[GROUP_BLOCK] = 30; /* 3 s */
  w.flops[GROUP_BLOCK] = 10;
  w.seconds[GROUP_BLOCK] = 4;
  w.seconds[GROUP_MEMORY] = 1; /* no work is counted */
  return w;
}

static void test_floors(void **state) {
  (void)state;
  Work w = made();
  assert_true(roofline_floor(&w, &here, GROUP_DENSE) == 10);
  assert_true(roofline_floor(&w, &here, GROUP_BLOCK) == 3);
  assert_true(roofline_floor(&w, &here, GROUP_MEMORY) == 0);
}

static void test_other_device(void **state) {
  (void)state;
  Work w = made();
  Ceilings same = here, faster = {400, 20};
  assert_true(roofline_other(&w, &here, &same, 26) == 26);
  assert_true(roofline_other(&w, &here, &faster, 26) == 20.0 / 4 + 4.0 / 2 + 1 + 1); /* 1 s belongs to no group */
}

static void test_measured(void **state) {
  (void)state;
  Device dev;
  DeviceOptions options = {.name = "cpu", .threads = 1};
  Ceilings c = {0};
  MUST(device_open(&dev, &options));
  MUST(ceilings_sums(&dev, &c.bytes));
  assert_true(c.bytes > 1e6 && c.bytes < 1e15);
  Work w = {0};
  work_add(&w, &dev, 2);
  assert_true(w.bytes[GROUP_UPDATE] == 2 * dev.bytes[GROUP_UPDATE] && w.seconds[GROUP_UPDATE] > 0);
  device_close(&dev);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_floors), cmocka_unit_test(test_other_device),
                                     cmocka_unit_test(test_measured)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
