/* test_uniform — diffusion with uniform noise on networks so small that every noised sequence can be enumerated: the
 * noise has its law, draws of the loss are unbiased, and the bound is one on the log likelihood of the sampler's law. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "diffusion/timestep.h"

enum { L = 2, V = 4, MASK = 1, K = V - 1, STATES = K * K };
static const double EPS = 1e-3, TAU = 1e-2;
static const int32_t clean[L] = {2, 0};

static int32_t token(int i) { return i + (i >= MASK); }
static void digits(int state, int32_t z[L]) { z[0] = token(state % K), z[1] = token(state / K); }

static void open_toy(Network *n, int64_t batch) {
  Toy t = toy_tiny(V, MASK, L, batch);
  t.eps = EPS;
  t.model.time_conditioning = true;
  t.objective = (ObjectiveOptions){.name = "uniform", .tau = TAU};
  toy_open(n, &t);
  toy_weights(n, 7, 3);
}

static double kept(double t) { return 1 - (1 - EPS) * t; } /* alpha */

/* q_t(z | x) of a token. */
static double noise(int32_t z, int32_t x, double t) { return kept(t) * (z == x) + (1 - kept(t)) / K; }

/* ---- the noise */
static void test_noise(void **state) {
  (void)state;
  enum { N = 40000 };
  const int32_t x0[2] = {3, 0};
  int64_t count[2][V] = {{0}};
  double law[2][V];
  for (int i = 0; i < N; i++) {
    int32_t z[2];
    timestep_replace(z, x0, 0, 2, V, MASK, 0.4, rng_key(1, RNG_TEST, 0, 0, (uint64_t)i));
    for (int l = 0; l < 2; l++) count[l][z[l]]++;
  }
  for (int l = 0; l < 2; l++) {
    for (int v = 0; v < V; v++) law[l][v] = v == MASK ? 0 : 0.6 * (v == x0[l]) + 0.4 / K;
    assert_int_equal(count[l][MASK], 0);
    toy_law("a noised token", count[l], law[l], V, N);
  }
  for (int i = 0; i < K; i++) assert_int_equal(timestep_token((i + 0.5) / K, V, MASK), token(i));
  assert_int_equal(timestep_token(1, V, MASK), V - 1);
}

/* ---- the expected loss of sequence x at time t, by enumeration */
static void losses(Network *n, const int32_t x[L], double t, double loss[STATES]) {
  const Dropout none = {0};
  int64_t rows = 0;
  noised_begin(&n->noised, STATES);
  for (int s = 0; s < STATES; s++) {
    digits(s, n->noised.z + s * L);
    noised_add(&n->objective, &n->noised, s, x, L, t);
  }
  MUST(network_loss(n, &none, false, loss, &rows));
  assert_int_equal(rows, STATES * L); /* every position is scored */
}

static double expected(Network *n, const int32_t x[L], double t) {
  double loss[STATES], sum = 0;
  losses(n, x, t, loss);
  for (int s = 0; s < STATES; s++) {
    int32_t z[L];
    digits(s, z);
    assert_true(loss[s] >= 0);
    sum += noise(z[0], x[0], t) * noise(z[1], x[1], t) * loss[s];
  }
  return sum;
}

/* Its integral from TAU to 1: midpoints of log t, since the loss is steep at its lower end. */
static double bound_of(Network *n, const int32_t x[L]) {
  enum { POINTS = 2000 };
  double sum = 0, width = -log(TAU) / POINTS;
  for (int i = 0; i < POINTS; i++) {
    double t = TAU * exp((i + 0.5) * width);
    sum += expected(n, x, t) * t * width;
  }
  return sum;
}

/* The mean of drawn losses is the integral, divided by 1 − TAU, whatever the law of the times. */
static void test_draws_are_unbiased(void **state) {
  (void)state;
  toy_need_speed();
  enum { B = 100 };
  const Dropout none = {0};
  const int passes = 400;
  for (int trained = 0; trained < 2; trained++) {
    Network n;
    double sum = 0, squares = 0;
    open_toy(&n, B);
    ObjectiveOptions o = n.objective.options;
    if (trained) o.law = (LawOptions){.name = "normal", .normal_mean = 0.4, .normal_width = 0.3};
    MUST(objective_create(&n.objective, &o));
    for (int p = 0; p < passes; p++) {
      double loss[B], mean = 0;
      int64_t rows = 0;
      noised_begin(&n.noised, B);
      for (int b = 0; b < B; b++) {
        double t = timestep_draw(3, RNG_TIME, p, b, b, B, true, TAU);
        RngKey key = rng_key(3, RNG_MASK, 0, (uint64_t)p, (uint64_t)b);
        (trained ? noised_train : noised_draw)(&n.objective, &n.noised, b, clean, L, &t, key);
      }
      MUST(network_loss(&n, &none, false, loss, &rows));
      for (int b = 0; b < B; b++) mean += loss[b] / B;
      sum += mean, squares += mean * mean;
    }
    double mean = sum / passes, error = sqrt((squares / passes - mean * mean) / (passes - 1));
    network_destroy(&n);
    open_toy(&n, STATES);
    double want = bound_of(&n, clean) / (1 - TAU);
    if (!(fabs(mean - want) < 4 * error)) fail_msg("the mean is %g ± %g, the integral %g", mean, error, want);
    assert_true(error < 0.02 * want);
    network_destroy(&n);
  }
}

/* ---- the bound and the law of the reverse process from uniform tokens at t = 1 to TAU, then to clean ones */
/* p[s][l][y]: the network's p(x0 | z) of state s at time t. */
static void conditionals(Network *n, double t, double p[STATES][L][V]) {
  int32_t z[STATES * L];
  double sigma[STATES], log_p[V];
  float f[STATES * L][V];
  for (int s = 0; s < STATES; s++) digits(s, z + s * L), sigma[s] = -log(kept(t));
  ModelInput in = {.B = STATES, .ids = z, .sigma = sigma};
  MUST(model_forward(&n->model, &in));
  MUST(rows_logits(&n->rows, 0, STATES * L, &f[0][0]));
  for (int i = 0; i < STATES * L; i++) {
    objective_log_p(&n->objective, log_p, f[i], z[i], t);
    for (int y = 0; y < V; y++) p[i / L][i % L][y] = exp(log_p[y]);
  }
}

static double posterior(const double p[V], int32_t z, int32_t y, double at, double as) {
  double D = K * at * p[z] + 1 - at;
  return ((K * at * p[y] + at / as - at) * (y == z) + (as - at) * p[y] + (1 - at / as) * (1 - as) / K) / D;
}

static void reverse_step(double law[STATES], double p[STATES][L][V], double at, double as) {
  double next[STATES] = {0};
  for (int a = 0; a < STATES; a++)
    for (int b = 0; b < STATES; b++) {
      int32_t z[L], y[L];
      digits(a, z), digits(b, y);
      next[b] += law[a] * posterior(p[a][0], z[0], y[0], at, as) * posterior(p[a][1], z[1], y[1], at, as);
    }
  memcpy(law, next, sizeof next);
}

/* What the integral leaves out: the divergence at t = 1, and −log of the step from TAU to clean tokens. */
static double ends_of(const int32_t x[L], double p[STATES][L][V]) {
  double sum = 0, a = kept(1);
  for (int l = 0; l < L; l++)
    for (int i = 0; i < K; i++) sum += noise(token(i), x[l], 1) * log(K * noise(token(i), x[l], 1));
  double a1 = (a + (1 - a) / K) * log(K * a + 1 - a) + (1 - 1.0 / K) * (1 - a) * log(1 - a);
  assert_true(fabs(sum - L * a1) < 1e-12); /* as objective_uniform.c has it */
  for (int s = 0; s < STATES; s++) {
    int32_t z[L];
    digits(s, z);
    for (int l = 0; l < L; l++)
      sum -= noise(z[0], x[0], TAU) * noise(z[1], x[1], TAU) * log(posterior(p[s][l], z[l], x[l], kept(TAU), 1));
  }
  return sum;
}

static void test_bound(void **state) {
  (void)state;
  toy_need_speed();
  enum { STEPS = 2000 };
  Network n;
  static double law[STATES], p[STATES][L][V];
  double total = 0, gap = 0;
  open_toy(&n, STATES);
  for (int s = 0; s < STATES; s++) law[s] = 1.0 / STATES;
  for (int i = 0; i < STEPS; i++) {
    double t = exp(log(TAU) * i / STEPS), s = exp(log(TAU) * (i + 1) / STEPS);
    conditionals(&n, t, p);
    reverse_step(law, p, kept(t), kept(s));
  }
  conditionals(&n, TAU, p);
  reverse_step(law, p, kept(TAU), 1);
  for (int s = 0; s < STATES; s++) {
    int32_t x[L];
    digits(s, x);
    double bound = bound_of(&n, x) + ends_of(x, p), exact = -log(law[s]);
    if (!(bound > exact - 1e-3)) fail_msg("state %d: the bound is %g, −log p is %g", s, bound, exact);
    total += law[s], gap += law[s] * (bound - exact);
  }
  assert_true(fabs(total - 1) < 1e-9);
  assert_true(gap > 0 && gap < 1); /* it is not far above */
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_noise), cmocka_unit_test(test_draws_are_unbiased),
                                     cmocka_unit_test(test_bound)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
