/* rng — Philox4x32-10 against the known answers published with Random123, and the properties the program relies on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Answer {
  uint32_t counter[4], key[2], out[4];
} Answer;

static const Answer ANSWERS[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

static void known_answers(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof ANSWERS / sizeof ANSWERS[0]; i++) {
    uint32_t out[4];
    rng_philox(out, ANSWERS[i].counter, ANSWERS[i].key);
    for (int k = 0; k < 4; k++) assert_int_equal(out[k], ANSWERS[i].out[k]);
  }
}

/* The layout that rng.h documents: key = seed, counter = {block, purpose << 24 | layer, step, sequence}. */
static void block_layout(void **state) {
  (void)state;
  const uint32_t counter[4] = {7, (uint32_t)RNG_MASK << 24 | 5, 11, 13}, key[2] = {0x89abcdef, 0x01234567};
  uint32_t want[4], got[4];
  rng_philox(want, counter, key);
  rng_block(got, rng_key(0x0123456789abcdef, RNG_MASK, 5, 11, 13), 7);
  assert_memory_equal(got, want, sizeof want);
}

/* Blocks drawn in lanes equal those drawn one by one. */
static void lanes_are_blocks(void **state) {
  (void)state;
  RngKey k = rng_key(0x0123456789abcdef, RNG_MASK, 5, 11, 13);
  uint32_t lanes[4][RNG_LANES], one[4];
  rng_lanes(lanes, k, 0xfffffffa); /* the block number wraps around */
  for (uint32_t i = 0; i < RNG_LANES; i++) {
    rng_block(one, k, 0xfffffffa + i);
    for (int w = 0; w < 4; w++) assert_int_equal(lanes[w][i], one[w]);
  }
}

static int compare(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Streams differ in every argument and purpose: no 64-bit value occurs twice. */
static void streams_distinct(void **state) {
  (void)state;
  enum { N = RNG_PURPOSES * 2 * 2 * 2 * 2 * 8 };
  static uint64_t seen[N];
  size_t n = 0;
  for (int purpose = 1; purpose < RNG_PURPOSES; purpose++)
    for (uint32_t bits = 0; bits < 16; bits++) {
      RngKey k = rng_key(bits & 1, (RngPurpose)purpose, bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1);
      for (uint32_t block = 0; block < 8; block++) {
        uint32_t r[4];
        rng_block(r, k, block);
        seen[n++] = (uint64_t)r[1] << 32 | r[0];
      }
    }
  qsort(seen, n, sizeof seen[0], compare);
  for (size_t i = 1; i < n; i++) assert_true(seen[i - 1] != seen[i]);
}

static void purposes_fit(void **state) {
  (void)state;
  assert_true(RNG_PURPOSES <= 256);
  for (int p = 1; p < RNG_PURPOSES; p++) assert_int_equal(rng_key(1, (RngPurpose)p, 0xffffff, 0, 0).stream >> 24, p);
}

static void uniform_moments(void **state) {
  (void)state;
  enum { N = 200000 };
  RngKey k = rng_key(3, RNG_TEST, 0, 0, 0);
  double sum = 0, squares = 0, lagged = 0, last = 0.5;
  for (uint64_t i = 0; i < N; i++) {
    double u = rng_uniform(k, i) - 0.5;
    sum += u;
    squares += u * u;
    lagged += u * last;
    last = u;
  }
  /* five standard errors each: mean √(1/12/N), variance √(1/180/N), lag-1 product 1/12/√N */
  assert_true(fabs(sum / N) < 5 * sqrt(1.0 / 12 / N));
  assert_true(fabs(squares / N - 1.0 / 12) < 5 * sqrt(1.0 / 180 / N));
  assert_true(fabs(lagged / N) < 5 / 12.0 / sqrt(N));
}

static void uniform_grid(void **state) {
  (void)state;
  RngKey k = rng_key(4, RNG_TEST, 0, 0, 0);
  uint64_t set = 0, clear = 0;
  for (uint64_t i = 0; i < 1000; i++) {
    double u = rng_uniform(k, i), scaled = u * 0x1p53;
    assert_true(u >= 0 && u < 1);
    assert_true(scaled == floor(scaled));
    set |= (uint64_t)scaled;
    clear |= ~(uint64_t)scaled;
  }
  uint64_t all = ((uint64_t)1 << 53) - 1;
  assert_true(set == all && (clear & all) == all); /* each of the 53 bits takes both values */
}

static void permutation_is_bijection(void **state) {
  (void)state;
  const uint64_t sizes[] = {1, 2, 3, 10, 1000, 65537};
  for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
    uint64_t n = sizes[s];
    unsigned char *hit = calloc(n, 1);
    assert_non_null(hit);
    for (uint64_t i = 0; i < n; i++) {
      uint64_t j = rng_permute(rng_key(5, RNG_ORDER, 0, 2, 0), n, i);
      assert_true(j < n);
      assert_int_equal(hit[j], 0);
      hit[j] = 1;
    }
    free(hit);
  }
}

static void permutation_depends_on_key(void **state) {
  (void)state;
  enum { N = 1000 };
  RngKey keys[] = {rng_key(5, RNG_ORDER, 0, 0, 0), rng_key(6, RNG_ORDER, 0, 0, 0), rng_key(5, RNG_ORDER, 0, 1, 0),
                   rng_key(5, RNG_EVAL_ORDER, 0, 0, 0)};
  for (int other = 1; other < 4; other++) {
    int same = 0, fixed = 0;
    for (uint64_t i = 0; i < N; i++) {
      same += rng_permute(keys[0], N, i) == rng_permute(keys[other], N, i);
      fixed += rng_permute(keys[other], N, i) == i;
    }
    assert_true(same < 12 && fixed < 12); /* each is Poisson with mean 1 */
  }
}

/* The image of 0 is uniform over keys: chi-square test with 16 cells. */
static void permutation_spreads(void **state) {
  (void)state;
  enum { CELLS = 16, KEYS = 8000 };
  int count[CELLS] = {0};
  for (uint64_t key = 0; key < KEYS; key++) count[rng_permute(rng_key(key, RNG_ORDER, 0, 0, 0), CELLS, 0)]++;
  double chi2 = 0, want = (double)KEYS / CELLS;
  for (int i = 0; i < CELLS; i++) chi2 += (count[i] - want) * (count[i] - want) / want;
  assert_true(chi2 < 44.3); /* 15 degrees of freedom, p = 1e-4 */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_answers),
      cmocka_unit_test(block_layout),
      cmocka_unit_test(lanes_are_blocks),
      cmocka_unit_test(streams_distinct),
      cmocka_unit_test(purposes_fit),
      cmocka_unit_test(uniform_moments),
      cmocka_unit_test(uniform_grid),
      cmocka_unit_test(permutation_is_bijection),
      cmocka_unit_test(permutation_depends_on_key),
      cmocka_unit_test(permutation_spreads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
