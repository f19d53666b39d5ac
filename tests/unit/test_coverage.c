/* test_coverage.c — the 95 % intervals of an evaluation contain the exact value in 93 to 97 % of 1,000 evaluations: of a
 * tiny network whose bound is enumerated, for each of the two meanings (interval.h).
 *
 * A row has L tokens of V − 1, each equally likely; its bound is Σ_k (1/k) · mean over the sets S of k positions of
 * cost[S] (test_subs_exact.c). */
#include "store_bench.h"
#include "toy.h"

#include "measure/nelbo.h"

enum { L = 3, V = 3, MASKS = 1 << L, KINDS = 8, ROWS = 60, SEEDS = 1000 };

/* The row of that kind: its bits are its tokens. */
static void row_of(int kind, int32_t x0[L]) {
  for (int l = 0; l < L; l++) x0[l] = kind >> l & 1;
}

static void cost_of(Network *n, int kind, double cost[MASKS]) {
  Noised *z = &n->noised;
  int32_t x0[L];
  double loss[MASKS * L];
  row_of(kind, x0);
  noised_begin(z, MASKS);
  for (unsigned s = 0; s < MASKS; s++) {
    toy_masks(z->z + s * L, x0, L, V - 1, s);
    noised_add(&n->objective, z, s, x0, L, 1);
  }
  for (int64_t i = 0; i < z->n_rows; i++) z->weight[i] = 1;
  ModelInput in = {.B = MASKS, .ids = z->z, .sigma = z->sigma, .rows = z->rows, .n_rows = z->n_rows};
  MUST(model_forward(&n->model, &in));
  MUST(rows_loss(&n->rows, &n->objective, z, false, loss));
  for (int64_t i = 0; i < z->n_rows; i++) cost[z->rows[i] / L] += loss[i];
}

static double bound_of(Network *n, int kind) {
  const double sets[L + 1] = {1, 3, 3, 1}; /* of k positions */
  double cost[MASKS] = {0}, sum = 0;
  cost_of(n, kind, cost);
  for (unsigned s = 1; s < MASKS; s++) {
    int k = __builtin_popcount(s);
    sum += cost[s] / (k * sets[k]);
  }
  return sum;
}

typedef struct Bench {
  Network net;
  Comm comm;
  double bound[KINDS];
  NelboOptions o;
} Bench;

static void bench_open(Bench *b, bool stratified) {
  Toy toy = toy_tiny(V, V - 1, L, 64);
  *b = (Bench){.o = {.draws = 4, .stratified = stratified}};
  toy.eps = 1e-3;
  toy_open(&b->net, &toy);
  toy_weights(&b->net, 5, 3);
  must(estimator_find(&b->o.estimator, "count", &b->net.objective));
  must(comm_null_create(&b->comm));
  for (int k = 0; k < KINDS; k++) b->bound[k] = bound_of(&b->net, k);
}

static void bench_close(Bench *b) {
  network_destroy(&b->net);
  comm_destroy(&b->comm);
}

/* A data set of random rows; *nll: their exact value per token. */
static Shards *rows(const Bench *b, uint64_t seed, double *nll) {
  const char *path = bench_path("rows.h5");
  uint32_t tokens[ROWS * L];
  Shards *s;
  H5 *f;
  data_write(path, &(Data){.N = ROWS, .L = L, .V = V, .type = H5_U16, .full = true});
  *nll = 0;
  for (int i = 0; i < ROWS; i++) {
    int kind = (int)(rng_uniform(rng_key(seed, RNG_TEST, 0, 0, 0), (uint64_t)i) * KINDS);
    int32_t x0[L];
    row_of(kind, x0);
    for (int l = 0; l < L; l++) tokens[i * L + l] = (uint32_t)x0[l];
    *nll += b->bound[kind] / (L * ROWS);
  }
  must(h5_open(&f, path, true));
  must(h5_write_rows(f, "/tokens", H5_U32, 0, ROWS, tokens));
  must(h5_close(&f));
  must(shards_open(&s, path));
  return s;
}

static Losses evaluate(Bench *b, Shards *s, int seed, Nelbo *r) {
  b->o.seed = (uint64_t)seed;
  must(nelbo_run(r, &b->net, s, &b->comm, &b->o));
  return (Losses){.n = r->sequences, .loss = r->loss, .square = r->square, .tokens = r->length, .draws = b->o.draws};
}

static bool within(const Spread *s, double value) { return s->low <= value && value <= s->high; }

/* Of the value of these very rows, whose masks are random. Strata make the true error smaller than the stated one. */
static void of_the_rows(void **state) {
  (void)state;
  toy_need_speed();
  for (int stratified = 0; stratified < 2; stratified++) {
    Bench b;
    double nll;
    int hits = 0;
    bench_open(&b, stratified);
    Shards *s = rows(&b, 1, &nll);
    for (int seed = 0; seed < SEEDS; seed++) {
      Nelbo r;
      Losses l = evaluate(&b, s, seed, &r);
      Spread masks = interval_masks(&l);
      hits += within(&masks, nll);
      nelbo_destroy(&r);
    }
    print_message("# rows, stratified %d: %d of %d\n", stratified, hits, SEEDS);
    assert_true(hits >= 930 && (stratified || hits <= 970));
    shards_close(&s);
    bench_close(&b);
  }
}

/* Of the value of the source that rows were drawn from: all kinds of rows are equally likely. */
static void of_the_source(void **state) {
  (void)state;
  toy_need_speed();
  Bench b;
  double source = 0;
  int hits = 0;
  bench_open(&b, true);
  for (int k = 0; k < KINDS; k++) source += b.bound[k] / (L * KINDS);
  for (int seed = 0; seed < SEEDS; seed++) {
    Nelbo r;
    double nll;
    Shards *s = rows(&b, (uint64_t)seed, &nll);
    Losses l = evaluate(&b, s, seed, &r);
    Spread spread = interval_sequences(&l, interval_block(ROWS, true));
    hits += within(&spread, source);
    nelbo_destroy(&r);
    shards_close(&s);
  }
  print_message("# source: %d of %d\n", hits, SEEDS);
  assert_true(hits >= 930 && hits <= 970);
  bench_close(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(of_the_rows), cmocka_unit_test(of_the_source)};
  return cmocka_run_group_tests_name("coverage", tests, bench_setup, bench_teardown);
}
