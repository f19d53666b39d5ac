/* test_sampler_blocks — the samples of block diffusion have the enumerated law, the product over the blocks of that of
 * the sampler, and are the same with and without the cache, in any batch and in longer samples (V = 4, blocks of 1, 2
 * and 4 of 4 tokens); guided by a class, too. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "sampling/draws.h"
#include "sampling/strides.h"

enum { LEN = 4, WHOLES = 256, LONG = 8, SOME = 60000 };
static const int64_t sizes[] = {1, 2, 4};
static const int32_t masks[LONG] = {MASK, MASK, MASK, MASK, MASK, MASK, MASK, MASK};

static int32_t token(int state, int64_t l) { return state >> 2 * l & 3; }
static int with(int state, int64_t l, int y) { return (state & ~(3 << 2 * l)) | y << 2 * l; }

static void blocks_open_classes(Network *n, int64_t size, int64_t batch, const char *backend, bool training,
                                int64_t classes) {
  Toy toy = toy_tiny(V, MASK, LEN, batch);
  toy.model.classes = classes;
  toy.device.name = backend;
  toy.eps = EPS;
  toy.model.block = toy.objective.block = size;
  toy.model.training = training;
  toy_open(n, &toy);
  toy_weights(n, 6, 4);
}

static void blocks_open(Network *n, int64_t size, int64_t batch, const char *backend, bool training) {
  blocks_open_classes(n, size, batch, backend, training, 0);
}

/* ---- the law */
static double p[WHOLES][LEN][V]; /* p(x0_l = y | state), those before the block of l clean */

static void conditionals(Network *n, int32_t label) {
  static int32_t z[WHOLES * LEN], ids[WHOLES * LEN], labels[WHOLES];
  static double nll[WHOLES * LEN];
  for (int s = 0; s < WHOLES; s++)
    for (int l = 0; l < LEN; l++) z[s * LEN + l] = token(s, l), labels[s] = label;
  ModelInput in = {.B = WHOLES, .ids = z, .clean = z, .labels = labels};
  MUST(model_forward(&n->model, &in));
  for (int32_t y = 0; y < V; y++) {
    for (int r = 0; r < WHOLES * LEN; r++) ids[r] = y;
    MUST(rows_nll(&n->rows, &n->objective, WHOLES * LEN, ids, nll));
    for (int r = 0; r < WHOLES * LEN; r++) p[r / LEN][r % LEN][y] = exp(-nll[r]);
  }
}

/* p := in proportion to p_c^gamma p_u^(1 − gamma), c with the class and u without. */
static void mixed_conditionals(Network *n, int32_t label, double gamma) {
  static double without[WHOLES][LEN][V];
  conditionals(n, -1);
  memcpy(without, p, sizeof p);
  conditionals(n, label);
  for (int s = 0; s < WHOLES; s++)
    for (int l = 0; l < LEN; l++) {
      double sum = 0, *row = p[s][l];
      for (int y = 0; y < V; y++) sum += row[y] = y == MASK ? 0 : pow(row[y], gamma) * pow(without[s][l][y], 1 - gamma);
      for (int y = 0; y < V; y++) row[y] /= sum;
    }
}

/* The state as block b sees it: masks behind that. */
static int seen(int state, int64_t b, int64_t size) {
  for (int64_t l = (b + 1) * size; l < LEN; l++) state = with(state, l, MASK);
  return state;
}

/* law += weight · the distribution reached from `state` when the masks of block b are filled one by one, in random
 * order. */
static void hit(double law[WHOLES], int state, int64_t b, int64_t size, double weight) {
  int left = 0, view = seen(state, b, size);
  for (int64_t l = b * size; l < (b + 1) * size; l++) left += token(state, l) == MASK;
  if (left == 0) law[state] += weight;
  for (int64_t l = b * size; l < (b + 1) * size; l++)
    for (int y = 0; y < V && token(state, l) == MASK; y++)
      if (y != MASK) hit(law, with(state, l, y), b, size, weight * p[view][l][y] / left);
}

/* law += weight · that of one step from `state`, in which the masks of block b from position l on stay with
 * probability `stay`. */
static void step(double law[WHOLES], int state, int view, int64_t l, int64_t end, double stay, double weight) {
  while (l < end && token(state, l) != MASK) l++;
  if (l >= end) {
    law[state] += weight;
    return;
  }
  /* a mask that stays is passed over by going on behind it */
  double next[WHOLES] = {0};
  for (int y = 0; y < V; y++)
    if (y != MASK) step(next, with(state, l, y), view, l + 1, end, stay, (1 - stay) * weight * p[view][l][y]);
  if (stay > 0) step(next, state, view, l + 1, end, stay, stay * weight);
  for (int s = 0; s < WHOLES; s++) law[s] += next[s];
}

/* The mask probability is (1 − ε)t, so a mask stays in a step from t to s with probability s/t. */
static void walk(double law[WHOLES], int64_t b, int64_t size, int steps) {
  for (int i = 0; i <= steps; i++) { /* the last one removes the noise, 1e-5 of the masks, by the likeliest tokens */
    double next[WHOLES] = {0}, stay = i < steps ? job_time(i + 1, steps) / job_time(i, steps) : 0;
    for (int s = 0; s < WHOLES; s++)
      if (law[s] > 0) step(next, s, seen(s, b, size), b * size, (b + 1) * size, stay, law[s]);
    memcpy(law, next, sizeof next);
  }
}

/* steps 0: one by one */
static void law_of(const int32_t *start, int64_t size, int steps, double law[WHOLES]) {
  int code = 0;
  for (int l = 0; l < LEN; l++) code |= start[l] << 2 * l;
  memset(law, 0, WHOLES * sizeof *law);
  law[code] = 1;
  for (int64_t b = 0; b < LEN / size; b++) {
    double next[WHOLES] = {0};
    if (steps) {
      walk(law, b, size, steps);
      continue;
    }
    for (int s = 0; s < WHOLES; s++)
      if (law[s] > 0) hit(next, s, b, size, law[s]);
    memcpy(law, next, sizeof next);
  }
}

/* ---- samples */
static SamplerJob draw(Network *n, Run r, const Strides *s, const int32_t *start, int32_t *z, int32_t *lengths) {
  Sampler sampler;
  int64_t length = strides_length(s, LEN);
  MUST(toy_sampler(&sampler, n, r));
  for (int64_t i = 0; i < r.n; i++) memcpy(z + i * length, start, (size_t)length * sizeof *z);
  SamplerJob job = toy_job(n, r, z);
  job.lengths = lengths;
  MUST(strides_run(s, &sampler, &job));
  sampler_destroy(&sampler);
  return job;
}
static const Strides none = {0};

static void compare_to(Network *n, Run r, const int32_t *start, const double law[WHOLES]) {
  static int32_t z[BATCH * LEN];
  int64_t count[WHOLES] = {0}, draws = toy_draws(SOME), most = r.guided ? BATCH / 2 : BATCH;
  r.cache = true;
  for (r.first = 0; r.first < draws; r.first += r.n) {
    r.n = draws - r.first < most ? draws - r.first : most;
    draw(n, r, &none, start, z, NULL);
    for (int64_t i = 0; i < r.n; i++) {
      int code = 0;
      for (int l = 0; l < LEN; l++) code |= z[i * LEN + l] << 2 * l;
      count[code]++;
    }
  }
  toy_law(r.sampler, count, law, WHOLES, draws);
}

static void compare(int64_t size, Run r, const int32_t *start, int law_steps) {
  double law[WHOLES];
  Network n;
  blocks_open(&n, size, BATCH, "cpu_f64", false);
  conditionals(&n, -1);
  law_of(start, size, law_steps, law);
  r.label = -1;
  compare_to(&n, r, start, law);
  network_destroy(&n);
}

static const int32_t holes[LEN] = {0, MASK, MASK, 3}; /* a block of two begins partly revealed, one ends so */

static void test_laws(void **state) {
  (void)state;
  for (int k = 0; k < 3; k++) {
    compare(sizes[k], RUN("first_hitting", 1, true, 6, 0, 0), masks, 0);
    compare(sizes[k], RUN("first_hitting", 1, true, 7, 0, 0), holes, 0);
    /* the steps are those of the whole sequence */
    compare(sizes[k], RUN("ancestral", 12, true, 8, 0, 0), masks, (int)(12 * sizes[k] / LEN));
    compare(sizes[k], RUN("event", 12, true, 8, 0, 0), holes, (int)(12 * sizes[k] / LEN));
    /* one token a pass in random order: the same law */
    compare(sizes[k], RUN("parallel", 4, true, 9, 0, 0, .commit = "entropy_bound", .order = "random", .number = 0),
            masks, 0);
  }
}

/* Guided by a class: the tokens of a block are drawn from both passes, each with its own cache. */
static void test_guided_laws(void **state) {
  (void)state;
  toy_need_speed();
  const double gammas[] = {2.5, 0.4, 1};
  for (int k = 0; k < 3; k++) {
    double law[WHOLES], wrong[WHOLES];
    Network n;
    blocks_open_classes(&n, sizes[k], BATCH, "cpu_f64", false, 3);
    const int32_t *start = k == 1 ? holes : masks;
    Run r = RUN("first_hitting", 1, true, 6, 0, 0, .guided = true, .guidance = gammas[k], .label = 1);
    conditionals(&n, gammas[k] == 1 ? -1 : 1);
    law_of(start, sizes[k], 0, wrong);
    mixed_conditionals(&n, 1, gammas[k]);
    law_of(start, sizes[k], 0, law);
    compare_to(&n, r, start, law);
    toy_sharp(law, wrong, WHOLES, SOME);
    network_destroy(&n);
  }
}

/* ---- the same samples */
static const Run RUNS[] = {
    {.sampler = "ancestral", .steps = 8},
    {.sampler = "cached", .steps = 8},
    {.sampler = "event", .steps = 8},
    {.sampler = "first_hitting", .steps = 8},
    {.sampler = "remask", .steps = 8, .eta = 0.3},
    {.sampler = "analytic", .steps = 8},
    {.sampler = "parallel", .steps = 4},
    {.sampler = "parallel", .steps = 4, .commit = "threshold", .order = "margin", .number = 0.5},
    {.sampler = "parallel", .steps = 4, .commit = "entropy_bound", .order = "entropy", .number = 0.7},
    {.sampler = "parallel", .steps = 4, .commit = "binomial", .order = "random"},
    {.sampler = "psi", .steps = 8, .kappa = 0.4},
    {.sampler = "psi", .steps = 8, .kappa = 1},
};
enum { RUN_COUNT = sizeof RUNS / sizeof *RUNS, REVERSE = RUN_COUNT - 1, N = 40 }; /* REVERSE: psi without correction */

static Run run_at(int i, int64_t first, int64_t n, bool cache) {
  Run r = RUNS[i];
  r.noise_removal = true, r.seed = 4, r.first = first, r.n = n, r.cache = cache;
  return r;
}

/* With and without the cache, and by the network in training, which has none: bit for bit, in f32 and f64. */
static void test_cache_is_exact(void **state) {
  (void)state;
  static const char *const devices[] = {"cpu_f64", "cpu"};
  for (int k = 0; k < 3; k++)
    for (int f = 0; f < 2; f++) {
      Network n, training;
      int32_t z[3][N * LEN];
      blocks_open(&n, sizes[k], N, devices[f], false);
      blocks_open(&training, sizes[k], N, devices[f], true);
      for (int i = 0; i < RUN_COUNT; i++)
        for (int hole = 0; hole < 2; hole++) {
          const int32_t *start = hole ? holes : masks;
          SamplerJob cached = draw(&n, run_at(i, 9, N, true), &none, start, z[0], NULL);
          SamplerJob whole = draw(&n, run_at(i, 9, N, false), &none, start, z[1], NULL);
          draw(&training, run_at(i, 9, N, true), &none, start, z[2], NULL);
          assert_memory_equal(z[0], z[1], sizeof z[0]);
          assert_memory_equal(z[0], z[2], sizeof z[0]);
          assert_int_equal(cached.evaluations, whole.evaluations);
          assert_int_equal(cached.evaluated, whole.evaluated);
          for (int j = 0; j < N * LEN; j++) {
            assert_int_not_equal(z[0][j], MASK);
            if (start[j % LEN] != MASK) assert_int_equal(z[0][j], start[j % LEN]);
          }
        }
      network_destroy(&n);
      network_destroy(&training);
    }
}

/* Guided: with and without the cache, in any batch; passes with gamma = 1 in pairs are the class alone, bit for bit. */
static void test_guided_samples(void **state) {
  (void)state;
  enum { HALF = N / 2 };
  for (int k = 0; k < 3; k++) {
    Network n;
    int32_t z[3][HALF * LEN];
    int differ = 0, counted = 0;
    blocks_open_classes(&n, sizes[k], N, "cpu", false, 3);
    for (int i = 0; i < RUN_COUNT; i++) {
      Run r = run_at(i, 9, HALF, true), plain = r;
      plain.label = r.label = 1, r.guided = true, r.guidance = 6;
      SamplerJob cached = draw(&n, r, &none, masks, z[0], NULL), one = draw(&n, plain, &none, masks, z[2], NULL);
      differ += memcmp(z[0], z[2], sizeof z[0]) != 0;
      assert_true(cached.cached == one.cached && cached.evaluated % 2 == 0);
      if (cached.evaluated / 2 == one.evaluated) counted++; /* a rule may commit other numbers of tokens in a pass */
      r.cache = false;
      draw(&n, r, &none, masks, z[1], NULL);
      assert_memory_equal(z[0], z[1], sizeof z[0]);
      r.cache = true, r.n = 7;
      for (r.first = 9; r.first < 9 + HALF; r.first += 7) {
        if (9 + HALF - r.first < 7) r.n = 9 + HALF - r.first;
        draw(&n, r, &none, masks, z[1] + (r.first - 9) * LEN, NULL);
      }
      assert_memory_equal(z[0], z[1], sizeof z[0]);
    }
    assert_true(differ > RUN_COUNT / 2 && counted > RUN_COUNT / 2);
    network_destroy(&n);
  }
}

/* ancestral, cached, event and psi without correction agree; so do batches of any size. */
static void test_same_samples(void **state) {
  (void)state;
  const int64_t batches[] = {1, 7, N};
  for (int k = 0; k < 3; k++) {
    Network n;
    int32_t z[2][N * LEN];
    blocks_open(&n, sizes[k], N, "cpu", false);
    for (int i = 1; i <= 3; i++) {
      draw(&n, run_at(0, 0, N, true), &none, masks, z[0], NULL);
      draw(&n, run_at(i < 3 ? i : REVERSE, 0, N, true), &none, masks, z[1], NULL);
      assert_memory_equal(z[0], z[1], sizeof z[0]);
    }
    for (int i = 0; i < RUN_COUNT; i++) {
      draw(&n, run_at(i, 0, N, true), &none, holes, z[0], NULL);
      for (int j = 0; j < 3; j++) {
        for (int64_t at = 0; at < N; at += batches[j]) {
          int64_t most = N - at < batches[j] ? N - at : batches[j];
          draw(&n, run_at(i, at, most, true), &none, holes, z[1] + at * LEN, NULL);
        }
        assert_memory_equal(z[0], z[1], sizeof z[0]);
      }
    }
    network_destroy(&n);
  }
}

/* One token a pass: as many evaluations as masks. A block without masks has none, and all of a later stop. */
static void test_evaluations(void **state) {
  (void)state;
  for (int k = 0; k < 3; k++) {
    Network n;
    int32_t z[N * LEN];
    const int32_t prompt[LEN] = {0, 2, 3, MASK};
    blocks_open(&n, sizes[k], N, "cpu", false);
    SamplerJob job = draw(&n, run_at(3, 0, N, true), &none, masks, z, NULL);
    assert_true(job.evaluations <= LEN && job.evaluated == job.evaluations * N);
    job = draw(&n, run_at(3, 0, N, true), &none, prompt, z, NULL);
    assert_int_equal(job.evaluated, N);
    network_destroy(&n);
  }
}

/* Longer samples: the window slides by whole blocks; its tokens so far are the sample without strides. */
static void test_strides(void **state) {
  (void)state;
  Network n;
  int32_t z[N * LONG], one[N * LEN], whole[N * LONG];
  for (int k = 0; k < 2; k++)
    for (int64_t stride = 2; stride <= 2 * sizes[k]; stride += sizes[k]) {
      const Strides s = {4 / stride, stride};
      if (stride >= LEN || 4 % stride) continue;
      blocks_open(&n, sizes[k], N, "cpu", false);
      for (int i = 0; i < RUN_COUNT; i++) {
        draw(&n, run_at(i, 0, N, true), &none, masks, one, NULL);
        draw(&n, run_at(i, 0, N, true), &s, masks, z, NULL);
        draw(&n, run_at(i, 0, N, false), &s, masks, whole, NULL);
        assert_memory_equal(z, whole, sizeof z);
        int same = 0;
        for (int b = 0; b < N; b++) {
          assert_memory_equal(z + b * LONG, one + b * LEN, LEN * sizeof *z);
          same += memcmp(z + b * LONG + LEN, one + b * LEN, LEN * sizeof *z) == 0;
        }
        assert_true(same < N / 2); /* every block has its own random numbers */
      }
      network_destroy(&n);
    }
}

/* A sample ends at its first drawn eos: what comes behind it is pad, which may be the mask, or eos where there is none;
 * what comes before is the sample without the stop. */
static void check_stop(int pad) {
  const int32_t fill = pad == PAD_TOKEN ? PAD : pad == PAD_MASK ? MASK : EOS;
  for (int k = 0; k < 3; k++) {
    Network n;
    int32_t z[N * LEN], free[N * LEN], lengths[N];
    int ended = 0;
    blocks_open(&n, sizes[k], N, "cpu", false);
    for (int i = 0; i < 6; i++) {
      Run r = run_at(i, 0, N, true);
      draw(&n, r, &none, masks, free, NULL);
      r.stop = true;
      r.pad = pad;
      for (int b = 0; b < N; b++) lengths[b] = LEN;
      draw(&n, r, &none, masks, z, lengths);
      for (int b = 0; b < N; b++) {
        int e = 0;
        while (e < LEN && free[b * LEN + e] != EOS) e++;
        ended += e < LEN - 1;
        assert_int_equal(lengths[b], e < LEN ? e + 1 : LEN);
        for (int l = 0; l < LEN; l++) assert_int_equal(z[b * LEN + l], l <= e ? free[b * LEN + l] : fill);
      }
    }
    assert_true(ended > N);
    network_destroy(&n);
  }
}

static void test_stop(void **state) {
  (void)state;
  for (int pad = PAD_TOKEN; pad <= PAD_NONE; pad++) check_stop(pad);
}

static void test_progress(void **state) {
  (void)state;
  Network n;
  Sampler sampler;
  int32_t z[LEN];
  int64_t last = 0;
  blocks_open(&n, 2, 1, "cpu", false);
  Run r = RUN("ancestral", 12, true, 1, 0, 1, .cache = true);
  MUST(toy_sampler(&sampler, &n, r));
  memcpy(z, masks, sizeof z);
  SamplerJob job = toy_job(&n, r, z);
  job.progress = toy_count_up;
  job.progress_arg = &last;
  MUST(sampler_run(&sampler, &job));
  assert_int_equal(last, 12);
  sampler_destroy(&sampler);
  network_destroy(&n);
}

static void test_refusals(void **state) {
  (void)state;
  Network n;
  blocks_open(&n, 2, 1, "cpu", false);
  toy_refused(&n, RUN("ancestral", 4, false, 1, 0, 1), "a block must be complete before the next one");
  toy_refused(&n, RUN("parallel", 4, true, 1, 0, 1, .block = 2), "the blocks are those of the network; set it to 0");
  toy_refused(&n, RUN("ancestral", 4, true, 1, 0, 1, .stop = true, .no_bos = true), "no token that ends a text");
  toy_refused(&n, RUN("ar", 4, true, 1, 0, 1), "writes from left to right");
  toy_refused(&n, RUN("ancestral", 4, true, 1, 0, 1, .guided = true, .guidance = 2),
              "with diffusion.block = 2 only a class guides");
  check_refused(strides_fits(&(Strides){2, 3}, &n.objective, LEN), ERR_USAGE, "no multiple of diffusion.block = 2");
  check_refused(strides_fits(&(Strides){1 << 21, 2}, &n.objective, LEN), ERR_USAGE, "blocks of diffusion.block = 2");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_laws),        cmocka_unit_test(test_cache_is_exact), cmocka_unit_test(test_same_samples),
      cmocka_unit_test(test_evaluations), cmocka_unit_test(test_strides),        cmocka_unit_test(test_stop),
      cmocka_unit_test(test_guided_laws), cmocka_unit_test(test_guided_samples), cmocka_unit_test(test_progress),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
