/* test_block_exact — the bound of block diffusion, enumerated on a network with V = 4 and L = 4 in blocks of 1, 2 and 4.
 *
 * With cost[b, S] = Σ_{l in S} −log p(x_l | x before block b, block b with the positions S masked), of L' = 1, 2, 4:
 *   count  Σ_b (1/L') Σ_k (L'/k) mean over sets S of k positions of cost[b, S]
 *   time   Σ_b (1/(1−τ)) ∫_τ¹ (1/t) Σ_S c^|S| (1 − c)^(L'−|S|) cost[b, S] dt,  c = (1 − ε)t
 * L' = L: the bound of MDLM. L' = 1: −log p(x) itself. Between them the bound is at least −log of the mean of p(x) over
 * the orders within blocks, which sums to 1 over all x. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "diffusion/timestep.h"
#include "measure/estimator.h"

enum { V = 4, L = 4, MASK = 1, REAL = V - 1, STATES = 256, ROWS = 81, MOST = 256 };
static const double EPS = 1e-3, TAU = 1e-3;
static const int64_t sizes[] = {1, 2, 4};

static int32_t digit(int state, int l) { return state >> 2 * l & 3; }

/* Row i of all the REAL^L rows without masks. */
static void row_of(int i, int32_t x[L]) {
  for (int l = 0; l < L; l++, i /= REAL) x[l] = i % REAL < MASK ? i % REAL : i % REAL + 1;
}

static void block_open(Network *n, int64_t size, const char *model) {
  Toy toy = toy_tiny(V, MASK, L, STATES);
  toy.eps = EPS;
  toy.model.name = model;
  toy.model.block = toy.objective.block = size;
  toy.objective.tau = TAU;
  toy_open(n, &toy);
  toy_weights(n, 12, 3);
}

/* ---- −log p of every token in every state: those before its block are clean */
typedef struct Table {
  int64_t size;
  double nll[STATES][L][V];
} Table;

static void fill_table(Table *t, Network *n, int64_t size) {
  static double nll[STATES * L];
  static int32_t z[STATES * L], y[STATES * L];
  for (int s = 0; s < STATES; s++)
    for (int l = 0; l < L; l++) z[s * L + l] = digit(s, l);
  ModelInput in = {.B = STATES, .ids = z, .clean = size ? z : NULL};
  MUST(model_forward(&n->model, &in));
  t->size = size ? size : L;
  for (int32_t token = 0; token < V; token++) {
    for (int r = 0; r < STATES * L; r++) y[r] = token;
    MUST(rows_nll(&n->rows, &n->objective, STATES * L, y, nll));
    for (int r = 0; r < STATES * L; r++) t->nll[r / L][r % L][token] = nll[r];
  }
}

/* The state of row x where positions `set` of block b are masked; those behind the block are never seen. */
static int state_of(const Table *t, const int32_t *x, int64_t b, unsigned set) {
  int state = 0;
  for (int l = 0; l < L; l++) {
    bool masked = l >= b * t->size && l < (b + 1) * t->size && set >> (l - b * t->size) & 1;
    state |= (masked || l >= (b + 1) * t->size ? MASK : x[l]) << 2 * l;
  }
  return state;
}

static double cost(const Table *t, const int32_t *x, int64_t b, unsigned set) {
  double sum = 0;
  int state = state_of(t, x, b, set);
  for (int64_t i = 0; i < t->size; i++)
    if (set >> i & 1) sum += t->nll[state][b * t->size + i][x[b * t->size + i]];
  return sum;
}

/* ---- the bounds */
static double binomial(int64_t n, int64_t k) { return k == 0 ? 1 : binomial(n - 1, k - 1) * (double)n / (double)k; }

static double count_bound(const Table *t, const int32_t *x) {
  double sum = 0;
  for (int64_t b = 0; b < L / t->size; b++)
    for (unsigned s = 1; s < 1u << t->size; s++) {
      int k = __builtin_popcount(s);
      sum += cost(t, x, b, s) / k / binomial(t->size, k);
    }
  return sum;
}

/* The integrand is a polynomial of degree < L' in t, for which Gauss's rule of two points is exact. */
static double time_bound(const Table *t, const int32_t *x) {
  double sum = 0, middle = (1 + TAU) / 2, offset = (1 - TAU) / 2 / sqrt(3);
  if (t->size == 1) return count_bound(t, x); /* always masked */
  for (int side = -1; side <= 1; side += 2)
    for (int64_t b = 0; b < L / t->size; b++)
      for (unsigned s = 1; s < 1u << t->size; s++) {
        double time = middle + side * offset, c = (1 - EPS) * time;
        int k = __builtin_popcount(s);
        sum += pow(c, k) * pow(1 - c, (double)(t->size - k)) * cost(t, x, b, s) / time / 2;
      }
  return sum;
}

/* The probability of the positions `set` of block b, masked in a uniformly random order. */
static double any_order(const Table *t, const int32_t *x, int64_t b, unsigned set) {
  double sum = 0;
  int state = state_of(t, x, b, set);
  if (set == 0) return 1;
  for (int64_t i = 0; i < t->size; i++) {
    int64_t l = b * t->size + i;
    if (set >> i & 1) sum += exp(-t->nll[state][l][x[l]]) * any_order(t, x, b, set & ~(1u << i));
  }
  return sum / __builtin_popcount(set);
}

static double likelihood(const Table *t, const int32_t *x) {
  double p = 1;
  for (int64_t b = 0; b < L / t->size; b++) p *= any_order(t, x, b, (1u << t->size) - 1);
  return p;
}

static void test_bound_is_one(void **state) {
  (void)state;
  static Table t;
  for (int k = 0; k < 3; k++)
    for (int causal = 0; causal < 2; causal++) {
      Network n;
      double total = 0;
      block_open(&n, sizes[k], causal ? "ar" : "dit");
      fill_table(&t, &n, sizes[k]);
      for (int i = 0; i < ROWS; i++) {
        int32_t x[L];
        row_of(i, x);
        double p = likelihood(&t, x), bound = count_bound(&t, x);
        total += p;
        assert_true(bound >= -log(p) - 1e-12);
        assert_true(time_bound(&t, x) <= bound + 1e-12); /* τ and ε omit a little */
        if (sizes[k] == 1) assert_true(fabs(bound + log(p)) <= 1e-12);
        if (sizes[k] > 1 && i == 5) assert_true(bound > -log(p) + 1e-4);
      }
      assert_true(fabs(total - 1) <= 1e-12);
      network_destroy(&n);
    }
}

/* With L' = L the loss is MDLM's: the same table from the network without blocks, and so all that follows. */
static void test_one_block_is_mdlm(void **state) {
  (void)state;
  static Table with, without;
  Network n, plain;
  block_open(&n, L, "dit");
  block_open(&plain, 0, "dit");
  fill_table(&with, &n, L);
  fill_table(&without, &plain, 0);
  for (int s = 0; s < STATES; s++)
    for (int l = 0; l < L; l++)
      for (int y = 0; y < V; y++)
        if (y != MASK) assert_true(fabs(with.nll[s][l][y] - without.nll[s][l][y]) <= 1e-12);
  network_destroy(&n);
  network_destroy(&plain);
}

/* ---- what the program draws and sums */
typedef struct Mean {
  double n, sum, square;
} Mean;
static void mean_add(Mean *m, double x) { m->n += 1, m->sum += x, m->square += x * x; }
static void mean_is(const char *what, const Mean *m, double want) {
  double mean = m->sum / m->n, error = sqrt(fmax(0, m->square / m->n - mean * mean) / (m->n - 1));
  if (!(fabs(mean - want) <= 4 * error + 1e-12))
    fail_msg("%s: the mean of draws is %.6f ± %.6f, the bound %.6f", what, mean, error, want);
}

/* The mean loss of row x in a batch of MOST draws. */
static double batch_mean(Network *n, const EstimatorTable *e, const int32_t *x, int64_t draw, double *most) {
  const Dropout none = {0};
  double loss[MOST], sum = 0;
  int64_t rows = 0;
  noised_begin(&n->noised, MOST);
  for (int64_t i = 0; i < MOST; i++) {
    EstimatorDraw d = {.seed = 3, .draw = draw, .row = i, .cell = i, .n = MOST, .stratified = true};
    e->noise(n, i, x, L, &d);
  }
  MUST(network_loss(n, &none, false, loss, &rows));
  for (int i = 0; i < MOST; i++) {
    sum += loss[i];
    *most = fmax(*most, loss[i]);
  }
  return sum / MOST;
}

static void test_estimators(void **state) {
  (void)state;
  static Table t;
  const int64_t draws = toy_draws(400);
  for (int k = 0; k < 3; k++) {
    Network n;
    block_open(&n, sizes[k], "dit");
    fill_table(&t, &n, sizes[k]);
    for (int i = 0; estimators[i]; i++) {
      if (!estimators[i]->noise) continue; /* no draws */
      int32_t x[L];
      double most = 0;
      Mean mean = {0};
      row_of(29, x);
      for (int64_t draw = 0; draw < draws; draw++) mean_add(&mean, batch_mean(&n, estimators[i], x, draw, &most));
      double want = estimators[i]->whole ? count_bound(&t, x) : time_bound(&t, x);
      mean_is(estimators[i]->name, &mean, want);
      if (sizes[k] == 1) assert_true(fabs(most - want) <= 1e-12); /* every draw is exact */
    }
    network_destroy(&n);
  }
}

/* Of a padded row only the real positions are scored; what fills the rest is seen by its own block only. */
static void test_padding(void **state) {
  (void)state;
  enum { REST = 3 };
  static Table t;
  const Dropout none = {0};
  for (int k = 0; k < 2; k++) {
    Network n;
    int32_t x[2][L];
    double loss[2], zero[L] = {0};
    int64_t rows = 0;
    block_open(&n, sizes[k], "dit");
    fill_table(&t, &n, sizes[k]);
    row_of(29, x[0]);
    memcpy(x[1], x[0], sizeof x[0]);
    x[1][L - 1] = x[0][L - 1] == 0 ? 2 : 0;
    noised_begin(&n.noised, 2);
    for (int i = 0; i < 2; i++)
      noised_count(&n.objective, &n.noised, i, x[i], REST, zero, rng_key(1, RNG_TEST, 0, 0, 0));
    assert_int_equal(n.noised.scored, 2 * REST);
    bool hidden = n.noised.z[L - 1] == MASK || sizes[k] == 1;
    MUST(network_loss(&n, &none, false, loss, &rows));
    if (hidden) assert_true(loss[0] == loss[1]);
    double want = 0;
    for (int l = 0; l < REST && sizes[k] == 1; l++) want += cost(&t, x[0], l, 1);
    if (sizes[k] == 1) assert_true(fabs(loss[0] - want) <= 1e-12);
    network_destroy(&n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bound_is_one), cmocka_unit_test(test_one_block_is_mdlm),
                                     cmocka_unit_test(test_estimators), cmocka_unit_test(test_padding)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
