/* test_sampler_ancestral — the sampler's output has exactly the law of the reverse process, which for V = 4 and L = 3
 * can be enumerated: 4³ states, and from each state at t to those at s
 *   a visible token stays;  a masked one stays with chance mc_s/mc_t, mc = 1 − alpha, and else is drawn from p(x0 | z)
 * with the network's p at time t. The noise removal fills what is left with the likeliest tokens.
 * Linked with a device under test, the network is that device's. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "diffusion/sampler.h"

enum { V = 4, L = 3, MASK = 1, STATES = V * V * V, STEPS = 4, BATCH = 1000, DRAWS = 200000 };
static const double EPS = 1e-3;
static const int32_t blank[L] = {MASK, MASK, MASK};

static bool bf16; /* products of the device under test */

static bool device_under_test(void) { return strcmp(check_device, "cpu") != 0; }

static void open_toy(Network *n, bool time, int64_t batch) {
  Toy toy = toy_tiny(V, MASK, L, batch);
  if (device_under_test()) toy.device.name = check_device;
  toy.device.bf16 = bf16;
  toy.model.time_conditioning = time;
  toy.eps = EPS;
  toy_open(n, &toy);
  toy_weights(n, 6, 4);
}

/* ---- the law */
static int32_t digit(int state, int l) { return state >> 2 * l & 3; }
static int code(const int32_t *z) { return z[0] | z[1] << 2 | z[2] << 4; }

/* loglinear leaves a mask at t = 1e-5 once in 10⁵ positions; this one every third time, so that the end is tested too
 */
static double slow_sigma(const Schedule *s, double t) { return -log(0.75 - s->eps - 0.5 * t); }
static double slow_rate(const Schedule *s, double t) { return 0.5 / (0.75 - s->eps - 0.5 * t); }
static const ScheduleTable slow = {.name = "slow", .sigma = slow_sigma, .rate = slow_rate};

static double masked(const Network *n, double t) {
  return n->schedule.table == &slow ? 0.25 + EPS + 0.5 * t : (1 - EPS) * t;
}

/* p(x0_l = y | z) for every state z at time t: a softmax of the logits without m, here in plain sight */
static void conditionals(Network *n, double t, double p[STATES][L][V]) {
  int32_t z[STATES * L];
  double sigma[STATES];
  for (int s = 0; s < STATES; s++) {
    for (int l = 0; l < L; l++) z[s * L + l] = digit(s, l);
    sigma[s] = -log(1 - masked(n, t));
  }
  ModelInput in = {.B = STATES, .ids = z, .sigma = sigma};
  MUST(model_forward(&n->model, &in));
  float logits[STATES][L][V];
  MUST(rows_logits(&n->rows, 0, STATES * L, &logits[0][0][0]));
  for (int s = 0; s < STATES; s++)
    for (int l = 0; l < L; l++) {
      double sum = 0;
      for (int y = 0; y < V; y++) sum += p[s][l][y] = y == MASK ? 0 : exp((double)logits[s][l][y]);
      for (int y = 0; y < V; y++) p[s][l][y] /= sum;
    }
}

static int likeliest(const double *p) {
  int best = 0;
  for (int y = 1; y < V; y++)
    if (p[y] > p[best]) best = y;
  return best;
}

/* the chance to go from state a to state b when a masked token stays with chance `stay` */
static double transition(int a, int b, double stay, double p[L][V]) {
  double chance = 1;
  for (int l = 0; l < L; l++) {
    int x = digit(a, l), y = digit(b, l);
    if (x != MASK)
      chance *= x == y;
    else
      chance *= y == MASK ? stay : (1 - stay) * p[l][y];
  }
  return chance;
}

static void law_step(double law[STATES], double stay, double p[STATES][L][V]) {
  double next[STATES] = {0};
  for (int a = 0; a < STATES; a++)
    for (int b = 0; b < STATES && law[a] > 0; b++) next[b] += law[a] * transition(a, b, stay, p[a]);
  memcpy(law, next, sizeof next);
}

static void law_finish(double law[STATES], double p[STATES][L][V]) {
  double next[STATES] = {0};
  for (int a = 0; a < STATES; a++) {
    int32_t z[L];
    for (int l = 0; l < L; l++) z[l] = digit(a, l) == MASK ? likeliest(p[a][l]) : digit(a, l);
    next[code(z)] += law[a];
  }
  memcpy(law, next, sizeof next);
}

static void law_of(Network *n, const int32_t start[L], int steps, bool noise_removal, double law[STATES]) {
  double p[STATES][L][V];
  memset(law, 0, STATES * sizeof *law);
  law[code(start)] = 1;
  for (int i = 0; i < steps; i++) {
    double t = 1 - i * (1 - 1e-5) / steps, s = 1 - (i + 1) * (1 - 1e-5) / steps;
    conditionals(n, t, p);
    law_step(law, masked(n, s) / masked(n, t), p);
  }
  if (!noise_removal) return;
  conditionals(n, 1e-5, p);
  law_finish(law, p);
}

/* ---- the samples */
typedef struct Run {
  int steps;
  bool noise_removal;
  uint64_t seed;
  int64_t first, n;
} Run;

/* samples — z[n,L] from the start; the number of passes of the network is returned */
static int64_t samples(Network *n, Run r, const int32_t start[L], int32_t *z) {
  const Sampler *sampler = NULL;
  MUST(sampler_find(&sampler, "ancestral"));
  for (int64_t i = 0; i < r.n; i++) memcpy(z + i * L, start, L * sizeof *z);
  SamplerJob job = {.model = &n->model,
                    .rows = &n->rows,
                    .objective = &n->objective,
                    .steps = r.steps,
                    .noise_removal = r.noise_removal,
                    .seed = r.seed,
                    .first = r.first,
                    .n = r.n,
                    .z = z};
  MUST(sampler->run(&job));
  return job.evaluations;
}

/* compare — so many samples with a law; count: how often each state was drawn */
static void compare(Network *n, Run r, const int32_t start[L], int64_t draws, const double law[STATES],
                    int64_t count[STATES]) {
  static int32_t z[BATCH * L];
  memset(count, 0, STATES * sizeof *count);
  draws = (toy_draws(draws) + BATCH - 1) / BATCH * BATCH;
  r.n = BATCH;
  for (r.first = 0; r.first < draws; r.first += BATCH) {
    int64_t passes = samples(n, r, start, z);
    assert_in_range(passes, r.steps, r.steps + r.noise_removal);
    for (int64_t i = 0; i < BATCH; i++) count[code(z + i * L)]++;
  }
  toy_law("samples", count, law, STATES, draws);
}

/* The chi-square test of so many draws would see a law that is a little wrong. */
static void assert_sharp(const double law[STATES], const double wrong[STATES], int64_t draws) {
  int64_t count[STATES], sum = 0;
  int dof, last = 0;
  for (int s = 0; s < STATES; s++) {
    sum += count[s] = (int64_t)(law[s] * (double)draws);
    if (law[s] > law[last]) last = s;
  }
  count[last] += draws - sum;
  double chi2 = toy_chi2(count, wrong, STATES, draws, &dof);
  assert_true(chi2 > 3 * toy_chi2_limit(dof));
}

static void same_law(void) {
  Network n;
  double law[STATES], wrong[STATES];
  int64_t count[STATES];
  open_toy(&n, false, BATCH);
  law_of(&n, blank, STEPS, true, law);
  compare(&n, (Run){STEPS, true, 1, 0, 0}, blank, DRAWS, law, count);
  for (int s = 0; s < STATES; s++)
    for (int l = 0; l < L; l++)
      if (digit(s, l) == MASK) assert_int_equal(count[s], 0);
  law_of(&n, blank, STEPS - 1, true, wrong);
  assert_sharp(law, wrong, DRAWS);
  network_destroy(&n);
}

static void test_law(void **state) {
  (void)state;
  same_law();
}

static void test_law_bf16(void **state) {
  (void)state;
  bf16 = true;
  same_law();
  bf16 = false;
}

/* The network sees the time of the step, not that of another. */
static void test_law_with_time(void **state) {
  (void)state;
  Network n, timeless;
  double law[STATES], wrong[STATES];
  int64_t count[STATES], draws = DRAWS / 10;
  open_toy(&n, true, BATCH);
  open_toy(&timeless, false, BATCH);
  law_of(&n, blank, STEPS, true, law);
  compare(&n, (Run){STEPS, true, 2, 0, 0}, blank, draws, law, count);
  law_of(&timeless, blank, STEPS, true, wrong);
  assert_sharp(law, wrong, draws);
  network_destroy(&n);
  network_destroy(&timeless);
}

/* One step fills everything at once, each position for itself. Fixed tokens stay and are seen. */
static void test_law_from_fixed_tokens(void **state) {
  (void)state;
  const int32_t starts[][L] = {{MASK, 2, MASK}, {0, MASK, 3}, {MASK, MASK, MASK}};
  const int steps[] = {STEPS, 7, 1};
  Network n;
  open_toy(&n, false, BATCH);
  for (int k = 0; k < 3; k++) {
    double law[STATES];
    int64_t count[STATES], draws = DRAWS / 20;
    law_of(&n, starts[k], steps[k], true, law);
    compare(&n, (Run){steps[k], true, 3, 0, 0}, starts[k], draws, law, count);
    for (int s = 0; s < STATES; s++)
      for (int l = 0; l < L && count[s] > 0; l++)
        if (starts[k][l] != MASK) assert_int_equal(digit(s, l), starts[k][l]);
  }
  const int32_t whole[L] = {0, 2, 3};
  int32_t z[L];
  samples(&n, (Run){STEPS, true, 3, 0, 1}, whole, z);
  assert_memory_equal(z, whole, sizeof z);
  network_destroy(&n);
}

/* ---- masks that are left at the end */
static void test_law_with_masks_left(void **state) {
  (void)state;
  for (int removal = 0; removal < 2; removal++) {
    Network n;
    double law[STATES], wrong[STATES];
    int64_t count[STATES], draws = DRAWS / 10;
    open_toy(&n, false, BATCH);
    law_of(&n, blank, STEPS, removal, wrong);
    n.schedule = (Schedule){.table = &slow, .eps = EPS};
    law_of(&n, blank, STEPS, removal, law);
    compare(&n, (Run){STEPS, removal, 4, 0, 0}, blank, draws, law, count);
    assert_sharp(law, wrong, draws);
    assert_true((count[code(blank)] > 0) == !removal);
    network_destroy(&n);
  }
}

/* The noise removal fills the masks with the likeliest tokens, changes nothing else, and costs a pass only if it must.
 */
static void test_noise_removal(void **state) {
  (void)state;
  double p[STATES][L][V];
  Network n;
  open_toy(&n, false, STATES);
  n.schedule = (Schedule){.table = &slow, .eps = EPS};
  conditionals(&n, 1e-5, p);
  int64_t left = 0, whole = 0;
  for (int64_t i = 0; i < 300; i++) {
    int32_t z[L], rest[L];
    int64_t passes = samples(&n, (Run){2, true, 4, i, 1}, blank, z), masks = 0;
    assert_int_equal(samples(&n, (Run){2, false, 4, i, 1}, blank, rest), 2);
    for (int l = 0; l < L; l++) {
      masks += rest[l] == MASK;
      assert_int_equal(z[l], rest[l] == MASK ? likeliest(p[code(rest)][l]) : rest[l]);
    }
    assert_int_equal(passes, masks > 0 ? 3 : 2);
    left += masks > 0;
    whole += masks == 0;
  }
  assert_true(left > 50 && whole > 50);
  network_destroy(&n);
}

/* ---- a sample is a function of (seed, number) */
static void test_batch_split(void **state) {
  (void)state;
  enum { N = 60 };
  const int64_t sizes[] = {1, 7, 13, 59};
  int32_t whole[N * L], z[N * L];
  for (int time = 0; time < 2; time++) {
    Network n;
    open_toy(&n, time, N);
    samples(&n, (Run){STEPS, true, 5, 100, N}, blank, whole);
    for (int k = 0; k < 4; k++) {
      for (int64_t at = 0; at < N; at += sizes[k]) {
        int64_t most = N - at < sizes[k] ? N - at : sizes[k];
        samples(&n, (Run){STEPS, true, 5, 100 + at, most}, blank, z + at * L);
      }
      assert_memory_equal(z, whole, sizeof z);
    }
    samples(&n, (Run){STEPS, true, 6, 100, N}, blank, z);
    assert_memory_not_equal(z, whole, sizeof z);
    network_destroy(&n);
  }
}

/* nor of the rows of logits held at a time, drawn or most likely */
static void test_row_chunks(void **state) {
  (void)state;
  enum { N = 60 };
  int32_t whole[N * L], z[N * L];
  for (int64_t chunk = 0; chunk < 8; chunk += 7) {
    Network n;
    open_toy(&n, false, N);
    rows_destroy(&n.rows);
    n.dev.row_chunk = chunk;
    MUST(rows_create(&n.rows, &n.model, 1));
    n.schedule = (Schedule){.table = &slow, .eps = EPS};
    samples(&n, (Run){STEPS, true, 5, 0, N}, blank, chunk ? z : whole);
    network_destroy(&n);
  }
  assert_memory_equal(z, whole, sizeof z);
}

/* ---- the rest of the job */
static void progress(void *arg, int64_t step) {
  int64_t *last = arg;
  assert_int_equal(step, *last + 1);
  *last = step;
}

static void test_job(void **state) {
  (void)state;
  Network n;
  const Sampler *sampler = NULL;
  open_toy(&n, false, BATCH);
  check_refused(sampler_find(&sampler, "descendant"), ERR_USAGE, "an unknown sampler");
  MUST(sampler_find(&sampler, "ancestral"));
  assert_string_equal(sampler->name, "ancestral");
  int32_t z[2 * L] = {MASK, MASK, MASK, MASK, MASK, MASK};
  int64_t last = 0;
  SamplerJob job = {.model = &n.model,
                    .rows = &n.rows,
                    .objective = &n.objective,
                    .steps = 9,
                    .seed = 1,
                    .n = 2,
                    .z = z,
                    .evaluations = 77,
                    .progress = progress,
                    .progress_arg = &last};
  MUST(sampler->run(&job));
  assert_int_equal(last, 9);
  assert_int_equal(job.evaluations, 9);
  for (int64_t steps = 1; steps < 2000; steps = 3 * steps + 1) {
    assert_true(sampler_time(0, steps) == 1);
    assert_true(fabs(sampler_time(steps, steps) - 1e-5) < 1e-15);
    for (int64_t i = 0; i < steps; i++) assert_true(sampler_time(i + 1, steps) < sampler_time(i, steps));
  }
  network_destroy(&n);
}

/* The CPU is asked in f64 only; an emulated device has no time for more than the laws. */
int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_law_bf16),
      cmocka_unit_test(test_law),
      cmocka_unit_test(test_law_with_time),
      cmocka_unit_test(test_law_with_masks_left),
      cmocka_unit_test(test_law_from_fixed_tokens),
      cmocka_unit_test(test_noise_removal),
      cmocka_unit_test(test_batch_split),
      cmocka_unit_test(test_row_chunks),
      cmocka_unit_test(test_job),
  };
  enum { COUNT = sizeof tests / sizeof *tests, LAWS = 3 };
  int first = device_under_test() ? 0 : 1, count = check_slow ? LAWS : COUNT - first;
  return _cmocka_run_group_tests("sampler_ancestral", tests + first, (size_t)count, NULL, NULL);
}
