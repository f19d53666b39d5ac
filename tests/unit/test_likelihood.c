/* test_likelihood — log p(target | context): the drawn bound is unbiased for every length and number of draws, the exact
 * values add up to 1 over all targets, all of it against sums over enumerated masks on tiny networks. */
#include "toy.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/stop.h"
#include "measure/choices.h"
#include "measure/likelihood.h"
#include "store/partial.h"

enum { V = 4, MASK = 1, PAD = 3, L = 6, MOST_T = 4, BATCH = 64, MOST = 8192 };
static const double EPS = 1e-3;

/* ---- a network and the options of a run */
typedef struct Bench {
  Network net;
  Comm comm;
  Config cfg;
  LikelihoodOptions o;
} Bench;

static void bench_make(Bench *b, const char *estimator, LikelihoodRest rest, bool time) {
  Toy toy = toy_tiny(V, MASK, L, BATCH);
  *b = (Bench){.o = {.draws = 1, .seed = 1, .rest = rest, .pad = PAD}};
  toy.eps = EPS;
  toy.model.time_conditioning = time;
  toy.model.mask_padding = rest == REST_HIDDEN;
  if (!estimator) toy.model.name = toy.objective.name = "ar";
  toy_open(&b->net, &toy);
  toy_weights(&b->net, 9, 4);
  MUST(comm_null_create(&b->comm));
  MUST(config_load(&b->cfg, NULL, 0, NULL));
  b->o.cfg = &b->cfg;
  if (estimator) MUST(estimator_find(&b->o.estimator, estimator, &b->net.objective));
}

static void bench_free(Bench *b) {
  network_destroy(&b->net);
  comm_destroy(&b->comm);
  config_free(&b->cfg);
}

/* ---- requests: n with a context and a target each */
static int32_t tokens[MOST * L];
static int64_t offset[MOST], context[MOST], target[MOST], option_of[MOST];
static Requests list = {
    .tokens = tokens, .offset = offset, .context = context, .target = target, .option_of = option_of};

static void request_set(int64_t i, int64_t question, const int32_t *x, int64_t c, int64_t t) {
  memcpy(tokens + i * L, x, (size_t)(c + t) * sizeof *x);
  offset[i] = i * L, context[i] = c, target[i] = t, option_of[i] = question;
}

static Likelihood run(Bench *b, int64_t n) {
  Likelihood l;
  list.n = n;
  MUST(likelihood_run(&l, &b->net, &list, &b->comm, &b->o));
  assert_int_equal(l.stop, 0);
  assert_int_equal(l.done, n);
  return l;
}

/* All targets of t tokens after the context. Returns their number. */
static int64_t all_targets(const int32_t *before, int64_t c, int64_t t) {
  int64_t n = (int64_t)pow(V - 1, (double)t);
  for (int64_t i = 0; i < n; i++) {
    int32_t x[L];
    int64_t rest = i;
    memcpy(x, before, (size_t)c * sizeof *x);
    for (int64_t l = c; l < c + t; l++, rest /= V - 1) x[l] = (int32_t)(rest % (V - 1) + (rest % (V - 1) >= MASK));
    request_set(i, 0, x, c, t);
  }
  return n;
}

/* ---- enumeration */
/* Σ of −log p over the tokens `scored` of the target where those of `set` are masked. */
static double cost_of(Bench *b, const int32_t *x, int64_t c, int64_t t, unsigned set, unsigned scored) {
  int32_t z[L], ids[L], length = b->o.rest == REST_MASK ? L : (int32_t)(c + t);
  double nll[L], masks = 0, sum = 0;
  for (int64_t l = 0; l < L; l++) {
    z[l] = l >= c + t ? (b->o.rest == REST_MASK ? MASK : PAD) : l >= c && set >> (l - c) & 1 ? MASK : x[l];
    ids[l] = l < c + t ? x[l] : 0;
    masks += l < length && z[l] == MASK;
  }
  double sigma = masks == length ? -log(EPS) : fmin(-log(EPS), -log(1 - masks / length));
  ModelInput in = {.B = 1, .ids = z, .sigma = &sigma, .lengths = &length};
  MUST(model_forward(&b->net.model, &in));
  MUST(rows_nll(&b->net.rows, &b->net.objective, L, ids, nll));
  for (int64_t l = c; l < c + t; l++) sum += scored >> (l - c) & 1 ? nll[l] : 0;
  return sum;
}

static double cost(Bench *b, const int32_t *x, int64_t c, int64_t t, unsigned set) {
  return cost_of(b, x, c, t, set, set);
}

/* of the first token of the target, of which nothing is visible */
static double first_cost(Bench *b, const int32_t *x, int64_t c, int64_t t) {
  return cost_of(b, x, c, t, (1u << t) - 1, 1);
}

static double ways(int64_t n, int k) {
  double w = 1;
  for (int i = 1; i <= k; i++) w *= (double)(n - k + i) / i;
  return w;
}

/* E over the number j of masks, uniform on 1 … t, and sets of j, of (t/j)·cost */
static double bound(Bench *b, const int32_t *x, int64_t c, int64_t t) {
  double sum = 0;
  for (unsigned set = 1; set < 1u << t; set++) {
    int j = __builtin_popcount(set);
    sum += cost(b, x, c, t, set) / (j * ways(t, j));
  }
  return sum;
}

/* ---- the number of masks of a draw */
static int64_t rounded(double u, int64_t T, int64_t i, int64_t D) { /* as published: halves are rounded to even */
  int64_t k = 1 + (int64_t)(u * (double)T);
  return ((int64_t)rint((double)k + (double)(i * T) / (double)D) - 1) % T + 1;
}

/* Whether each number 1 … T is as likely in every draw of D, and D = T draws have them all. */
static bool uniform(int64_t (*masks)(double, int64_t, int64_t, int64_t), int64_t T, int64_t D) {
  for (int64_t i = 0; i < D; i++) {
    unsigned seen = 0;
    for (int64_t k = 0; k < T; k++) seen |= 1u << masks(((double)k + 0.5) / (double)T, T, i, D);
    if (seen != (1u << (T + 1)) - 2) return false;
  }
  return true;
}

static void test_numbers_of_masks(void **state) {
  (void)state;
  for (int64_t T = 1; T <= 9; T++)
    for (int64_t D = 1; D <= 9; D++) {
      assert_true(uniform(likelihood_masks, T, D));
      unsigned seen = 0; /* evenly spread within one question */
      for (int64_t i = 0; i < T; i++) seen |= 1u << likelihood_masks(0.3, T, i, T);
      assert_true(seen == (1u << (T + 1)) - 2);
    }
  assert_false(uniform(rounded, 5, 2)); /* the test sees the published defect */
  assert_false(uniform(rounded, 6, 4));
}

/* ---- the drawn bound */
typedef struct Case {
  int64_t c, t, draws;
  LikelihoodRest rest;
  bool time;
} Case;
static const Case cases[] = {
    {2, 3, 2, REST_HIDDEN, false}, {2, 4, 3, REST_HIDDEN, true}, {1, 4, 4, REST_MASK, false},
    {0, 3, 3, REST_PAD, false},    {3, 3, 1, REST_MASK, true},   {4, 2, 2, REST_PAD, true},
    {2, 2, 3, REST_HIDDEN, false},
};
static const int32_t text[L] = {2, 0, 3, 0, 2, 2};

static void test_bound_is_unbiased(void **state) {
  (void)state;
  int64_t n = toy_draws(MOST);
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const Case *c = &cases[k];
    Bench b;
    bench_make(&b, "count", c->rest, c->time);
    b.o.draws = c->draws;
    for (int64_t i = 0; i < n; i++) request_set(i, i, text, c->c, c->t);
    Likelihood l = run(&b, n);
    double want = bound(&b, text, c->c, c->t), mean = 0, square = 0, told = 0;
    for (int64_t i = 0; i < n; i++) mean -= l.ll[i] / (double)n;
    for (int64_t i = 0; i < n; i++) {
      square += pow(-l.ll[i] - mean, 2) / (double)(n - 1);
      told += l.error[i] * l.error[i] / (double)n;
      assert_int_equal(l.draws[i], c->draws);
      assert_int_equal(l.greedy[i], -1);
    }
    double error = sqrt(square / (double)n);
    if (!(fabs(mean - want) <= 4 * error + 1e-12))
      fail_msg("case %d: %.5f ± %.5f, the bound is %.5f", (int)k, mean, error, want);
    assert_true(error < 0.2 * want);
    if (c->draws > 1)
      assert_true(told > 0.9 * square); /* strata make the standard error too large rather than too small */
    likelihood_destroy(&l);
    bench_free(&b);
  }
}

/* A target of one token has one mask: nothing is random. */
static void test_one_token(void **state) {
  (void)state;
  Bench b;
  bench_make(&b, "count", REST_HIDDEN, false);
  b.o.draws = 5;
  int64_t n = all_targets(text, 3, 1);
  Likelihood l = run(&b, n);
  double total = 0;
  for (int64_t i = 0; i < n; i++) {
    assert_true(fabs(l.ll[i] + cost(&b, tokens + offset[i], 3, 1, 1)) < 1e-12);
    assert_int_equal(l.draws[i], 1);
    assert_true(l.error[i] == 0);
    total += exp(l.ll[i]);
  }
  assert_true(fabs(total - 1) < 1e-12);
  likelihood_destroy(&l);
  bench_free(&b);
}

/* Options of one question have the same masks, those of different questions do not. */
static void test_paired_draws(void **state) {
  (void)state;
  Bench b;
  bench_make(&b, "count", REST_HIDDEN, false);
  const int64_t questions[] = {7, 3, 7, 3, 5};
  for (int64_t i = 0; i < 5; i++) request_set(i, questions[i], text, 2, 4);
  Likelihood l = run(&b, 5);
  assert_true(l.ll[0] == l.ll[2] && l.ll[1] == l.ll[3] && l.ll[0] != l.ll[1] && l.ll[4] != l.ll[0]);
  assert_true(isnan(l.error[0])); /* one draw */
  likelihood_destroy(&l);
  bench_free(&b);
}

/* ---- exact values */
static void check_exact(Bench *b, int64_t c, int64_t t, const char *what) {
  int64_t n = all_targets(text, c, t), greedy = 0;
  Likelihood l = run(b, n);
  double total = 0;
  for (int64_t i = 0; i < n; i++) {
    total += exp(l.ll[i]);
    greedy += l.greedy[i] == 1;
    assert_true(l.error[i] == 0 && l.greedy[i] >= 0);
  }
  if (!(fabs(total - 1) < 1e-11)) fail_msg("%s: the probabilities of all targets add up to %.15g", what, total);
  assert_int_equal(greedy, 1);
  likelihood_destroy(&l);
}

static void test_exact_values_are_distributions(void **state) {
  (void)state;
  const char *const orders[] = {"left_to_right", "confidence", "entropy"};
  for (int rest = 0; rest < RESTS; rest++)
    for (int o = 0; o < 3; o++) {
      Bench b;
      bench_make(&b, "chain", (LikelihoodRest)rest, rest == REST_MASK);
      mem_free(&b.cfg.eval_order);
      MUST(mem_strdup(&b.cfg.eval_order, orders[o]));
      check_exact(&b, 2, 3, orders[o]);
      check_exact(&b, 0, 4, orders[o]);
      bench_free(&b);
    }
}

/* The chain rule from left to right, directly. */
static void test_left_to_right(void **state) {
  (void)state;
  Bench b;
  bench_make(&b, "chain", REST_MASK, true);
  mem_free(&b.cfg.eval_order);
  MUST(mem_strdup(&b.cfg.eval_order, "left_to_right"));
  request_set(0, 0, text, 2, 3);
  Likelihood l = run(&b, 1);
  double direct = 0;
  for (unsigned i = 0; i < 3; i++) direct += first_cost(&b, text, 2 + i, 3 - i);
  assert_true(fabs(l.ll[0] + direct) < 1e-11);
  likelihood_destroy(&l);
  bench_free(&b);
}

/* −log p of the next token under a causal network */
static void test_next_token(void **state) {
  (void)state;
  Bench b;
  bench_make(&b, NULL, REST_HIDDEN, false);
  check_exact(&b, 1, 4, "ar");
  check_exact(&b, 3, 3, "ar");
  request_set(0, 0, text, 2, 4);
  Likelihood l = run(&b, 1);
  double nll[L], direct = 0, sigma = 0;
  int32_t next[L] = {0};
  memcpy(next, text + 1, (L - 1) * sizeof *next);
  ModelInput in = {.B = 1, .ids = text, .sigma = &sigma};
  MUST(model_forward(&b.net.model, &in));
  MUST(rows_nll(&b.net.rows, &b.net.objective, L, next, nll));
  for (int i = 1; i < 5; i++) direct += nll[i];
  assert_true(fabs(l.ll[0] + direct) < 1e-11);
  likelihood_destroy(&l);
  bench_free(&b);
}

/* ---- decoding beside draws: the target that chain says is the likeliest one, in the same order */
static void test_greedy(void **state) {
  (void)state;
  Bench drawn, exact;
  bench_make(&drawn, "count", REST_HIDDEN, false);
  bench_make(&exact, "chain", REST_HIDDEN, false);
  drawn.o.greedy = true;
  int64_t n = all_targets(text, 1, 4), hits = 0;
  Likelihood a = run(&drawn, n), b = run(&exact, n);
  for (int64_t i = 0; i < n; i++) {
    assert_int_equal(a.greedy[i], b.greedy[i]);
    hits += a.greedy[i];
  }
  assert_int_equal(hits, 1);
  likelihood_destroy(&a);
  likelihood_destroy(&b);
  bench_free(&drawn);
  bench_free(&exact);
}

/* ---- rows: what is hidden changes nothing; long contexts lose their first tokens */
static void test_rows(void **state) {
  (void)state;
  Bench b;
  bench_make(&b, "chain", REST_HIDDEN, false);
  const int32_t more[L + 2] = {3, 0, 2, 0, 3, 0, 2, 2}; /* `text` behind two tokens */
  request_set(0, 0, text, 1, 2);
  request_set(1, 1, text, 2, 4);
  memcpy(tokens + 2 * L, more, sizeof more);
  offset[2] = 2 * L, context[2] = 4, target[2] = 4, option_of[2] = 2;
  Likelihood l = run(&b, 3);
  assert_int_equal(likelihood_cut(&list, 1, L), 0);
  assert_int_equal(likelihood_cut(&list, 2, L), 2);
  assert_true(l.ll[2] == l.ll[1]);
  b.o.pad = 0;
  Likelihood other = run(&b, 1);
  assert_true(other.ll[0] == l.ll[0]);
  likelihood_destroy(&l);
  likelihood_destroy(&other);
  bench_free(&b);
}

static void refused(int code, const char *why) {
  const char *message = code ? err_message() : "nothing";
  if (!strstr(message, why)) fail_msg("%s, instead of: %s", message, why);
  check_refused(code, ERR_DATA, why);
}

static void test_refused(void **state) {
  (void)state;
  Bench b, ar;
  bench_make(&b, "chain", REST_HIDDEN, false);
  bench_make(&ar, NULL, REST_HIDDEN, false);
  request_set(0, 0, text, 0, 6);
  list.n = 1;
  MUST(likelihood_check(&list, "r.h5", &b.net.objective, 6));
  refused(likelihood_check(&list, "r.h5", &b.net.objective, 5), "r.h5: the target of request 0 has 6 tokens");
  refused(likelihood_check(&list, "r.h5", &ar.net.objective, 6), "the first of which must be of the context");
  refused(likelihood_check(&list, "r.h5", &ar.net.objective, 7), "r.h5: request 0 has no context");
  bench_free(&b);
  bench_free(&ar);
}

/* ---- questions */
static void test_choices(void **state) {
  (void)state;
  int64_t gold[9] = {1, 0, 0, 1, 0, 1, 1, 0, 0}, bytes[9] = {1, 4, 2, 2, 5, 1, 3, 1, 1},
          question[9] = {0, 0, 2, 2, 3, 3, 4, 5, 5};
  double ll[9] = {-2, -3, -1, -1, -4, -5, -9, -1, -2};
  /* Question 0: the gold one by ll, the other per byte. 2: a tie, whose first is not gold. 3: the other one either way.
   * 4 has one option, 5 no gold: they do not count. */
  Requests r = {.n = 9, .option_of = question, .gold = gold, .bytes = bytes};
  Choices c;
  MUST(choices_of(&c, &r, ll));
  assert_int_equal(c.questions, 3);
  assert_true(fabs(c.acc - 1.0 / 3) < 1e-15 && fabs(c.acc_se - sqrt(2.0 / 9 / 2)) < 1e-15);
  assert_true(c.norm == 0 && c.norm_se == 0);
  r.bytes = NULL;
  MUST(choices_of(&c, &r, ll));
  assert_true(fabs(c.acc - 1.0 / 3) < 1e-15 && isnan(c.norm));
  r.gold = NULL;
  MUST(choices_of(&c, &r, ll));
  assert_int_equal(c.questions, 0);
  assert_true(isnan(c.acc));
}

/* ---- stopped after the first of two batches: all of it is kept, also what one draw tells no error of */
static const ModelTable *plain;

static int forward_and_stop(Model *m, const ModelInput *in) {
  raise(SIGTERM);
  return plain->forward(m, in);
}

static void test_kept(void **state) {
  (void)state;
  static double kept[2 * BATCH * 4];
  uint8_t done[2 * BATCH];
  char path[] = "/tmp/mdlm-likelihood-XXXXXX";
  Partial p = {.path = path, .key = "a = 1\n", .type = H5_F64, .n = 2 * BATCH, .columns = 4};
  int64_t found;
  Likelihood l;
  Bench b;
  int file = mkstemp(path);
  assert_true(file >= 0 && close(file) == 0 && unlink(path) == 0);
  bench_make(&b, "count", REST_HIDDEN, false);
  plain = b.net.model.table;
  ModelTable stopping = *plain;
  stopping.forward = forward_and_stop;
  b.net.model.table = &stopping;
  b.o.partial = path, b.o.key = p.key;
  list.n = p.n;
  for (int64_t i = 0; i < p.n; i++) request_set(i, i, text, 2, 1 + i % 3);
  MUST(likelihood_run(&l, &b.net, &list, &b.comm, &b.o));
  assert_int_equal(l.stop, SIGTERM);
  assert_int_equal(l.done, BATCH);
  MUST(partial_read(&p, kept, done, &found));
  assert_int_equal(found, BATCH);
  assert_int_equal(unlink(path), 0);
  b.net.model.table = plain;
  likelihood_destroy(&l);
  bench_free(&b);
}

int main(void) {
  stop_block();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_numbers_of_masks),
      cmocka_unit_test(test_bound_is_unbiased),
      cmocka_unit_test(test_one_token),
      cmocka_unit_test(test_paired_draws),
      cmocka_unit_test(test_exact_values_are_distributions),
      cmocka_unit_test(test_left_to_right),
      cmocka_unit_test(test_next_token),
      cmocka_unit_test(test_greedy),
      cmocka_unit_test(test_rows),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_choices),
      cmocka_unit_test(test_kept), /* the last one: its stop stays requested */
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
