/* test_genppl — which tokens generative perplexity scores, and their losses: hand-made rows against a loop that
 * evaluates a toy network on each prefix separately. Also the token files that are refused. */
#include "store_bench.h"
#include "toy.h"

#include <math.h>

#include "measure/entropy.h"
#include "measure/genppl.h"

enum { V = 7, MASK = 6, EOS = 5, WINDOW = 6, WIDTH = 14, ROWS = 7, MOST = 4 };
static const Vocab vocab = {.tokenizer = "toy", .hash = "00ff", .size = V, .mask = MASK, .bos = 0, .eos = EOS};

/* windows: 0 … 5, 6 … 11, 12 and 13 */
static const int32_t rows[ROWS][WIDTH] = {
    {0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3}, /* no eos */
    {5, 1, 5, 5, 2, 5, 3, 1, 5, 5, 2, 5, 5, 4}, /* the first eos of a window is its first token, or a later one */
    {1, 2, 3, 4, 1, 5, 5, 2, 5, 1, 1, 5, 3, 5}, /* eos on both sides of a window boundary, and at the end */
    {5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5}, /* nothing is scored */
    {1, 2, 5, 4, 5, 0, 3, 9, 9, 9, 9, 9, 9, 9}, /* a second window of one token; 9 is beyond the length */
    {2, 1, 3, 3, 5, 5, 4, 4, 5, 2, 2, 5, 1, 9}, /* a third window of one token */
    {4, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9}, /* one token */
};
static const int64_t lengths[ROWS] = {14, 14, 14, 14, 7, 13, 1};
static const int64_t counts[ROWS] = {11, 6, 9, 0, 4, 8, 0}; /* counted by hand */

static const GenpplOptions quiet = {0};

static void open_network(Network *n, int64_t length, int64_t batch) {
  Toy toy = toy_tiny(V, MASK, length, batch);
  toy.eps = 1e-3;
  toy.model.name = "ar";
  toy.objective.name = "ar";
  toy_open(n, &toy);
  toy_weights(n, 3, 3);
}

/* A token file with the vocabulary attributes that `mdlm sample` writes. */
static const char *write_file(const char *name, const int32_t *ids, int64_t N, int64_t width, const int64_t *length) {
  const char *path = bench_path(name);
  H5 *f;
  must(h5_create(&f, path));
  must(h5_write(f, "/tokens", H5_I32, 2, (int64_t[]){N, width}, ids));
  if (length) must(h5_write(f, "/lengths", H5_I64, 1, &N, length));
  must(h5_set_str(f, "/", "tokenizer", "toy"));
  must(h5_set_str(f, "/", "tokenizer_hash", "00ff"));
  must(h5_close(&f));
  return path;
}

/* ---- the reference: −log p of the token after a prefix, and a literal implementation of the scoring rule */
static double surprise(Network *n, const int32_t *prefix, int64_t length, int32_t next) {
  int32_t ids[WINDOW];
  double log_p[V], sigma = 0;
  float f[V];
  for (int l = 0; l < WINDOW; l++) ids[l] = l < length ? prefix[l] : 3; /* later tokens are not seen */
  must(model_forward(&n->model, &(ModelInput){.B = 1, .ids = ids, .sigma = &sigma}));
  must(rows_logits(&n->rows, length - 1, 1, f));
  log_softmax(log_p, f, V, MASK);
  return -log_p[next];
}

static double direct(Network *n, const int32_t *row, int64_t length, int64_t *scored) {
  double loss = 0;
  *scored = 0;
  for (int64_t first = 0; first < length; first += WINDOW)
    for (int64_t at = first + 1, ended = row[first] == EOS; at < length && at < first + WINDOW; at++) {
      ended += row[at] == EOS;
      if (row[at] == EOS && ended > 1) continue;
      loss += surprise(n, row + first, at - first, row[at]);
      ++*scored;
    }
  return loss;
}

static void score(Genppl *r, int64_t batch) {
  Network n;
  Comm comm;
  Tokens *t;
  must(comm_null_create(&comm));
  open_network(&n, WINDOW, batch);
  must(tokens_open(&t, write_file("rows.h5", rows[0], ROWS, WIDTH, lengths), &vocab, "judge.h5"));
  must(genppl_run(r, &n, t, EOS, &comm, &quiet));
  tokens_close(&t);
  network_destroy(&n);
  comm_destroy(&comm);
}

static void test_rule(void **state) {
  (void)state;
  Network n;
  Genppl r;
  double loss = 0;
  int64_t tokens = 0;
  open_network(&n, WINDOW, 1);
  score(&r, MOST);
  assert_int_equal(r.rows, ROWS);
  assert_int_equal(r.windows, 4 * 3 + 1 + 2);
  for (int i = 0; i < ROWS; i++) {
    int64_t scored;
    double want = direct(&n, rows[i], lengths[i], &scored);
    assert_int_equal(r.scored[i], scored);
    assert_int_equal(r.scored[i], counts[i]);
    /* the logits are floats */
    if (!(fabs(r.loss[i] - want) <= 1e-5 * fabs(want))) fail_msg("row %d: %.12g, not %.12g", i, r.loss[i], want);
    loss += want;
    tokens += scored;
  }
  assert_int_equal(r.interval.tokens, tokens);
  assert_true(fabs(r.interval.nll - loss / (double)tokens) < 1e-5);
  assert_true(r.interval.low < r.interval.nll && r.interval.nll < r.interval.high);
  genppl_destroy(&r);
  network_destroy(&n);
}

static void test_batches(void **state) {
  (void)state;
  Genppl one, r;
  score(&one, 1);
  for (int64_t batch = 2; batch <= 20; batch += 3) {
    score(&r, batch);
    for (int i = 0; i < ROWS; i++) assert_true(fabs(r.loss[i] - one.loss[i]) <= 1e-12 * (1 + one.loss[i]));
    assert_true(r.entropy == one.entropy);
    genppl_destroy(&r);
  }
  genppl_destroy(&one);
}

/* If the window is as long as the row or longer, every token is scored given all earlier ones. */
static void test_whole_rows(void **state) {
  (void)state;
  Network n;
  Comm comm;
  Tokens *t;
  Genppl r, windows;
  must(comm_null_create(&comm));
  open_network(&n, WIDTH + 3, 2);
  must(tokens_open(&t, write_file("rows.h5", rows[0], ROWS, WIDTH, lengths), &vocab, "judge.h5"));
  must(genppl_run(&r, &n, t, EOS, &comm, &quiet));
  score(&windows, 2);
  const int64_t whole[ROWS] = {13, 6, 9, 0, 5, 9, 0};
  assert_int_equal(r.windows, ROWS - 1);
  for (int i = 0; i < ROWS; i++) assert_int_equal(r.scored[i], whole[i]);
  assert_true(r.loss[0] != windows.loss[0]);
  tokens_close(&t);
  genppl_destroy(&r);
  genppl_destroy(&windows);
  network_destroy(&n);
}

static void test_nothing_scored(void **state) {
  (void)state;
  Network n;
  Comm comm;
  Tokens *t;
  Genppl r;
  must(comm_null_create(&comm));
  open_network(&n, WINDOW, 2);
  must(tokens_open(&t, write_file("eos.h5", rows[3], 1, WIDTH, NULL), &vocab, "judge.h5"));
  refused(genppl_run(&r, &n, t, EOS, &comm, &quiet), ERR_DATA, "eos.h5", "no token is scored");
  tokens_close(&t);
  network_destroy(&n);
}

static void test_entropy(void **state) {
  (void)state;
  const int32_t ids[] = {7, 3, 7, 7, 100000, 3, 7, 0};
  assert_true(entropy(ids, 0) == 0);
  assert_true(entropy(ids, 1) == 0);
  assert_true(fabs(entropy(ids, 2) - log(2)) < 1e-15);
  assert_true(fabs(entropy(ids, 8) - (0.5 * log(2) + 0.25 * log(4) + 2 * 0.125 * log(8))) < 1e-15);
  Genppl r;
  double mean = 0;
  score(&r, 3);
  for (int i = 0; i < ROWS; i++) mean += entropy(rows[i], lengths[i]) / ROWS;
  assert_true(fabs(r.entropy - mean) < 1e-15);
  assert_true(r.entropies[3] == 0 && r.entropies[6] == 0);
  genppl_destroy(&r);
}

/* ---- what is refused */
static void bad_row(const char *name, int at, int32_t value, const char *word) {
  int32_t ids[2][WIDTH] = {{0}};
  Tokens *t;
  ids[1][at] = value;
  must(tokens_open(&t, write_file(name, ids[0], 2, WIDTH, NULL), &vocab, "judge.h5"));
  must(tokens_read(t, 0, ids[0]));
  refused(tokens_read(t, 1, ids[1]), ERR_DATA, name, "row 1", word);
  tokens_close(&t);
}

static void test_bad_rows(void **state) {
  (void)state;
  bad_row("beyond.h5", 4, V, "token 7 at position 4");
  bad_row("negative.h5", 0, -1, "token -1 at position 0");
  bad_row("mask.h5", WIDTH - 1, MASK, "unfinished: it has a mask token at position 13");
}

static void open_refused(const char *path, const char *word) {
  Tokens *t;
  refused(tokens_open(&t, path, &vocab, "judge.h5"), ERR_DATA, path, word);
  assert_null(t);
}

static void test_bad_files(void **state) {
  (void)state;
  const int64_t short_by_one[ROWS] = {14, 14, 14, 0, 7, 13, 1}, too_long[ROWS] = {14, 14, 14, 15, 7, 13, 1};
  const double real[2] = {1, 2};
  H5 *f;
  open_refused(bench_path("none.h5"), "");
  open_refused(write_file("empty.h5", rows[0], ROWS, WIDTH, short_by_one), "length of row 3 is 0");
  open_refused(write_file("long.h5", rows[0], ROWS, WIDTH, too_long), "length of row 3 is 15");
  must(h5_open(&f, write_file("other.h5", rows[0], ROWS, WIDTH, NULL), true));
  must(h5_set_str(f, "/", "tokenizer_hash", "0123"));
  must(h5_close(&f));
  open_refused(bench_path("other.h5"), "translate them with mdlm-retokenize");
  must(h5_create(&f, bench_path("nobody.h5")));
  must(h5_write(f, "/tokens", H5_I32, 2, (int64_t[]){1, 2}, rows[0]));
  must(h5_close(&f));
  open_refused(bench_path("nobody.h5"), "does not name its tokenizer");
  must(h5_create(&f, bench_path("real.h5")));
  must(h5_write(f, "/tokens", H5_F64, 2, (int64_t[]){1, 2}, real));
  must(h5_close(&f));
  open_refused(bench_path("real.h5"), "integers");
  must(h5_open(&f, write_file("words.h5", rows[0], 2, WIDTH, NULL), true));
  must(h5_write_text(f, "/lengths", 2, (char *[]){"a", "b", NULL}));
  must(h5_close(&f));
  open_refused(bench_path("words.h5"), "/lengths must be 2 integers");
  must(h5_create(&f, bench_path("nothing.h5")));
  must(h5_close(&f));
  open_refused(bench_path("nothing.h5"), "no data set /tokens");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rule),      cmocka_unit_test(test_batches),        cmocka_unit_test(test_whole_rows),
      cmocka_unit_test(test_entropy),   cmocka_unit_test(test_nothing_scored), cmocka_unit_test(test_bad_rows),
      cmocka_unit_test(test_bad_files),
  };
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
