/* test_draw_tail — the rates at which tokens of probability 1e-8 and 1e-10 are drawn, as precisely as 1e10 plain draws
 * would measure them.
 *
 * 1e10 draws take too long. Instead the uniforms come from a narrow window around the interval of each rare token, with
 * one stratum per draw: a draw from a window of width w counts as 1/w draws from [0,1). Outside the windows the strata
 * are wider, and no rare token may be drawn. The uniforms are multiples of 2^-53, as rng_uniform returns them. */
#include "check.h"

#include <math.h>

#include "base/rng.h"
#include "toy.h"

enum { V = 4099, MASK = 17, RARE = 2, DRAWS = 8192, AT_ONCE = 1024 };
static const double RATE[RARE] = {1e-8, 1e-10}, GRID = 0x1p-53;
static const int32_t PLACE[RARE] = {1000, V - 2};

typedef struct Bench {
  Check *c;
  Tensor logits, uniform, ids;
  double below[RARE], p[RARE]; /* where each rare token's interval begins, and its probability */
} Bench;

/* All tokens but the two rare ones have weight 1, which is exact in every type. So the interval of the token of
 * probability 1e-10 lies where it should even if the weights are f32. */
static void open_bench(Bench *b, Check *c) {
  double *rows = check_host(c, (int64_t)AT_ONCE * V);
  b->c = c;
  b->logits = check_tensor(c, c->dev.real, AT_ONCE, V, V, 0);
  b->uniform = check_tensor(c, DT_F64, AT_ONCE, 0, 0, 0);
  b->ids = check_ids(c, AT_ONCE, NULL);
  for (int64_t r = 0; r < AT_ONCE; r++) {
    for (int k = 0; k < RARE; k++) rows[r * V + PLACE[k]] = log(RATE[k] * (V - 1 - RARE));
    rows[r * V + MASK] = 9; /* would nearly always be drawn if it were not forbidden */
  }
  check_write(c, b->logits, rows);
  rows = check_read(c, b->logits);
  double total = V - 1 - RARE, sum = 0;
  for (int k = 0; k < RARE; k++) total += exp(rows[PLACE[k]]);
  for (int k = 0; k < RARE; k++) {
    b->below[k] = (PLACE[k] - 1 - k + sum) / total; /* the mask token precedes both */
    sum += exp(rows[PLACE[k]]);
    b->p[k] = exp(rows[PLACE[k]]) / total;
    assert_true(fabs(b->p[k] / RATE[k] - 1) < 1e-5);
  }
}

static void tokens(Bench *b, const double *u, int32_t *got) {
  check_write(b->c, b->uniform, u);
  const DrawRule rule = {.forbid = MASK, .temperature = 1, .nucleus = 1};
  MUST(op_draw(&b->c->dev, b->ids, b->logits, b->uniform, TENSOR_NONE, &rule));
  const int32_t *raw = check_raw(b->c, b->ids);
  for (int i = 0; i < AT_ONCE; i++) got[i] = raw[i];
}

/* count[V] of DRAWS draws, one from each of DRAWS equal strata of [low, low + width) */
static void draws_within(Bench *b, uint64_t stream, double low, double width, int64_t count[V]) {
  RngKey key = rng_key(8, RNG_TEST, 9, stream, 0);
  double u[AT_ONCE];
  int32_t got[AT_ONCE];
  for (int64_t at = 0; at < DRAWS; at += AT_ONCE) {
    for (int i = 0; i < AT_ONCE; i++) {
      double within = ((double)(at + i) + rng_uniform(key, (uint64_t)(at + i))) / DRAWS;
      u[i] = floor((low + width * within) / GRID) * GRID;
    }
    tokens(b, u, got);
    for (int i = 0; i < AT_ONCE; i++) count[got[i]]++;
  }
}

/* In a window 64 times as wide as its probability a token gets a 64th of the draws, up to one draw at each end. */
static void rates(Check *c, const void *shape) {
  (void)shape;
  enum { TIMES = 64 };
  Bench b;
  check_title(c, "draws of the tail");
  open_bench(&b, c);
  double drawn = 0;
  for (int k = 0; k < RARE; k++) {
    int64_t count[V] = {0};
    double width = TIMES * b.p[k], worth = DRAWS / width;
    draws_within(&b, (uint64_t)k, b.below[k] - 0.4 * width, width, count);
    double rate = (double)count[PLACE[k]] / worth;
    if (worth < 1e10) fail_msg("%s: only %.1e draws", c->title, worth);
    if (fabs((double)count[PLACE[k]] - DRAWS / TIMES) > 2)
      fail_msg("%s: p = %.3e is drawn at a rate of %.3e", c->title, b.p[k], rate);
    int32_t before = PLACE[k] - 1, after = PLACE[k] + 1;
    assert_int_equal(count[before] + count[PLACE[k]] + count[after], DRAWS);
    drawn += rate;
  }
  assert_true(fabs(drawn / (b.p[0] + b.p[1]) - 1) < 0.01);
}

/* Outside the windows: no rare token, no mask, and all other tokens equally often. */
static void nowhere_else(Check *c, const void *shape) {
  (void)shape;
  enum { TIMES = 4 };
  Bench b;
  check_title(c, "draws outside the tail");
  open_bench(&b, c);
  int64_t count[V] = {0};
  double low = 0;
  for (int k = 0; k <= RARE; k++) {
    double high = k < RARE ? b.below[k] - TIMES * b.p[k] : 1;
    draws_within(&b, (uint64_t)(RARE + k), low, high - low, count);
    for (int j = 0; j < RARE; j++) assert_int_equal(count[PLACE[j]], 0);
    if (k < RARE) low = b.below[k] + TIMES * b.p[k];
  }
  assert_int_equal(count[MASK], 0);
  double each = (double)DRAWS / (PLACE[0] - 1); /* of the window below the first rare token */
  for (int v = 0; v < PLACE[0]; v++)
    if (v != MASK && fabs((double)count[v] - each) > 2) fail_msg("%s: token %d: %d", c->title, v, (int)count[v]);
}

static void test_rates(void **state) {
  (void)state;
  toy_need_speed();
  for (int mode = CHECK_F64; mode <= CHECK_F32; mode++) check_once(rates, NULL, mode);
}

static void test_nowhere_else(void **state) {
  (void)state;
  toy_need_speed();
  for (int mode = CHECK_F64; mode <= CHECK_F32; mode++) check_once(nowhere_else, NULL, mode);
}

/* With f32 noise they are not drawn at their rates: the smallest noise is 2^-24, so a token of probability 1e-8 wins
 * only if the noise of the most likely token exceeds 6, which happens at a rate of e^-6·2^-24 instead of 1e-8. Here
 * 200,000 such tokens have a total probability of 2e-3: they get two of 1,000 draws, with f32 noise none. */
static void f32_cuts_off(Check *c, const void *shape) {
  (void)shape;
  enum { MANY = 200000, ROWS = 20 };
  const int turns = check_long() ? 125 : 50;
  double *rows = check_host(c, (int64_t)ROWS * (MANY + 1)), *u = check_host(c, ROWS);
  for (int64_t i = 0; i < ROWS * (MANY + 1); i++) rows[i] = i % (MANY + 1) ? log(1e-8) : 0;
  check_title(c, "draws in f32");
  Tensor logits = check_tensor(c, c->dev.real, ROWS, MANY + 1, MANY + 1, 0), ids = check_ids(c, ROWS, NULL),
         uniform = check_tensor(c, DT_F64, ROWS, 0, 0, 0);
  check_write(c, logits, rows);
  int64_t rare[2] = {0};
  for (int turn = 0; turn < turns; turn++)
    for (int f32 = 0; f32 < 2; f32++) {
      for (int i = 0; i < ROWS; i++) u[i] = rng_uniform(rng_key(8, RNG_TEST, 11, (uint64_t)turn, 0), (uint64_t)i);
      check_write(c, uniform, u);
      const DrawRule rule = {.forbid = -1, .temperature = 1, .nucleus = 1, .f32 = f32};
      MUST(op_draw(&c->dev, ids, logits, uniform, TENSOR_NONE, &rule));
      const int32_t *got = check_raw(c, ids);
      for (int i = 0; i < ROWS; i++) rare[f32] += got[i] > 0;
    }
  double expected = turns * ROWS * MANY * 1e-8;
  if (rare[0] < 1 || (double)rare[0] > 3 * expected || rare[1] > 1)
    fail_msg("%s: %d rare tokens, in f32 %d; %.2g and %.2g are expected", c->title, (int)rare[0], (int)rare[1],
             expected, expected / 64);
}

static void test_f32_cuts_off(void **state) {
  (void)state;
  toy_need_speed();
  check_once(f32_cuts_off, NULL, CHECK_F32);
}

/* rng_uniform itself has the resolution: one in 2^k of its 53-bit values is below 2^-k, and values are multiples of
 * 2^-24 only by chance. */
static void test_uniforms(void **state) {
  (void)state;
  enum { N = 1 << 22 };
  RngKey key = rng_key(8, RNG_SAMPLE_TOKEN, 0, 3, 5);
  int64_t below[2] = {0}, coarse = 0;
  for (uint64_t i = 0; i < N; i++) {
    double u = rng_uniform(key, i);
    for (int k = 0; k < 2; k++) below[k] += u < (k ? 0x1p-12 : 0x1p-8);
    coarse += floor(u * 0x1p24) == u * 0x1p24;
  }
  for (int k = 0; k < 2; k++) {
    double expected = N * (k ? 0x1p-12 : 0x1p-8);
    assert_true(fabs((double)below[k] - expected) < 5 * sqrt(expected));
  }
  assert_true(coarse < 3); /* the expected number is N·2^-29 = 1/128 */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rates),
      cmocka_unit_test(test_nowhere_else),
      cmocka_unit_test(test_f32_cuts_off),
      cmocka_unit_test(test_uniforms),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
