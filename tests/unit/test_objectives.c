/* test_objectives — properties of the objectives on networks so small that every mask of a sequence can be enumerated.
 *
 * For a network without time conditioning one table describes all masks: cost[S] = Σ_{l in S} −log p(x0_l | z_S). The
 * bound of SUBS is then
 *   ∫ w(t) Σ_S c^|S| (1 − c)^(L−|S|) cost[S] dt,  c = 1 − alpha(t)
 * and with w = c'/c it is G(c(1)) − G(c(τ)), G(c) = ∫_0^c Σ_S u^(|S|−1) (1 − u)^(L−|S|) cost[S] du. It depends only on
 * the values of the schedule at its two ends. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { L = 4, V = 5, MASK = 3, SETS = 1 << L };
static const double EPS = 1e-3, TAU = 1e-3;
static const int32_t clean[L] = {1, 4, 0, 2};

static Toy toy(const char *schedule, ObjectiveOptions objective) {
  Toy t = toy_tiny(V, MASK, L, SETS);
  t.eps = EPS;
  t.schedule = schedule;
  t.objective = objective;
  return t;
}

static void open_toy(Network *n, const char *schedule, ObjectiveOptions objective) {
  Toy t = toy(schedule, objective);
  toy_open(n, &t);
  toy_weights(n, 7, 3);
}

/* The program's loss[S] of all sets S at time t. */
static void losses(Network *n, double t, double loss[SETS]) {
  const Dropout none = {0};
  int64_t rows = 0;
  noised_begin(&n->noised, SETS);
  for (int s = 0; s < SETS; s++) {
    toy_masks(n->noised.z + s * L, clean, L, MASK, (unsigned)s);
    noised_add(&n->objective, &n->noised, s, clean, L, t);
  }
  MUST(network_loss(n, &none, false, loss, &rows));
}

static double chance_of(unsigned set, double c) {
  int k = __builtin_popcount(set);
  return pow(c, k) * pow(1 - c, L - k);
}

/* Σ_S P(S) loss[S] at one time */
static double expected(Network *n, double t) {
  double loss[SETS], sum = 0, c = objective_masked(&n->objective, t);
  losses(n, t, loss);
  for (unsigned s = 0; s < SETS; s++) sum += chance_of(s, c) * loss[s];
  return sum;
}

/* ---- three-point Gauss quadrature on panels that shrink towards both ends, where the weights are steep */
typedef double (*Integrand)(void *arg, double x);

static double panel(Integrand f, void *arg, double a, double b) {
  double middle = (a + b) / 2, half = (b - a) / 2, at = sqrt(0.6) * half;
  return half / 9 * (5 * f(arg, middle - at) + 8 * f(arg, middle) + 5 * f(arg, middle + at));
}

static double integrate(Integrand f, void *arg, double from, double to) {
  enum { PANELS = 150 };
  double sum = 0, last = 0;
  for (int i = 1; i <= PANELS; i++) {
    double u = (double)i / PANELS, next = u * u * u * (10 - 15 * u + 6 * u * u);
    sum += panel(f, arg, from + (to - from) * last, from + (to - from) * next);
    last = next;
  }
  return sum;
}

static double at_time(void *net, double t) { return expected(net, t); }

typedef struct Table {
  double cost[SETS];
} Table;

static double by_chance(void *arg, double c) {
  const Table *table = arg;
  double sum = 0;
  for (unsigned s = 1; s < SETS; s++) sum += chance_of(s, c) / c * table->cost[s];
  return sum;
}

/* G(to) − G(from): polynomials of degree < L, for which the quadrature is exact */
static double between(double from, double to) {
  Network n;
  Table table;
  open_toy(&n, "loglinear", (ObjectiveOptions){0});
  losses(&n, 1, table.cost); /* the weight at t = 1 is 1 */
  network_destroy(&n);
  return integrate(by_chance, &table, from, to);
}

/* ---- SUBS */
static void test_the_schedule_matters_by_its_ends_only(void **state) {
  (void)state;
  static const char *const names[] = {"loglinear", "linear", "geometric", "cosine", "cosinesqr"};
  const double part[] = {0.999, 0.992, 0.632}; /* c(1) − c(τ) of the first three, divided by 1 − τ */
  for (int i = 0; i < 5; i++) {
    Network n;
    open_toy(&n, names[i], (ObjectiveOptions){.tau = TAU});
    double got = integrate(at_time, &n, TAU, 1), from = schedule_masked(&n.schedule, TAU),
           to = schedule_masked(&n.schedule, 1), want = between(from, to);
    if (!(fabs(got - want) <= 1e-8 * want))
      fail_msg("%s: the bound is %.12g, its ends give %.12g", names[i], got, want);
    if (i < 3) assert_true(fabs((to - from) / (1 - TAU) - part[i]) < 6e-4);
    network_destroy(&n);
  }
}

/* Change of variables makes the weight constant in time. The integral is the difference of G between the ends of
 * log(1 − e^−σ). */
static void test_uniform_weights(void **state) {
  (void)state;
  static const char *const names[] = {"loglinear", "linear"};
  for (int i = 0; i < 2; i++) {
    Network n;
    double least, most;
    open_toy(&n, names[i], (ObjectiveOptions){.change_of_variables = true});
    schedule_ends(&n.schedule, &least, &most);
    double want = between(-expm1(-least), -expm1(-most)), got = 0;
    const int pieces = check_watched() ? 100 : 1000;
    for (int k = 0; k < pieces; k++) /* midpoints of the uniform variable: the error falls as 1/pieces² */
      got += expected(&n, objective_time(&n.objective, (k + 0.5) / pieces)) / pieces;
    if (!(fabs(got - want) <= 90.0 / pieces / pieces * want))
      fail_msg("%s %d: %.10g, not %.10g", names[i], i, got, want);
    double condition = n.noised.sigma[0], t = (pieces - 0.5) / pieces;
    assert_true(condition == t);
    double sigma = -log1p(-objective_masked(&n.objective, t));
    assert_true(fabs(objective_condition(&n.objective, schedule_time(&n.schedule, sigma)) - condition) < 1e-9);
    network_destroy(&n);
  }
}

/* With exactly k masked positions the network is conditioned on the noise level at which the masked share is k/L, on
 * its own scale. If all are masked, that is t = 1. */
static void test_count_condition(void **state) {
  (void)state;
  for (int change = 0; change < 2; change++) {
    Network n;
    open_toy(&n, "linear", (ObjectiveOptions){.change_of_variables = change});
    for (int k = 1; k <= L; k++) {
      noised_begin(&n.noised, 1);
      noised_count(&n.objective, &n.noised, 0, clean, L, (double[]){(k - 0.5) / L}, rng_key(1, RNG_TEST, 0, 0, 0));
      assert_int_equal(n.noised.masked, k);
      double told = n.noised.sigma[0];
      if (k == L) assert_true(fabs(told - (change ? 1 : 7)) < 1e-9);
      if (k < L && change) assert_true(fabs(objective_masked(&n.objective, told) - (double)k / L) < 1e-9);
      if (k < L && !change) assert_true(fabs(-expm1(-told) - (double)k / L) < 1e-9);
    }
    network_destroy(&n);
  }
}

/* Carry-over: a visible token has probability 1, a masked one is never the mask; probabilities sum to 1. */
static void test_carry_over(void **state) {
  (void)state;
  Network n;
  const float f[V] = {0.3f, -2, 1.5f, 40, 0.1f};
  double log_p[V], sum = 0;
  open_toy(&n, "loglinear", (ObjectiveOptions){0});
  for (int32_t z = 0; z < V; z++) {
    objective_log_p(&n.objective, log_p, f, z, 0.5);
    for (int v = 0; v < V && z != MASK; v++) assert_true(log_p[v] == (v == z ? 0 : -INFINITY));
  }
  objective_log_p(&n.objective, log_p, f, MASK, 0.5);
  assert_true(log_p[MASK] == -INFINITY);
  for (int v = 0; v < V; v++) sum += exp(log_p[v]);
  assert_true(fabs(sum - 1) < 1e-14 && fabs(log_p[2] - log_p[0] - ((double)1.5f - (double)0.3f)) < 1e-14);
  network_destroy(&n);
}

/* ---- D3PM: T times the KL divergence of the model's step from the true one, from the definition of both distributions
 */
static double step_divergence(const double *log_p, int32_t x0, double t, double s) {
  double to[V], total = 0;
  for (int y = 0; y < V; y++) {
    to[y] = y == MASK ? s + (1 - s) * exp(log_p[y]) : (t - s) * exp(log_p[y]);
    total += to[y];
  }
  double reveal = (t - s) / t, sum = reveal * log(reveal / (to[x0] / total));
  return s > 0 ? sum + s / t * log(s / t / (to[MASK] / total)) : sum;
}

static double reconstruction(Network *n) {
  double sum = 0;
  for (int64_t i = 0; i < n->noised.n_rows; i++) sum += n->row_loss[i];
  return sum / SETS; /* every set sees the same clean tokens */
}

static void test_d3pm_is_the_divergence_of_a_step(void **state) {
  (void)state;
  for (int subs = 0; subs < 2; subs++)
    for (int64_t T = 1; T <= 6; T += 1 + T / 3) {
      Network n;
      open_toy(&n, "loglinear", (ObjectiveOptions){.name = "d3pm", .T = T, .subs_masking = subs});
      for (int64_t k = 1; k <= T; k++) {
        double t = (double)k / (double)T, clamped = fmin(t, 1 - 1e-4), s = k == 1 ? 0 : clamped - 1 / (double)T,
               loss[SETS];
        losses(&n, t, loss);
        double second = reconstruction(&n);
        for (unsigned set = 0; set < SETS; set++) {
          int32_t z[L * SETS];
          float f[V];
          double log_p[V], want = second;
          toy_masks(z, clean, L, MASK, set);
          ModelInput in = {.B = 1, .ids = z};
          MUST(model_forward(&n.model, &in));
          for (int l = 0; l < L; l++) {
            if (z[l] != MASK) continue;
            MUST(rows_logits(&n.rows, l, 1, f));
            objective_log_p(&n.objective, log_p, f, MASK, t);
            want += (double)T * step_divergence(log_p, clean[l], clamped, s);
          }
          /* the logits are rounded to f32, and at the last step t is clamped while dt is not */
          double tolerance = k == T ? 2e-3 : 1e-5;
          if (!(fabs(loss[set] - want) <= tolerance * want))
            fail_msg("T = %d, step %d, set %u: the loss is %.10g, the divergence %.10g", (int)T, (int)k, set, loss[set],
                     want);
        }
      }
      network_destroy(&n);
    }
}

/* T times the mean over the steps of the expected loss, without the reconstruction term */
static double d3pm_bound(int64_t T, bool subs_masking, double bias) {
  Network n;
  double sum = 0, loss[SETS];
  open_toy(&n, "loglinear", (ObjectiveOptions){.name = "d3pm", .T = T, .subs_masking = subs_masking});
  if (bias != 0)
    MUST(tensor_upload(&n.dev, tensor_rows(params_find(&n.model.params, "output_layer.linear.bias")->value, MASK, 1),
                       &bias));
  for (int64_t k = 1; k <= T; k++) {
    double t = (double)k / (double)T, c = objective_masked(&n.objective, t);
    losses(&n, t, loss);
    double second = reconstruction(&n);
    for (unsigned s = 0; s < SETS; s++) sum += chance_of(s, c) * (loss[s] - second) / (double)T;
  }
  network_destroy(&n);
  return sum;
}

/* With p(m) = 0, by subs_masking or by a network that never predicts m, the bound converges to that of SUBS as 1/T. */
static void test_d3pm_of_many_steps_is_subs(void **state) {
  (void)state;
  double subs = between(0, 1 - EPS);
  double off[3] = {d3pm_bound(20, true, 0) - subs, d3pm_bound(200, true, 0) - subs, d3pm_bound(200, false, -60) - subs};
  assert_true(fabs(off[0]) > 1e-3 * subs); /* large enough to measure the convergence */
  assert_true(fabs(off[1] / off[0] - 0.1) < 0.01);
  assert_true(fabs(off[2] - off[1]) < 1e-9 * subs);
  assert_true(d3pm_bound(200, false, 0) > subs); /* the probability of the mask token is lost */
}

/* SUBS in T steps is D3PM's first term with p(m) = 0. */
static void test_subs_in_steps(void **state) {
  (void)state;
  Network a, b;
  enum { STEPS = 8 };
  open_toy(&a, "loglinear", (ObjectiveOptions){.name = "subs", .T = STEPS});
  open_toy(&b, "loglinear", (ObjectiveOptions){.name = "d3pm", .T = STEPS, .subs_masking = true});
  for (int k = 1; k <= STEPS; k++) {
    double x[SETS], y[SETS];
    losses(&a, (double)k / STEPS, x);
    losses(&b, (double)k / STEPS, y);
    double second = reconstruction(&b);
    for (int s = 0; s < SETS; s++) assert_true(fabs(y[s] - second - x[s]) <= 1e-12 * y[s]);
  }
  network_destroy(&a);
  network_destroy(&b);
}

/* A discrete time is the next multiple of 1/T above u; with T = 1, t is always 1. */
static void test_steps_of_time(void **state) {
  (void)state;
  Network n;
  for (int64_t T = 1; T <= 1000; T = 10 * T) {
    open_toy(&n, "loglinear", (ObjectiveOptions){.name = "subs", .T = T, .tau = TAU});
    assert_true(n.objective.tau == 0);
    for (int64_t k = 0; k < T; k++) {
      double u = ((double)k + 0.5) / (double)T;
      assert_true(objective_time(&n.objective, u) == (double)(k + 1) / (double)T);
    }
    assert_true(objective_time(&n.objective, 0) == 1 / (double)T);
    network_destroy(&n);
  }
}

/* ---- SEDD: with normalised scores it equals SUBS, and there it has its minimum over a common factor of the scores */
static void test_sedd_at_normalised_scores(void **state) {
  (void)state;
  Network n;
  double subs[SETS], x[SETS];
  open_toy(&n, "loglinear", (ObjectiveOptions){.name = "subs"});
  Param *weight = params_find(&n.model.params, "output_layer.linear.weight"),
        *bias = params_find(&n.model.params, "output_layer.linear.bias");
  double f[V], sum = 0, *zero = NULL;
  zero = toy_values(&n, weight->value);
  memset(zero, 0, (size_t)weight->count * sizeof *zero);
  MUST(tensor_upload(&n.dev, weight->value, zero)); /* the logits are the bias for all tokens */
  mem_free(&zero);
  for (int v = 0; v < V; v++) f[v] = 0.7 * v - 1, sum += v == MASK ? 0 : exp(f[v]);
  for (int k = -1; k <= 1; k++) {
    double scaled[V];
    for (int v = 0; v < V; v++) scaled[v] = f[v] - log(sum) + log(V - 1.0) + 0.1 * k;
    MUST(tensor_upload(&n.dev, bias->value, scaled));
    losses(&n, 0.3, subs);
    Objective both = n.objective;
    ObjectiveOptions o = n.objective.options;
    o.name = "sedd";
    MUST(objective_create(&n.objective, &o));
    losses(&n, 0.3, x);
    n.objective = both;
    for (int s = 1; s < SETS; s++)
      if (k == 0)
        assert_true(fabs(x[s] - subs[s]) <= 1e-12 * subs[s]);
      else
        assert_true(x[s] > subs[s]);
  }
  network_destroy(&n);
}

/* ---- AR: the chain rule. The probabilities of all continuations of a first token sum to 1, for each length. */
static void test_ar_is_the_chain_rule(void **state) {
  (void)state;
  enum { TOKENS = V - 1, TEXTS = TOKENS * TOKENS * TOKENS };
  const Dropout none = {0};
  Network n;
  Toy t = toy("loglinear", (ObjectiveOptions){.name = "ar"});
  t.model.name = "ar";
  toy_open(&n, &t);
  toy_weights(&n, 7, 3);
  double total[L + 1] = {0}, entropy = 0;
  for (int first = 0; first < TEXTS; first += SETS) {
    for (int length = 2; length <= L; length++) {
      double loss[SETS];
      int64_t rows = 0;
      noised_begin(&n.noised, SETS);
      for (int s = 0; s < SETS; s++) {
        int32_t x0[L] = {clean[0]};
        for (int l = 1, code = first + s; l < L; l++, code /= TOKENS) x0[l] = code % TOKENS + (code % TOKENS >= MASK);
        noised_draw(&n.objective, &n.noised, s, x0, length, (double[]){0.9}, rng_key(1, RNG_TEST, 0, 0, 0));
        assert_memory_equal(n.noised.z + s * L, x0, sizeof x0); /* nothing is masked */
      }
      assert_int_equal(n.noised.scored, SETS * (length - 1));
      assert_int_equal(n.noised.masked, 0);
      MUST(network_loss(&n, &none, false, loss, &rows));
      assert_int_equal(rows, SETS * (length - 1));
      for (int s = 0; s < SETS; s++) total[length] += exp(-loss[s]) / pow(TOKENS, L - length);
      for (int s = 0; s < SETS && length == L; s++) entropy += exp(-loss[s]) * loss[s];
    }
  }
  for (int length = 2; length <= L; length++) assert_true(fabs(total[length] - 1) < 1e-12);
  assert_true(entropy < 0.95 * 3 * log(TOKENS)); /* the network is not uniform */
  network_destroy(&n);
}

/* ---- invalid combinations */
static void refused(const char *schedule, ObjectiveOptions o, const char *what) {
  Schedule s;
  Objective objective;
  MUST(schedule_create(&s, schedule, EPS, 1e-3, 0));
  o.schedule = &s, o.mask = MASK, o.vocab = V;
  check_refused(objective_create(&objective, &o), ERR_USAGE, what);
}

static void test_refusals(void **state) {
  (void)state;
  refused("loglinear", (ObjectiveOptions){.name = "elbo"}, "an unknown objective");
  refused("loglinear", (ObjectiveOptions){.name = "d3pm"}, "d3pm in continuous time");
  refused("cosine", (ObjectiveOptions){.name = "d3pm", .T = 10}, "d3pm with another schedule");
  refused("cosine", (ObjectiveOptions){.name = "subs", .T = 10}, "subs in steps with another schedule");
  refused("loglinear", (ObjectiveOptions){.name = "sedd", .T = 10}, "sedd in steps");
  refused("loglinear", (ObjectiveOptions){.name = "ar", .T = 10}, "ar in steps");
  const LawOptions importance = {.name = "importance"}, clip = {.name = "clip", .clip_low = 0.5, .clip_high = 0.5};
  refused("loglinear", (ObjectiveOptions){.name = "ar", .change_of_variables = true}, "ar with change of variables");
  refused("loglinear", (ObjectiveOptions){.name = "subs", .T = 10, .law = importance}, "importance in steps");
  refused("cosine", (ObjectiveOptions){.name = "subs", .law = importance}, "importance with cosine");
  refused("loglinear", (ObjectiveOptions){.name = "subs", .law = importance, .change_of_variables = true},
          "both at once");
  refused("loglinear", (ObjectiveOptions){.name = "subs", .law = {.name = "gauss"}}, "an unknown law");
  refused("loglinear", (ObjectiveOptions){.name = "subs", .law = clip}, "clip without times");
  refused("loglinear", (ObjectiveOptions){.name = "ar", .law = importance}, "a law of times for ar");
  refused("loglinear", (ObjectiveOptions){.name = "ar", .plain = true}, "weight one for ar");
  refused("loglinear", (ObjectiveOptions){.name = "sedd", .plain = true}, "weight one for sedd");
  refused("loglinear", (ObjectiveOptions){.name = "d3pm", .T = 10, .plain = true}, "weight one for d3pm");
  refused("loglinear", (ObjectiveOptions){.name = "uniform", .T = 10}, "uniform in steps");
  refused("loglinear", (ObjectiveOptions){.name = "uniform", .plain = true}, "weight one for uniform");
  refused("loglinear", (ObjectiveOptions){.name = "uniform", .change_of_variables = true}, "change for uniform");
  refused("loglinear", (ObjectiveOptions){.name = "uniform", .subs_masking = true}, "subs_masking of uniform");
  refused("loglinear", (ObjectiveOptions){.name = "subs", .subs_masking = true}, "subs_masking of subs");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_schedule_matters_by_its_ends_only),
      cmocka_unit_test(test_uniform_weights),
      cmocka_unit_test(test_count_condition),
      cmocka_unit_test(test_carry_over),
      cmocka_unit_test(test_d3pm_is_the_divergence_of_a_step),
      cmocka_unit_test(test_d3pm_of_many_steps_is_subs),
      cmocka_unit_test(test_subs_in_steps),
      cmocka_unit_test(test_steps_of_time),
      cmocka_unit_test(test_sedd_at_normalised_scores),
      cmocka_unit_test(test_ar_is_the_chain_rule),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
