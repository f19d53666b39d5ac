/* test_subs_exact — SUBS on networks so small that every mask of a sequence can be enumerated.
 *
 * A sequence of L tokens has 2^L masks S. Without time conditioning the network's −log p(x0_l | z_S) does not depend on
 * t, so the bounds follow from one table, cost[S] = Σ_{l in S, scored} −log p(x0_l | z_S):
 *   time   (1/(1−τ)) ∫_τ¹ (1/t) Σ_S c^|S| (1 − c)^(L−|S|) cost[S] dt,  c = (1 − ε)t
 *   count  (1/L) Σ_k (L/k) mean over sets S of k positions of cost[S], which is the integral for ε = τ = 0
 * The integrands are polynomials of degree < L ≤ 4 in t, for which two-point Gauss quadrature is exact. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "diffusion/timestep.h"

enum { MOST = 4, SETS = 1 << MOST, BATCH = 512 };
static const double EPS = 1e-3, TAU = 1e-3;

typedef struct Case {
  int64_t vocab, L, length; /* length < L: the rest is padding, masked but not scored */
  int32_t mask, x0[MOST];
} Case;
static const Case cases[] = {
    {3, 2, 2, 2, {0, 1}},    {3, 3, 3, 0, {1, 2, 2}},    {3, 4, 4, 2, {1, 0, 0, 1}}, {4, 2, 2, 1, {3, 0}},
    {4, 3, 3, 3, {2, 0, 1}}, {4, 4, 4, 0, {1, 3, 2, 3}}, {4, 4, 3, 3, {0, 2, 1, 1}}, {3, 3, 1, 2, {1, 0, 0}},
};
enum { CASES = sizeof cases / sizeof *cases };

static int size_of(unsigned set) { return __builtin_popcount(set); }

/* ---- the table */
typedef struct Bound {
  const Case *c;
  Network n;
  double token[SETS][MOST]; /* −log p(x0_l | z_S) */
  double cost[SETS];
} Bound;

static void fill_table(Bound *b) {
  const Case *c = b->c;
  Noised *z = &b->n.noised;
  int sets = 1 << c->L;
  double loss[SETS * MOST];
  noised_begin(z, sets);
  for (int s = 0; s < sets; s++) {
    toy_masks(z->z + s * c->L, c->x0, c->L, c->mask, (unsigned)s);
    noised_add(&b->n.objective, z, s, c->x0, c->length, 1);
  }
  for (int64_t i = 0; i < z->n_rows; i++) z->weight[i] = 1;
  ModelInput in = {.B = sets, .ids = z->z, .sigma = z->sigma, .rows = z->rows, .n_rows = z->n_rows};
  MUST(model_forward(&b->n.model, &in));
  MUST(rows_loss(&b->n.rows, &b->n.objective, z, false, loss));
  for (int64_t i = 0; i < z->n_rows; i++) {
    int64_t set = z->rows[i] / c->L, l = z->rows[i] % c->L;
    b->token[set][l] = loss[i];
    b->cost[set] += loss[i];
  }
}

static void bound_open(Bound *b, const Case *c) {
  *b = (Bound){.c = c};
  Toy toy = toy_tiny(c->vocab, c->mask, c->L, SETS);
  toy.eps = EPS;
  toy_open(&b->n, &toy);
  toy_weights(&b->n, 30 + (uint64_t)(c - cases), 3);
  fill_table(b);
}

/* ---- integrals over t: composite two-point Gauss quadrature, which does not evaluate the ends */
typedef double (*Integrand)(void *arg, double t);

static double integrate(Integrand f, void *arg, double from, double to) {
  enum { PANELS = 500 };
  double h = (to - from) / PANELS, offset = h / 2 / sqrt(3), sum = 0;
  for (int i = 0; i < PANELS; i++) {
    double middle = from + h * (i + 0.5);
    sum += f(arg, middle - offset) + f(arg, middle + offset);
  }
  return sum * h / 2;
}

typedef struct MaskLaw {
  const double *cost;
  int64_t L;
  double eps;
} MaskLaw;

static double weighted_cost(void *arg, double t) {
  const MaskLaw *a = arg;
  double sum = 0, c = (1 - a->eps) * t;
  for (unsigned s = 1; s < 1u << a->L; s++)
    sum += pow(c, size_of(s)) * pow(1 - c, (double)a->L - size_of(s)) * a->cost[s];
  return sum / t;
}

static double exact(const Bound *b, double eps, double tau) {
  MaskLaw a = {b->cost, b->c->L, eps};
  return integrate(weighted_cost, &a, tau, 1) / (1 - tau);
}

/* ---- the networks are suitable for the tests: a token's probability depends on which others are visible */
static void test_tables(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    Bound b;
    bound_open(&b, &cases[i]);
    unsigned full = (1u << b.c->L) - 1;
    double spread = 0;
    for (unsigned s = 1; s <= full; s++)
      for (int l = 0; l < b.c->length; l++) {
        if (!(s >> l & 1)) {
          assert_true(b.token[s][l] == 0); /* a visible token costs nothing */
          continue;
        }
        assert_true(b.token[s][l] > 0);
        spread = fmax(spread, fabs(b.token[s][l] - b.token[full][l]));
      }
    for (int l = (int)b.c->length; l < b.c->L; l++)
      for (unsigned s = 0; s <= full; s++) assert_true(b.token[s][l] == 0); /* padding */
    assert_true(spread > 0.05);
    network_destroy(&b.n);
  }
}

/* Σ over tokens ≠ m of p(x0_l = y | z) is 1: the mask token gets no probability. */
static void test_probabilities(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    double total[SETS][MOST] = {{0}};
    Case c = cases[i];
    for (int32_t y = 0; y < c.vocab; y++) {
      if (y == c.mask) continue;
      for (int l = 0; l < c.length; l++) { /* x0_l = y, which z_S masks for every S that contains l */
        Bound b;
        c = cases[i];
        c.x0[l] = y;
        bound_open(&b, &cases[i]); /* the weights of this case */
        b.c = &c;
        memset(b.cost, 0, sizeof b.cost);
        fill_table(&b);
        for (unsigned s = 0; s < 1u << c.L; s++)
          if (s >> l & 1) total[s][l] += exp(-b.token[s][l]);
        network_destroy(&b.n);
      }
    }
    for (unsigned s = 0; s < 1u << c.L; s++)
      for (int l = 0; l < c.length; l++)
        if (s >> l & 1) assert_true(fabs(total[s][l] - 1) < 1e-12);
  }
}

/* ---- (a) the estimator of training and evaluation */
typedef struct Mean { /* of batch means: its standard error is valid for stratified batches, too */
  int64_t n;
  double sum, square;
} Mean;
static void mean_add(Mean *m, double x) {
  m->n++;
  m->sum += x;
  m->square += x * x;
}
static double mean_of(const Mean *m) { return m->sum / (double)m->n; }
static double error_of(const Mean *m) {
  double n = (double)m->n, mean = mean_of(m);
  return sqrt((m->square / n - mean * mean) / (n - 1));
}

static unsigned set_of(const Bound *b, const int32_t *z) {
  unsigned set = 0;
  for (int l = 0; l < b->c->L; l++) set |= (unsigned)(z[l] == b->c->mask) << l;
  return set;
}

/* One draw of (t, z) by the program; the loss is computed from the program's weights and the table. */
static double draw_loss(Bound *b, int64_t step, int64_t i, bool stratified) {
  const Case *c = b->c;
  Noised *n = &b->n.noised;
  double t = timestep_draw(1, RNG_TIME, step, step * BATCH + i, i, BATCH, stratified, TAU), sum = 0;
  RngKey key = rng_key(1, RNG_MASK, 0, (uint64_t)step, (uint64_t)(step * BATCH + i));
  noised_begin(n, 1);
  int64_t masked = timestep_mask(n->z, c->x0, 0, c->L, c->mask, schedule_masked(&b->n.schedule, t), key);
  noised_add(&b->n.objective, n, 0, c->x0, c->length, t);
  for (int64_t l = c->length; l < c->L; l++) masked -= n->z[l] == c->mask; /* padding */
  assert_int_equal(n->masked, masked);
  assert_int_equal(n->scored, c->length);
  unsigned set = set_of(b, n->z);
  for (int64_t k = 0; k < n->n_rows; k++) sum += n->weight[k] * b->token[set][n->rows[k]];
  return sum;
}

static void test_time_estimator_is_unbiased(void **state) {
  (void)state;
  const int64_t steps = toy_draws(3200); /* of 512 draws */
  for (int i = 0; i < CASES; i++) {
    Bound b;
    bound_open(&b, &cases[i]);
    double want = exact(&b, EPS, TAU);
    for (int stratified = 0; stratified < 2; stratified++) {
      Mean mean = {0};
      for (int64_t step = 0; step < steps; step++) {
        double sum = 0;
        for (int64_t k = 0; k < BATCH; k++) sum += draw_loss(&b, step, k, stratified);
        mean_add(&mean, sum / BATCH);
      }
      double error = error_of(&mean);
      if (!(fabs(mean_of(&mean) - want) <= 4 * error))
        fail_msg("case %d: the estimator gives %.5f ± %.5f, the integral is %.5f", i, mean_of(&mean), error, want);
      assert_true(error < 0.01 * want * sqrt(800.0 / (double)steps));
    }
    network_destroy(&b.n);
  }
}

/* The table agrees with the program: rows_loss of a noised batch is the table times the weights. */
static void test_losses_are_the_table(void **state) {
  (void)state;
  enum { STEPS = 20, N = 7 };
  for (int i = 0; i < CASES; i++) {
    Bound b;
    bound_open(&b, &cases[i]);
    const Case *c = b.c;
    Noised *n = &b.n.noised;
    double loss[N * MOST];
    for (int64_t step = 0; step < STEPS; step++) {
      noised_begin(n, N);
      for (int64_t k = 0; k < N; k++) {
        double t = timestep_draw(1, RNG_TIME, step, k, k, N, true, TAU);
        RngKey key = rng_key(1, RNG_MASK, 0, (uint64_t)step, (uint64_t)k);
        timestep_mask(n->z + k * c->L, c->x0, 0, c->L, c->mask, schedule_masked(&b.n.schedule, t), key);
        int64_t first = n->n_rows;
        noised_add(&b.n.objective, n, k, c->x0, c->length, t);
        for (int64_t r = first; r < n->n_rows; r++) assert_true(fabs(n->weight[r] * t - 1) < 1e-12);
      }
      ModelInput in = {.B = N, .ids = n->z, .sigma = n->sigma, .rows = n->rows, .n_rows = n->n_rows};
      MUST(model_forward(&b.n.model, &in));
      MUST(rows_loss(&b.n.rows, &b.n.objective, n, false, loss));
      int64_t row = 0;
      for (int64_t k = 0; k < N; k++) {
        unsigned set = set_of(&b, n->z + k * c->L);
        for (int64_t l = 0; l < c->length; l++) {
          if (!(set >> l & 1)) continue;
          double want = n->weight[row] * b.token[set][l];
          assert_int_equal(n->rows[row], k * c->L + l);
          assert_int_equal(n->target[row], c->x0[l]);
          assert_true(fabs(loss[row] - want) <= 1e-13 * want);
          row++;
        }
      }
      assert_int_equal(row, n->n_rows);
    }
    network_destroy(&b.n);
  }
}

/* The integral with the program's probabilities and weights equals the closed form. It is what the draws estimate,
 * without sampling noise. */
static double program_cost(void *arg, double t) {
  Bound *b = arg;
  Noised *n = &b->n.noised;
  double sum = 0, chance = schedule_masked(&b->n.schedule, t);
  for (unsigned s = 0; s < 1u << b->c->L; s++) {
    noised_begin(n, 1);
    toy_masks(n->z, b->c->x0, b->c->L, b->c->mask, s);
    noised_add(&b->n.objective, n, 0, b->c->x0, b->c->length, t);
    double p = pow(chance, size_of(s)) * pow(1 - chance, (double)b->c->L - size_of(s));
    for (int64_t k = 0; k < n->n_rows; k++) sum += p * n->weight[k] * b->token[s][n->rows[k]];
  }
  return sum;
}

static void test_weights_give_the_bound(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    Bound b;
    bound_open(&b, &cases[i]);
    double want = exact(&b, EPS, TAU), got = integrate(program_cost, &b, TAU, 1) / (1 - TAU);
    assert_true(fabs(got - want) <= 1e-12 * want);
    network_destroy(&b.n);
  }
}

/* ---- (b) the count estimator */
static double count_exact(const Bound *b) {
  double sum = 0;
  int64_t L = b->c->L;
  for (int k = 1; k <= L; k++) {
    double cost = 0, sets = 0;
    for (unsigned s = 0; s < 1u << L; s++)
      if (size_of(s) == k) {
        cost += b->cost[s];
        sets++;
      }
    sum += (double)L / k * cost / sets / (double)L;
  }
  return sum;
}

static void test_count_estimator_is_unbiased(void **state) {
  (void)state;
  enum { DRAWS = 60000 };
  for (int i = 0; i < CASES; i++) {
    Bound b;
    bound_open(&b, &cases[i]);
    int64_t L = b.c->L;
    double want = exact(&b, 0, 0);
    assert_true(fabs(count_exact(&b) - want) <= 1e-10 * want);
    assert_true(exact(&b, EPS, TAU) < want); /* the published bound is slightly lower */
    assert_true(exact(&b, EPS, TAU) > 0.99 * want);
    Mean mean = {0};
    for (uint64_t d = 0; d < DRAWS; d++) { /* the same from draws */
      Noised *n = &b.n.noised;
      int64_t k = 1 + (int64_t)d % L;
      double sum = 0;
      noised_begin(n, 1);
      noised_count(&b.n.objective, n, 0, b.c->x0, b.c->length, (double[]){((double)k - 0.5) / (double)L},
                   rng_key(2, RNG_EVAL_MASK, 0, d, 0));
      unsigned set = set_of(&b, n->z);
      assert_int_equal(size_of(set), k);
      for (int64_t r = 0; r < n->n_rows; r++) sum += n->weight[r] * b.token[set][n->rows[r]];
      mean_add(&mean, sum);
    }
    assert_true(fabs(mean_of(&mean) - want) <= 4 * error_of(&mean));
    network_destroy(&b.n);
  }
}

/* ---- (c) with the true conditionals the bound is tight: it equals the entropy of the data */
enum { WORDS = 3 }; /* real tokens 0, 1, 2; the mask is 3 */
typedef struct World {
  double p[WORDS][WORDS]; /* the distribution of sequences of two tokens */
  Network *n;
} World;

static double truth(const World *w, const int32_t *z, const int32_t *x0, int l) {
  double hit = 0, all = 0;
  for (int a = 0; a < WORDS; a++)
    for (int c = 0; c < WORDS; c++) {
      bool agrees = (z[0] == WORDS || z[0] == a) && (z[1] == WORDS || z[1] == c);
      if (!agrees) continue;
      all += w->p[a][c];
      if ((l == 0 ? a : c) == x0[l]) hit += w->p[a][c];
    }
  return hit / all;
}

/* the expectation over x0 and z, at time t, of the program's weights times −log of the true conditional */
static double tight(void *arg, double t) {
  const World *w = arg;
  Noised *n = &w->n->noised;
  double sum = 0, chance = schedule_masked(&w->n->schedule, t);
  for (int32_t a = 0; a < WORDS; a++)
    for (int32_t c = 0; c < WORDS; c++)
      for (unsigned set = 0; set < 4; set++) {
        const int32_t x0[2] = {a, c};
        noised_begin(n, 1);
        toy_masks(n->z, x0, 2, WORDS, set);
        noised_add(&w->n->objective, n, 0, x0, 2, t);
        double weight = w->p[a][c] * pow(chance, size_of(set)) * pow(1 - chance, 2 - size_of(set));
        for (int64_t i = 0; i < n->n_rows; i++) sum -= weight * n->weight[i] * log(truth(w, n->z, x0, n->rows[i]));
      }
  return sum;
}

static void test_truth_has_the_entropy(void **state) {
  (void)state;
  Network n = {0};
  World w = {{{0.30, 0.05, 0.02}, {0.01, 0.20, 0.07}, {0.15, 0.15, 0.05}}, &n};
  double entropy = 0, pair[2], eps[2] = {0, EPS};
  for (int a = 0; a < WORDS; a++)
    for (int c = 0; c < WORDS; c++) entropy -= w.p[a][c] * log(w.p[a][c]);
  MUST(noised_create(&n.noised, 1, 2, 1));
  for (int i = 0; i < 2; i++) {
    ObjectiveOptions o = {.name = "subs", .schedule = &n.schedule, .mask = WORDS, .vocab = WORDS + 1};
    MUST(schedule_create(&n.schedule, "loglinear", eps[i], 1e-3, 0));
    MUST(objective_create(&n.objective, &o));
    pair[i] = integrate(tight, &w, 0, 1);
  }
  assert_true(fabs(pair[0] - entropy) <= 1e-9);
  assert_true(pair[1] < entropy && pair[1] > entropy * (1 - 2 * EPS)); /* ε omits a small part */
  noised_destroy(&n.noised);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tables),
      cmocka_unit_test(test_probabilities),
      cmocka_unit_test(test_losses_are_the_table),
      cmocka_unit_test(test_time_estimator_is_unbiased),
      cmocka_unit_test(test_weights_give_the_bound),
      cmocka_unit_test(test_count_estimator_is_unbiased),
      cmocka_unit_test(test_truth_has_the_entropy),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
