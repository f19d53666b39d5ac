#include "toy.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

void toy_open(Network *n, const Toy *toy) {
  *n = (Network){0};
  MUST(device_open(&n->dev, &toy->device));
  MUST(model_create(&n->model, &n->dev, &toy->model));
  MUST(schedule_create(&n->schedule, toy->schedule ? toy->schedule : "loglinear", toy->eps, 1e-3, 0));
  ObjectiveOptions o = toy->objective;
  o.name = o.name ? o.name : "subs";
  o.schedule = &n->schedule;
  o.mask = toy->mask;
  o.vocab = toy->model.vocab;
  MUST(objective_create(&n->objective, &o));
  MUST(rows_create(&n->rows, &n->model, n->objective.terms));
  MUST(noised_create(&n->noised, toy->model.batch, toy->model.length, n->objective.terms));
  MUST(mem_alloc(&n->row_loss, (size_t)(toy->model.batch * toy->model.length) * sizeof *n->row_loss));
}

void toy_weights(Network *n, uint64_t seed, double gain) {
  Params *p = &n->model.params;
  for (int i = 0; i < p->n; i++) {
    const Param *x = &p->list[i];
    RngKey key = rng_key(seed, RNG_TEST, (uint32_t)i, 0, 0);
    double *host = NULL, *scratch = NULL;
    double middle = x->init == INIT_ONE, bound = x->rank == 1 ? 0.5 : gain / sqrt((double)x->dims[1]);
    MUST(mem_alloc(&host, (size_t)x->count * sizeof *host));
    MUST(mem_alloc(&scratch, (size_t)x->count * sizeof *scratch));
    for (int64_t k = 0; k < x->count; k++) host[k] = (float)(middle + bound * (2 * rng_uniform(key, (uint64_t)k) - 1));
    MUST(tensor_from_f64(&n->dev, x->value, host, scratch));
    mem_free(&host);
    mem_free(&scratch);
  }
  MUST(params_bind(p, p->value));
}

double *toy_values(Network *n, Tensor t) {
  double *values = NULL;
  int64_t count = tensor_count(t);
  size_t size = dtype_size(t.type);
  MUST(mem_alloc(&values, (size_t)count * sizeof *values));
  MUST(tensor_download(&n->dev, values, t));
  for (int64_t i = count - 1; t.type != DT_F64 && i >= 0; i--) { /* widen in place, from the back */
    uint32_t bits = 0;                                           /* bf16 is the upper half of f32 */
    memcpy((char *)&bits + sizeof bits - size, (char *)values + (size_t)i * size, size);
    float f;
    memcpy(&f, &bits, sizeof f);
    values[i] = f;
  }
  return values;
}

void toy_masks(int32_t *z, const int32_t *x0, int64_t L, int32_t mask, unsigned set) {
  for (int64_t l = 0; l < L; l++) z[l] = set >> l & 1 ? mask : x0[l];
}

void toy_same(const char *what, const double *got, const double *want, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (memcmp(&got[i], &want[i], sizeof got[i]) != 0)
      fail_msg("%s: element %lld is %.17g, not %.17g", what, (long long)i, got[i], want[i]);
}

int64_t toy_draws(int64_t n) {
  if (check_statistics()) return check_long() ? n : n / 4;
  int64_t few = n / 20, most = check_slow ? 200 : 500;
  return few < most ? few : most;
}

void toy_need_speed(void) {
  if (!check_watched()) return;
  print_message("# skip: too much for a memory checker\n");
  skip();
}

double toy_chi2(const int64_t *count, const double *chance, int cells, int64_t draws, int *dof) {
  double sum = 0, pooled = 0;
  int64_t pooled_count = 0;
  *dof = -1;
  for (int i = 0; i < cells; i++) {
    double expected = chance[i] * (double)draws, d = (double)count[i] - expected;
    if (expected < 8) {
      pooled += expected;
      pooled_count += count[i];
    } else {
      sum += d * d / expected;
      ++*dof;
    }
  }
  if (pooled > 0 || pooled_count > 0) {
    double d = (double)pooled_count - pooled;
    sum += d * d / pooled;
    ++*dof;
  }
  return sum;
}

double toy_chi2_limit(int dof) {
  const double z = 3.719; /* normal quantile of 1 − 10⁻⁴ */
  double c = 2 / (9.0 * dof), root = 1 - c + z * sqrt(c);
  return dof * root * root * root;
}

void toy_law(const char *what, const int64_t *count, const double *chance, int cells, int64_t draws) {
  double total = 0;
  int64_t drawn = 0;
  for (int i = 0; i < cells; i++) {
    total += chance[i];
    drawn += count[i];
  }
  if (!(fabs(total - 1) < 1e-12) || drawn != draws)
    fail_msg("%s: chances sum to %.15g, counts to %lld of %lld", what, total, (long long)drawn, (long long)draws);
  int dof;
  double x = toy_chi2(count, chance, cells, draws, &dof);
  if (!(x <= toy_chi2_limit(dof)))
    fail_msg("%s: chi-square is %.1f on %d degrees of freedom, more than %.1f", what, x, dof, toy_chi2_limit(dof));
}

Toy toy_tiny(int64_t vocab, int32_t mask, int64_t length, int64_t batch) {
  return (Toy){.device = {.name = "cpu_f64", .threads = 1},
               .model = {.name = "dit",
                         .vocab = vocab,
                         .length = length,
                         .batch = batch,
                         .width = 8,
                         .blocks = 1,
                         .heads = 2,
                         .cond_dim = 4,
                         .mlp_ratio = 2},
               .mask = mask};
}

/* ---- one small DiT */
const ToyBatch toy_mixed = {
    .x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
    .z = {3, TOY_MASK, TOY_MASK, 1, 5, TOY_MASK, 2, TOY_MASK, TOY_MASK, 3, 0, TOY_MASK, 8, TOY_MASK, TOY_MASK},
    .length = {5, 3, 5},
    .t = {0.31, 0.77, 0.52}};
const int32_t toy_labels[TOY_B] = {2, -1, 0};
const Dropout toy_none = {0};
const Dropout toy_quarter = {.p = 0.25, .seed = 5, .step = 3, .first = 6};

Toy toy_dit(const char *backend, bool time) {
  return (Toy){.device = {.name = backend, .threads = 1},
               .model = {.name = "dit",
                         .vocab = TOY_V,
                         .length = TOY_L,
                         .batch = TOY_B,
                         .width = TOY_D,
                         .blocks = 2,
                         .heads = 2,
                         .cond_dim = 8,
                         .mlp_ratio = 4,
                         .time_conditioning = time,
                         .training = true},
               .mask = TOY_MASK,
               .eps = 1e-3};
}

/* n->noised := sequences of the batch. */
static void noise(Network *n, const ToyBatch *b, int first, int count) {
  noised_begin(&n->noised, count);
  memcpy(n->noised.z, b->z + first * TOY_L, (size_t)(count * TOY_L) * sizeof *b->z);
  for (int i = 0; i < count; i++) {
    int64_t rows = n->noised.n_rows;
    if (n->model.options.classes > 0) n->noised.label[i] = toy_labels[first + i];
    noised_add(&n->objective, &n->noised, i, b->x0 + (first + i) * TOY_L, b->length[first + i], b->t[first + i]);
    noised_reweigh(&n->objective, &n->noised, rows, b->t[first + i]);
  }
}

double toy_pass(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, bool gradient) {
  double loss[TOY_B], sum = 0;
  int64_t rows = 0;
  noise(n, b, first, count);
  dropout.first += first;
  MUST(network_loss(n, &dropout, gradient, loss, &rows));
  for (int b0 = 0; b0 < count; b0++) sum += loss[b0];
  return sum;
}

double *toy_gradients(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, double *loss) {
  MUST(tensor_zero(&n->dev, n->model.params.grad));
  double sum = toy_pass(n, b, first, count, dropout, true);
  if (loss) *loss = sum;
  return toy_values(n, n->model.params.grad);
}

typedef struct Told {
  Network *n;
  double *final; /* gradients at the time the callback reported them */
  int64_t first, calls;
} Told;

static int tell(void *arg, int64_t first) {
  Told *t = arg;
  if (first >= t->first)
    fail_msg("gradients from %lld on, after those from %lld", (long long)first, (long long)t->first);
  double *now = toy_values(t->n, tensor_rows(t->n->model.params.grad, first, t->first - first));
  memcpy(t->final + first, now, (size_t)(t->first - first) * sizeof *now);
  mem_free(&now);
  t->first = first;
  t->calls++;
  return OK;
}

void toy_ready(Network *n, const ToyBatch *b, Dropout dropout) {
  int64_t count = n->model.params.count;
  Told t = {.n = n, .first = count};
  MUST(mem_alloc(&t.final, (size_t)count * sizeof *t.final));
  n->ready = (Ready){tell, &t};
  double *grad = toy_gradients(n, b, 0, TOY_B, dropout, NULL);
  n->ready = (Ready){0};
  assert_int_equal(t.first, 0);
  assert_int_equal(t.calls, n->model.options.blocks + 2);
  toy_same("gradients that were final", grad, t.final, count);
  mem_free(&grad);
  mem_free(&t.final);
}

double *toy_hidden_rows(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, const int32_t *rows,
                        int64_t n_rows) {
  noise(n, b, first, count);
  const Noised *z = &n->noised;
  ModelInput in = {.B = count, .ids = z->z, .sigma = z->sigma, .labels = z->label, .lengths = z->length};
  in.rows = rows, in.n_rows = n_rows;
  in.dropout = dropout;
  in.dropout.first += first;
  MUST(model_forward(&n->model, &in));
  return toy_values(n, tensor_rows(n->model.h, 0, rows ? n_rows : count * TOY_L));
}

double *toy_hidden(Network *n, const ToyBatch *b, int first, int count, Dropout dropout) {
  return toy_hidden_rows(n, b, first, count, dropout, NULL, 0);
}

void toy_near(const char *what, const Params *p, const double *got, const double *want, double tolerance) {
  for (int i = 0; i < p->n; i++) {
    double error = check_error(got + p->list[i].offset, want + p->list[i].offset, p->list[i].count);
    if (!(error <= tolerance)) fail_msg("%s: %s is off by %.1e", what, p->list[i].name, error);
  }
}
