/* test_dit — the DiT, SUBS, their gradients and ten steps of the recipe against tests/golden/dit.h5, which make_dit.py
 * computed independently in float64. A difference is relative to the largest magnitude of its data set: at most 2e-15
 * was seen in f64 and 1.5e-6 in f32, where both sides differ in the order of sums only. The bounds leave other
 * compilers and libraries room: ten times in f32; in f64 they are far below any change of a formula. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "diffusion/rows.h"
#include "store/h5.h"
#include "train/optimizer.h"

static const char *const FILE_NAME = "tests/golden/dit.h5";
static const double BOUND_F64 = 1e-12, BOUND_F32 = 2e-5;

typedef struct Golden { /* one backend, one case of the file */
  H5 *f;
  Device dev;
  Model model;
  Rows rows;
  Schedule schedule;
  Objective objective;
  Noised noised;
  int64_t B, L, V;
  int number; /* of the case */
  double bound;
  int32_t *x0, *z, *lengths;
  double *t;
  double *buffer, *scratch; /* [most] numbers of any data set; device type */
} Golden;

/* ---- the file */
static int64_t size_of(Golden *g, const char *name) {
  int64_t value = 0;
  MUST(h5_get_int(g->f, "/", name, &value));
  return value;
}

static double real_of(Golden *g, const char *name) {
  double value = 0;
  MUST(h5_get_real(g->f, "/", name, &value));
  return value;
}

static void *host(size_t bytes) {
  void *p = NULL;
  MUST(mem_alloc(&p, bytes));
  return p;
}

static void batch_read(Golden *g) {
  int64_t dims[2] = {g->B, g->L};
  char name[64];
  snprintf(name, sizeof name, "/case%d/x0", g->number);
  MUST(h5_read(g->f, name, H5_I32, 2, dims, g->x0));
  snprintf(name, sizeof name, "/case%d/z", g->number);
  MUST(h5_read(g->f, name, H5_I32, 2, dims, g->z));
  snprintf(name, sizeof name, "/case%d/lengths", g->number);
  MUST(h5_read(g->f, name, H5_I32, 1, dims, g->lengths));
  snprintf(name, sizeof name, "/case%d/t", g->number);
  MUST(h5_read(g->f, name, H5_F64, 1, dims, g->t));
}

static void weights_read(Golden *g) {
  Params *p = &g->model.params;
  char **names = NULL;
  int n = 0;
  MUST(h5_list(g->f, "/params", &names));
  while (names[n]) n++;
  h5_list_free(&names);
  assert_int_equal(n, p->n); /* with the reads below: the same names on both sides */
  for (int i = 0; i < p->n; i++) {
    char name[128];
    snprintf(name, sizeof name, "/params/%s", p->list[i].name);
    MUST(h5_read(g->f, name, H5_F64, p->list[i].rank, p->list[i].dims, g->buffer));
    MUST(tensor_from_f64(&g->dev, p->list[i].value, g->buffer, g->scratch));
  }
}

/* ---- comparison */
static void compare(Golden *g, const char *what, const double *got, const double *want, int64_t n) {
  double error = check_error(got, want, n);
  if (!(error <= g->bound))
    fail_msg("%s, case %d: %s is off by %.1e, more than %.0e", g->dev.ops->name, g->number, what, error, g->bound);
}

/* to_host — t as double in g->buffer */
static const double *to_host(Golden *g, Tensor t) {
  int64_t n = tensor_count(t);
  MUST(tensor_download(&g->dev, g->scratch, t));
  for (int64_t i = 0; i < n; i++)
    g->buffer[i] = t.type == DT_F64 ? g->scratch[i] : (double)((const float *)(const void *)g->scratch)[i];
  return g->buffer;
}

static void compare_gradients(Golden *g, double scored) {
  Params *p = &g->model.params;
  for (int i = 0; i < p->n; i++) {
    const Param *a = &p->list[i];
    char name[128];
    snprintf(name, sizeof name, "/case%d/grads/%s", g->number, a->name);
    double *want = host((size_t)a->count * sizeof *want);
    MUST(h5_read(g->f, name, H5_F64, a->rank, a->dims, want));
    to_host(g, a->grad);
    for (int64_t j = 0; j < a->count; j++) g->buffer[j] /= scored;
    compare(g, name, g->buffer, want, a->count);
    mem_free(&want);
  }
}

/* ---- the model on sequences first … first+n−1 */
static ModelInput input(Golden *g, int64_t first, int64_t n) {
  noised_begin(&g->noised, n);
  memcpy(g->noised.z, g->z + first * g->L, (size_t)(n * g->L) * sizeof *g->z);
  for (int64_t b = 0; b < n; b++)
    noised_add(&g->objective, &g->noised, b, g->x0 + (first + b) * g->L, g->lengths[first + b], g->t[first + b]);
  return (ModelInput){.B = n, .ids = g->noised.z, .sigma = g->noised.sigma};
}

static void compare_logits(Golden *g, int64_t first, int64_t n) {
  int64_t dims[3] = {g->B, g->L, g->V}, each = g->L * g->V;
  char name[64];
  void *memory = NULL;
  size_t bytes = (size_t)(n * each) * dtype_size(g->dev.real);
  MUST(device_alloc(&g->dev, &memory, bytes));
  Tensor logits = tensor_2d(memory, g->dev.real, n * g->L, g->V);
  MUST(model_logits(&g->model, logits, tensor_rows(g->model.h, 0, n * g->L)));
  double *want = host((size_t)(g->B * each) * sizeof *want);
  snprintf(name, sizeof name, "/case%d/logits", g->number);
  MUST(h5_read(g->f, name, H5_F64, 3, dims, want));
  compare(g, name, to_host(g, logits), want + first * each, n * each);
  mem_free(&want);
  device_release(&g->dev, memory, bytes);
}

/* the objective's rows must be all masked real positions and their losses those of the file; returns their sum */
static double compare_losses(Golden *g, int64_t first, const double *loss) {
  int64_t dims[2] = {g->B, g->L}, k = 0;
  char name[64];
  double *tokens = host((size_t)(g->B * g->L) * sizeof *tokens), *want = host((size_t)(g->B * g->L) * sizeof *want),
         sum = 0;
  snprintf(name, sizeof name, "/case%d/loss_tokens", g->number);
  MUST(h5_read(g->f, name, H5_F64, 2, dims, tokens));
  for (int64_t b = 0; b < g->noised.B; b++)
    for (int64_t l = 0; l < g->lengths[first + b]; l++) {
      double token = tokens[(first + b) * g->L + l];
      if (token == 0) continue; /* visible */
      assert_true(k < g->noised.n_rows);
      assert_int_equal(g->noised.rows[k], b * g->L + l);
      want[k++] = token;
    }
  assert_int_equal(g->noised.n_rows, k);
  compare(g, name, loss, want, k);
  for (int64_t i = 0; i < k; i++) sum += loss[i];
  mem_free(&tokens);
  mem_free(&want);
  return sum;
}

/* one_case — the whole batch in passes of `most` sequences: logits, losses, and the gradients they add up to */
static void one_case(Golden *g, int64_t most) {
  double sum = 0, scored = 0, want = 0;
  char name[64];
  MUST(tensor_zero(&g->dev, g->model.params.grad));
  for (int64_t first = 0; first < g->B; first += most) {
    ModelInput in = input(g, first, g->B - first < most ? g->B - first : most);
    MUST(model_forward(&g->model, &in));
    compare_logits(g, first, in.B);
    double *loss = host((size_t)(in.B * g->L) * sizeof *loss);
    MUST(rows_loss(&g->rows, &g->objective, &g->noised, true, loss));
    MUST(model_backward(&g->model, &in));
    sum += compare_losses(g, first, loss);
    scored += (double)g->noised.scored;
    mem_free(&loss);
  }
  snprintf(name, sizeof name, "/case%d/loss", g->number);
  MUST(h5_read(g->f, name, H5_F64, 0, NULL, &want));
  compare(g, name, &(double){sum / scored}, &want, 1);
  compare_gradients(g, scored);
}

/* ---- the recipe: steps on the batch of case 0 */
static double batch_gradient(Golden *g) { /* returns the loss; the gradient is that of the sum over scored positions */
  ModelInput in = input(g, 0, g->B);
  double *loss = host((size_t)(g->B * g->L) * sizeof *loss), sum = 0;
  MUST(tensor_zero(&g->dev, g->model.params.grad));
  MUST(model_forward(&g->model, &in));
  MUST(rows_loss(&g->rows, &g->objective, &g->noised, true, loss));
  MUST(model_backward(&g->model, &in));
  for (int64_t i = 0; i < g->noised.n_rows; i++) sum += loss[i];
  mem_free(&loss);
  return sum / (double)g->noised.scored;
}

/* flat: a buffer laid out as the parameters; what: its group in the file */
static void compare_flat(Golden *g, Tensor flat, const char *what) {
  Params *p = &g->model.params;
  for (int i = 0; i < p->n; i++) {
    const Param *a = &p->list[i];
    char name[128];
    snprintf(name, sizeof name, "/steps/%s/%s", what, a->name);
    double *want = host((size_t)a->count * sizeof *want);
    MUST(h5_read(g->f, name, H5_F64, a->rank, a->dims, want));
    char *data = (char *)flat.data + (size_t)a->offset * dtype_size(flat.type);
    compare(g, name, to_host(g, tensor_1d(data, flat.type, a->count)), want, a->count);
    mem_free(&want);
  }
}

static void steps(Golden *g) {
  int64_t n = size_of(g, "steps");
  OptimizerOptions recipe = {.lr = real_of(g, "lr"),
                             .beta1 = real_of(g, "beta1"),
                             .beta2 = real_of(g, "beta2"),
                             .eps = real_of(g, "adam_eps"),
                             .weight_decay = real_of(g, "weight_decay"),
                             .clip = real_of(g, "clip"),
                             .ema = real_of(g, "ema"),
                             .warmup = size_of(g, "warmup")};
  Optimizer o;
  double *loss = host((size_t)n * sizeof *loss), *norm = host((size_t)n * sizeof *norm),
         *want = host((size_t)n * sizeof *want);
  MUST(optimizer_create(&o, &g->model.params, &recipe));
  MUST(optimizer_begin(&o));
  for (int64_t i = 0; i < n; i++) {
    double lr;
    loss[i] = batch_gradient(g);
    MUST(optimizer_step(&o, 1.0 / (double)g->noised.scored, &norm[i], &lr));
  }
  MUST(h5_read(g->f, "/steps/loss", H5_F64, 1, &n, want));
  compare(g, "/steps/loss", loss, want, n);
  MUST(h5_read(g->f, "/steps/norm", H5_F64, 1, &n, want));
  compare(g, "/steps/norm", norm, want, n);
  compare_flat(g, g->model.params.value, "params");
  compare_flat(g, o.ema, "ema");
  compare_flat(g, o.m, "m");
  compare_flat(g, o.v, "v");
  optimizer_destroy(&o);
  mem_free(&loss);
  mem_free(&norm);
  mem_free(&want);
}

/* ---- set-up */
static void golden_open(Golden *g, const char *backend, int number, int64_t row_chunk) {
  *g = (Golden){.number = number};
  MUST(h5_open(&g->f, FILE_NAME, false));
  MUST(device_open(&g->dev, &(DeviceOptions){.name = backend, .threads = 1, .row_chunk = row_chunk}));
  g->bound = g->dev.real == DT_F64 ? BOUND_F64 : BOUND_F32;
  g->B = size_of(g, "batch"), g->L = size_of(g, "length"), g->V = size_of(g, "vocab");
  ModelOptions o = {.name = "dit",
                    .vocab = g->V,
                    .length = g->L,
                    .batch = g->B,
                    .width = size_of(g, "width"),
                    .blocks = size_of(g, "blocks"),
                    .heads = size_of(g, "heads"),
                    .cond_dim = size_of(g, "cond_dim"),
                    .mlp_ratio = size_of(g, "mlp_ratio"),
                    .time_conditioning = number == 1,
                    .training = true};
  MUST(model_create(&g->model, &g->dev, &o));
  MUST(rows_create(&g->rows, &g->model, 1));
  MUST(schedule_create(&g->schedule, "loglinear", real_of(g, "schedule_eps"), 1e-3, 0));
  ObjectiveOptions options = {
      .name = "subs", .schedule = &g->schedule, .mask = (int32_t)size_of(g, "mask"), .vocab = g->V};
  MUST(objective_create(&g->objective, &options));
  MUST(noised_create(&g->noised, g->B, g->L, 1));
  size_t tokens = (size_t)(g->B * g->L), most = tokens * (size_t)g->V;
  for (int i = 0; i < g->model.params.n; i++)
    if ((size_t)g->model.params.list[i].count > most) most = (size_t)g->model.params.list[i].count;
  g->x0 = host(tokens * sizeof *g->x0), g->z = host(tokens * sizeof *g->z);
  g->lengths = host((size_t)g->B * sizeof *g->lengths), g->t = host((size_t)g->B * sizeof *g->t);
  g->buffer = host(most * sizeof *g->buffer), g->scratch = host(most * sizeof *g->scratch);
  batch_read(g);
  weights_read(g);
}

static void golden_close(Golden *g) {
  mem_free(&g->x0);
  mem_free(&g->z);
  mem_free(&g->lengths);
  mem_free(&g->t);
  mem_free(&g->buffer);
  mem_free(&g->scratch);
  noised_destroy(&g->noised);
  rows_destroy(&g->rows);
  model_destroy(&g->model);
  device_close(&g->dev);
  MUST(h5_close(&g->f));
}

/* in one pass, then two sequences at a time: gradients of micro-batches add up */
static void cases(const char *backend, int number) {
  Golden g;
  golden_open(&g, backend, number, 0);
  one_case(&g, g.B);
  golden_close(&g);
  golden_open(&g, backend, number, 4); /* and four rows of logits at a time */
  one_case(&g, 2);
  golden_close(&g);
}

static void ten_steps(const char *backend) {
  Golden g;
  golden_open(&g, backend, 0, 0);
  steps(&g);
  golden_close(&g);
}

static void test_f64(void **state) {
  (void)state;
  cases("cpu_f64", 0);
}
static void test_f64_time(void **state) {
  (void)state;
  cases("cpu_f64", 1);
}
static void test_f32(void **state) {
  (void)state;
  cases("cpu", 0);
}
static void test_f32_time(void **state) {
  (void)state;
  cases("cpu", 1);
}

static void test_f64_steps(void **state) {
  (void)state;
  ten_steps("cpu_f64");
}
static void test_f32_steps(void **state) {
  (void)state;
  ten_steps("cpu");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_f64),       cmocka_unit_test(test_f64_time),
                                     cmocka_unit_test(test_f64_steps), cmocka_unit_test(test_f32),
                                     cmocka_unit_test(test_f32_time),  cmocka_unit_test(test_f32_steps)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
