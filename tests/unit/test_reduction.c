/* test_reduction — the number of leaves of the tree, the ranks that can share them, and what they cost. The sums are
 * tested in tests/mpi. */
#include "check.h"

#include "base/err.h"
#include "train/reduce.h"
#include <string.h>

/* The rule of versions that had powers of two only. */
static int64_t power_of_two(int64_t micros, int64_t most) {
  int64_t n = 1;
  while (micros % (2 * n) == 0 && 2 * n <= most) n *= 2;
  return n;
}

static void leaves_divide_the_micro_batches(void **state) {
  (void)state;
  const struct {
    int64_t micros, most, leaves;
  } rows[] = {{1, 16, 1},   {12, 16, 12}, {16, 16, 16}, {24, 16, 8},   {24, 24, 24}, {36, 16, 12},
              {48, 16, 16}, {48, 47, 16}, {48, 48, 48}, {105, 16, 15}, {17, 16, 1},  {96, 1, 1}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    assert_int_equal(reduction_leaves(rows[i].micros, rows[i].most), rows[i].leaves);
  for (int64_t micros = 1; micros <= 200; micros++)
    for (int64_t most = 1; most <= 70; most++) {
      int64_t n = reduction_leaves(micros, most), power = power_of_two(micros, most);
      assert_true(n <= most && micros % n == 0 && n % power == 0);
      assert_true(micros > most || n == micros);
      if ((n & (n - 1)) == 0) assert_int_equal(n, power);
    }
}

static void refused(int ranks, int64_t micros, int64_t most, const char *text) {
  Comm comm;
  Params params = {0};
  Reduction r;
  MUST(comm_null_create(&comm));
  comm.size = ranks;
  assert_int_equal(reduction_create(&r, &comm, &params, true, micros, most), ERR_USAGE);
  if (strstr(err_message(), text) == NULL) fail_msg("no \"%s\" in: %s", text, err_message());
  err_clear();
}

/* One line names a dist.tree_leaves that works. */
static void unequal_shares_are_refused(void **state) {
  (void)state;
  refused(3, 48, 16,
          "48 micro-batches of a step make 16 leaves, which 3 ranks cannot share equally: set dist.tree_leaves = 48");
  refused(2, 8, 1, "set dist.tree_leaves = 2");
  refused(65537, 2 * 65537, 65536, "raise train.micro_batch");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(leaves_divide_the_micro_batches),
                                     cmocka_unit_test(unequal_shares_are_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
