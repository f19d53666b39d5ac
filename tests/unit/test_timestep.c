/* test_timestep — the times and masks of a batch: strata, rates, distributions, and independence of the split. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "diffusion/timestep.h"

enum { SEED = 3 };

/* ---- t */
/* one u in each cell [i/n, (i+1)/n) for any n; the reduction mod 1 only affects a u that was rounded up to 1 */
static void test_strata(void **state) {
  (void)state;
  const int64_t sizes[] = {1, 2, 7, 64, 1000};
  for (int k = 0; k < 5; k++)
    for (int64_t step = 0; step < 50; step++)
      for (int64_t i = 0, n = sizes[k]; i < n; i++) {
        double u = timestep_draw(SEED, RNG_TIME, step, step * n + i, i, n, true, 0);
        double cell = u * (double)n;
        assert_true(cell >= (double)i - 1e-9 && cell <= (double)(i + 1) + 1e-9);
        assert_true(u >= 0 && u < 1);
      }
}

/* u is uniform within its cell and over all cells: counts in 20 bins */
static void test_times_are_uniform(void **state) {
  (void)state;
  enum { BINS = 20, N = 16, STEPS = 4000 };
  int64_t plain[BINS] = {0}, within[BINS] = {0}, all[BINS] = {0};
  double chance[BINS];
  for (int i = 0; i < BINS; i++) chance[i] = 1.0 / BINS;
  for (int64_t step = 0; step < STEPS; step++)
    for (int64_t i = 0; i < N; i++) {
      double u = timestep_draw(SEED, RNG_TIME, step, step * N + i, i, N, true, 0), v = u * N - (double)i;
      within[v >= 1 ? BINS - 1 : (int)(v * BINS)]++;
      all[(int)(u * BINS)]++;
      plain[(int)(BINS * timestep_draw(SEED, RNG_TIME, step, step * N + i, i, N, false, 0))]++;
    }
  toy_law("u within its cell", within, chance, BINS, (int64_t)N * STEPS);
  toy_law("stratified u", all, chance, BINS, (int64_t)N * STEPS);
  toy_law("plain u", plain, chance, BINS, (int64_t)N * STEPS);
}

/* All cells, each once; the mean cell of a rank or of a micro-batch is close to the middle, in every step another one. */
static void test_cells(void **state) {
  (void)state;
  enum { MOST = 600 };
  for (int64_t n = 1; n <= MOST; n++) {
    bool taken[MOST] = {false};
    for (int64_t i = 0; i < n; i++) {
      int64_t cell = timestep_cell(SEED, RNG_TIME, n, i, n);
      assert_true(cell >= 0 && cell < n && !taken[cell]);
      taken[cell] = true;
    }
  }
  static const int64_t batches[][2] = {{64, 8}, {64, 32}, {512, 64}, {512, 32}, {480, 60}, {1024, 8}};
  for (int k = 0; k < 6; k++)
    for (int64_t first = 0, n = batches[k][0], part = batches[k][1]; first < n; first += part) {
      double sum = 0;
      for (int64_t i = first; i < first + part; i++) sum += (double)timestep_cell(SEED, RNG_TIME, 5, i, n) + 0.5;
      double mean = sum / (double)(n * part);
      if (fabs(mean - 0.5) > 2 / (double)part) fail_msg("%d of %d have a mean of %g", (int)part, (int)n, mean);
    }
  int64_t count[8] = {0};
  double chance[8] = {0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125};
  for (int64_t step = 0; step < 4000; step++) count[timestep_cell(SEED, RNG_TIME, step, 3, 8)]++;
  toy_law("the cell of a sequence over steps", count, chance, 8, 4000);
  assert_true(timestep_cell(SEED, RNG_TIME, 1, (INT64_C(1) << 32) - 1, INT64_C(1) << 32) >= 0);
}

/* t = (1 − τ)u + τ, for the same u */
static void test_tau(void **state) {
  (void)state;
  for (int64_t i = 0; i < 1000; i++)
    for (int stratified = 0; stratified < 2; stratified++) {
      double u = timestep_draw(SEED, RNG_TIME, 9, i, i, 1000, stratified, 0);
      double t = timestep_draw(SEED, RNG_TIME, 9, i, i, 1000, stratified, 1e-3);
      assert_true(fabs(t - (0.999 * u + 1e-3)) <= 1e-15);
      assert_true(t >= 1e-3 && t <= 1);
    }
}

/* A global batch is the same drawn at once, or in reverse order by four ranks in micro-batches. */
static void test_split(void **state) {
  (void)state;
  enum { N = 24, L = 9, STEP = 17 };
  double t[N], part;
  int32_t z[N][L], piece[L], x0[L];
  for (int l = 0; l < L; l++) x0[l] = l;
  for (int64_t i = 0; i < N; i++) {
    t[i] = timestep_draw(SEED, RNG_TIME, STEP, i, i, N, true, 1e-3);
    timestep_mask(z[i], x0, 0, L, 99, t[i], rng_key(SEED, RNG_MASK, 0, STEP, (uint64_t)i));
  }
  for (int64_t rank = 3; rank >= 0; rank--)
    for (int64_t micro = 2; micro >= 0; micro--)
      for (int64_t k = 1; k >= 0; k--) {
        int64_t i = rank * 6 + micro * 2 + k;
        part = timestep_draw(SEED, RNG_TIME, STEP, i, i, N, true, 1e-3);
        assert_memory_equal(&part, &t[i], sizeof part);
        timestep_mask(piece, x0, 0, L, 99, part, rng_key(SEED, RNG_MASK, 0, STEP, (uint64_t)i));
        assert_memory_equal(piece, z[i], sizeof piece);
      }
}

/* seed, purpose, step and sequence each change the draw */
static void test_streams_differ(void **state) {
  (void)state;
  enum { L = 64 };
  int32_t x0[L], z[6][L];
  for (int l = 0; l < L; l++) x0[l] = l;
  const RngKey keys[] = {rng_key(SEED, RNG_MASK, 0, 5, 6),      rng_key(SEED + 1, RNG_MASK, 0, 5, 6),
                         rng_key(SEED, RNG_EVAL_MASK, 0, 5, 6), rng_key(SEED, RNG_MASK, 0, 6, 6),
                         rng_key(SEED, RNG_MASK, 0, 5, 7),      rng_key(SEED, RNG_TIME, 0, 5, 6)};
  for (int i = 0; i < 6; i++) timestep_mask(z[i], x0, 0, L, 99, 0.5, keys[i]);
  for (int i = 0; i < 6; i++)
    for (int j = 0; j < i; j++) {
      int same = 0;
      for (int l = 0; l < L; l++) same += z[i][l] == z[j][l];
      assert_in_range(same, 12, 52); /* 32 ± 5 standard deviations of 4 */
    }
  const double t[] = {
      timestep_draw(SEED, RNG_TIME, 5, 6, 0, 8, true, 0), timestep_draw(SEED + 1, RNG_TIME, 5, 6, 0, 8, true, 0),
      timestep_draw(SEED, RNG_EVAL_TIME, 5, 6, 0, 8, true, 0), timestep_draw(SEED, RNG_TIME, 6, 6, 0, 8, true, 0),
      timestep_draw(SEED, RNG_TIME, 5, 7, 0, 8, true, 0)};
  for (int i = 0; i < 5; i++)
    for (int j = 0; j < i; j++) assert_true(t[i] != t[j]);
}

/* ---- masks */
/* Each position is masked with the given probability, independently of the others: the distribution of all 2^L masks.
 */
static void test_mask_law(void **state) {
  (void)state;
  enum { L = 4, N = 100000 };
  const double chances[] = {0.1, 0.5, 0.83};
  const int32_t x0[L] = {7, 0, 7, 3};
  for (int k = 0; k < 3; k++) {
    int64_t count[1 << L] = {0};
    double chance[1 << L];
    for (int64_t i = 0; i < N; i++) {
      int32_t z[L];
      unsigned set = 0;
      int64_t masked = timestep_mask(z, x0, 0, L, 5, chances[k], rng_key(SEED, RNG_MASK, 0, (uint64_t)k, (uint64_t)i));
      for (int l = 0; l < L; l++) {
        assert_true(z[l] == 5 || z[l] == x0[l]);
        set |= (unsigned)(z[l] == 5) << l;
      }
      assert_int_equal(masked, __builtin_popcount(set));
      count[set]++;
    }
    for (unsigned set = 0; set < 1 << L; set++) {
      int masked = __builtin_popcount(set);
      chance[set] = pow(chances[k], masked) * pow(1 - chances[k], L - masked);
    }
    toy_law("masks", count, chance, 1 << L, N);
  }
}

static void test_mask_ends(void **state) {
  (void)state;
  enum { L = 1000 };
  int32_t x0[L], z[L];
  for (int l = 0; l < L; l++) x0[l] = l;
  assert_int_equal(timestep_mask(z, x0, 0, L, 5000, 0, rng_key(SEED, RNG_MASK, 0, 0, 0)), 0);
  assert_memory_equal(z, x0, sizeof z);
  assert_int_equal(timestep_mask(z, x0, 0, L, 5000, 1, rng_key(SEED, RNG_MASK, 0, 0, 0)), L);
  for (int l = 0; l < L; l++) assert_int_equal(z[l], 5000);
}

/* exactly k masks; all sets of k positions are equally likely */
static void test_count_law(void **state) {
  (void)state;
  enum { L = 5, N = 50000 };
  const int32_t x0[L] = {4, 3, 2, 1, 0};
  for (int64_t k = 0; k <= L; k++) {
    int64_t count[1 << L] = {0};
    double chance[1 << L] = {0}, sets = 0;
    for (int64_t i = 0; i < N; i++) {
      int32_t z[L];
      unsigned set = 0;
      timestep_mask_count(z, x0, 0, L, 9, k, rng_key(SEED, RNG_EVAL_MASK, 0, (uint64_t)k, (uint64_t)i));
      for (int l = 0; l < L; l++) {
        assert_true(z[l] == 9 || z[l] == x0[l]);
        set |= (unsigned)(z[l] == 9) << l;
      }
      assert_int_equal(__builtin_popcount(set), k);
      count[set]++;
    }
    for (unsigned set = 0; set < 1 << L; set++) sets += __builtin_popcount(set) == k;
    for (unsigned set = 0; set < 1 << L; set++) chance[set] = __builtin_popcount(set) == k ? 1 / sets : 0;
    if (sets > 1)
      toy_law("sets of k", count, chance, 1 << L, N);
    else
      assert_int_equal(count[k == 0 ? 0 : (1 << L) - 1], N);
  }
}

/* long sequences, too, where products in the selection could be rounded */
static void test_count_of_long_sequences(void **state) {
  (void)state;
  enum { L = 1024 };
  int32_t x0[L] = {0}, z[L];
  for (int64_t k = 0; k <= L; k += 31)
    for (uint64_t i = 0; i < 20; i++) {
      int64_t masked = 0;
      timestep_mask_count(z, x0, 0, L, 1, k, rng_key(SEED, RNG_EVAL_MASK, 0, (uint64_t)k, i));
      for (int l = 0; l < L; l++) masked += z[l];
      assert_int_equal(masked, k);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_strata),
      cmocka_unit_test(test_cells),
      cmocka_unit_test(test_times_are_uniform),
      cmocka_unit_test(test_tau),
      cmocka_unit_test(test_split),
      cmocka_unit_test(test_streams_differ),
      cmocka_unit_test(test_mask_law),
      cmocka_unit_test(test_mask_ends),
      cmocka_unit_test(test_count_law),
      cmocka_unit_test(test_count_of_long_sequences),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
