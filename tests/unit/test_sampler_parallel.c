/* test_sampler_parallel — every rule and order of keeping proposals, against the law of an enumeration over all
 * proposals, all random orders and all numbers of tokens, on a tiny network (toy_sampler.h). */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "measure/chain.h"

static double p[STATES][L][V];
static const int32_t starts_tried[][L] = {{MASK, MASK, MASK}, {MASK, 2, MASK}};

/* ---- the law, enumerated */
typedef struct Walker {
  const Run *run;
  const Network *n;
  double *law;
  int32_t fixed[L];
  int steps, blocks, block; /* steps of a block; blocks; tokens of a block */
} Walker;

typedef struct Proposal {
  int l, id;
  double score, entropy;
} Proposal;

/* q := the distribution that position l is drawn from and measured by */
static void distribution(const Walker *w, int state, int l, double q[V]) {
  double sum = 0;
  bool never = w->run->eos && strcmp(w->run->eos, "never") == 0;
  for (int y = 0; y < V; y++) sum += q[y] = never && y == EOS ? 0 : p[state][l][y];
  for (int y = 0; y < V; y++) q[y] /= sum;
}

/* The probability that a mask is filled in the step, from the schedule's masking probability at both ends. */
static double chance_of(const Walker *w, int step) {
  double t = 1 - step * (1 - 1e-5) / w->steps, s = 1 - (step + 1) * (1 - 1e-5) / w->steps;
  return 1 - toy_masked(w->n, s) / toy_masked(w->n, t);
}

static const char *order_of(const Run *r) { return r->order ? r->order : "confidence"; }
static bool rule_is(const Run *r, const char *name) { return strcmp(r->commit, name) == 0; }
static bool by_scores(const Run *r) {
  return rule_is(r, "threshold") || rule_is(r, "factor") || rule_is(r, "entropy_bound");
}

/* How many of the ranked proposals a rule that goes by scores keeps, word by word from its definition. */
static int passing(const Run *r, const Proposal *list, int n) {
  int k = 0;
  for (int i = 0; i < n; i++) {
    double sum = 0, most = 0;
    for (int j = 0; j <= i; j++) sum += list[j].entropy, most = fmax(most, list[j].entropy);
    bool ok = rule_is(r, "threshold") ? list[i].score >= r->number
              : rule_is(r, "factor")  ? list[i].score >= 1 - r->number / (i + 2)
                                      : sum - most <= r->number;
    if (i == 0 || (ok && k == i)) k++;
  }
  return k;
}

static void step_of(Walker *w, int state, int block, int step, int begun, double weight);

/* One way to propose tokens and to rank them has this weight: keep the first k, −1: the rule decides. */
static void kept(Walker *w, int state, int block, int step, int begun, const Proposal *all, int n, int k,
                 double weight) {
  Proposal list[L];
  memcpy(list, all, (size_t)n * sizeof *list);
  for (int i = 1; i < n; i++) /* insertion sort: larger scores first, then lower positions */
    for (int j = i; j > 0 && (list[j].score > list[j - 1].score ||
                              (list[j].score == list[j - 1].score && list[j].l < list[j - 1].l));
         j--) {
      Proposal x = list[j];
      list[j] = list[j - 1], list[j - 1] = x;
    }
  if (k < 0) k = passing(w->run, list, n);
  for (int i = 0; i < k; i++) state = (state & ~(3 << 2 * list[i].l)) | list[i].id << 2 * list[i].l;
  if (w->run->stop)
    for (int l = 0; l < L && toy_digit(state, l) != MASK; l++) {
      if (toy_digit(state, l) != EOS || w->fixed[l] != MASK) continue;
      for (int i = l + 1; i < L; i++)
        if (w->fixed[i] == MASK) state = (state & ~(3 << 2 * i)) | PAD << 2 * i;
      w->law[state] += weight;
      return;
    }
  step_of(w, state, block, step + 1, begun, weight);
}

/* Random scores: all orders of the proposals are equally likely. */
static void ranked(Walker *w, int state, int block, int step, int begun, Proposal *list, int n, int k, double weight) {
  static const int orders[6][3] = {{2, 1, 0}, {2, 0, 1}, {1, 2, 0}, {0, 2, 1}, {1, 0, 2}, {0, 1, 2}};
  if (strcmp(order_of(w->run), "random") != 0) {
    kept(w, state, block, step, begun, list, n, k, weight);
    return;
  }
  for (int o = 0; o < 6; o++) {
    Proposal shuffled[L];
    memcpy(shuffled, list, (size_t)n * sizeof *list);
    for (int i = 0; i < n; i++)
      if (shuffled[i].score != -INFINITY) shuffled[i].score = orders[o][i];
    kept(w, state, block, step, begun, shuffled, n, k, weight / 6);
  }
}

/* All proposals for the masked positions at[n] from number i on. */
static void propose(Walker *w, int state, int block, int step, int begun, const int *at, Proposal *list, int i, int n,
                    int k, double weight) {
  if (i == n) {
    ranked(w, state, block, step, begun, list, n, k, weight);
    return;
  }
  double q[V], first = 0, second = 0, entropy = 0;
  distribution(w, state, at[i], q);
  for (int y = 0; y < V; y++) {
    entropy -= q[y] > 0 ? q[y] * log(q[y]) : 0;
    if (q[y] > first)
      second = first, first = q[y];
    else
      second = fmax(second, q[y]);
  }
  int best = toy_likeliest(q);
  for (int y = 0; y < V; y++) {
    double chance = w->run->likeliest ? y == best : q[y];
    if (chance == 0) continue;
    const char *order = order_of(w->run);
    double score = *order == 'c' ? q[y] : *order == 'm' ? first - second : -entropy;
    if (w->run->eos && strcmp(w->run->eos, "last") == 0 && y == EOS) score = -INFINITY;
    list[i] = (Proposal){at[i], y, score, entropy};
    propose(w, state, block, step, begun, at, list, i + 1, n, k, weight * chance);
  }
}

static double binomial(int n, int k, double c) {
  double ways = k == 0 || k == n ? 1 : n; /* n ≤ 3 */
  return ways * pow(c, k) * pow(1 - c, n - k);
}

/* law += weight · the distribution that is reached from `state` before that step */
static void step_of(Walker *w, int state, int block, int step, int begun, double weight) {
  int at[L], n = 0;
  Proposal list[L];
  if (block == w->blocks || weight == 0) {
    if (block == w->blocks) w->law[state] += weight;
    return;
  }
  for (int l = block * w->block; l < (block + 1) * w->block && l < L; l++)
    if (toy_digit(state, l) == MASK) at[n++] = l;
  if (begun < 0) begun = n;
  bool over = !by_scores(w->run) && step >= w->steps, removal = over && w->run->noise_removal;
  if (n == 0 || (over && !removal)) {
    step_of(w, state, block + 1, 0, -1, weight);
    return;
  }
  for (int k = 0; k <= n; k++) {
    double chance = 0;
    if (removal)
      chance = k == n;
    else if (by_scores(w->run))
      chance = k == 0;
    else if (rule_is(w->run, "top_k"))
      chance = k == begun / w->steps + (step < begun % w->steps);
    else if (rule_is(w->run, "schedule"))
      chance = k == (int)floor(n * chance_of(w, step) + 0.5);
    else
      chance = binomial(n, k, chance_of(w, step));
    if (chance == 0) continue;
    if (k == 0 && !by_scores(w->run))
      step_of(w, state, block, step + 1, begun, weight * chance);
    else
      propose(w, state, block, step, begun, at, list, 0, n, by_scores(w->run) ? -1 : k, weight * chance);
  }
}

static void law_of(Network *n, const Run *r, const int32_t start[L], double law[STATES]) {
  Walker w = {.run = r, .n = n, .law = law, .block = r->block ? (int)r->block : L};
  w.blocks = (L + w.block - 1) / w.block;
  w.steps = r->steps > w.blocks ? r->steps / w.blocks : 1;
  memcpy(w.fixed, start, sizeof w.fixed);
  memset(law, 0, STATES * sizeof *law);
  toy_conditionals(n, 1, p);
  step_of(&w, toy_code(start), 0, 0, -1, 1);
}

/* ---- the laws */
#define CASE(commit_, order_, eos_, number_, steps_, ...)                                                              \
  {                                                                                                                    \
    .commit = (commit_), .order = (order_), .eos = (eos_), .number = (number_), .steps = (steps_),                     \
    .block = __VA_ARGS__                                                                                               \
  }
static const struct {
  const char *commit, *order, *eos;
  double number;
  int steps, block;
  bool stop, slow, no_removal;
} cases[] = {
    CASE("top_k", "confidence", NULL, 0, 3, 0),
    CASE("top_k", "confidence", NULL, 0, 2, 0),
    CASE("top_k", "margin", NULL, 0, 2, 0),
    CASE("top_k", "entropy", NULL, 0, 2, 0),
    CASE("top_k", "random", NULL, 0, 2, 0),
    CASE("top_k", "random", NULL, 0, 1000, 0),
    CASE("top_k", "confidence", NULL, 0, 4, 2),
    CASE("threshold", "confidence", NULL, 0.45, 1, 0),
    CASE("threshold", "margin", NULL, 0.2, 1, 0),
    CASE("factor", "confidence", NULL, 1.2, 1, 0),
    CASE("entropy_bound", "entropy", NULL, 0.9, 1, 0),
    CASE("entropy_bound", "confidence", NULL, 0.9, 1, 2),
    CASE("schedule", "confidence", NULL, 0, 4, 0),
    CASE("schedule", "random", NULL, 0, 4, 0, .slow = true),
    CASE("schedule", "confidence", NULL, 0, 3, 0, .slow = true, .no_removal = true),
    CASE("binomial", "confidence", NULL, 0, 4, 0),
    CASE("binomial", "margin", NULL, 0, 4, 2, .slow = true),
    CASE("top_k", "confidence", "never", 0, 2, 0),
    CASE("threshold", "confidence", "never", 0.5, 1, 0),
    CASE("top_k", "confidence", "last", 0, 3, 0),
    CASE("top_k", "random", "last", 0, 3, 0),
    CASE("threshold", "confidence", "last", 0.4, 1, 0),
    CASE("top_k", "confidence", NULL, 0, 3, 0, .stop = true),
    CASE("top_k", "entropy", NULL, 0, 3, 1, .stop = true),
    CASE("threshold", "confidence", "last", 0.4, 1, 2, .stop = true),
};
enum { CASES = sizeof cases / sizeof *cases };

static Run run_of(int k) {
  return RUN("parallel", cases[k].steps, !cases[k].no_removal, 6, 0, 0, .commit = cases[k].commit,
             .order = cases[k].order, .eos = cases[k].eos, .number = cases[k].number, .block = cases[k].block,
             .stop = cases[k].stop);
}

static void open_case(Network *n, int k, int64_t batch) {
  toy_open_sampler(n, (ToySampler){.batch = batch, .model = "dimamba"}); /* no two positions are alike */
  toy_weights(n, 36, 4); /* with these, orders differ much and eos is frequent */
  if (cases[k].slow) n->schedule = (Schedule){.table = &toy_slow, .eps = EPS};
}

/* From all masks, and every third case with a fixed token, too. */
static void test_laws(void **state) {
  (void)state;
  for (int k = 0; k < CASES; k += check_stride(5))
    for (int fixed = 0; fixed <= (k % 3 == 0); fixed++) {
      Network n;
      double law[STATES];
      int64_t count[STATES];
      Run r = run_of(k);
      open_case(&n, k, BATCH);
      law_of(&n, &r, starts_tried[fixed], law);
      toy_compare(&n, r, starts_tried[fixed], DRAWS / 8, law, count);
      network_destroy(&n);
    }
}

/* The exact likelihood of a sample (measure/chain.h) is its probability by the sampler that keeps tokens by the same
 * rule, where the ranks do not depend on what is drawn. */
static void test_likelihood_of_samples(void **state) {
  (void)state;
  static const Run runs[] = {{.commit = "top_k", .order = "margin", .steps = 2},
                             {.commit = "top_k", .order = "entropy", .steps = 3},
                             {.commit = "schedule", .order = "entropy", .steps = 4},
                             {.commit = "threshold", .order = "margin", .number = 0.2},
                             {.commit = "entropy_bound", .order = "entropy", .number = 0.9}};
  for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
    Network n;
    Run r = runs[k];
    ChainOptions chain;
    double law[STATES];
    r.steps = r.steps > 0 ? r.steps : 1, r.noise_removal = true;
    const CommitOptions o = {.section = "eval",
                             .commit = r.commit,
                             .order = r.order,
                             .threshold = r.number,
                             .factor = r.number,
                             .entropy_bound = r.number};
    open_case(&n, 0, STATES);
    law_of(&n, &r, blank, law);
    MUST(chain_create(&chain, &o, r.steps));
    for (int s = 0; s < STATES; s++) {
      int32_t x[L];
      bool whole = true;
      for (int l = 0; l < L; l++) whole = (x[l] = toy_digit(s, l)) != MASK && whole;
      EstimatorRow row = {.x0 = x, .end = L, .length = L};
      if (!whole) continue;
      MUST(chain_run(&n, &chain, &row, 1, false));
      if (!(fabs(exp(-row.loss) - law[s]) < 1e-5))
        fail_msg("%s by %s: state %d has %.7f, not %.7f", r.commit, r.order, s, exp(-row.loss), law[s]);
    }
    network_destroy(&n);
  }
}

/* Several tokens a pass are another law than one token a pass, and each order than the others: a test with these draws
 * tells them apart. */
static void test_laws_differ(void **state) {
  (void)state;
  Network n;
  double law[4][STATES], plain[STATES];
  static const char *const orders[] = {"confidence", "margin", "entropy", "random"};
  open_case(&n, 0, STATES);
  for (int o = 0; o < 4; o++) {
    Run r = RUN("parallel", 2, true, 6, 0, 0, .commit = "top_k", .order = orders[o]), one = r;
    one.steps = 3;
    law_of(&n, &r, blank, law[o]);
    law_of(&n, &one, blank, plain);
    toy_sharp(law[o], plain, STATES, DRAWS / 8);
    for (int other = 0; other < o; other++) toy_sharp(law[o], law[other], STATES, DRAWS / 8);
  }
  network_destroy(&n);
}

/* With one token a pass all rules are the same, bit for bit. */
static void test_one_token_a_pass(void **state) {
  (void)state;
  const int64_t n_samples = check_watched() ? 50 : BATCH;
  int32_t want[BATCH * L] = {0}, got[BATCH * L] = {0};
  static const char *const orders[] = {"confidence", "margin", "entropy", "random"};
  static const struct {
    const char *commit;
    double number;
    bool probabilities;
  } rules[] = {{"threshold", 1.5, true}, {"factor", 0, true}, {"entropy_bound", 0, false}};
  Network n;
  open_case(&n, 0, BATCH);
  for (int o = 0; o < 4; o++) {
    Run r = RUN("parallel", L, true, 8, 0, n_samples, .commit = "top_k", .order = orders[o]);
    SamplerJob job = toy_samples(&n, r, blank, want);
    assert_true(job.evaluations == L && job.evaluated == n_samples * L);
    r.steps = 1000;
    toy_samples(&n, r, blank, got);
    assert_memory_equal(got, want, sizeof want);
    for (int k = 0; k < 3; k++) {
      if (rules[k].probabilities && o > 1) continue;
      r.commit = rules[k].commit, r.number = rules[k].number, r.steps = 1;
      job = toy_samples(&n, r, blank, got);
      assert_memory_equal(got, want, sizeof want);
      assert_true(job.evaluated == n_samples * L);
    }
  }
  network_destroy(&n);
}

/* Above 1, by however little, it is one token a pass, also of a network that is sure of every token. */
static void test_threshold_above_1(void **state) {
  (void)state;
  int32_t z[BATCH * L];
  Network n;
  open_case(&n, 0, BATCH);
  toy_weights(&n, 1, 400);
  Run r = RUN("parallel", 1, true, 8, 0, BATCH, .commit = "threshold", .order = "confidence", .number = 1);
  assert_true(toy_samples(&n, r, blank, z).evaluated < BATCH * L);
  r.number = 1.0001;
  assert_true(toy_samples(&n, r, blank, z).evaluated == BATCH * L);
  network_destroy(&n);
}

/* A threshold of 0, a large factor and a large bound keep all: one pass. */
static void test_all_at_once(void **state) {
  (void)state;
  static int32_t want[BATCH * L], got[BATCH * L];
  static const char *const rules[] = {"threshold", "factor", "entropy_bound"};
  Network n;
  open_case(&n, 0, BATCH);
  Run r = RUN("parallel", 1, true, 8, 0, BATCH, .commit = "top_k");
  assert_int_equal(toy_samples(&n, r, blank, want).evaluations, 1);
  for (int k = 0; k < 3; k++) {
    r.commit = rules[k], r.number = k == 0 ? 0 : 1e6, r.steps = 1000;
    assert_int_equal(toy_samples(&n, r, blank, got).evaluations, 1);
    assert_memory_equal(got, want, sizeof want);
  }
  network_destroy(&n);
}

/* As many tokens as the schedule fills at random, in random order: the law of the reverse process. */
static void test_binomial_is_ancestral(void **state) {
  (void)state;
  for (int k = 0; k < 2; k++) {
    Network n;
    double law[STATES], other[STATES];
    Run r = RUN("parallel", STEPS, false, 6, 0, 0, .commit = "binomial", .order = "random");
    toy_open_sampler(&n, (ToySampler){.batch = BATCH});
    if (k) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    law_of(&n, &r, blank, law);
    toy_law_of(&n, blank, STEPS, false, other);
    for (int s = 0; s < STATES; s++) assert_true(fabs(law[s] - other[s]) < 1e-12);
    int64_t count[STATES];
    toy_compare(&n, r, blank, DRAWS / 4, law, count);
    network_destroy(&n);
  }
}

/* Temperature 0: every sample is the enumerated one, unless the order is random. */
static void test_likeliest(void **state) {
  (void)state;
  static int32_t z[BATCH * L];
  for (int k = 0; k < CASES; k++) {
    Network n;
    double law[STATES];
    if (strcmp(cases[k].order, "random") == 0 || strcmp(cases[k].commit, "binomial") == 0) continue;
    open_case(&n, k, BATCH);
    Run r = run_of(k);
    r.likeliest = true, r.n = 20;
    law_of(&n, &r, blank, law);
    toy_samples(&n, r, blank, z);
    for (int i = 0; i < r.n; i++) assert_true(law[toy_code(z + i * L)] == 1);
    network_destroy(&n);
  }
}

/* A sample is a function of its number, whatever the batch. */
static void test_batches(void **state) {
  (void)state;
  enum { N = 60 };
  for (int k = 0; k < CASES; k++) {
    Network n;
    int32_t all[N * L], part[N * L];
    open_case(&n, k, BATCH);
    Run r = run_of(k);
    r.first = 5, r.n = N;
    toy_samples(&n, r, blank, all);
    for (int64_t first = 0, size = 1; first < N; first += size, size = size % 7 + 1) {
      if (first + size > N) size = N - first;
      r.first = 5 + first, r.n = size;
      toy_samples(&n, r, blank, part);
      assert_memory_equal(part, all + first * L, (size_t)(size * L) * sizeof *part);
    }
    network_destroy(&n);
  }
}

/* A sample that has ended: its length, pads behind it, and no pass for it any more. Fixed tokens do not end it. */
static void test_stop(void **state) {
  (void)state;
  enum { N = 200 };
  static int32_t z[N * L];
  static const int32_t fixed[L] = {EOS, MASK, MASK};
  int32_t lengths[N];
  int ended = 0;
  for (int k = 0; k < 2; k++) {
    Network n;
    Sampler sampler;
    int passes = 0;
    open_case(&n, 0, N);
    Run r = RUN("parallel", 3, true, 6, 0, N, .commit = "top_k", .block = 1, .stop = true);
    MUST(toy_sampler(&sampler, &n, r));
    for (int i = 0; i < N; i++) memcpy(z + i * L, k ? fixed : blank, sizeof blank), lengths[i] = L;
    SamplerJob job = toy_job(&n, r, z);
    job.lengths = lengths;
    MUST(sampler_run(&sampler, &job));
    sampler_destroy(&sampler);
    for (int i = 0; i < N; i++) {
      const int32_t *x = z + i * L;
      int e = k;
      while (e < L && x[e] != EOS) e++;
      assert_int_equal(lengths[i], e < L ? e + 1 : L);
      for (int l = e + 1; l < L; l++) assert_int_equal(x[l], PAD);
      ended += e < L - 1;
      passes += lengths[i] - k;
    }
    assert_int_equal(job.evaluated, passes);
    network_destroy(&n);
  }
  assert_true(ended > 50);
}

static int fail_after_one(void *arg, int64_t step) {
  (void)arg, (void)step;
  return RAISE(ERR_STOPPED, "one pass is enough");
}

/* A dit gives all masked positions the same distribution, up to rounding: the first token of a pass is the leftmost. */
static void test_ties(void **state) {
  (void)state;
  static const char *const orders[] = {"confidence", "margin", "entropy"};
  for (int o = 0; o < 3; o++) {
    Network n;
    Run r = RUN("parallel", L, false, 6, 0, 0, .commit = "top_k", .order = orders[o], .likeliest = true);
    double law[STATES];
    int32_t z[L];
    toy_open_sampler(&n, (ToySampler){.batch = STATES});
    law_of(&n, &r, blank, law); /* fills p */
    for (int l = 1; l < L; l++)
      for (int y = 0; y < V; y++) assert_true(fabs(p[toy_code(blank)][l][y] - p[toy_code(blank)][0][y]) < 1e-6);
    r.n = 1;
    Sampler sampler;
    MUST(toy_sampler(&sampler, &n, r));
    memcpy(z, blank, sizeof z);
    SamplerJob job = toy_job(&n, r, z);
    job.progress = fail_after_one;
    check_refused(sampler_run(&sampler, &job), ERR_STOPPED, "the second pass");
    assert_true(z[0] != MASK && z[1] == MASK && z[2] == MASK);
    sampler_destroy(&sampler);
    network_destroy(&n);
  }
}

static int stop_soon(void *arg, int64_t step) {
  int64_t *last = arg;
  assert_true(step >= *last && step <= 1000);
  *last = step;
  return 0;
}

static void test_progress(void **state) {
  (void)state;
  Network n;
  Sampler sampler;
  int64_t last = 0;
  int32_t z[4 * L];
  Run r = RUN("parallel", 1000, true, 6, 0, 4, .commit = "top_k");
  open_case(&n, 0, 4);
  MUST(toy_sampler(&sampler, &n, r));
  for (int i = 0; i < 4; i++) memcpy(z + i * L, blank, sizeof blank);
  SamplerJob job = toy_job(&n, r, z);
  job.progress = stop_soon, job.progress_arg = &last;
  MUST(sampler_run(&sampler, &job));
  assert_int_equal(last, 1000);
  sampler_destroy(&sampler);
  network_destroy(&n);
}

static void test_refusals(void **state) {
  (void)state;
  Network n;
  const Run r = RUN("parallel", 3, true, 1, 0, 1);
  open_case(&n, 0, 1);
#define REFUSED(why, ...)                                                                                              \
  do {                                                                                                                 \
    Run x = r;                                                                                                         \
    __VA_ARGS__;                                                                                                       \
    toy_refused(&n, x, why);                                                                                           \
  } while (0)
  REFUSED("an unknown rule", x.commit = "all");
  REFUSED("an unknown order", x.order = "left");
  REFUSED("an unknown rule of eos", x.eos = "first");
  REFUSED("a threshold of entropies", x.commit = "threshold", x.order = "entropy");
  REFUSED("a factor of random numbers", x.commit = "factor", x.order = "random");
  REFUSED("a block longer than the sequence", x.block = L + 1);
  REFUSED("eos without eos", x.eos = "never", x.no_bos = true);
  REFUSED("a stop without eos", x.stop = true, x.no_bos = true);
  REFUSED("a stop at what never comes", x.stop = true, x.eos = "never");
  REFUSED("draws in f32", x.f32 = true);
  network_destroy(&n);
  toy_open_sampler(&n, (ToySampler){.batch = 1, .time = true});
  toy_refused(&n, r, "time conditioning");
  network_destroy(&n);
  toy_open_sampler(&n, (ToySampler){.batch = 1, .objective = {.name = "d3pm", .T = 8}});
  toy_refused(&n, r, "a probability of the mask");
  Run likeliest = RUN("ancestral", 3, true, 1, 0, 1, .likeliest = true);
  toy_refused(&n, likeliest, "temperature 0 where the mask has a probability");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_laws),
      cmocka_unit_test(test_likelihood_of_samples),
      cmocka_unit_test(test_laws_differ),
      cmocka_unit_test(test_one_token_a_pass),
      cmocka_unit_test(test_threshold_above_1),
      cmocka_unit_test(test_all_at_once),
      cmocka_unit_test(test_binomial_is_ancestral),
      cmocka_unit_test(test_likeliest),
      cmocka_unit_test(test_batches),
      cmocka_unit_test(test_stop),
      cmocka_unit_test(test_ties),
      cmocka_unit_test(test_progress),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
