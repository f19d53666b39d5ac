/* test_gpt2 — GPT-2 against plain loops in double over its named parameters; causality, position embeddings, and the
 * refusal to train it. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, V = TOY_V, TOKENS = TOY_TOKENS, H = 2, K = D / H, M = 4 * D, BLOCKS = 2 };

static Toy toy_gpt2(const char *backend) {
  Toy t = toy_dit(backend, false);
  t.model.name = "gpt2";
  t.model.training = false;
  return t;
}

static void open_toy(Network *n, const Toy *t) {
  toy_open(n, t);
  toy_weights(n, 1, 1.5);
}

static double *hidden(Network *n, int64_t sequences, const int32_t *ids) {
  ModelInput in = {.B = sequences, .ids = ids};
  MUST(model_forward(&n->model, &in));
  return toy_values(n, tensor_rows(n->model.h, 0, sequences * L));
}

/* ---- parameters */
typedef struct Row {
  const char *name; /* %d is the block */
  int64_t d0, d1;   /* d1 = 0: a vector */
} Row;
static const Row rows[] = {{"wte.weight", V, D}, {"wpe.weight", L, D}, {"ln_f.weight", D, 0}, {"ln_f.bias", D, 0}};
static const Row block_rows[] = {
    {"h.%d.ln_1.weight", D, 0},          {"h.%d.ln_1.bias", D, 0},          {"h.%d.attn.c_attn.weight", 3 * D, D},
    {"h.%d.attn.c_attn.bias", 3 * D, 0}, {"h.%d.attn.c_proj.weight", D, D}, {"h.%d.attn.c_proj.bias", D, 0},
    {"h.%d.ln_2.weight", D, 0},          {"h.%d.ln_2.bias", D, 0},          {"h.%d.mlp.c_fc.weight", M, D},
    {"h.%d.mlp.c_fc.bias", M, 0},        {"h.%d.mlp.c_proj.weight", D, M},  {"h.%d.mlp.c_proj.bias", D, 0}};
enum { ROWS = sizeof rows / sizeof *rows, BLOCK_ROWS = sizeof block_rows / sizeof *block_rows };

static const Param *find(Network *n, const char *name, int block) {
  char full[64];
  snprintf(full, sizeof full, name, block);
  const Param *p = params_find(&n->model.params, full);
  if (p == NULL) fail_msg("there is no %s", full);
  return p;
}

static void check_row(Network *n, const Row *row, int block) {
  const Param *p = find(n, row->name, block);
  assert_int_equal(p->rank, row->d1 ? 2 : 1);
  assert_int_equal(p->dims[0], row->d0);
  if (row->d1) assert_int_equal(p->dims[1], row->d1);
}

static void test_parameters(void **state) {
  (void)state;
  Network n;
  Toy t = toy_gpt2("cpu");
  toy_open(&n, &t);
  assert_int_equal(n.model.params.n, ROWS + BLOCKS * BLOCK_ROWS);
  for (int k = 0; k < ROWS; k++) check_row(&n, &rows[k], 0);
  for (int i = 0; i < BLOCKS; i++)
    for (int k = 0; k < BLOCK_ROWS; k++) check_row(&n, &block_rows[k], i);
  double body, attention, head;
  model_flops(&n.model, &body, &attention, &head);
  assert_true(body == 2.0 * (BLOCKS * 12 - 9) * D * D && head == 2.0 * D * V + 2.0 * 9 * D * D);
  assert_true(attention == 2.0 * D * L * BLOCKS);
  network_destroy(&n);
}

/* Sequences shorter than the position table use its first rows; longer ones are refused. */
static void test_more_positions(void **state) {
  (void)state;
  enum { SHORT = L - 2 };
  const int32_t ids[L] = {1, 4, 2, 8, 5};
  Network n, few;
  Device dev;
  Model m;
  Toy t = toy_gpt2("cpu_f64");
  open_toy(&n, &t);
  t.model.length = SHORT, t.model.positions = L;
  open_toy(&few, &t);
  assert_int_equal(few.model.params.count, n.model.params.count);
  ModelInput in = {.B = 1, .ids = ids};
  MUST(model_forward(&few.model, &in));
  double *want = hidden(&n, 1, ids), *got = toy_values(&few, tensor_rows(few.model.h, 0, SHORT));
  assert_true(check_error(got, want, SHORT * D) < 1e-14);
  mem_free(&want);
  mem_free(&got);
  network_destroy(&few);
  network_destroy(&n);
  t.model.length = L + 1;
  MUST(device_open(&dev, &t.device));
  assert_int_equal(model_create(&m, &dev, &t.model), ERR_USAGE);
  assert_non_null(strstr(err_message(), "5 positions, too few for rows of 6 tokens"));
  err_clear();
  model_destroy(&m);
  device_close(&dev);
}

/* The smallest published GPT-2 has 124.4 M parameters, with the tied head counted once. */
static void test_published_size(void **state) {
  (void)state;
  Device dev;
  Model m;
  MUST(device_open(&dev, &(DeviceOptions){.name = "cpu", .threads = 1}));
  ModelOptions o = {.name = "gpt2",
                    .vocab = 50257,
                    .length = 1024,
                    .batch = 1,
                    .width = 768,
                    .blocks = 12,
                    .heads = 12,
                    .mlp_ratio = 4};
  MUST(model_create(&m, &dev, &o));
  assert_int_equal(params_elements(&m.params), 124439808);
  model_destroy(&m);
  assert_int_equal(dev.allocated, 0);
  device_close(&dev);
}

/* ---- the reference: one sequence at a time, parameters looked up by name */
typedef struct Host {
  Network *n;
  int block;
  double *values; /* [params.count] */
} Host;

static const double *of(const Host *m, const char *name) { return m->values + find(m->n, name, m->block)->offset; }

static void norm(const Host *m, double *y, const double *x, const char *weight, const char *bias) {
  const double *w = of(m, weight), *b = of(m, bias);
  double mean = 0, square = 0;
  for (int d = 0; d < D; d++) mean += x[d] / D;
  for (int d = 0; d < D; d++) square += (x[d] - mean) * (x[d] - mean) / D;
  for (int d = 0; d < D; d++) y[d] = (x[d] - mean) / sqrt(square + 1e-5) * w[d] + b[d];
}

static void linear(const Host *m, double *y, const double *x, int in, int out, const char *weight, const char *bias) {
  const double *w = of(m, weight), *b = of(m, bias);
  for (int o = 0; o < out; o++) y[o] = b[o] + check_dot(w + o * in, x, in);
}

static void attend(double *o, double qkv[L][3 * D], int l, int h) {
  double p[L], sum = 0;
  for (int j = 0; j <= l; j++) sum += p[j] = exp(check_dot(qkv[l] + h * K, qkv[j] + D + h * K, K) / sqrt(K));
  for (int k = 0; k < K; k++) {
    o[h * K + k] = 0;
    for (int j = 0; j <= l; j++) o[h * K + k] += p[j] / sum * qkv[j][2 * D + h * K + k];
  }
}

static void block(const Host *m, double x[L][D]) {
  double qkv[L][3 * D], y[M], z[M];
  for (int l = 0; l < L; l++) {
    norm(m, y, x[l], "h.%d.ln_1.weight", "h.%d.ln_1.bias");
    linear(m, qkv[l], y, D, 3 * D, "h.%d.attn.c_attn.weight", "h.%d.attn.c_attn.bias");
  }
  for (int l = 0; l < L; l++) {
    for (int h = 0; h < H; h++) attend(y, qkv, l, h);
    linear(m, z, y, D, D, "h.%d.attn.c_proj.weight", "h.%d.attn.c_proj.bias");
    for (int d = 0; d < D; d++) x[l][d] += z[d];
    norm(m, y, x[l], "h.%d.ln_2.weight", "h.%d.ln_2.bias");
    linear(m, z, y, D, M, "h.%d.mlp.c_fc.weight", "h.%d.mlp.c_fc.bias");
    for (int k = 0; k < M; k++) z[k] *= 0.5 * (1 + tanh(sqrt(2 / acos(-1)) * (z[k] + 0.044715 * z[k] * z[k] * z[k])));
    linear(m, y, z, M, D, "h.%d.mlp.c_proj.weight", "h.%d.mlp.c_proj.bias");
    for (int d = 0; d < D; d++) x[l][d] += y[d];
  }
}

static void host_sequence(Host *m, const int32_t *ids, double *h, double *logits) {
  const double *wte = of(m, "wte.weight"), *wpe = of(m, "wpe.weight");
  double x[L][D];
  for (int l = 0; l < L; l++)
    for (int d = 0; d < D; d++) x[l][d] = wte[ids[l] * D + d] + wpe[l * D + d];
  for (m->block = 0; m->block < BLOCKS; m->block++) block(m, x);
  for (int l = 0; l < L; l++) {
    norm(m, h + l * D, x[l], "ln_f.weight", "ln_f.bias");
    for (int v = 0; v < V; v++) logits[l * V + v] = check_dot(wte + v * D, h + l * D, D);
  }
}

static void compare(const char *backend, int sequences, bool bf16, double bound) {
  Network n;
  Toy t = toy_gpt2(backend);
  t.device.bf16 = bf16;
  open_toy(&n, &t);
  double want_h[TOKENS * D], want[TOKENS * V], *h = hidden(&n, sequences, toy_mixed.x0);
  int64_t R = sequences * L;
  Tensor logits = tensor_rows(n.rows.logits, 0, R);
  MUST(model_logits(&n.model, logits, tensor_rows(n.model.h, 0, R)));
  double *got = toy_values(&n, logits);
  Host m = {.n = &n, .values = toy_values(&n, n.model.params.value)};
  for (int b = 0; b < sequences; b++) host_sequence(&m, toy_mixed.x0 + b * L, want_h + b * L * D, want + b * L * V);
  assert_true(check_error(h, want_h, R * D) <= bound);
  assert_true(check_error(got, want, R * V) <= bound);
  double *all[] = {h, got, m.values};
  for (int i = 0; i < 3; i++) mem_free(&all[i]);
  network_destroy(&n);
}

static void test_values(void **state) {
  (void)state;
  compare("cpu_f64", B, false, 1e-13);
  compare("cpu_f64", 2, false, 1e-13);
  compare("cpu", B, false, 1e-5);
  compare("cpu", B, true, 0.05);
}

/* ---- causality: a position sees itself and earlier ones */
static void test_causal(void **state) {
  (void)state;
  for (int f32 = 0; f32 < 2; f32++) {
    Network n;
    Toy t = toy_gpt2(f32 ? "cpu" : "cpu_f64");
    open_toy(&n, &t);
    double *before = hidden(&n, 1, toy_mixed.x0);
    for (int j = 0; j < L; j++) {
      int32_t ids[L];
      memcpy(ids, toy_mixed.x0, sizeof ids);
      ids[j] = (ids[j] + 1) % V;
      double *after = hidden(&n, 1, ids);
      toy_same("hidden rows before the change", after, before, j * D);
      for (int l = j; l < L; l++) assert_true(check_error(after + l * D, before + l * D, D) > 1e-4);
      mem_free(&after);
    }
    mem_free(&before);
    network_destroy(&n);
  }
}

/* With the same token everywhere, rows differ only by the position embeddings. When these are zero, all rows are equal.
 */
static void test_places_matter(void **state) {
  (void)state;
  const int32_t ids[L] = {4, 4, 4, 4, 4};
  Network n;
  Toy t = toy_gpt2("cpu_f64");
  open_toy(&n, &t);
  double *h = hidden(&n, 1, ids);
  for (int l = 1; l < L; l++) assert_true(check_error(h + l * D, h, D) > 1e-2);
  mem_free(&h);
  MUST(tensor_zero(&n.dev, find(&n, "wpe.weight", 0)->value));
  h = hidden(&n, 1, ids);
  for (int l = 1; l < L; l++) assert_true(check_error(h + l * D, h, D) < 1e-13);
  mem_free(&h);
  network_destroy(&n);
}

/* ---- refusals */
static void test_training_is_refused(void **state) {
  (void)state;
  Device dev;
  Model m;
  MUST(device_open(&dev, &(DeviceOptions){.name = "cpu", .threads = 1}));
  ModelOptions o = toy_gpt2("cpu").model;
  o.training = true;
  check_refused(model_create(&m, &dev, &o), ERR_USAGE, "training");
  o.training = false, o.heads = 3;
  check_refused(model_create(&m, &dev, &o), ERR_USAGE, "heads that do not divide the width");
  assert_int_equal(dev.allocated, 0);
  device_close(&dev);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_parameters),
      cmocka_unit_test(test_more_positions),
      cmocka_unit_test(test_published_size),
      cmocka_unit_test(test_values),
      cmocka_unit_test(test_causal),
      cmocka_unit_test(test_places_matter),
      cmocka_unit_test(test_training_is_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
