/* test_blocks — networks of block diffusion: a pass over a noisy and a clean half equals steps through the blocks with a
 * cache, bit for bit on the CPU; its gradients agree with finite differences; nothing leaks between the halves. Linked
 * with a device under test, the networks run on that device, where hidden rows may differ by rounding errors. */
#include "toy_slope.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

enum { V = TOY_V, D = TOY_D, L = 6, B = 2, MOST = 1 << 10, SOME = 8 };
static const char *const networks[] = {"dit", "ar", "classes"}; /* classes: dit with them */
enum { NETWORKS = sizeof networks / sizeof *networks };
static const int32_t labels[B] = {2, -1};

static Toy toy_blocks(const char *network, const char *backend, int64_t length, int64_t block) {
  Toy t = toy_dit(backend, false);
  bool classes = strcmp(network, "classes") == 0;
  t.model.name = classes ? "dit" : network;
  t.model.classes = classes ? 3 : 0;
  t.model.length = length, t.model.batch = B, t.model.block = block;
  t.objective.name = strcmp(network, "ar") == 0 ? "ar" : "subs";
  return t;
}

static void open_toy(Network *n, const Toy *t) {
  toy_open(n, t);
  toy_weights(n, 1, 1.5);
}

static void random_ids(int32_t *ids, int64_t n, uint64_t stream) {
  RngKey key = rng_key(stream, RNG_TEST, 0, 0, 0);
  for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(rng_uniform(key, (uint64_t)i) * V);
}

static double *hidden(Network *n, const ModelInput *in, int64_t rows) {
  MUST(model_forward(&n->model, in));
  return toy_values(n, tensor_rows(n->model.h, 0, rows));
}

/* ---- a whole pass and its steps */
typedef struct Case {
  const char *network, *device;
  double near; /* tolerance for hidden rows; 0: the same bits */
  int64_t length, block;
} Case;

static void near_rows(const Case *c, const char *what, const double *got, const double *want, int64_t rows) {
  double error = check_error(got, want, rows * D);
  if (!(error <= c->near))
    fail_msg("%s on %s, blocks of %d: %s are off by %.1e", c->network, c->device, (int)c->block, what, error);
}

/* Block b of every sequence through model_step; its hidden rows. */
static double *step(Network *n, const Case *c, const int32_t *ids, int64_t b) {
  int32_t part[MOST];
  int64_t l = c->block;
  for (int64_t i = 0; i < B; i++) memcpy(part + i * l, ids + i * c->length + b * l, (size_t)l * sizeof *part);
  ModelInput in = {.B = B, .L = l, .ids = part, .labels = labels};
  MUST(model_step(&n->model, &in, b * l));
  return toy_values(n, tensor_rows(n->model.h, 0, B * l));
}

static void steps(const Case *c) {
  Network n;
  Toy t = toy_blocks(c->network, c->device, c->length, c->block);
  t.model.training = false;
  open_toy(&n, &t);
  int32_t z[MOST], clean[MOST];
  random_ids(z, B * c->length, 1);
  random_ids(clean, B * c->length, 2);
  ModelInput whole = {.B = B, .ids = z, .clean = clean, .labels = labels};
  double *want = hidden(&n, &whole, B * c->length);
  for (int64_t b = 0; b < c->length / c->block; b++) {
    double *got = step(&n, c, z, b), *last = step(&n, c, clean, b);
    for (int64_t i = 0; i < B; i++)
      near_rows(c, "rows of a step", got + i * c->block * D, want + (i * c->length + b * c->block) * D, c->block);
    if (b > 0) assert_true(check_error(last, got, B * c->block * D) > 1e-4);
    mem_free(&got);
    mem_free(&last);
  }
  mem_free(&want);
  network_destroy(&n);
}

static void test_steps(void **state) {
  (void)state;
  static const int64_t sizes[][2] = {{6, 1}, {6, 3}, {6, 6}, {132, 4}, {140, 20}, {192, 64}, {288, 144}};
  for (int i = 0; i < NETWORKS; i++)
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
      Case c = {networks[i], "cpu_f64", 1e-12, sizes[k][0], sizes[k][1]};
      steps(&c);
      c.device = check_device, c.near = strcmp(check_device, "cpu") == 0 ? 0 : 1e-5;
      steps(&c);
    }
}

/* ---- wanted rows, and passes over the first positions only */
static void test_wanted_rows(void **state) {
  (void)state;
  int32_t z[B * L], clean[B * L], part[B * 4], part_clean[B * 4], rows[] = {1, 2, 7, 10};
  random_ids(z, B * L, 1);
  random_ids(clean, B * L, 2);
  for (int i = 0; i < NETWORKS; i++) {
    Network n;
    Toy t = toy_blocks(networks[i], check_device, L, 2);
    t.model.training = false;
    open_toy(&n, &t);
    const Case c = {networks[i], check_device, strcmp(check_device, "cpu") == 0 ? 0 : 1e-5, L, 2};
    ModelInput in = {.B = B, .ids = z, .clean = clean, .labels = labels};
    double *all = hidden(&n, &in, B * L);
    in.rows = rows, in.n_rows = 4;
    double *some = hidden(&n, &in, 4);
    for (int r = 0; r < 4; r++) near_rows(&c, "wanted rows", some + r * D, all + rows[r] * D, 1);
    for (int b = 0; b < B; b++) {
      memcpy(part + b * 4, z + b * L, 4 * sizeof *part);
      memcpy(part_clean + b * 4, clean + b * L, 4 * sizeof *part);
    }
    ModelInput prefix = {.B = B, .L = 4, .ids = part, .clean = part_clean, .labels = labels};
    double *first = hidden(&n, &prefix, B * 4);
    for (int b = 0; b < B; b++) near_rows(&c, "rows of a prefix", first + b * 4 * D, all + b * L * D, 4);
    double *list[] = {all, some, first};
    for (int k = 0; k < 3; k++) mem_free(&list[k]);
    network_destroy(&n);
  }
}

/* ---- what a row sees: block 1 of blocks 0, 1, 2 sees the clean block 0 and the noisy block 1 */
static bool changes(Network *n, bool clean, int64_t position) {
  int32_t ids[2][L];
  random_ids(ids[0], L, 1);
  random_ids(ids[1], L, 2);
  ModelInput in = {.B = 1, .ids = ids[0], .clean = ids[1], .labels = labels};
  double *before = hidden(n, &in, L);
  ids[clean][position] = (ids[clean][position] + 1) % V;
  double *after = hidden(n, &in, L);
  bool same = memcmp(before + 2 * D, after + 2 * D, 2 * D * sizeof *before) == 0;
  mem_free(&before);
  mem_free(&after);
  return !same;
}

static void test_visible(void **state) {
  (void)state;
  for (int i = 0; i < NETWORKS; i++) {
    Network n;
    Toy t = toy_blocks(networks[i], check_device, L, 2);
    open_toy(&n, &t);
    for (int64_t l = 0; l < L; l++) {
      assert_int_equal(changes(&n, true, l), l / 2 == 0);
      assert_int_equal(changes(&n, false, l), l / 2 == 1);
    }
    network_destroy(&n);
  }
}

/* With blocks of the whole length the noisy half is a network without blocks; a causal network's blocks of one token give
 * the rows of clean tokens of one without blocks. */
static void test_limits(void **state) {
  (void)state;
  int32_t z[B * L], other[B * L];
  random_ids(z, B * L, 1);
  random_ids(other, B * L, 2);
  for (int i = 0; i < NETWORKS; i++) {
    Network n, plain;
    bool causal = strcmp(networks[i], "ar") == 0;
    Toy t = toy_blocks(networks[i], "cpu_f64", L, causal ? 1 : L), t_plain = toy_blocks(networks[i], "cpu_f64", L, 0);
    open_toy(&n, &t);
    open_toy(&plain, &t_plain);
    ModelInput in = {.B = B, .ids = z, .clean = causal ? z : other, .labels = labels},
               in_plain = {.B = B, .ids = z, .labels = labels};
    double *got = hidden(&n, &in, B * L), *want = hidden(&plain, &in_plain, B * L);
    assert_true(check_error(got, want, B * L * D) < 1e-13);
    mem_free(&got);
    mem_free(&want);
    network_destroy(&n);
    network_destroy(&plain);
  }
}

/* ---- gradients */
typedef struct Scored {
  int64_t B, n_rows;
  const int32_t *rows, *length; /* NULL: all */
  Dropout dropout;
  int64_t first;
  int64_t draws; /* > 1: of the first clean sequence */
  bool again;    /* its clean tokens are those of both sequences */
} Scored;

/* Cross entropy of the wanted rows, like toy_cross_entropy, which wants all. */
static double loss(Network *n, const void *arg, bool gradient) {
  const Scored *s = arg;
  int32_t z[B * L], clean[B * L], targets[B * L];
  double weight[B * L], scratch[B * L], sum = 0;
  random_ids(z, B * L, 1);
  random_ids(clean, B * L, 2);
  if (s->again) memcpy(clean + L, clean, L * sizeof *clean);
  ModelInput in = {.B = s->B, .ids = z + s->first * L, .clean = clean + s->first * L, .lengths = s->length};
  in.draws = s->draws;
  in.labels = labels + s->first;
  in.rows = s->rows, in.n_rows = s->n_rows, in.dropout = s->dropout;
  in.dropout.first += s->first;
  int64_t R = s->rows ? s->n_rows : s->B * L;
  for (int64_t r = 0; r < R; r++) {
    int64_t at = s->rows ? s->rows[r] : r;
    targets[r] = (int32_t)((s->first * L + at) % V), weight[r] = 0.5 + 0.1 * (double)(s->first * L + at);
  }
  Tensor logits = tensor_rows(n->rows.logits, 0, R), out = tensor_rows(n->rows.loss, 0, R);
  Tensor target = tensor_rows(n->rows.target, 0, R), weights = tensor_rows(n->rows.weight, 0, R);
  MUST(tensor_upload(&n->dev, target, targets));
  MUST(tensor_from_f64(&n->dev, weights, weight, scratch));
  MUST(model_forward(&n->model, &in));
  Tensor h = tensor_rows(n->model.h, 0, R);
  MUST(model_logits(&n->model, logits, h));
  MUST(op_cross_entropy(&n->dev, out, tensor_cols(logits, 0, V), target, weights, -1, gradient));
  if (gradient) MUST(model_logits_backward(&n->model, tensor_rows(n->model.dh, 0, R), logits, h));
  if (gradient) MUST(model_backward(&n->model, &in));
  double *losses = toy_values(n, out);
  for (int64_t r = 0; r < R; r++) sum += losses[r];
  mem_free(&losses);
  return sum;
}

static double *gradients(Network *n, const Scored *s) {
  MUST(tensor_zero(&n->dev, n->model.params.grad));
  loss(n, s, true);
  return toy_values(n, n->model.params.grad);
}

static const int32_t wanted[] = {0, 3, 4, 8, 9, 11};

static void test_slopes(void **state) {
  (void)state;
  static const int32_t lengths[B] = {5, 3}, real[] = {0, 3, 4, 6, 8};
  const Scored all = {.B = B, .dropout = toy_quarter}, some = {.B = B, .n_rows = 6, .rows = wanted},
               padded = {.B = B, .n_rows = 5, .rows = real, .length = lengths};
  static const int64_t blocks[] = {1, 2, 3, 6};
  for (int i = 0; i < NETWORKS; i++)
    for (int k = 0; k < 4; k++) {
      Network n;
      Toy t = toy_blocks(networks[i], "cpu_f64", L, blocks[k]);
      t.model.mask_padding = k == 2;
      open_toy(&n, &t);
      toy_slopes(&n, loss, k == 2 ? &padded : k % 2 ? &some : &all, k == 1 ? TOY_EVERY : SOME);
      if (k == 0) toy_slopes(&n, loss, &some, SOME);
      network_destroy(&n);
    }
}

/* One layer: its clean half consists of keys and values only. */
static void test_slopes_one_layer(void **state) {
  (void)state;
  const Scored all = {.B = B, .dropout = toy_quarter};
  for (int i = 0; i < NETWORKS; i++) {
    Network n;
    Toy t = toy_blocks(networks[i], "cpu_f64", L, 2);
    t.model.blocks = 1;
    open_toy(&n, &t);
    toy_slopes(&n, loss, &all, SOME);
    network_destroy(&n);
  }
}

/* Two draws that share a clean sequence: the rows are those of two such sequences, bit for bit on the CPU, and the
 * gradients their sum. A clean sequence has the class and the dropout of its first draw. */
static void draws(const char *network, int64_t length, int64_t block) {
  static const int32_t same[B] = {2, 2};
  int32_t z[MOST], clean[MOST];
  random_ids(z, B * length, 1);
  random_ids(clean, length, 2);
  memcpy(clean + length, clean, (size_t)length * sizeof *clean);
  const char *devices[] = {"cpu_f64", check_device};
  for (int d = 0; d < 2; d++) {
    Network n;
    Case c = {network, devices[d], strcmp(devices[d], "cuda") == 0 ? 1e-5 : 0, length, block};
    Toy t = toy_blocks(network, c.device, length, block);
    t.model.training = false;
    open_toy(&n, &t);
    ModelInput in = {.B = B, .ids = z, .clean = clean, .labels = same};
    double *want = hidden(&n, &in, B * length);
    in.draws = B;
    double *got = hidden(&n, &in, B * length);
    near_rows(&c, "rows of draws", got, want, B * length);
    mem_free(&got);
    mem_free(&want);
    network_destroy(&n);
  }
}

static void test_draws(void **state) {
  (void)state;
  const Scored two = {.B = B, .again = true}, shared = {.B = B, .again = true, .draws = B};
  for (int i = 0; i < NETWORKS; i++) {
    if (strcmp(networks[i], "classes") != 0) draws(networks[i], 140, 20);
    draws(networks[i], L, 2);
    for (int64_t block = 1; block <= L; block += block < 3 ? 1 : 3) {
      Network n, both;
      Toy t = toy_blocks(networks[i], "cpu_f64", L, block), t_both = t;
      if (strcmp(networks[i], "classes") == 0) break; /* the two have classes of their own */
      t.model.draws = B;
      open_toy(&n, &t);
      open_toy(&both, &t_both);
      double *got = gradients(&n, &shared), *want = gradients(&both, &two);
      toy_near("gradients of draws", &n.model.params, got, want, 1e-12);
      mem_free(&got);
      mem_free(&want);
      network_destroy(&n);
      network_destroy(&both);
    }
  }
}

static void test_slopes_draws(void **state) {
  (void)state;
  static const int32_t lengths[B] = {5, 5}, real[] = {0, 3, 4, 6, 8};
  const Scored all = {.B = B, .dropout = toy_quarter, .draws = B},
               padded = {.B = B, .n_rows = 5, .rows = real, .length = lengths, .draws = B};
  for (int i = 0; i < NETWORKS; i++)
    for (int k = 0; k < 2; k++) {
      Network n;
      Toy t = toy_blocks(networks[i], "cpu_f64", L, 2);
      t.model.draws = B, t.model.mask_padding = k == 1;
      open_toy(&n, &t);
      toy_slopes(&n, loss, k ? &padded : &all, SOME);
      network_destroy(&n);
    }
}

/* f32 gradients are those in f64; those of a batch are the sum of those of its sequences, whose dropout does not depend on
 * the other sequences. */
static void test_parts(void **state) {
  (void)state;
  const Scored all = {.B = B, .dropout = toy_quarter}, one = {.B = 1, .dropout = toy_quarter},
               two = {.B = 1, .dropout = toy_quarter, .first = 1};
  for (int i = 0; i < NETWORKS; i++) {
    Network n, f32;
    Toy t = toy_blocks(networks[i], "cpu_f64", L, 2), t_f32 = toy_blocks(networks[i], check_device, L, 2);
    open_toy(&n, &t);
    open_toy(&f32, &t_f32);
    double *grad = gradients(&n, &all), *a = gradients(&n, &one), *b = gradients(&n, &two), *c = gradients(&f32, &all);
    for (int64_t k = 0; k < n.model.params.count; k++) a[k] += b[k];
    toy_near("a batch in two parts", &n.model.params, a, grad, 1e-12);
    toy_near("gradients in f32", &n.model.params, c, grad, 1e-4);
    double *list[] = {grad, a, b, c};
    for (int k = 0; k < 4; k++) mem_free(&list[k]);
    network_destroy(&n);
    network_destroy(&f32);
  }
}

/* ---- operations: what model_flops says is what the ops count */
static void flops(int64_t shared) {
  Network n;
  Toy t = toy_blocks("ar", "cpu_f64", L, 2);
  t.model.draws = shared;
  open_toy(&n, &t);
  const Scored some = {.B = B, .n_rows = 6, .rows = wanted, .draws = shared};
  double body, attention, head;
  model_flops(&n.model, &body, &attention, &head);
  device_profile_reset(&n.dev);
  loss(&n, &some, false);
  assert_true(n.dev.flops[GROUP_ATTENTION] == attention * B * L);
  assert_true(n.dev.flops[GROUP_DENSE] == body * B * L + head * 6);
  device_profile_reset(&n.dev);
  loss(&n, &some, true);
  assert_true(n.dev.flops[GROUP_ATTENTION] == 3 * attention * B * L);
  assert_true(n.dev.flops[GROUP_DENSE] == 3 * (body * B * L + head * 6));
  network_destroy(&n);
}

static void test_flops(void **state) {
  (void)state;
  flops(1);
  flops(B);
}

/* ---- refusals */
static void refused(const char *network, int64_t block, bool time, bool training) {
  Model m;
  Device dev;
  Toy t = toy_blocks(network, "cpu", L, block);
  t.model.time_conditioning = time, t.model.training = training;
  MUST(device_open(&dev, &t.device));
  check_refused(model_create(&m, &dev, &t.model), ERR_USAGE, network);
  device_close(&dev);
}

static void test_refusals(void **state) {
  (void)state;
  refused("dimamba", 2, false, true);
  refused("gpt2", 2, false, false);
  refused("dit", 4, false, true);
  refused("dit", -2, false, true);
  refused("dit", 2 * L, false, true);
  refused("dit", 2, true, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_steps),  cmocka_unit_test(test_wanted_rows),  cmocka_unit_test(test_visible),
      cmocka_unit_test(test_limits), cmocka_unit_test(test_slopes),       cmocka_unit_test(test_slopes_one_layer),
      cmocka_unit_test(test_draws),  cmocka_unit_test(test_slopes_draws), cmocka_unit_test(test_parts),
      cmocka_unit_test(test_flops),  cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
