/* test_sampler_ar — samples from left to right have exactly the distribution of the chain rule, enumerated on a tiny
 * network (toy_sampler.h), and the cache of keys and values changes no bit of the hidden rows and no token. Linked with
 * a device under test, the networks run on that device, where hidden rows may differ by rounding errors. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

/* ---- the distribution: p(x1 | x0) p(x2 | x0 x1); the factor of a fixed token is 1 */
static void open_ar(Network *n, int64_t batch) {
  Toy toy = toy_tiny(V, MASK, L, batch);
  if (toy_under_test()) toy.device.name = check_device;
  toy.model.name = toy.objective.name = "ar";
  toy.model.blocks = 2;
  toy.eps = EPS;
  toy_open(n, &toy);
  toy_weights(n, 6, 4);
}

static void chain_rule(Network *n, const int32_t start[L], int bos, double law[STATES]) {
  double p[STATES][L][V]; /* row l predicts the token at l + 1 */
  toy_conditionals(n, 1, p);
  for (int s = 0; s < STATES; s++) {
    law[s] = toy_digit(s, 0) == (start[0] == MASK ? bos : start[0]);
    for (int l = 1; l < L; l++) law[s] *= start[l] == MASK ? p[s][l - 1][toy_digit(s, l)] : toy_digit(s, l) == start[l];
  }
}

static void test_law(void **state) {
  (void)state;
  Network n;
  double law[STATES], wrong[STATES];
  int64_t count[STATES];
  open_ar(&n, BATCH);
  for (int cache = check_slow; cache < 2; cache++) {
    chain_rule(&n, blank, BOS, law);
    toy_compare(&n, RUN("ar", STEPS, true, 1, 0, 0, .cache = cache), blank, DRAWS, law, count);
    chain_rule(&n, blank, 3, wrong);
    toy_sharp(law, wrong, STATES, DRAWS);
  }
  network_destroy(&n);
}

static void test_law_from_fixed_tokens(void **state) {
  (void)state;
  const int32_t starts[][L] = {{3, MASK, MASK}, {MASK, 2, MASK}, {MASK, MASK, 2}, {2, MASK, 0}};
  Network n;
  open_ar(&n, BATCH);
  for (int k = 0; k < (check_slow ? 2 : 8); k++) {
    const int32_t *start = starts[k / 2];
    double law[STATES];
    int64_t count[STATES];
    chain_rule(&n, start, BOS, law);
    toy_compare(&n, RUN("ar", STEPS, true, 2, 0, 0, .cache = k % 2), start, DRAWS / 10, law, count);
    for (int s = 0; s < STATES; s++)
      for (int l = 0; l < L && count[s] > 0; l++)
        if (start[l] != MASK) assert_int_equal(toy_digit(s, l), start[l]);
  }
  network_destroy(&n);
}

/* ---- networks with more positions, with the cache and without */
enum { WORDS = 11, HOLE = 10, LONG = 19, LONGER = 128, WIDTH = 16, BLOCKS = 2, SEQUENCES = 8 };
static const char *const networks[] = {"ar", "gpt2"};

typedef struct Case {
  const char *network, *device;
  bool bf16;
  double near;          /* tolerance for hidden rows */
  int64_t length, most; /* length and number of sequences */
  bool training;
} Case;

static void open_case(Network *n, const Case *c) {
  Toy toy = toy_tiny(WORDS, HOLE, c->length, c->most);
  toy.device.name = c->device;
  toy.device.bf16 = c->bf16;
  toy.model.name = c->network;
  toy.model.width = WIDTH;
  toy.model.blocks = BLOCKS;
  toy.model.training = c->training;
  toy.objective.name = "ar";
  toy.eps = EPS;
  toy_open(n, &toy);
  toy_weights(n, 3, 1.5);
}

/* Run for each network on each available device and type of matrix products. */
static void each_of(void (*run)(const Case *), bool low, int64_t length, int64_t most) {
  for (int i = 0; i < 2; i++) {
    const char *device = toy_under_test() ? check_device : "cpu";
    bool exact = !toy_under_test();
    if (!toy_under_test()) run(&(Case){networks[i], "cpu_f64", false, 0, length, most, false});
    run(&(Case){networks[i], device, false, exact ? 0 : 1e-5, length, most, false});
    if (low) run(&(Case){networks[i], device, true, exact ? 0 : 4e-2, length, most, false});
  }
}

static void each(void (*run)(const Case *), bool low) { each_of(run, low, LONG, SEQUENCES); }

static void random_ids(int32_t *ids, int64_t n, uint64_t stream) {
  RngKey key = rng_key(stream, RNG_TEST, 0, 0, 0);
  for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(rng_uniform(key, (uint64_t)i) * HOLE);
}

static void near_rows(const Case *c, const char *what, const double *got, const double *want) {
  double error = check_error(got, want, WIDTH);
  if (!(error <= c->near)) fail_msg("%s on %s: %s are off by %.1e", c->network, c->device, what, error);
}

/* Two runs, the second with fewer sequences: it must not see what the first has left in the cache. */
static void hidden_rows(const Case *c) {
  Network n;
  int64_t length = c->length;
  open_case(&n, c);
  for (int64_t B = c->most; B > 0; B -= 5) {
    int32_t ids[SEQUENCES * LONGER], part[SEQUENCES * LONGER];
    random_ids(ids, B * length, (uint64_t)B);
    ModelInput whole = {.B = B, .ids = ids};
    MUST(model_forward(&n.model, &whole));
    double *want = toy_values(&n, tensor_rows(n.model.h, 0, B * length));
    for (int64_t l = 0; l < length; l++) {
      for (int64_t b = 0; b < B; b++) part[b] = ids[b * length + l];
      ModelInput step = {.B = B, .L = 1, .ids = part};
      MUST(model_step(&n.model, &step, l));
      double *got = toy_values(&n, tensor_rows(n.model.h, 0, B));
      for (int64_t b = 0; b < B; b++) near_rows(c, "rows of a step", got + b * WIDTH, want + (b * length + l) * WIDTH);
      mem_free(&got);
    }
    for (int64_t b = 0; b < B; b++) memcpy(part + b * 7, ids + b * length, 7 * sizeof *part);
    ModelInput prefix = {.B = B, .L = 7, .ids = part};
    MUST(model_forward(&n.model, &prefix));
    double *got = toy_values(&n, tensor_rows(n.model.h, 0, B * 7));
    for (int64_t r = 0; r < B * 7; r++)
      near_rows(c, "rows of a prefix", got + r * WIDTH, want + (r / 7 * length + r % 7) * WIDTH);
    mem_free(&got);
    mem_free(&want);
  }
  network_destroy(&n);
}

static void test_hidden_rows(void **state) {
  (void)state;
  each(hidden_rows, true);
  if (check_statistics()) each_of(hidden_rows, true, LONGER, 2); /* many keys use other code for the products */
}

/* Draw the samples first … first+count−1 from starts with holes; every third start consists of holes only. */
static SamplerJob write_samples(Network *n, bool cache, int64_t first, int64_t count, int32_t *start, int32_t *z) {
  Sampler sampler;
  Run r = RUN("ar", 10, true, 4, first, count, .cache = cache);
  MUST(toy_sampler(&sampler, n, r));
  for (int64_t i = 0; i < count; i++) {
    uint64_t sample = (uint64_t)(first + i);
    RngKey key = rng_key(9, RNG_TEST, 0, 0, sample);
    random_ids(start + i * LONG, LONG, 100 + sample);
    for (uint64_t l = 0; l < LONG; l++)
      if (sample % 3 == 0 || rng_uniform(key, l) < 0.6) start[i * LONG + (int64_t)l] = HOLE;
  }
  memcpy(z, start, (size_t)(count * LONG) * sizeof *z);
  SamplerJob job = toy_job(n, r, z);
  MUST(sampler_run(&sampler, &job));
  sampler_destroy(&sampler);
  return job;
}

static void same_tokens(const Case *c) {
  Network n;
  int32_t start[SEQUENCES * LONG], with[SEQUENCES * LONG], without[SEQUENCES * LONG];
  int64_t most = check_statistics() ? 400 : SEQUENCES;
  open_case(&n, c);
  for (int64_t first = 0; first < most; first += SEQUENCES) {
    write_samples(&n, true, first, SEQUENCES, start, with);
    write_samples(&n, false, first, SEQUENCES, start, without);
    assert_memory_equal(with, without, sizeof with);
    for (int64_t i = 0; i < SEQUENCES * LONG; i++) {
      assert_true(with[i] >= 0 && with[i] < HOLE);
      if (start[i] != HOLE) assert_int_equal(with[i], start[i]);
      if (start[i] == HOLE && i % LONG == 0) assert_int_equal(with[i], BOS);
    }
  }
  network_destroy(&n);
}

static void test_same_tokens(void **state) {
  (void)state;
  each(same_tokens, false);
}

/* The network in training, which has no cache. */
static void test_training(void **state) {
  (void)state;
  Case c = {"ar", toy_under_test() ? check_device : "cpu", false, 0, LONG, SEQUENCES, false};
  Network n, training;
  int32_t start[SEQUENCES * LONG], want[SEQUENCES * LONG], got[SEQUENCES * LONG];
  open_case(&n, &c);
  c.training = true;
  open_case(&training, &c);
  write_samples(&n, true, 5, SEQUENCES, start, want);
  for (int cache = 0; cache < 2; cache++) {
    write_samples(&training, cache, 5, SEQUENCES, start, got);
    assert_memory_equal(got, want, sizeof want);
  }
  network_destroy(&n);
  network_destroy(&training);
}

/* ---- what a sample depends on */
static void test_batch_split(void **state) {
  (void)state;
  const Case c = {"ar", toy_under_test() ? check_device : "cpu_f64", false, 0, LONG, SEQUENCES, false};
  Network n;
  int32_t start[SEQUENCES * LONG], whole[SEQUENCES * LONG], z[SEQUENCES * LONG];
  open_case(&n, &c);
  write_samples(&n, true, 20, SEQUENCES, start, whole);
  for (int64_t size = 1; size < 8; size += 2) {
    for (int64_t at = 0; at < SEQUENCES; at += size)
      write_samples(&n, true, 20 + at, at + size < SEQUENCES ? size : SEQUENCES - at, start, z + at * LONG);
    assert_memory_equal(z, whole, sizeof z);
  }
  write_samples(&n, true, 23, SEQUENCES, start, z); /* other samples have other starts */
  assert_memory_not_equal(z, whole, sizeof z);
  network_destroy(&n);
}

/* Tokens to the right of a hole are kept and do not influence the token drawn for it. */
static void test_right_side_is_not_seen(void **state) {
  (void)state;
  Network n;
  int32_t want[20 * L], got[20 * L];
  open_ar(&n, 20);
  for (int cache = 0; cache < 2; cache++) {
    Run r = RUN("ar", STEPS, true, 5, 0, 20, .cache = cache);
    toy_samples(&n, r, blank, want);
    for (int32_t y = 0; y < V; y++) {
      if (y == MASK) continue;
      toy_samples(&n, r, (const int32_t[L]){MASK, MASK, y}, got);
      for (int i = 0; i < 20; i++) {
        assert_int_equal(got[i * L + 1], want[i * L + 1]);
        assert_int_equal(got[i * L + 2], y);
      }
    }
  }
  network_destroy(&n);
}

/* ---- network evaluations, and memory */
static void test_evaluations(void **state) {
  (void)state;
  const int32_t starts[][L] = {{MASK, MASK, MASK}, {MASK, MASK, 2}, {2, 3, MASK}, {MASK, 2, 3}, {0, 2, 3}};
  const int64_t with[] = {2, 1, 2, 0, 0}, without[] = {2, 1, 1, 0, 0};
  Network n;
  int32_t z[20 * L];
  open_ar(&n, 20);
  for (int k = 0; k < 10; k++) {
    bool cache = k % 2;
    SamplerJob job = toy_samples(&n, RUN("ar", STEPS, true, 5, 0, 20, .cache = cache), starts[k / 2], z);
    int64_t passes = (cache ? with : without)[k / 2];
    assert_int_equal(job.evaluations, passes);
    assert_int_equal(job.evaluated, 20 * passes);
    assert_int_equal(z[0], starts[k / 2][0] == MASK ? BOS : starts[k / 2][0]);
  }
  network_destroy(&n);
}

static void test_cache_is_made_when_asked_for(void **state) {
  (void)state;
  Network n;
  int32_t z[4 * L];
  open_ar(&n, 4);
  toy_samples(&n, RUN("ar", STEPS, true, 5, 0, 4), blank, z);
  size_t before = n.dev.allocated, bytes = (4 * L * 2 * 8 * dtype_size(n.dev.act) + 255) / 256 * 256;
  for (int i = 0; i < 2; i++) {
    toy_samples(&n, RUN("ar", STEPS, true, 5, 0, 4, .cache = true), blank, z);
    assert_true(n.dev.allocated == before + 2 * bytes);
  }
  network_destroy(&n);
}

/* ---- refusals */
static void test_refusals(void **state) {
  (void)state;
  static const char *const diffusions[] = {"subs", "d3pm", "sedd"};
  Sampler ar;
  Network n;
  int32_t z[L];
  open_ar(&n, 1);
  const Objective causal = n.objective;
  for (int i = 0; i < 3; i++) {
    ObjectiveOptions o = {
        .name = diffusions[i], .schedule = &n.schedule, .mask = MASK, .vocab = V, .T = i == 1 ? 8 : 0};
    MUST(objective_create(&n.objective, &o));
    toy_refused(&n, RUN("ar", 1, true, 0, 0, 1), diffusions[i]);
  }
  n.objective = causal;
  static const char *const others[] = {"ancestral", "cached", "event", "first_hitting"};
  for (int i = 0; i < 4; i++) toy_refused(&n, RUN(others[i], 1, true, 0, 0, 1), others[i]);
  Run r = RUN("ar", 1, true, 0, 0, 1, .no_bos = true);
  MUST(toy_sampler(&ar, &n, r));
  SamplerJob job = toy_job(&n, r, z);
  memcpy(z, blank, sizeof z);
  check_refused(sampler_run(&ar, &job), ERR_USAGE, "a tokenizer without bos");
  z[0] = 3;
  MUST(sampler_run(&ar, &job));
  sampler_destroy(&ar);
  assert_true(z[0] == 3 && z[1] != MASK && z[2] != MASK);
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_law),
      cmocka_unit_test(test_law_from_fixed_tokens),
      cmocka_unit_test(test_hidden_rows),
      cmocka_unit_test(test_same_tokens),
      cmocka_unit_test(test_training),
      cmocka_unit_test(test_batch_split),
      cmocka_unit_test(test_right_side_is_not_seen),
      cmocka_unit_test(test_evaluations),
      cmocka_unit_test(test_cache_is_made_when_asked_for),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
