/* test_params — the DiT's parameters: names, shapes, counts, initial weights; and the initial weights that only DiMamba
 * has. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { D = 32, C = 8, V = 11, M = 4 * D, BLOCKS = 2, L = 6 };

static Toy toy(const char *backend) {
  return (Toy){.device = {.name = backend, .threads = 1},
               .model = {.name = "dit",
                         .vocab = V,
                         .length = L,
                         .batch = 2,
                         .width = D,
                         .blocks = BLOCKS,
                         .heads = 4,
                         .cond_dim = C,
                         .mlp_ratio = 4,
                         .training = true},
               .mask = 10,
               .eps = 1e-3};
}

/* The expected parameters; %d is the block. bound² is 1/fan_in; fan_in 0: zeros, −1: ones. */
typedef struct Row {
  const char *name;
  int64_t d0, d1; /* d1 = 0: a vector */
  int fan_in;
} Row;
static const Row before[] = {{"vocab_embed.embedding", V, D, D},
                             {"sigma_map.mlp.0.weight", C, 256, 256},
                             {"sigma_map.mlp.0.bias", C, 0, 256},
                             {"sigma_map.mlp.2.weight", C, C, C},
                             {"sigma_map.mlp.2.bias", C, 0, C}};
static const Row block[] = {{"blocks.%d.norm1.weight", D, 0, -1},
                            {"blocks.%d.attn_qkv.weight", 3 * D, D, D},
                            {"blocks.%d.attn_out.weight", D, D, D},
                            {"blocks.%d.norm2.weight", D, 0, -1},
                            {"blocks.%d.mlp.0.weight", M, D, D},
                            {"blocks.%d.mlp.0.bias", M, 0, D},
                            {"blocks.%d.mlp.2.weight", D, M, M},
                            {"blocks.%d.mlp.2.bias", D, 0, M},
                            {"blocks.%d.adaLN_modulation.weight", 6 * D, C, 0},
                            {"blocks.%d.adaLN_modulation.bias", 6 * D, 0, 0}};
static const Row after[] = {{"output_layer.norm_final.weight", D, 0, -1},
                            {"output_layer.linear.weight", V, D, 0},
                            {"output_layer.linear.bias", V, 0, 0},
                            {"output_layer.adaLN_modulation.weight", 2 * D, C, 0},
                            {"output_layer.adaLN_modulation.bias", 2 * D, 0, 0}};
#define ROWS(table) (sizeof(table) / sizeof *(table))

typedef void (*RowTest)(Network *n, const Row *row, const Param *p, const double *values);

static void row_test(Network *n, const Row *row, int i, const double *flat, RowTest test) {
  char name[96];
  snprintf(name, sizeof name, row->name, i);
  const Param *p = params_find(&n->model.params, name);
  if (p == NULL) fail_msg("there is no %s", name);
  test(n, row, p, flat + p->offset);
}

static void each_row(Network *n, const double *flat, RowTest test) {
  for (size_t k = 0; k < ROWS(before); k++) row_test(n, &before[k], 0, flat, test);
  for (int i = 0; i < BLOCKS; i++)
    for (size_t k = 0; k < ROWS(block); k++) row_test(n, &block[k], i, flat, test);
  for (size_t k = 0; k < ROWS(after); k++) row_test(n, &after[k], 0, flat, test);
}

static void shape_test(Network *n, const Row *row, const Param *p, const double *values) {
  (void)values;
  assert_int_equal(p->rank, row->d1 ? 2 : 1);
  assert_int_equal(p->dims[0], row->d0);
  if (row->d1) assert_int_equal(p->dims[1], row->d1);
  assert_int_equal(p->count, row->d0 * (row->d1 ? row->d1 : 1));
  assert_int_equal(p->value.rank, p->rank);
  assert_int_equal(p->grad.rank, p->rank);
  assert_ptr_equal(p->value.data, (char *)n->model.params.value.data + p->offset * 4);
  assert_ptr_equal(p->grad.data, (char *)n->model.params.grad.data + p->offset * 4);
}

static void test_names_and_shapes(void **state) {
  (void)state;
  Network n;
  Toy t = toy("cpu");
  toy_open(&n, &t);
  Params *p = &n.model.params;
  assert_int_equal(p->n, ROWS(before) + BLOCKS * ROWS(block) + ROWS(after));
  double *flat = toy_values(&n, p->value);
  each_row(&n, flat, shape_test);
  int64_t end = 0, elements = 0;
  for (int i = 0; i < p->n; i++) { /* in order, disjoint, each at a multiple of 64 */
    assert_int_equal(p->list[i].offset % 64, 0);
    assert_true(p->list[i].offset >= end && p->list[i].offset < end + 64);
    end = p->list[i].offset + p->list[i].count / p->list[i].dims[0] * p->list[i].padded;
    elements += p->list[i].count;
  }
  assert_true(p->count >= end && p->count < end + 64);
  assert_int_equal(params_elements(p), elements);
  assert_null(params_find(p, "blocks.2.norm1.weight"));
  assert_string_equal(p->list[n.model.head_weight].name, "output_layer.linear.weight");
  assert_string_equal(p->list[n.model.head_bias].name, "output_layer.linear.bias");
  mem_free(&flat);
  network_destroy(&n);
}

/* The published small network on LM1B: 139.3 M parameters, and the FLOPs per token of this shape. */
static void test_small_size(void **state) {
  (void)state;
  const int64_t width = 768, vocab = 30522, cond = 128, blocks = 12;
  Device dev;
  Model m;
  MUST(device_open(&dev, &(DeviceOptions){.name = "cpu", .threads = 1}));
  ModelOptions o = {.name = "dit",
                    .vocab = vocab,
                    .length = 128,
                    .batch = 1,
                    .width = width,
                    .blocks = blocks,
                    .heads = 12,
                    .cond_dim = cond,
                    .mlp_ratio = 4};
  MUST(model_create(&m, &dev, &o));
  int64_t table = vocab * width, time = 256 * cond + cond + cond * cond + cond;
  int64_t one = 12 * width * width + 5 * width + 2 * width + 6 * width * (cond + 1);
  int64_t last = width + table + vocab + 2 * width * (cond + 1);
  assert_int_equal(params_elements(&m.params), table + time + blocks * one + last);
  assert_int_equal(params_elements(&m.params), 139292986);
  double body, attention, head, all = model_flops(&m, &body, &attention, &head);
  double late = 18.0 * (double)(width * width); /* behind the last attention: wanted rows only */
  assert_true(body == 24.0 * (double)(width * width * blocks) - late);
  assert_true(attention == 4.0 * 128 * (double)(width * blocks));
  assert_true(head == 2.0 * (double)table + late);
  assert_true(all == body + attention + head);
  model_destroy(&m);
  assert_int_equal(dev.allocated, 0);
  device_close(&dev);
}

static void init_test(Network *n, const Row *row, const Param *p, const double *values) {
  (void)n;
  double bound = 1 / sqrt((double)row->fan_in), largest = 0, sum = 0, square = 0, count = (double)p->count;
  for (int64_t i = 0; i < p->count; i++) {
    if (row->fan_in <= 0 && values[i] != -row->fan_in) fail_msg("%s[%lld] is %g", p->name, (long long)i, values[i]);
    largest = fmax(largest, fabs(values[i]));
    sum += values[i];
    square += values[i] * values[i];
  }
  if (row->fan_in <= 0) return;
  if (!(largest <= bound)) fail_msg("%s reaches %g, beyond %g", p->name, largest, bound);
  if (!(largest > bound * (1 - 5 / count))) fail_msg("%s stays within %g of ±%g", p->name, largest, bound);
  /* mean 0 and mean square bound²/3, within five standard errors */
  if (!(fabs(sum / count) < 5 * bound / sqrt(3 * count))) fail_msg("%s has the mean %g", p->name, sum / count);
  if (!(fabs(square / count - bound * bound / 3) < 5 * bound * bound * sqrt(4 / 45.0 / count)))
    fail_msg("%s has the mean square %g", p->name, square / count);
}

static void test_init(void **state) {
  (void)state;
  Network n;
  Toy t = toy("cpu_f64");
  toy_open(&n, &t);
  Params *p = &n.model.params;
  MUST(params_init(p, 42));
  double *flat = toy_values(&n, p->value);
  each_row(&n, flat, init_test);
  for (int i = 0; i < p->n; i++) /* the gap after each parameter */
    for (int64_t k = p->list[i].offset + p->list[i].count; k < p->count && k % 64; k++) assert_true(flat[k] == 0);
  mem_free(&flat);
  network_destroy(&n);
}

/* ---- DiMamba: the ending of each parameter's name and its initial distribution */
static double root(double x) { return 1 / sqrt(x); }

typedef struct Ending {
  const char *name;
  InitKind init;
  double bound; /* INIT_UNIFORM: the bound; INIT_NORMAL: the standard deviation */
  int times;
} Ending;

static void init_dimamba_test(const Param *p, const Ending *e, const double *values) {
  double n = (double)p->count, sum = 0, square = 0, low = 0, high = 0, far = 0, pairs = 0, last = 0;
  for (int64_t i = 0; i < p->count; i++) {
    double v = values[i], step = log(log1p(exp(v))), middle = (log(1e-3) + log(1e-1)) / 2;
    if (e->init == INIT_STEP) v = (step - middle) / (log(1e-1) - middle); /* uniform in [−1,1] */
    if (e->init == INIT_ONE) assert_true(v == 1);
    if (e->init == INIT_ZERO) assert_true(v == 0);
    if (e->init == INIT_LOG_INDEX) assert_true(v == log((double)(i % p->dims[1] + 1)));
    sum += v;
    square += v * v;
    far += fabs(v) > 2 * e->bound;
    pairs += i % 2 ? v * last : 0;
    low = fmin(low, v);
    high = fmax(high, v);
    last = v;
  }
  if (e->init == INIT_ONE || e->init == INIT_ZERO || e->init == INIT_LOG_INDEX) return;
  double b = e->bound, variance = e->init == INIT_NORMAL ? b * b : b * b / 3;
  double fourth = e->init == INIT_NORMAL ? 2 * b * b * b * b : b * b * b * b * 4 / 45;
  if (!(fabs(sum / n) < 5 * sqrt(variance / n))) fail_msg("%s has the mean %g", p->name, sum / n);
  if (!(fabs(square / n - variance) < 5 * sqrt(fourth / n))) fail_msg("%s has the mean square %g", p->name, square / n);
  if (!(fabs(pairs / n) < 5 * variance * sqrt(0.5 / n))) fail_msg("%s: neighbours are alike", p->name);
  double least = b * (1 - 16 / n), most = b * (1 + 1e-9);
  if (e->init != INIT_NORMAL && !(high <= most && high > least && low >= -most && low < -least))
    fail_msg("%s reaches from %g to %g, not ±%g", p->name, low, high, b);
  const double tails = 0.0455; /* share of a normal distribution beyond two standard deviations */
  if (e->init == INIT_NORMAL && !(fabs(far / n - tails) < 5 * sqrt(tails / n)))
    fail_msg("%s: %g of it is far out", p->name, far / n);
}

static void test_init_dimamba(void **state) {
  (void)state;
  enum { W = 72, E = 2 * W, RANK = 5, TOKENS = 97 };
  const Ending endings[] = {{"word_embeddings.weight", INIT_NORMAL, 0.02, 1},
                            {"norm.weight", INIT_ONE, 0, BLOCKS},
                            {"norm_f.weight", INIT_ONE, 0, 1},
                            {".A_log", INIT_LOG_INDEX, 0, 2 * BLOCKS},
                            {".D", INIT_ONE, 0, 2 * BLOCKS},
                            {"in_proj.weight", INIT_UNIFORM, root(W), BLOCKS},
                            {"conv1d.weight", INIT_UNIFORM, 0.5, 2 * BLOCKS},
                            {"conv1d.bias", INIT_UNIFORM, 0.5, 2 * BLOCKS},
                            {"x_proj.weight", INIT_UNIFORM, root(E), 2 * BLOCKS},
                            {"dt_proj.weight", INIT_UNIFORM, root(RANK), 2 * BLOCKS},
                            {"dt_proj.bias", INIT_STEP, 1, 2 * BLOCKS},
                            {"out_proj.weight", INIT_UNIFORM, root(E * BLOCKS), BLOCKS},
                            {"adaLN_modulation.weight", INIT_ZERO, 0, BLOCKS},
                            {"adaLN_modulation.bias", INIT_ZERO, 0, BLOCKS},
                            {"adaLN_modulation_final.weight", INIT_ZERO, 0, 1},
                            {"adaLN_modulation_final.bias", INIT_ZERO, 0, 1},
                            {"sigma_map.mlp.0.weight", INIT_UNIFORM, root(256), 1},
                            {"sigma_map.mlp.2.weight", INIT_UNIFORM, root(C), 1},
                            {"lm_head.weight", INIT_UNIFORM, root(W), 1}};
  Network n;
  Toy t = toy("cpu_f64");
  t.model.name = "dimamba", t.model.width = W, t.model.vocab = TOKENS;
  toy_open(&n, &t);
  MUST(params_init(&n.model.params, 42));
  double *flat = toy_values(&n, n.model.params.value);
  for (size_t k = 0; k < ROWS(endings); k++) {
    int times = 0;
    for (int i = 0; i < n.model.params.n; i++) {
      const Param *p = &n.model.params.list[i];
      size_t length = strlen(p->name), tail = strlen(endings[k].name);
      if (length < tail || strcmp(p->name + length - tail, endings[k].name) != 0) continue;
      init_dimamba_test(p, &endings[k], flat + p->offset);
      times++;
    }
    assert_int_equal(times, endings[k].times);
  }
  mem_free(&flat);
  network_destroy(&n);
}

/* Each parameter has its own random stream: divided by the bounds, the first elements of any two parameters differ. */
static void test_streams_differ(void **state) {
  (void)state;
  Network n;
  Toy t = toy("cpu_f64");
  toy_open(&n, &t);
  Params *p = &n.model.params;
  MUST(params_init(p, 42));
  double *flat = toy_values(&n, p->value);
  for (int i = 0; i < p->n; i++)
    for (int j = 0; j < i; j++) {
      const Param *a = &p->list[i], *b = &p->list[j];
      if (a->init != INIT_UNIFORM || b->init != INIT_UNIFORM) continue;
      for (int64_t k = 0; k < 8; k++)
        if (fabs(flat[a->offset + k] / a->bound - flat[b->offset + k] / b->bound) < 1e-9)
          fail_msg("%s and %s start alike", a->name, b->name);
    }
  mem_free(&flat);
  network_destroy(&n);
}

static double *initial(const char *backend, uint64_t seed, int64_t *count) {
  Network n;
  Toy t = toy(backend);
  toy_open(&n, &t);
  MUST(params_init(&n.model.params, seed));
  double *flat = toy_values(&n, n.model.params.value);
  *count = n.model.params.count;
  network_destroy(&n);
  return flat;
}

static void test_init_on_backends(void **state) {
  (void)state;
  int64_t count, same = 0, moving = 0;
  double *f64 = initial("cpu_f64", 42, &count), *f32 = initial("cpu", 42, &count), *again = initial("cpu", 42, &count);
  double *other = initial("cpu", 43, &count);
  for (int64_t i = 0; i < count; i++) f64[i] = (double)(float)f64[i];
  toy_same("f32 weights", f32, f64, count);
  toy_same("the same seed", again, f32, count);
  for (int64_t i = 0; i < count; i++) {
    bool drawn = f32[i] != 0 && f32[i] != 1;
    moving += drawn;
    same += drawn && f32[i] == other[i];
  }
  assert_true(moving > 20000);
  assert_true(same <= 3); /* there are only 2^24 possible f32 values, so a few can be equal by chance */
  double *all[] = {f64, f32, again, other};
  for (int i = 0; i < 4; i++) mem_free(&all[i]);
}

/* Modulation and head start at zero: a fresh network is uniform, with loss log(V − 1) at every masked token. */
static void test_fresh_network_is_uniform(void **state) {
  (void)state;
  Network n;
  Toy t = toy("cpu_f64");
  toy_open(&n, &t);
  MUST(params_init(&n.model.params, 42));
  const int32_t x0[2 * L] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2};
  double loss[2 * L];
  noised_begin(&n.noised, 2);
  for (int64_t b = 0; b < 2; b++) {
    toy_masks(n.noised.z + b * L, x0 + b * L, L, t.mask, b ? 0x15 : 0x2f);
    noised_add(&n.objective, &n.noised, b, x0 + b * L, L, b ? 0.25 : 0.5);
  }
  ModelInput in = {
      .B = 2, .ids = n.noised.z, .sigma = n.noised.sigma, .rows = n.noised.rows, .n_rows = n.noised.n_rows};
  MUST(model_forward(&n.model, &in));
  MUST(rows_loss(&n.rows, &n.objective, &n.noised, false, loss));
  assert_int_equal(n.noised.n_rows, 5 + 3);
  for (int i = 0; i < 8; i++) assert_true(fabs(loss[i] - log(V - 1) * (i < 5 ? 2 : 4)) < 1e-12);
  network_destroy(&n);
}

/* ---- refusals */
static void refused(ModelOptions o, const char *what) {
  Device dev;
  Model m;
  MUST(device_open(&dev, &(DeviceOptions){.name = "cpu", .threads = 1}));
  check_refused(model_create(&m, &dev, &o), ERR_USAGE, what);
  assert_int_equal(dev.allocated, 0);
  device_close(&dev);
}

static void test_refusals(void **state) {
  (void)state;
  ModelOptions good = toy("cpu").model, o = good;
  o.name = "dot";
  refused(o, "an unknown network");
  o = good, o.heads = 5;
  refused(o, "heads that do not divide the width");
  o = good, o.heads = 32;
  refused(o, "heads of width one");
  o = good, o.width = 36, o.heads = 2;
  refused(o, "a width that is no multiple of 8");
  o = good, o.batch = INT32_MAX;
  refused(o, "more rows than an index can hold");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_names_and_shapes),
      cmocka_unit_test(test_small_size),
      cmocka_unit_test(test_init),
      cmocka_unit_test(test_init_dimamba),
      cmocka_unit_test(test_streams_differ),
      cmocka_unit_test(test_init_on_backends),
      cmocka_unit_test(test_fresh_network_is_uniform),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
