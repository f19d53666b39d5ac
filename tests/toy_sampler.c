#include "toy_sampler.h"

#include "base/err.h"

#include <math.h>
#include <string.h>

bool toy_under_test(void) { return strcmp(check_device, "cpu") != 0; }

void toy_open_sampler(Network *n, ToySampler options) {
  Toy toy = toy_tiny(V, MASK, L, options.batch);
  if (toy_under_test()) toy.device.name = check_device;
  toy.device.bf16 = options.bf16;
  toy.model.time_conditioning = options.time;
  toy.model.classes = options.classes;
  if (options.model) toy.model.name = options.model;
  toy.objective = options.objective;
  toy.eps = EPS;
  toy_open(n, &toy);
  toy_weights(n, 6, 4);
}

/* ---- the distribution */
int32_t toy_digit(int state, int l) { return state >> 2 * l & 3; }
int toy_code(const int32_t *z) { return z[0] | z[1] << 2 | z[2] << 4; }

static double slow_sigma(const Schedule *s, double t) { return -log(0.75 - s->eps - 0.5 * t); }
static double slow_rate(const Schedule *s, double t) { return 0.5 / (0.75 - s->eps - 0.5 * t); }
const ScheduleTable toy_slow = {.name = "slow", .sigma = slow_sigma, .rate = slow_rate};

double toy_masked(const Network *n, double t) {
  return n->schedule.table == &toy_slow ? 0.25 + EPS + 0.5 * t : (1 - EPS) * t;
}

void toy_conditionals(Network *n, double t, double p[STATES][L][V]) { toy_conditionals_of(n, -1, t, p); }

void toy_conditionals_of(Network *n, int32_t label, double t, double p[STATES][L][V]) {
  int32_t z[STATES * L], labels[STATES];
  double sigma[STATES];
  for (int s = 0; s < STATES; s++) {
    for (int l = 0; l < L; l++) z[s * L + l] = toy_digit(s, l);
    sigma[s] = -log(1 - toy_masked(n, t));
    labels[s] = label;
  }
  ModelInput in = {.B = STATES, .ids = z, .sigma = sigma, .labels = labels};
  MUST(model_forward(&n->model, &in));
  float logits[STATES][L][V];
  MUST(rows_logits(&n->rows, 0, STATES * L, &logits[0][0][0]));
  for (int s = 0; s < STATES; s++)
    for (int l = 0; l < L; l++) {
      double sum = 0;
      for (int y = 0; y < V; y++)
        sum += p[s][l][y] = y == MASK && n->objective.terms != 4 ? 0 : exp((double)logits[s][l][y]);
      for (int y = 0; y < V; y++) p[s][l][y] /= sum;
    }
}

int toy_likeliest(const double *p) {
  int best = 0;
  for (int y = 1; y < V; y++)
    if (y != MASK && p[y] > p[best]) best = y;
  return best;
}

/* the probability of a step from state a to state b: a masked token stays masked with weight `stay` and becomes y with
 * weight (1 − stay)·p(y) */
static double transition(int a, int b, double stay, double p[L][V]) {
  double chance = 1;
  for (int l = 0; l < L; l++) {
    int x = toy_digit(a, l), y = toy_digit(b, l);
    if (x != MASK)
      chance *= x == y;
    else
      chance *= (y == MASK ? stay : (1 - stay) * p[l][y]) / (stay + (1 - stay) * (1 - p[l][MASK]));
  }
  return chance;
}

static void law_step(double law[STATES], double stay, double p[STATES][L][V]) {
  double next[STATES] = {0};
  for (int a = 0; a < STATES; a++)
    for (int b = 0; b < STATES && law[a] > 0; b++) next[b] += law[a] * transition(a, b, stay, p[a]);
  memcpy(law, next, sizeof next);
}

void toy_law_finish(double law[STATES], double p[STATES][L][V]) {
  double next[STATES] = {0};
  for (int a = 0; a < STATES; a++) {
    int32_t z[L];
    for (int l = 0; l < L; l++) z[l] = toy_digit(a, l) == MASK ? toy_likeliest(p[a][l]) : toy_digit(a, l);
    next[toy_code(z)] += law[a];
  }
  memcpy(law, next, sizeof next);
}

void toy_law_of(Network *n, const int32_t start[L], int steps, bool noise_removal, double law[STATES]) {
  double p[STATES][L][V];
  memset(law, 0, STATES * sizeof *law);
  law[toy_code(start)] = 1;
  for (int i = 0; i < steps; i++) {
    double t = 1 - i * (1 - 1e-5) / steps, s = 1 - (i + 1) * (1 - 1e-5) / steps;
    toy_conditionals(n, t, p);
    law_step(law, toy_masked(n, s) / toy_masked(n, t), p);
  }
  if (!noise_removal) return;
  toy_conditionals(n, 1e-5, p);
  toy_law_finish(law, p);
}

/* ---- samples */
static char *word(const char *given, const char *usual) { return (char *)(uintptr_t)(given ? given : usual); }

int toy_sampler(Sampler *s, const Network *n, Run r) {
  const Config cfg = {.sample_sampler = (char *)(uintptr_t)r.sampler,
                      .sample_draw = word(r.f32 ? "f32" : NULL, "f64"),
                      .sample_temperature = r.likeliest ? 0 : 1,
                      .sample_nucleus = 1,
                      .sample_remask = word(r.remask, "cap"),
                      .sample_commit = word(r.commit, "top_k"),
                      .sample_order = word(r.order, "confidence"),
                      .sample_eos = word(r.eos, "free"),
                      .sample_threshold = r.number,
                      .sample_factor = r.number,
                      .sample_entropy_bound = r.number,
                      .sample_block_length = r.block,
                      .sample_stop_at_eos = r.stop,
                      .sample_remask_eta = r.eta,
                      .sample_noise_removal = r.noise_removal,
                      .sample_kappa = r.kappa,
                      .sample_kappa_from = word(r.kappa_from, "constant"),
                      .sample_hold = r.hold,
                      .sample_hold_time = r.hold_time,
                      .sample_guidance = r.guided ? r.guidance : 1,
                      .sample_cache = r.cache};
  SamplerOptions o = {.cfg = &cfg,
                      .objective = &n->objective,
                      .model = &n->model.options,
                      .label = n->model.options.classes > 0 ? r.label : -1,
                      .bos = r.no_bos ? -1 : BOS,
                      .eos = r.no_bos ? -1 : EOS,
                      .pad = r.pad == PAD_TOKEN  ? PAD
                             : r.pad == PAD_MASK ? MASK
                                                 : -1};
  return sampler_create(s, &o);
}

void toy_refused(const Network *n, Run r, const char *why) {
  Sampler s;
  check_refused(toy_sampler(&s, n, r), ERR_USAGE, why);
  sampler_destroy(&s);
}

SamplerJob toy_job(Network *n, Run r, int32_t *z) {
  SamplerJob job = {.model = &n->model,
                    .rows = &n->rows,
                    .objective = &n->objective,
                    .steps = r.steps,
                    .noise_removal = r.noise_removal,
                    .draw = {.temperature = r.likeliest ? 0 : 1, .nucleus = 1, .f32 = r.f32},
                    .seed = r.seed,
                    .first = r.first,
                    .n = r.n,
                    .z = z};
  bool classes = n->model.options.classes > 0;
  guidance_set(&job, classes ? r.label : -1, r.guided ? r.guidance : 1);
  if (!classes) job.guided = r.guided; /* also with gamma = 1 */
  return job;
}

SamplerJob toy_samples(Network *n, Run r, const int32_t start[L], int32_t *z) {
  Sampler sampler;
  MUST(toy_sampler(&sampler, n, r));
  for (int64_t i = 0; i < r.n; i++) memcpy(z + i * L, start, L * sizeof *z);
  SamplerJob job = toy_job(n, r, z);
  MUST(sampler_run(&sampler, &job));
  sampler_destroy(&sampler);
  return job;
}

int toy_count_up(void *arg, int64_t step) {
  int64_t *last = arg;
  assert_int_equal(step, *last + 1);
  *last = step;
  return 0;
}

int64_t toy_compare(Network *n, Run r, const int32_t start[L], int64_t draws, const double law[STATES],
                    int64_t count[STATES]) {
  static int32_t z[BATCH * L];
  int64_t evaluated = 0;
  memset(count, 0, STATES * sizeof *count);
  draws = toy_draws(draws);
  for (r.first = 0; r.first < draws; r.first += r.n) {
    r.n = draws - r.first < BATCH ? draws - r.first : BATCH;
    evaluated += toy_samples(n, r, start, z).evaluated;
    for (int64_t i = 0; i < r.n; i++) count[toy_code(z + i * L)]++;
  }
  toy_law("samples", count, law, STATES, draws);
  return evaluated;
}

void toy_sharp(const double *law, const double *wrong, int states, int64_t draws) {
  if (!check_statistics()) return;
  draws = toy_draws(draws);
  enum { MOST = 256 };
  int64_t count[MOST], sum = 0;
  int dof, last = 0;
  ASSERT(states <= MOST);
  for (int s = 0; s < states; s++) {
    sum += count[s] = (int64_t)(law[s] * (double)draws);
    if (law[s] > law[last]) last = s;
  }
  count[last] += draws - sum;
  double chi2 = toy_chi2(count, wrong, states, draws, &dof);
  assert_true(chi2 > 3 * toy_chi2_limit(dof));
}
