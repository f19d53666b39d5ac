/* test_block — the noise of block diffusion: a time for each block, stratified over all blocks of a batch, masks and
 * weights by the time of their block. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "diffusion/timestep.h"

enum { N = 6, L = 12, V = 9, MASK = 4, SEED = 5 };
static const int32_t x0[L] = {0, 1, 2, 3, 5, 6, 7, 8, 0, 1, 2, 3};
static const int64_t sizes[] = {1, 2, 3, 4, 6, 12};
enum { SIZES = sizeof sizes / sizeof *sizes };

typedef struct Noise {
  Schedule schedule;
  Objective o;
  Noised n;
} Noise;

static void noise_open(Noise *x, int64_t block, ObjectiveOptions options) {
  options.name = "subs", options.schedule = &x->schedule, options.mask = MASK, options.vocab = V;
  options.tau = 1e-3, options.block = block;
  MUST(schedule_create(&x->schedule, "loglinear", 1e-3, 1e-3, 0));
  MUST(objective_create(&x->o, &options));
  MUST(noised_create(&x->n, N, L, x->o.terms));
}

static void times(double *t, int64_t blocks, int64_t step, int64_t i, int64_t n, bool stratified) {
  timestep_blocks(t, blocks, SEED, RNG_TIME, step, i, i, n, stratified, 0);
}

/* ---- times */
static void test_strata(void **state) {
  (void)state;
  for (int k = 0; k < SIZES; k++)
    for (int64_t step = 0; step < 50; step++) {
      int64_t blocks = L / sizes[k], cells = N * blocks, met = 0;
      bool seen[N * L] = {0};
      for (int64_t i = 0; i < N; i++) {
        double t[L];
        times(t, blocks, step, i, N, true);
        for (int64_t b = 0; b < blocks; b++) {
          int64_t cell = (int64_t)floor(t[b] * (double)cells * (1 + 1e-12));
          assert_true(t[b] >= 0 && t[b] < 1);
          met += !seen[cell % cells];
          seen[cell % cells] = true;
        }
      }
      assert_true(met >= cells - 1); /* rounding may move a time into the next cell */
    }
}

/* Wherever a block stands, also in a batch of one row, and whether its times are stratified or not. */
static void test_times_are_uniform(void **state) {
  (void)state;
  enum { BINS = 12, BLOCKS = 4, STEPS = 6000 };
  double chance[BINS], t[BLOCKS];
  for (int i = 0; i < BINS; i++) chance[i] = 1.0 / BINS;
  for (int64_t n = 1; n <= 2; n++)
    for (int stratified = 0; stratified < 2; stratified++) {
      int64_t count[BLOCKS][BINS] = {{0}}, pair[BINS] = {0};
      for (int64_t step = 0; step < STEPS; step++) {
        times(t, BLOCKS, step, n - 1, n, stratified);
        for (int b = 0; b < BLOCKS; b++) count[b][(int)(t[b] * BINS)]++;
        pair[(int)(fmod(t[0] + t[1], 1) * BINS)]++;
      }
      for (int b = 0; b < BLOCKS; b++) toy_law("time of a block", count[b], chance, BINS, STEPS);
      if (!stratified) toy_law("times of two blocks, which are independent", pair, chance, BINS, STEPS);
    }
}

static void test_one_block_is_a_sequence(void **state) {
  (void)state;
  for (int64_t i = 0; i < N; i++)
    for (int stratified = 0; stratified < 2; stratified++) {
      double t, want = timestep_draw(SEED, RNG_TIME, 3, i, i, N, stratified, 0);
      times(&t, 1, 3, i, N, stratified);
      toy_same("the time of one block", &t, &want, 1);
    }
}

/* ---- masks and weights */
static RngKey mask_key(int64_t i) { return rng_key(SEED, RNG_MASK, 0, 1, (uint64_t)i); }

/* Rows, targets and weights of sequences of different lengths: those of the masked real positions, in order. */
static void check_rows(const Noise *x, int64_t sequences, const double weight[][L]) {
  const Noised *n = &x->n;
  int64_t r = 0;
  for (int64_t b = 0; b < sequences; b++)
    for (int64_t l = 0; l < n->length[b]; l++) {
      if (n->z[b * L + l] != MASK) {
        assert_int_equal(n->z[b * L + l], x0[l]);
        continue;
      }
      assert_int_equal(n->rows[r], b * L + l);
      assert_int_equal(n->target[r], x0[l]);
      if (!(fabs(n->weight[r] - weight[b][l]) <= 1e-12 * weight[b][l]))
        fail_msg("weight of position %d is %.15g, not %.15g", (int)l, n->weight[r], weight[b][l]);
      r++;
    }
  assert_int_equal(n->n_rows, r);
  assert_int_equal(n->masked, r);
}

/* The weight is 1/t of the block's time; a block of the time 1 is masked, one of the time 0 is not. */
static void test_weights(void **state) {
  (void)state;
  for (int k = 1; k < SIZES; k++) {
    Noise x;
    double t[L], weight[N][L];
    int64_t blocks = L / sizes[k], scored = 0;
    noise_open(&x, sizes[k], (ObjectiveOptions){0});
    noised_begin(&x.n, N);
    for (int64_t i = 0; i < N; i++) {
      times(t, blocks, 2, i, N, true);
      for (int l = 0; l < L; l++) weight[i][l] = 1 / t[l / sizes[k]];
      noised_draw(&x.o, &x.n, i, x0, L - i, t, mask_key(i));
      scored += L - i;
      for (int l = 0; l < L; l++) {
        bool hit = rng_uniform(mask_key(i), (uint64_t)l) < (1 - 1e-3) * t[l / sizes[k]];
        assert_int_equal(x.n.z[i * L + l], hit ? MASK : x0[l]);
      }
      assert_memory_equal(x.n.x0 + i * L, x0, sizeof x0); /* the clean half */
    }
    assert_int_equal(x.n.scored, scored);
    check_rows(&x, N, (const double(*)[L])weight);
    noised_destroy(&x.n);
  }
}

/* The times of training follow diffusion.time, block by block, with the weights of the bound over its density, or 1. */
static void test_training(void **state) {
  (void)state;
  for (int plain = 0; plain < 2; plain++) {
    Noise x;
    double t[4] = {0.1, 0.4, 0.7, 1}, weight[1][L];
    noise_open(&x, 3, (ObjectiveOptions){.plain = plain, .law = {.name = "clip", .clip_low = 0.3, .clip_high = 0.8}});
    for (int l = 0; l < L; l++) {
      double time = 0.3 + 0.5 * (t[l / 3] - 1e-3) / (1 - 1e-3);
      weight[0][l] = plain ? 1 : 1 / time / ((1 - 1e-3) / 0.5);
    }
    noised_begin(&x.n, 1);
    noised_train(&x.o, &x.n, 0, x0, L, t, mask_key(0));
    assert_true(x.n.n_rows > 0);
    check_rows(&x, 1, (const double(*)[L])weight);
    noised_destroy(&x.n);
  }
}

/* ---- diffusion.resample */
/* The number of masks follows the binomial law cut to least … most, and they are anywhere. */
static void test_between(void **state) {
  (void)state;
  enum { FROM = 2, SET = 6, LEAST = 2, MOST = 4, DRAWS = 20000 };
  static const double chances[] = {0.05, 0.35, 0.5, 0.999};
  int32_t z[L];
  for (size_t k = 0; k < sizeof chances / sizeof *chances; k++) {
    double chance[1 << SET] = {0}, sum = 0;
    int64_t count[1 << SET] = {0};
    for (unsigned s = 0; s < 1u << SET; s++) {
      int n = __builtin_popcount(s);
      if (n >= LEAST && n <= MOST) sum += chance[s] = pow(chances[k], n) * pow(1 - chances[k], SET - n);
    }
    for (unsigned s = 0; s < 1u << SET; s++) chance[s] /= sum;
    for (int i = 0; i < DRAWS; i++) {
      unsigned set = 0;
      timestep_mask_between(z, x0, FROM, FROM + SET, MASK, chances[k], LEAST, MOST, mask_key(i));
      for (int l = 0; l < SET; l++) {
        set |= (unsigned)(z[FROM + l] == MASK) << l;
        assert_true(z[FROM + l] == MASK || z[FROM + l] == x0[FROM + l]);
      }
      count[set]++;
    }
    toy_law("masks of a block", count, chance, 1 << SET, DRAWS);
  }
}

/* The share of masks of every block lies between the ends; times and weights are as without; evaluations have neither. */
static void test_resample(void **state) {
  (void)state;
  const LawOptions law = {.name = "clip", .clip_low = 0.3, .clip_high = 0.8};
  for (int k = 1; k < SIZES; k++) {
    Noise x, plain;
    int64_t size = sizes[k], outside = 0;
    double t[L], weight[1][L];
    noise_open(&x, size, (ObjectiveOptions){.resample = true, .law = law});
    noise_open(&plain, size, (ObjectiveOptions){.law = law});
    for (int64_t i = 0; i < 200; i++) {
      times(t, L / size, i, 0, 1, true);
      for (int l = 0; l < L; l++) weight[0][l] = 1 / objective_train_time(&x.o, t[l / size]) * 0.5 / (1 - 1e-3);
      noised_begin(&x.n, 1);
      noised_train(&x.o, &x.n, 0, x0, L, t, mask_key(i));
      check_rows(&x, 1, (const double(*)[L])weight);
      noised_begin(&plain.n, 1);
      noised_train(&plain.o, &plain.n, 0, x0, L, t, mask_key(i));
      for (int64_t b = 0; b < L; b += size) {
        int64_t masks = 0, free = 0;
        for (int64_t l = b; l < b + size; l++) masks += x.n.z[l] == MASK, free += plain.n.z[l] == MASK;
        assert_true((double)masks >= 0.999 * 0.3 * (double)size && (double)masks <= 0.999 * 0.8 * (double)size);
        outside += (double)free < 0.299 * (double)size || (double)free > 0.8 * (double)size;
      }
      noised_begin(&x.n, 1), noised_begin(&plain.n, 1);
      noised_draw(&x.o, &x.n, 0, x0, L, t, mask_key(i));
      noised_draw(&plain.o, &plain.n, 0, x0, L, t, mask_key(i));
      assert_memory_equal(x.n.z, plain.n.z, L * sizeof *x.n.z);
    }
    assert_true(outside > 20); /* without it blocks do leave the ends */
    noised_destroy(&x.n), noised_destroy(&plain.n);
  }
}

/* Exactly k of the L' positions of a block, with the weight L'/k. */
static void test_count(void **state) {
  (void)state;
  for (int k = 0; k < SIZES; k++) {
    Noise x;
    double t[L], weight[N][L];
    int64_t size = sizes[k];
    noise_open(&x, size, (ObjectiveOptions){0});
    noised_begin(&x.n, N);
    for (int64_t i = 0; i < N; i++) {
      times(t, L / size, 4, i, N, true);
      noised_count(&x.o, &x.n, i, x0, L - i, t, mask_key(i));
      for (int64_t l = 0; l < L; l++) {
        int64_t want = 1 + (int64_t)(t[l / size] * (double)size), masks = 0;
        for (int64_t j = l / size * size; j < l / size * size + size; j++) masks += x.n.z[i * L + j] == MASK;
        assert_int_equal(masks, want);
        weight[i][l] = (double)size / (double)want;
      }
    }
    check_rows(&x, N, (const double(*)[L])weight);
    noised_destroy(&x.n);
  }
}

/* Blocks of one token: everything is masked with weight 1, whatever the time, in training, too. */
static void test_single_tokens(void **state) {
  (void)state;
  const double t[L] = {0.001, 0.2, 0.5};
  double weight[2][L];
  Noise x;
  noise_open(&x, 1, (ObjectiveOptions){0});
  for (int l = 0; l < 2 * L; l++) weight[l / L][l % L] = 1;
  noised_begin(&x.n, 2);
  noised_draw(&x.o, &x.n, 0, x0, L, t, mask_key(0));
  noised_train(&x.o, &x.n, 1, x0, L - 3, t, mask_key(1));
  assert_int_equal(x.n.n_rows, 2 * L - 3);
  check_rows(&x, 2, (const double(*)[L])weight);
  noised_destroy(&x.n);
}

/* ---- what does not go together */
static void refused(ObjectiveOptions o, const char *why) {
  Schedule schedule;
  Objective objective;
  MUST(schedule_create(&schedule, "loglinear", 1e-3, 1e-3, 0));
  o.schedule = &schedule, o.mask = MASK, o.vocab = V, o.tau = 1e-3;
  check_refused(objective_create(&objective, &o), ERR_USAGE, why);
}

static void test_refusals(void **state) {
  (void)state;
  refused((ObjectiveOptions){.name = "sedd", .block = 4},
          "diffusion.objective = sedd has no blocks; they are for subs");
  refused((ObjectiveOptions){.name = "ar", .block = 4}, "has no blocks");
  refused((ObjectiveOptions){.name = "uniform", .block = 4},
          "diffusion.objective = uniform has no blocks; they are for subs");
  refused((ObjectiveOptions){.name = "d3pm", .block = 4, .T = 8}, "has no blocks");
  refused((ObjectiveOptions){.name = "subs", .block = 4, .T = 8}, "diffusion.T = 8 must be 0");
  refused((ObjectiveOptions){.name = "subs", .block = 4, .change_of_variables = true}, "choose one of them");
  refused((ObjectiveOptions){.name = "subs", .block = 1, .law = {.name = "importance"}}, "have no time to draw");
  const LawOptions clip = {.name = "clip", .clip_low = 0.3, .clip_high = 0.8},
                   narrow = {.name = "clip", .clip_low = 0.3, .clip_high = 0.45};
  refused((ObjectiveOptions){.name = "subs", .block = 4, .resample = true}, "is for diffusion.time = clip with");
  refused((ObjectiveOptions){.name = "subs", .resample = true, .law = clip}, "with diffusion.block");
  refused((ObjectiveOptions){.name = "subs", .block = 4, .resample = true, .law = narrow},
          "4 tokens, a block, are too few for a share of masks");
  refused((ObjectiveOptions){.name = "subs", .block = 4, .law = {.name = "normal", .search = true}},
          "diffusion.clip_search looks for the ends of the times, which diffusion.time = normal does not have");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_strata),
      cmocka_unit_test(test_times_are_uniform),
      cmocka_unit_test(test_one_block_is_a_sequence),
      cmocka_unit_test(test_weights),
      cmocka_unit_test(test_training),
      cmocka_unit_test(test_between),
      cmocka_unit_test(test_resample),
      cmocka_unit_test(test_count),
      cmocka_unit_test(test_single_tokens),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
