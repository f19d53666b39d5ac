/* test_law — the times of training batches and the weights of their losses: each law's distribution function against
 * formulas and counts, and the expected loss of a tiny network, whose masks are enumerated, against the bound. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/special.h"
#include "diffusion/timestep.h"

enum { L = 3, V = 4, MASK = 3, SETS = 1 << L, PIECES = 2000 };
static const double TAU = 1e-3;
static const int32_t clean[L] = {1, 2, 0};

static const LawOptions all[] = {
    {.name = "uniform"},
    {.name = "importance"},
    {.name = "clip", .clip_low = 0.3, .clip_high = 0.8},
    {.name = "normal", .normal_mean = 0.5, .normal_width = 0.2},
    {.name = "normal", .normal_mean = 0.9, .normal_width = 1},
    {.name = "beta", .beta_a = 2, .beta_b = 3},
    {.name = "beta", .beta_a = 0.5, .beta_b = 0.8},
};
enum { LAWS_TRIED = sizeof all / sizeof *all };

static void open_toy(Network *n, const char *objective, LawOptions law, bool plain) {
  Toy t = toy_tiny(V, MASK, L, SETS);
  t.eps = 1e-3;
  t.objective = (ObjectiveOptions){.name = objective, .tau = TAU, .law = law, .plain = plain};
  toy_open(n, &t);
  toy_weights(n, 7, 3);
}

/* The probability that the time is below `time`, from formulas of the laws that have one over the whole line. */
static double below(const LawOptions *o, double time) {
  if (strcmp(o->name, "clip") == 0) return (time - o->clip_low) / (o->clip_high - o->clip_low);
  if (strcmp(o->name, "importance") == 0) return NAN;
  if (strcmp(o->name, "uniform") == 0) return (time - TAU) / (1 - TAU);
  double F[3], at[3] = {TAU, time, 1};
  for (int i = 0; i < 3; i++)
    F[i] = *o->name == 'n' ? erfc((o->normal_mean - at[i]) / o->normal_width / sqrt(2)) / 2
                           : special_beta(o->beta_a, o->beta_b, at[i], 1 - at[i]);
  return (F[1] - F[0]) / (F[2] - F[0]);
}

/* t = law_time(u) inverts the distribution function, grows with u and stays between its ends. */
static void test_inverse(void **state) {
  (void)state;
  for (int k = 0; k < LAWS_TRIED; k++) {
    Network n;
    open_toy(&n, "subs", all[k], false);
    double last = 0;
    for (int i = 0; i <= 1000; i++) {
      double u = i / 1000.0, t = law_time(&n.objective.law, TAU + (1 - TAU) * u), F = below(&all[k], t);
      if (!(t > last && t >= (k == 1 ? 0 : TAU) && t <= 1 + 1e-12))
        fail_msg("%s: time %.17g after %.17g", all[k].name, t, last);
      if (!isnan(F) && !(fabs(F - u) <= 1e-12)) fail_msg("%s: F(%.17g) = %.17g, not %.17g", all[k].name, t, F, u);
      last = t;
    }
    network_destroy(&n);
  }
}

/* I_x(a, b): x^a for b = 1, symmetry, a value of integers, and the density as its slope */
static void test_beta_function(void **state) {
  (void)state;
  for (double x = 0.05; x < 1; x += 0.1) {
    assert_true(fabs(special_beta(2.5, 1, x, 1 - x) - pow(x, 2.5)) < 1e-14);
    assert_true(fabs(special_beta(0.7, 3, x, 1 - x) + special_beta(3, 0.7, 1 - x, x) - 1) < 1e-14);
    assert_true(fabs(special_beta(2, 3, x, 1 - x) - x * x * (6 - 8 * x + 3 * x * x)) < 1e-14);
  }
  assert_true(special_beta(2, 3, 0, 1) == 0 && special_beta(2, 3, 1, 0) == 1);
}

/* The relative density is that of the times: density · dt/du = 1. */
static void test_density(void **state) {
  (void)state;
  for (int k = 0; k < LAWS_TRIED; k++) {
    Network n;
    open_toy(&n, "subs", all[k], false);
    const Law *law = &n.objective.law;
    for (double x = 0.05; x < 0.99; x += 0.05) {
      double h = 1e-5, rise = (law_time(law, x + h) - law_time(law, x - h)) / (2 * h);
      double got = rise * law_density(law, law_time(law, x));
      if (!(fabs(got - 1) < 1e-5)) fail_msg("%s at %g: density times slope is %.10g", law->table->name, x, got);
    }
    network_destroy(&n);
  }
}

/* Stratified draws fall into bins of equal probability, exactly one in each for n bins and n sequences. */
static void test_counts(void **state) {
  (void)state;
  enum { N = 16, ROUNDS = 2000, BINS = 20 };
  for (int k = 0; k < LAWS_TRIED; k++) {
    Network n;
    open_toy(&n, "subs", all[k], false);
    double ends[BINS + 1], chance[BINS];
    int64_t count[BINS] = {0};
    for (int i = 0; i <= BINS; i++) ends[i] = law_time(&n.objective.law, TAU + (1 - TAU) * i / BINS);
    for (int i = 0; i < BINS; i++) chance[i] = 1.0 / BINS;
    for (int64_t step = 0; step < ROUNDS; step++)
      for (int64_t i = 0; i < N; i++) {
        double t = objective_train_time(&n.objective, timestep_draw(3, RNG_TIME, step, i, i, N, true, TAU));
        double cell = law_time(&n.objective.law, TAU + (1 - TAU) * (double)i / N),
               next = law_time(&n.objective.law, TAU + (1 - TAU) * (double)(i + 1) / N);
        assert_true(t >= cell - 1e-12 && t <= next + 1e-12);
        int bin = 0;
        while (bin < BINS - 1 && t >= ends[bin + 1]) bin++;
        count[bin]++;
      }
    toy_law(all[k].name, count, chance, BINS, (int64_t)N * ROUNDS);
    network_destroy(&n);
  }
}

/* ---- the expected loss */
/* Σ over all sets of masked positions of P(S at `time`)·loss[S], with the weights of training or of the bound */
static double expected(Network *n, double time, bool training) {
  const Dropout none = {0};
  double loss[SETS], sum = 0, c = objective_masked(&n->objective, time);
  int64_t rows = 0;
  noised_begin(&n->noised, SETS);
  for (int s = 0; s < SETS; s++) {
    int64_t first = n->noised.n_rows;
    toy_masks(n->noised.z + s * L, clean, L, MASK, (unsigned)s);
    noised_add(&n->objective, &n->noised, s, clean, L, time);
    if (training) noised_reweigh(&n->objective, &n->noised, first, time);
  }
  MUST(network_loss(n, &none, false, loss, &rows));
  for (unsigned s = 0; s < SETS; s++) {
    int k = __builtin_popcount(s);
    sum += pow(c, k) * pow(1 - c, L - k) * loss[s];
  }
  return sum;
}

/* A variable between 0 and 1 that is dense at both ends, where densities vanish, and its slope. */
static double smooth(double u) { return u * u * u * (10 - 15 * u + 6 * u * u); }
static double smooth_slope(double u) { return 30 * u * u * (1 - u) * (1 - u); }

/* The mean over uniform times from `from` to 1, or up to `to`, of the loss with the bound's weights. */
static double bound(Network *n, double from, double to) {
  double sum = 0;
  for (int i = 0; i < PIECES; i++) {
    double u = (i + 0.5) / PIECES, x = smooth(u);
    sum += smooth_slope(u) * expected(n, from + (to - from) * x, false) / PIECES;
  }
  return sum * (to - from) / (1 - TAU);
}

/* With diffusion.weight = elbo the mean loss is the bound whatever the law; that of clip its part of the bound. */
static void test_elbo_is_unbiased(void **state) {
  (void)state;
  toy_need_speed();
  static const char *const objectives_tried[] = {"subs", "sedd"};
  for (int k = 0; k < 2 * LAWS_TRIED; k++) {
    Network n;
    const LawOptions *law = &all[k % LAWS_TRIED];
    open_toy(&n, objectives_tried[k / LAWS_TRIED], *law, false);
    double low = TAU, high = 1, got = 0;
    if (n.objective.law.table->partial) low = law->clip_low, high = law->clip_high;
    /* importance covers log(1 − e^−σ) between the ends of the schedule, so its lowest time is not τ */
    if (strcmp(law->name, "importance") == 0) low = objective_train_time(&n.objective, TAU), high = 1;
    double want = bound(&n, low, high);
    for (int i = 0; i < PIECES; i++) {
      double u = (i + 0.5) / PIECES, x = smooth(u);
      got += smooth_slope(u) * expected(&n, objective_train_time(&n.objective, TAU + (1 - TAU) * x), true) / PIECES;
    }
    if (!(fabs(got - want) <= 2e-5 * want))
      fail_msg("%s %s: %.10g, not %.10g", n.objective.table->name, law->name, got, want);
    network_destroy(&n);
  }
}

/* With diffusion.weight = one the loss of a row is −log p of its masked tokens, whatever the law, and the sequence
 * counts all its tokens. Its weight is that of the bound at t = 1 with loglinear times. */
static void test_one(void **state) {
  (void)state;
  for (int k = 0; k < LAWS_TRIED; k++) {
    Network n;
    open_toy(&n, "subs", all[k], true);
    double want = expected(&n, 0.7, true), got = 0.7 * expected(&n, 0.7, false); /* the bound's weight is 1/t */
    assert_true(fabs(got - want) < 1e-12 * want);
    assert_int_equal(n.noised.scored, SETS * L);
    for (int64_t i = 0; i < n.noised.n_rows; i++) assert_true(n.noised.weight[i] > 0);
    noised_begin(&n.noised, 1);
    noised_train(&n.objective, &n.noised, 0, clean, L, (double[]){0.9}, rng_key(1, RNG_TEST, 0, 0, 0));
    assert_true(n.noised.n_rows > 0);
    for (int64_t i = 0; i < n.noised.n_rows; i++) assert_true(n.noised.weight[i] == 1);
    noised_begin(&n.noised, 1); /* evaluations keep uniform times and the bound */
    noised_draw(&n.objective, &n.noised, 0, clean, L, (double[]){0.9}, rng_key(1, RNG_TEST, 0, 0, 0));
    for (int64_t i = 0; i < n.noised.n_rows; i++) assert_true(fabs(n.noised.weight[i] - 1 / 0.9) < 1e-12);
    network_destroy(&n);
  }
}

/* What the log calls the loss. */
static void test_names(void **state) {
  (void)state;
  for (int k = 0; k < 2 * LAWS_TRIED; k++) {
    Network n;
    bool is_bound, plain = k / LAWS_TRIED;
    open_toy(&n, "subs", all[k % LAWS_TRIED], plain);
    const char *said = objective_trains(&n.objective, &is_bound);
    assert_true(is_bound == (!plain && k != 2));
    assert_non_null(strstr(said, plain ? "cross entropy" : k == 2 ? "part of the bound" : "bound"));
    network_destroy(&n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_inverse), cmocka_unit_test(test_beta_function),    cmocka_unit_test(test_density),
      cmocka_unit_test(test_counts),  cmocka_unit_test(test_elbo_is_unbiased), cmocka_unit_test(test_one),
      cmocka_unit_test(test_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
