/* test_latent — uniform noise as the largest entry of Gaussian noise: alpha against closed forms, draws against whole
 * vectors of deviates, the times of training against integrals, and what training makes of it. */
#include "toy_slope.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/special.h"
#include "diffusion/latent.h"

static const double TAU = 1e-3, PI = 3.14159265358979323846;

static void near(const char *what, double got, double want, double tolerance) {
  if (!(fabs(got - want) <= tolerance)) fail_msg("%s is %.15g, not %.15g", what, got, want);
}

/* ---- alpha */
/* Of two tokens P = Φ(e^(−γ/2)/√2), and the published ends for 50,258. */
static void test_alpha(void **state) {
  (void)state;
  Latent two, many, part;
  latent_create(&two, 2, -4, 4);
  for (double place = 0; place <= 1; place += 0.0371)
    near("alpha of two tokens", latent_alpha(&two, place, NULL),
         2 * special_normal(exp(-(-4 + 8 * place) / 2) / sqrt(2)) - 1, 1e-8);
  latent_create(&many, 50258, -3.55, -1.85);
  near("alpha at -3.55", many.alpha[0], 0.945, 5e-4);
  near("alpha at -1.85", many.alpha[LATENT_NODES - 1], 0.049, 5e-4);
  /* between two nodes it is what a table with a node there has */
  double place = 100.5 / (LATENT_NODES - 1), slope;
  latent_create(&part, 50258, -3.55 + 1.7 * place, 0);
  near("alpha between nodes", latent_alpha(&many, place, &slope), part.alpha[0], 1e-9);
  near("its slope there", slope, part.slope[0] * 1.7 / -part.low, 1e-6);
}

/* The slope is that of the cubic, alpha falls, and place inverts it. */
static void test_place(void **state) {
  (void)state;
  Latent g;
  latent_create(&g, 300, -3, 1);
  for (double place = 0.013; place < 0.98; place += 0.0107) {
    double h = 1e-6, slope, alpha = latent_alpha(&g, place, &slope);
    double rise = (latent_alpha(&g, place + h, NULL) - latent_alpha(&g, place - h, NULL)) / (2 * h);
    assert_true(slope < 0);
    near("slope", slope, rise, 1e-7);
    near("place", latent_place(&g, alpha), place, 1e-12);
  }
  assert_true(latent_place(&g, 2) == 0 || latent_place(&g, 2) < 1e-15);
  assert_true(latent_place(&g, -1) == 1);
}

static void test_upper(void **state) {
  (void)state;
  for (double q = 1e-290; q < 1; q = q < 0.2 ? q * 7 : q + 0.07) {
    double x = latent_upper(q);
    near("log of the probability above", log(special_normal(-x)), log(q), 1e-12 * (1 - log(q)));
  }
  near("the median", latent_upper(0.5), 0, 1e-15);
}

/* ---- draws */
typedef struct
    Moments { /* of a softened token, over draws: the weight of x, of the largest entry, the sum of squares */
  double mean[3], square[3];
} Moments;

static void add(Moments *m, const double value[3], int64_t n) {
  for (int i = 0; i < 3; i++) {
    double off = value[i] - m->mean[i];
    m->mean[i] += off / (double)n;
    m->square[i] += off * (value[i] - m->mean[i]);
  }
}

/* softmax of all K entries */
static void add_whole(Moments *m, int64_t K, double gamma, double temperature, RngKey key, int64_t n) {
  double alpha = sqrt(1 / (1 + exp(gamma))), sigma = sqrt(1 / (1 + exp(-gamma))), top = -INFINITY, sum = 0, w[3] = {0};
  double own = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int64_t k = 0; k < K; k++) {
      double r = sqrt(-2 * log(rng_uniform(key, (uint64_t)(2 * k)))),
             x = (k == 0) * alpha + sigma * r * cos(2 * PI * rng_uniform(key, (uint64_t)(2 * k + 1)));
      if (pass == 0) top = fmax(top, x);
      if (pass == 0) continue;
      double p = exp((x - top) / temperature);
      if (k == 0) own = p;
      sum += p, w[2] += p * p;
    }
  w[0] = own / sum, w[1] = 1 / sum, w[2] /= sum * sum;
  add(m, w, n);
}

static void add_draw(Moments *m, const double *weights, const int32_t *ids, int count, int32_t x, int64_t n) {
  double w[3] = {0, weights[0], 0};
  for (int i = 0; i < count; i++) {
    if (ids[i] == x) w[0] = weights[i];
    w[2] += weights[i] * weights[i];
  }
  add(m, w, n);
}

/* An entry list: distinct tokens without the mask, in order, of weight 1 together. */
static void check_entries(const int32_t *ids, const double *weights, int n, int64_t K, int32_t mask) {
  double sum = 0;
  assert_true(n >= 1 && n <= LATENT_MOST && n <= K);
  for (int i = 0; i < n; i++) {
    assert_true(ids[i] >= 0 && ids[i] <= K && ids[i] != mask && weights[i] > 0);
    assert_true(i == 0 || weights[i] <= weights[i - 1]);
    for (int k = 0; k < i; k++) assert_int_not_equal(ids[k], ids[i]);
    sum += weights[i];
  }
  near("the sum of weights", sum, 1, 1e-12);
}

static void draws(int64_t K, double place, double temperature, int64_t n) {
  enum { FEW = 8 };
  Latent g;
  Moments got = {0}, want = {0};
  int32_t ids[LATENT_MOST], x = 3, mask = K > FEW ? 700 : 1;
  double weights[LATENT_MOST], chance[FEW + 1];
  int64_t count[FEW + 1] = {0};
  latent_create(&g, K, -3, 1);
  for (int64_t i = 0; i < n; i++) {
    int entries = latent_draw(&g, place, temperature, x, mask, rng_key(5, RNG_TEST, 1, 0, (uint64_t)i), ids, weights);
    check_entries(ids, weights, entries, K, mask);
    add_draw(&got, weights, ids, entries, x, i + 1);
    add_whole(&want, K, -3 + 4 * place, temperature, rng_key(5, RNG_TEST, 2, 0, (uint64_t)i), i + 1);
    count[K <= FEW ? ids[0] : ids[0] == x]++;
  }
  for (int k = 0; k < 3; k++) {
    double error = sqrt((got.square[k] + want.square[k]) / (double)n / (double)n);
    near("a moment of softened tokens", got.mean[k], want.mean[k], 5 * error + 1e-8);
  }
  double alpha = latent_alpha(&g, place, NULL), other = (1 - alpha) / (double)K;
  int cells = K <= FEW ? (int)K + 1 : 2;
  for (int v = 0; v < cells; v++) chance[v] = v == mask && K <= FEW ? 0 : other;
  chance[K <= FEW ? x : 1] = alpha + other;
  if (K > FEW) chance[0] = 1 - chance[1];
  toy_law("the largest entry", count, chance, cells, n);
}

static void test_draws(void **state) {
  (void)state;
  toy_need_speed();
  draws(5, 0.2, 0.5, toy_draws(200000)); /* all entries */
  draws(5, 0.9, 0.05, toy_draws(200000));
  draws(3, 0.5, 1e-3, toy_draws(200000));
  draws(1000, 0.2, 2e-3, toy_draws(8000));
  draws(1000, 0, 1e-3, toy_draws(8000));
}

/* ---- the times of training */
static Toy toy_uniform(double temperature) {
  Toy t = toy_dit("cpu_f64", true);
  t.eps = 1e-3;
  t.objective = (ObjectiveOptions){.name = "uniform",
                                   .tau = TAU,
                                   .input_temperature = temperature,
                                   .law = {.name = "gaussian", .gamma_low = -3, .gamma_high = 0.5}};
  t.model.mixed = LATENT_MOST;
  return t;
}

static double shape(double t) { return 1 + sin(5 * t) + t * t; }

/* density · dt/du = 1, so that a mean over its times of f/density is the part of the integral of f. */
static void test_times(void **state) {
  (void)state;
  enum { PIECES = 4000 };
  Network n;
  Toy toy = toy_uniform(0);
  toy_open(&n, &toy);
  const Law *law = &n.objective.law;
  double got = 0, want = 0, last = 0;
  for (int i = 0; i < PIECES; i++) {
    double x = (i + 0.5) / PIECES, t = law_time(law, TAU + (1 - TAU) * x);
    double direct = law->low + (law->high - law->low) * x;
    got += shape(t) / law_density(law, t) / PIECES;
    want += shape(direct) * (law->high - law->low) / (1 - TAU) / PIECES;
    assert_true(t > last && t > law->low && t < law->high);
    near("place of a time", law_place(law, t), x, 1e-9);
    last = t;
  }
  near("mean of f/density", got, want, 1e-6 * want);
  near("tokens replaced at the lowest time", objective_masked(&n.objective, law->low), 1 - law->latent.alpha[0], 1e-12);
  network_destroy(&n);
}

/* ---- training */
static void fill(Network *n, double temperature, RngKey key) {
  n->objective.options.input_temperature = temperature;
  noised_begin(&n->noised, TOY_B);
  for (int64_t b = 0; b < TOY_B; b++) {
    double t = TAU + (1 - TAU) * (0.2 + 0.3 * (double)b);
    RngKey own = key;
    own.sequence += (uint32_t)b;
    noised_train(&n->objective, &n->noised, b, toy_mixed.x0 + b * TOY_L, toy_mixed.length[b], &t, own);
  }
}

/* z is the first entry of each token, and a temperature close to 0 leaves it alone: the same loss and gradients. */
static void test_softened(void **state) {
  (void)state;
  Network n;
  Toy toy = toy_uniform(0.3);
  toy_open(&n, &toy);
  toy_weights(&n, 3, 1);
  MUST(noised_soften(&n.noised));
  int entries[2];
  double loss[2][TOY_B], *grad[2];
  for (int k = 0; k < 2; k++) { /* the same z softened, and without its entries */
    int64_t rows = 0;
    fill(&n, 1e-12, rng_key(1, RNG_TEST, 0, 0, 0));
    const TokenMix *m = &n.noised.mix;
    assert_int_equal(m->n, TOY_TOKENS);
    for (int r = 0; r < TOY_TOKENS; r++)
      assert_true(m->begin[r] == r && m->rows[r] == r && m->ids[r] == n.noised.z[r] && m->weights[r] == 1);
    if (k == 1) n.noised.mix.n = 0;
    MUST(tensor_zero(&n.dev, n.model.params.grad));
    MUST(network_loss(&n, &toy_none, true, loss[k], &rows));
    grad[k] = toy_values(&n, n.model.params.grad);
    entries[k] = n.noised.mix.n;
  }
  assert_true(entries[0] == TOY_TOKENS && entries[1] == 0);
  toy_same("loss", loss[0], loss[1], TOY_B);
  toy_same("gradients", grad[0], grad[1], n.model.params.count);
  fill(&n, 0.3, rng_key(1, RNG_TEST, 0, 0, 0));
  assert_true(n.noised.mix.n > TOY_TOKENS);
  for (int r = 0; r < TOY_TOKENS; r++) assert_int_equal(n.noised.mix.ids[n.noised.mix.begin[r]], n.noised.z[r]);
  noised_begin(&n.noised, 1); /* an evaluation has tokens */
  noised_draw(&n.objective, &n.noised, 0, toy_mixed.x0, TOY_L, (double[]){0.5}, rng_key(1, RNG_TEST, 0, 0, 0));
  assert_int_equal(n.noised.mix.n, 0);
  for (int k = 0; k < 2; k++) mem_free(&grad[k]);
  network_destroy(&n);
}

static double softened_loss(Network *n, const void *arg, bool gradient) {
  double loss[TOY_B], sum = 0;
  int64_t rows = 0;
  (void)arg;
  fill(n, 0.3, rng_key(2, RNG_TEST, 0, 0, 0));
  MUST(network_loss(n, &toy_quarter, gradient, loss, &rows));
  for (int b = 0; b < TOY_B; b++) sum += loss[b];
  return sum;
}

static void test_slopes(void **state) {
  (void)state;
  static const char *const networks[] = {"dit", "dimamba"};
  for (int i = 0; i < 2; i++) {
    Network n;
    Toy toy = toy_uniform(0.3);
    toy.model.name = networks[i];
    toy_open(&n, &toy);
    toy_weights(&n, 3, 1);
    MUST(noised_soften(&n.noised));
    toy_slopes(&n, softened_loss, NULL, 8);
    network_destroy(&n);
  }
}

/* ---- refusals */
static void refused(ObjectiveOptions o, const char *words) {
  Objective objective;
  Schedule schedule;
  MUST(schedule_create(&schedule, "loglinear", 1e-3, 1e-3, 0));
  o.schedule = &schedule, o.vocab = 300, o.mask = 299, o.tau = TAU;
  assert_int_equal(objective_create(&objective, &o), ERR_USAGE);
  if (!strstr(err_message(), words)) fail_msg("\"%s\" does not say \"%s\"", err_message(), words);
  err_clear();
}

static void test_refusals(void **state) {
  (void)state;
  const LawOptions law = {.name = "gaussian", .gamma_low = -3, .gamma_high = -1};
  LawOptions flat = law, near_clean = law;
  flat.gamma_high = -3, near_clean.gamma_low = -20;
  refused((ObjectiveOptions){.name = "uniform", .law = flat}, "gamma_low = -3 is not below");
  refused((ObjectiveOptions){.name = "uniform", .law = near_clean}, "as they are");
  refused((ObjectiveOptions){.name = "subs", .law = law}, "diffusion.objective = uniform, not subs");
  refused((ObjectiveOptions){.name = "uniform", .input_temperature = 0.1}, "softens the Gaussian noise");
  refused((ObjectiveOptions){.name = "uniform",
                             .law = {.name = "gaussian", .gamma_low = -3, .gamma_high = -1, .search = true}},
          "clip_search looks for the ends");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_alpha),  cmocka_unit_test(test_place),
                                     cmocka_unit_test(test_upper),  cmocka_unit_test(test_draws),
                                     cmocka_unit_test(test_times),  cmocka_unit_test(test_softened),
                                     cmocka_unit_test(test_slopes), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
