/* dropout: the share of kept units, their scale, and the independence of random streams. */
#include "check.h"

#include <math.h>
#include <string.h>

static void mask_statistics(Check *c, const void *shape) {
  (void)shape;
  static const double p[] = {0.1, 0.5, 0.013};
  enum { R = 128, D = 800 };
  for (int k = 0; k < 3; k++) {
    check_title(c, "dropout p=%g", p[k]);
    Dropout d = {.p = p[k], .seed = 3, .step = 7, .layer = 1, .first = 0, .L = 16};
    double *mask = check_mask(c, &d, R, D), kept = 0, rounded = rint(p[k] * 65536) / 65536, n = (double)R * D;
    for (int64_t i = 0; i < R * D; i++) {
      if (mask[i] == 0) continue;
      kept++;
      if (fabs(mask[i] * (1 - rounded) - 1) > c->mode->point)
        fail_msg("%s: a kept unit is scaled by %.9g", c->title, mask[i]);
    }
    if (fabs(kept / n - (1 - p[k])) > 4 * sqrt(p[k] * (1 - p[k]) / n))
      fail_msg("%s: a fraction of %.5f is kept", c->title, kept / n);
    check_record_host(c, mask, sizeof(double) * R * D);
  }
}

static double agreement(const double *a, const double *b, int64_t n) {
  double same = 0;
  for (int64_t i = 0; i < n; i++) same += (a[i] == 0) == (b[i] == 0);
  return same / (double)n;
}

/* Masks of different seeds, steps, layers or sequences are independent: at p = ½ two masks agree in half of the units.
 */
static void mask_streams(Check *c, const void *shape) {
  (void)shape;
  enum { R = 32, D = 256, N = R * D };
  const Dropout base = {.p = 0.5, .seed = 3, .step = 7, .layer = 1, .first = 0, .L = R};
  Dropout other[5] = {base, base, base, base, base};
  other[0].seed = 4, other[1].step = 8, other[2].layer = 2, other[3].first = 1, other[4].seed = 3 + ((uint64_t)1 << 32);
  double *first = check_mask(c, &base, R, D);
  for (int k = 0; k < 5; k++) {
    double same = agreement(first, check_mask(c, &other[k], R, D), N);
    if (fabs(same - 0.5) > 4 * 0.5 / sqrt(N))
      fail_msg("dropout stream %d agrees with the first in %.4f of the units", k, same);
  }
  for (int64_t r = 1; r < R; r++) { /* rows, and shifts along a row */
    double same = agreement(first, first + r * D, D);
    if (fabs(same - 0.5) > 5 * 0.5 / sqrt(D))
      fail_msg("dropout row %d agrees with row 0 in %.4f of the units", (int)r, same);
  }
  for (int64_t lag = 1; lag < 64; lag++) {
    double same = agreement(first, first + lag, N - lag);
    if (fabs(same - 0.5) > 5 * 0.5 / sqrt(N))
      fail_msg("dropout agrees with itself %d units on in %.4f", (int)lag, same);
  }
  check_record_host(c, first, sizeof(double) * N);
}

/* p = 0 keeps all units; a width that is not a multiple of the block of random bits is filled to its end. */
static void mask_ends(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "dropout at the ends");
  Dropout none = {.seed = 1, .L = 3}, rare = {.p = 1e-9, .seed = 1, .L = 3}, half = {.p = 0.5, .seed = 1, .L = 3};
  /* with this many units some draw 16 zero bits; p = 1e-9 rounds to 0 and must keep those, too */
  enum { R = 255, D = 1024 };
  double *mask = check_mask(c, &none, R, D), *almost = check_mask(c, &rare, R, D);
  for (int i = 0; i < R * D; i++) assert_true(mask[i] == 1 && almost[i] == 1);
  static const int widths[] = {8, 24, 120, 128, 136, 264};
  for (int k = 0; k < 6; k++) {
    double *wide = check_mask(c, &half, 6, widths[k]);
    for (int i = 0; i < 6 * widths[k]; i++) assert_true(wide[i] == 0 || wide[i] == 2);
    check_record_host(c, wide, sizeof(double) * 6 * (size_t)widths[k]);
  }
}

/* The clean half of a pass continues the noisy rows' streams: the mask of a sequence does not depend on how many others
 * there are, and is that of the sequence with twice as many rows. */
static void mask_halves(Check *c, const void *shape) {
  (void)shape;
  enum { B = 3, L = 5, D = 136 };
  const Dropout halves = {.p = 0.5, .seed = 3, .first = 2, .L = L, .clean = B * L, .draws = 1};
  const Dropout alone = {.p = 0.5, .seed = 3, .first = 3, .L = L, .clean = L, .draws = 1};
  const Dropout twice = {.p = 0.5, .seed = 3, .first = 2, .L = 2 * L};
  check_title(c, "dropout of halves");
  double *mask = check_mask(c, &halves, 2 * B * L, D), *second = check_mask(c, &alone, 2 * L, D);
  double *want = check_mask(c, &twice, 2 * B * L, D);
  for (int64_t b = 0; b < B; b++)
    for (int64_t half = 0; half < 2; half++) {
      const double *rows = mask + (half * B + b) * L * D;
      assert_memory_equal(rows, want + (2 * b + half) * L * D, L * D * sizeof *rows);
      if (b == 1) assert_memory_equal(rows, second + half * L * D, L * D * sizeof *rows);
    }
  check_record_host(c, mask, sizeof(double) * 2 * B * L * D);
}

/* A clean sequence of several noisy ones has the stream of the first of them. */
static void mask_draws(Check *c, const void *shape) {
  (void)shape;
  enum { B = 2, DRAWS = 3, NOISY = B * DRAWS, L = 5, D = 136 };
  const Dropout draws = {.p = 0.5, .seed = 3, .first = 6, .L = L, .clean = NOISY * L, .draws = DRAWS};
  const Dropout halves = {.p = 0.5, .seed = 3, .first = 6, .L = L, .clean = NOISY * L, .draws = 1};
  check_title(c, "dropout of draws");
  double *mask = check_mask(c, &draws, (NOISY + B) * L, D), *want = check_mask(c, &halves, 2 * NOISY * L, D);
  assert_memory_equal(mask, want, NOISY * L * D * sizeof *mask);
  for (int64_t b = 0; b < B; b++)
    assert_memory_equal(mask + (NOISY + b) * L * D, want + (NOISY + DRAWS * b) * L * D, L * D * sizeof *mask);
  check_record_host(c, mask, sizeof(double) * (NOISY + B) * L * D);
}

static void test_halves(void **state) {
  (void)state;
  check_every(mask_halves, NULL);
  check_every(mask_draws, NULL);
}

static void test_statistics(void **state) {
  (void)state;
  check_every(mask_statistics, NULL);
}

static void test_streams(void **state) {
  (void)state;
  check_every(mask_streams, NULL);
}

static void test_ends(void **state) {
  (void)state;
  check_every(mask_ends, NULL);
}

/* f32, f64 and any number of threads drop the same units. */
static void test_same_everywhere(void **state) {
  (void)state;
  enum { N = 6 * 136 };
  double seen[CHECK_MODE_COUNT][N];
  for (int i = 0; i <= check_last(); i++) {
    Check c;
    check_open(&c, &CHECK_MODES[i], i + 1);
    Dropout d = {.p = 0.3, .seed = 9, .step = 5, .layer = 2, .first = 7, .L = 3};
    double *mask = check_mask(&c, &d, 6, 136);
    for (int k = 0; k < N; k++) seen[i][k] = mask[k] != 0;
    check_close(&c);
  }
  for (int i = 1; i <= check_last(); i++) assert_memory_equal(seen[0], seen[i], sizeof seen[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_statistics), cmocka_unit_test(test_streams),
                                     cmocka_unit_test(test_ends), cmocka_unit_test(test_halves),
                                     cmocka_unit_test(test_same_everywhere)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
