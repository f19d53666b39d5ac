/* test_chain — the exact likelihood under every deterministic order and commit rule, on networks so small that all rows
 * and all states of a row can be enumerated. A table has −log p(x_l = y | z) for every z; the walks of this file take
 * everything from it, by the definitions of the rules. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "measure/chain.h"

enum { MOST_L = 5, MOST_V = 5, BATCH = 256, MOST_STATES = 1024 };
static const double EPS = 1e-3;

typedef struct Case {
  int64_t V, L, first, end; /* tokens first … end−1 are scored */
  int32_t mask, pad;        /* the tokens before and after are the pad */
  bool time, hide;          /* a network conditioned on time; padding hidden from attention */
  int64_t block;            /* of block diffusion */
} Case;
static const Case cases[] = {
    {4, 5, 0, 5, 1, 0, false, false, 0}, {5, 4, 0, 4, 4, 0, false, false, 0}, {4, 4, 0, 4, 0, 1, true, false, 0},
    {4, 4, 0, 3, 3, 2, false, false, 0}, {4, 4, 0, 3, 3, 2, true, true, 0},   {4, 4, 1, 4, 1, 3, false, false, 0},
    {4, 4, 0, 4, 1, 0, false, false, 2}, {4, 4, 1, 4, 3, 2, false, false, 2}, {4, 4, 0, 3, 0, 1, false, true, 2},
    {4, 4, 0, 4, 2, 0, false, false, 1}, {4, 4, 0, 4, 1, 0, false, false, 4},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct Rule {
  const char *order, *commit;
  int64_t steps;
  double number;
} Rule;
static const Rule rules[] = {
    {"left_to_right", "top_k", 0, 0},
    {"confidence", "top_k", 0, 0},
    {"margin", "top_k", 0, 0},
    {"entropy", "top_k", 0, 0},
    {"left_to_right", "top_k", 2, 0},
    {"confidence", "top_k", 2, 0},
    {"entropy", "top_k", 3, 0},
    {"confidence", "threshold", 0, 0.6},
    {"margin", "threshold", 0, 0.3},
    {"confidence", "factor", 0, 1.2},
    {"margin", "factor", 0, 1.5},
    {"confidence", "entropy_bound", 0, 0.7},
    {"entropy", "entropy_bound", 0, 0.7},
    {"margin", "entropy_bound", 0, 1},
    {"confidence", "schedule", 3, 0},
    {"left_to_right", "schedule", 4, 0},
    {"entropy", "schedule", 0, 0},
    {"left_to_right", "entropy_bound", 0, 0.9},
};
enum { RULES = sizeof rules / sizeof *rules };

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* ---- the table */
typedef struct Tiny {
  const Case *c;
  Network n;
  double nll[MOST_STATES][MOST_L][MOST_V]; /* of token y at position l in state z; ∞ for the mask */
} Tiny;

static int64_t states_of(const Case *c) { return (int64_t)pow((double)c->V, (double)c->L); }
static int digit(const Case *c, int64_t state, int64_t l) {
  for (; l > 0; l--) state /= c->V;
  return (int)(state % c->V);
}
static int64_t code(const Case *c, const int32_t *z) {
  int64_t state = 0;
  for (int64_t l = c->L - 1; l >= 0; l--) state = state * c->V + z[l];
  return state;
}
static int64_t length_of(const Case *c) { return c->hide ? c->end : c->L; }

/* The noise level of a state: −log of the share of tokens that are visible, at most σ(1) = −log ε. */
static double sigma_of(const Case *c, const int32_t *z) {
  double masks = 0, seen = (double)length_of(c);
  for (int64_t l = 0; l < length_of(c); l++) masks += z[l] == c->mask;
  return masks == seen ? -log(EPS) : fmin(-log(EPS), -log(1 - masks / seen));
}

static void table_fill(Tiny *t, int64_t from, int64_t B) {
  const Case *c = t->c;
  int32_t z[BATCH * MOST_L], ids[BATCH * MOST_L], lengths[BATCH];
  double sigma[BATCH], nll[BATCH * MOST_L];
  for (int64_t b = 0; b < B; b++) {
    for (int64_t l = 0; l < c->L; l++) z[b * c->L + l] = digit(c, from + b, l);
    lengths[b] = (int32_t)length_of(c);
    sigma[b] = sigma_of(c, z + b * c->L);
  }
  ModelInput in = {.B = B, .ids = z, .clean = c->block ? z : NULL, .sigma = sigma, .lengths = lengths};
  for (int32_t y = 0; y < c->V; y++) {
    MUST(model_forward(&t->n.model, &in));
    for (int64_t i = 0; i < B * c->L; i++) ids[i] = y == c->mask ? !y : y;
    MUST(rows_nll(&t->n.rows, &t->n.objective, B * c->L, ids, nll));
    for (int64_t i = 0; i < B * c->L; i++) t->nll[from + i / c->L][i % c->L][y] = y == c->mask ? INFINITY : nll[i];
  }
}

static void tiny_open(Tiny *t, const Case *c) {
  *t = (Tiny){.c = c};
  Toy toy = toy_tiny(c->V, c->mask, c->L, BATCH);
  toy.eps = EPS;
  toy.model.time_conditioning = c->time;
  toy.model.mask_padding = c->hide;
  toy.model.block = toy.objective.block = c->block;
  toy_open(&t->n, &toy);
  toy_weights(&t->n, 11 + (uint64_t)(c - cases), 4);
  int64_t all = states_of(c);
  for (int64_t i = 0; i < all; i += BATCH) table_fill(t, i, all - i < BATCH ? all - i : BATCH);
}

/* ---- rows: all of them, one after the other */
static int64_t count_of(const Case *c) { return (int64_t)pow((double)c->V - 1, (double)(c->end - c->first)); }

static void row_at(const Case *c, int64_t number, int32_t *x) {
  for (int64_t l = 0; l < c->L; l++) x[l] = c->pad;
  for (int64_t l = c->first; l < c->end; l++, number /= c->V - 1) {
    x[l] = (int32_t)(number % (c->V - 1));
    x[l] += x[l] >= c->mask;
  }
}

/* z := the row with the tokens first … end−1 masked */
static void masked(const Case *c, const int32_t *x, int64_t first, int64_t end, int32_t *z) {
  for (int64_t l = 0; l < c->L; l++) z[l] = l >= first && l < end ? c->mask : x[l];
}

/* ---- the walk, by the definitions */
typedef struct Proposal {
  int64_t l, id;
  double score, entropy, nll;
} Proposal;

static Proposal proposal(const Tiny *t, const Rule *r, const int32_t *z, int64_t l, int32_t target) {
  const double *nll = t->nll[code(t->c, z)][l];
  double first = 0, second = 0, entropy = 0;
  int64_t best = -1;
  for (int64_t y = 0; y < t->c->V; y++) {
    double p = exp(-nll[y]);
    entropy += p > 0 ? p * nll[y] : 0;
    if (p > first)
      second = first, first = p, best = y;
    else
      second = fmax(second, p);
  }
  double score = is(r->order, "confidence") ? first : is(r->order, "margin") ? first - second : -entropy;
  return (Proposal){l, best, is(r->order, "left_to_right") ? 0 : score, entropy, nll[target]};
}

/* Scores that agree to 12 bits count as equal (commit.h). */
static double rounded(double x) {
  int exponent;
  double fraction = frexp(x, &exponent);
  return ldexp(rint(ldexp(fraction, 12)), exponent);
}

static bool before(const Proposal *a, const Proposal *b) { return rounded(a->score) > rounded(b->score); }

/* Stable: equal ones stay from left to right. */
static void rank(Proposal *list, int n) {
  for (int i = 1; i < n; i++)
    for (int j = i; j > 0 && before(&list[j], &list[j - 1]); j--) {
      Proposal x = list[j];
      list[j] = list[j - 1], list[j - 1] = x;
    }
}

/* How many of the n ranked proposals are kept in that step of a row with `begun` masks at first. */
static int kept(const Rule *r, const Proposal *list, int n, int step, int begun) {
  int steps = r->steps > 0 ? (int)r->steps : begun, k = 0;
  double t = 1 - step * (1 - 1e-5) / steps, s = 1 - (step + 1) * (1 - 1e-5) / steps;
  if (is(r->commit, "top_k") || is(r->commit, "schedule")) {
    if (step >= steps) return n;
    k = is(r->commit, "top_k") ? begun / steps + (step < begun % steps) : (int)floor(n * (1 - s / t) + 0.5);
    return k < n ? k : n;
  }
  for (int i = 0; i < n; i++) {
    double sum = 0, most = 0;
    for (int j = 0; j <= i; j++) sum += list[j].entropy, most = fmax(most, list[j].entropy);
    bool ok = is(r->commit, "threshold") ? list[i].score >= r->number
              : is(r->commit, "factor")  ? list[i].score >= 1 - r->number / (i + 2)
                                         : sum - most <= r->number;
    if (i == 0 || (ok && k == i)) k++;
  }
  return k;
}

/* −log p of the tokens first … end−1 of x given the others; *likeliest := false unless all were proposed; returns in *passes
 * those of the network. What comes after a block is not seen in it. */
static double walk_part(const Tiny *t, const Rule *r, const int32_t *x, int64_t first, int64_t end, bool *likeliest,
                        int *passes) {
  const Case *c = t->c;
  int32_t z[MOST_L];
  double sum = 0;
  masked(c, x, first, end, z);
  *passes = 0;
  for (int step = 0;; step++) {
    Proposal list[MOST_L];
    int n = 0;
    for (int64_t l = first; l < end; l++)
      if (z[l] == c->mask) list[n++] = proposal(t, r, z, l, x[l]);
    if (n == 0) return sum;
    rank(list, n);
    int k = kept(r, list, n, step, (int)(end - first));
    for (int i = 0; i < k; i++) {
      sum += list[i].nll;
      *likeliest = *likeliest && list[i].id == x[list[i].l];
      z[list[i].l] = x[list[i].l];
    }
    *passes += k > 0;
  }
}

/* −log p(x) by the rule; *likeliest: whether all its tokens were proposed; *passes: of the network, those of all blocks at
 * once. */
static double walk(const Tiny *t, const Rule *r, const int32_t *x, bool *likeliest, int *passes) {
  const Case *c = t->c;
  int64_t size = c->block ? c->block : c->L;
  Rule part = *r;
  double sum = 0;
  if (r->steps > 0) part.steps = r->steps * size / c->L > 1 ? r->steps * size / c->L : 1;
  *likeliest = true, *passes = 0;
  for (int64_t at = 0; at < c->L; at += size) {
    int64_t first = at > c->first ? at : c->first, end = at + size < c->end ? at + size : c->end;
    int own = 0;
    if (first < end) sum += walk_part(t, &part, x, first, end, likeliest, &own);
    *passes = own > *passes ? own : *passes;
  }
  return sum;
}

/* ---- the program */
static ChainOptions options_of(const Rule *r) {
  ChainOptions o;
  const CommitOptions commit = {.section = "eval",
                                .commit = r->commit,
                                .order = r->order,
                                .threshold = r->number,
                                .factor = r->number,
                                .entropy_bound = r->number};
  MUST(chain_create(&o, &commit, r->steps));
  return o;
}

/* loss and likeliest of all rows, `batch` at a time */
static void run_all(Tiny *t, const Rule *r, int64_t batch, bool until_miss, EstimatorRow *rows) {
  const Case *c = t->c;
  static int32_t x[MOST_STATES * MOST_L];
  const ChainOptions o = options_of(r);
  for (int64_t i = 0; i < count_of(c); i++) {
    row_at(c, i, x + i * c->L);
    rows[i] = (EstimatorRow){.x0 = x + i * c->L, .first = c->first, .end = c->end, .length = length_of(c)};
  }
  for (int64_t i = 0; i < count_of(c); i += batch)
    MUST(chain_run(&t->n, &o, rows + i, count_of(c) - i < batch ? count_of(c) - i : batch, until_miss));
}

static Tiny tiny;
static EstimatorRow got[MOST_STATES], again[MOST_STATES];

static void check_rule(const Rule *r, int *fewest) {
  const Case *c = tiny.c;
  double total = 0;
  int64_t likeliest = 0;
  run_all(&tiny, r, BATCH, false, got);
  run_all(&tiny, r, 7, true, again);
  for (int64_t i = 0; i < count_of(c); i++) {
    bool same = false;
    int passes = 0;
    double want = walk(&tiny, r, got[i].x0, &same, &passes);
    *fewest = passes < *fewest ? passes : *fewest;
    if (!(fabs(got[i].loss - want) <= 1e-11 * want))
      fail_msg("case %d, %s by %s, row %d: %.15g, not %.15g", (int)(c - cases), r->commit, r->order, (int)i,
               got[i].loss, want);
    assert_int_equal(got[i].likeliest, same);
    assert_int_equal(again[i].likeliest, same);
    if (same) assert_true(again[i].loss == got[i].loss); /* whatever the batch */
    total += exp(-got[i].loss);
    likeliest += same;
  }
  if (!(fabs(total - 1) < 1e-11))
    fail_msg("case %d, %s by %s: the probabilities add up to %.15g", (int)(c - cases), r->commit, r->order, total);
  assert_int_equal(likeliest, 1); /* the row that decoding without randomness writes */
}

static void test_every_rule_is_a_distribution(void **state) {
  (void)state;
  int several[RULES] = {0}; /* cases in which a pass fills in several tokens */
  for (int i = 0; i < CASES; i++) {
    tiny_open(&tiny, &cases[i]);
    for (int r = 0; r < RULES; r++) {
      int fewest = MOST_L, scored = (int)(cases[i].end - cases[i].first);
      check_rule(&rules[r], &fewest);
      several[r] += fewest < scored && !cases[i].block;
    }
    network_destroy(&tiny.n);
  }
  for (int r = 0; r < RULES; r++) {
    bool one = rules[r].steps == 0 && rules[r].number == 0;
    assert_true(one ? several[r] == 0 : several[r] > 0);
  }
}

/* Orders matter on these networks, and so does what is committed together. */
static void test_rules_differ(void **state) {
  (void)state;
  tiny_open(&tiny, &cases[0]);
  run_all(&tiny, &rules[0], BATCH, false, again);
  for (int r = 1; r < RULES; r++) {
    double most = 0;
    run_all(&tiny, &rules[r], BATCH, false, got);
    for (int64_t i = 0; i < count_of(tiny.c); i++) most = fmax(most, fabs(got[i].loss - again[i].loss));
    assert_true(most > 0.01);
  }
  network_destroy(&tiny.n);
}

/* ---- any order: the bound of estimator count is the mean over all orders of one token a pass */
/* Σ over orders of exp(−cost) and of cost, for the positions of x that z masks */
static void orders(const int32_t *x, int32_t *z, double cost, double *likelihood, double *sum, int *n) {
  bool done = true;
  for (int64_t l = 0; l < tiny.c->L; l++) {
    if (z[l] != tiny.c->mask) continue;
    double more = tiny.nll[code(tiny.c, z)][l][x[l]];
    z[l] = x[l];
    orders(x, z, cost + more, likelihood, sum, n);
    z[l] = tiny.c->mask;
    done = false;
  }
  if (!done) return;
  *likelihood += exp(-cost), *sum += cost, ++*n;
}

/* (1/L) Σ_k (L/k) mean over sets of k masks of their cost = Σ_S cost(S) / (|S| C(L,|S|)) */
static double bound(const int32_t *x) {
  const Case *c = tiny.c;
  double sum = 0;
  for (unsigned set = 1; set < 1u << c->L; set++) {
    int32_t z[MOST_L];
    double cost = 0, ways = 1;
    int k = __builtin_popcount(set);
    toy_masks(z, x, c->L, c->mask, set);
    for (int64_t l = 0; l < c->L; l++)
      if (set >> l & 1) cost += tiny.nll[code(c, z)][l][x[l]];
    for (int i = 1; i <= k; i++) ways *= (double)(c->L - k + i) / i;
    sum += cost / (k * ways);
  }
  return sum;
}

static void test_bound_of_any_order(void **state) {
  (void)state;
  tiny_open(&tiny, &cases[1]);
  run_all(&tiny, &rules[0], BATCH, false, got);
  for (int64_t i = 0; i < count_of(tiny.c); i++) {
    const int32_t *x = got[i].x0;
    int32_t z[MOST_L];
    double likelihood = 0, sum = 0, direct = 0, b = bound(x);
    int n = 0;
    masked(tiny.c, x, tiny.c->first, tiny.c->end, z);
    orders(x, z, 0, &likelihood, &sum, &n);
    assert_int_equal(n, 24);
    assert_true(fabs(sum / n - b) <= 1e-11 * b);
    assert_true(-log(likelihood / n) < b); /* Jensen; the orders differ */
    masked(tiny.c, x, tiny.c->first, tiny.c->end, z);
    for (int64_t l = 0; l < tiny.c->L; l++) { /* the chain rule from left to right */
      direct += tiny.nll[code(tiny.c, z)][l][x[l]];
      z[l] = x[l];
    }
    assert_true(fabs(got[i].loss - direct) <= 1e-12 * direct);
  }
  network_destroy(&tiny.n);
}

/* ---- what has no such likelihood */
static void refused(int code, const char *why) {
  const char *message = code ? err_message() : "nothing";
  if (!strstr(message, why)) fail_msg("%s, instead of: %s", message, why);
  check_refused(code, ERR_USAGE, why);
}

static void test_refused(void **state) {
  (void)state;
  ChainOptions o;
  const CommitOptions drawn = {.section = "eval", .commit = "binomial", .order = "confidence"},
                      shuffled = {.section = "eval", .commit = "top_k", .order = "random"},
                      no_chance = {.section = "eval", .commit = "threshold", .order = "left_to_right"};
  refused(chain_create(&o, &drawn, 0), "eval.commit = binomial: a likelihood needs an order");
  refused(chain_create(&o, &shuffled, 0), "eval.order = random");
  refused(chain_create(&o, &no_chance, 0), "compares scores with a probability");
  static const struct {
    const char *objective, *why;
  } unfit[] = {{"sedd", "without the mask; use eval.estimator = time"},
               {"d3pm", "without the mask; use eval.estimator = time"},
               {"uniform", "without the mask; use eval.estimator = time"},
               {"ar", "is exact from left to right as it is"}};
  for (size_t i = 0; i < sizeof unfit / sizeof *unfit; i++) {
    Network n;
    const EstimatorTable *e;
    Toy toy = toy_tiny(4, 1, 3, 1);
    toy.eps = EPS;
    toy.objective.name = unfit[i].objective;
    toy.objective.T = is(unfit[i].objective, "d3pm") ? 10 : 0;
    if (is(unfit[i].objective, "ar")) toy.model.name = "ar";
    toy.model.time_conditioning = is(unfit[i].objective, "uniform");
    toy_open(&n, &toy);
    refused(estimator_find(&e, "chain", &n.objective), unfit[i].why);
    MUST(estimator_find(&e, "auto", &n.objective));
    assert_string_equal(e->name, "time"); /* an estimator without draws is never chosen by itself */
    network_destroy(&n);
  }
}

/* Every estimator reads its own keys, no other's, and those that none lists. */
static void test_keys_of_estimators(void **state) {
  (void)state;
  static const char *const orders[] = {"eval.order",     "eval.commit", "eval.steps",
                                       "eval.threshold", "eval.factor", "eval.entropy_bound"};
  static const char *const drawn[] = {"eval.draws", "eval.seed"};
  for (int i = 0; estimators[i]; i++) {
    const EstimatorTable *e = estimators[i];
    for (size_t k = 0; k < sizeof orders / sizeof *orders; k++)
      assert_int_equal(estimator_reads(e, orders[k]), e->exact != NULL);
    for (size_t k = 0; k < sizeof drawn / sizeof *drawn; k++)
      assert_int_equal(estimator_reads(e, drawn[k]), e->exact == NULL);
    assert_true(estimator_reads(e, "eval.sequences") && estimator_reads(e, "diffusion.T"));
  }
  assert_true(!estimator_reads(NULL, "eval.order") && !estimator_reads(NULL, "eval.seed"));
  assert_true(estimator_reads(NULL, "eval.sequences"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_rule_is_a_distribution), cmocka_unit_test(test_rules_differ),
      cmocka_unit_test(test_bound_of_any_order),           cmocka_unit_test(test_refused),
      cmocka_unit_test(test_keys_of_estimators),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
