#include "diffusion/rows.h"
#include "base/err.h"
#include "base/mem.h"

static const char NOT_A_NUMBER[] = "the network's output is NaN: the weights of the checkpoint are damaged";
enum { PREDICTED = 3 }; /* columns of op_prediction */
static const int64_t HOST_CHUNK_BYTES = 64 << 20, DEVICE_CHUNK_BYTES = 1 << 30;
/* In training the gradient replaces the logits and is a factor of products, hence act; else logits keep full
 * precision. */
static DType logits_type(const Model *m) { return m->options.training ? m->dev->act : m->dev->real; }

static void plan(Arena *a, Rows *r) {
  DType real = r->model->dev->real;
  int64_t capacity = r->model->capacity;
  r->logits = arena_tensor(a, logits_type(r->model), r->chunk, r->model->columns);
  r->loss = arena_tensor(a, real, capacity, 0);
  r->weight = arena_tensor(a, real, capacity, r->terms);
  if (!r->model->options.training) r->predicted = arena_tensor(a, real, capacity, PREDICTED);
  r->target = arena_tensor(a, DT_I32, capacity, 0);
  r->ids = arena_tensor(a, DT_I32, capacity, 0);
  r->uniform = arena_tensor(a, DT_F64, capacity, 0);
  r->keep = arena_tensor(a, DT_F64, capacity, 0);
  r->measures = arena_tensor(a, DT_F64, capacity, 3);
  r->total = arena_tensor(a, DT_F64, 1, 0);
}

/* The number of rows differs in every step. Where the library creates a primitive per shape (bf16 on the CPU), run all
 * shapes that those numbers are composed of once now, on zeros, so that no step has to allocate: the whole chunk, and
 * 2^k − 1 rows. On a GPU only scratch grows with the rows: the whole chunk suffices. */
static int warm_up(Rows *r) {
  bool host = r->model->dev->ops->host;
  int64_t odd = 1;
  while (2 * odd + 1 <= r->chunk) odd = 2 * odd + 1;
  for (int i = 0; i < (host ? 2 : 1); i++) {
    int64_t n = i ? odd : r->chunk;
    Tensor logits = tensor_rows(r->logits, 0, n), h = tensor_rows(r->model->h, 0, n);
    TRY(model_logits(r->model, logits, h));
    if (r->model->options.training) TRY(model_logits_backward(r->model, tensor_rows(r->model->dh, 0, n), logits, h));
  }
  return OK;
}

int rows_create(Rows *r, Model *model, int terms) {
  bool host = model->dev->ops->host;
  *r = (Rows){.model = model, .chunk = model->dev->row_chunk, .terms = terms};
  const ModelOptions *o = &model->options;
  int64_t most = model->capacity, step = host ? 64 : model->unit;
  int64_t fit =
      (host ? HOST_CHUNK_BYTES : DEVICE_CHUNK_BYTES) / (int64_t)dtype_size(logits_type(model)) / model->columns;
  if (r->chunk == 0) r->chunk = fit < step ? step : fit / step * step;
  r->chunk = model_padded(model, r->chunk < most ? r->chunk : most);
  arena_measure(&r->arena, model->dev);
  plan(&r->arena, r);
  TRY(arena_commit(&r->arena));
  plan(&r->arena, r);
  if (!host || (o->training && model->dev->bf16)) TRY(warm_up(r));
  return mem_alloc(&r->host, (size_t)(most * (terms > PREDICTED ? terms : PREDICTED)) * sizeof(double));
}

void rows_destroy(Rows *r) {
  if (r == NULL) return;
  arena_destroy(&r->arena);
  mem_free(&r->host);
  *r = (Rows){0};
}

/* The number of rows that the last pass computed where it was asked for n; n pairs, whose padding chunk_pairs sees to. */
static int64_t computed(const Rows *r, int64_t n) {
  const Model *m = r->model;
  ASSERT((r->pairs ? 2 * n : n) == m->n_rows);
  if (r->pairs) return n;
  return tensor_none(m->rows) ? n : tensor_count(m->rows);
}

/* The clean tokens of n rows and, for the padding, one that a row can have: its weight is zero. */
static int upload_targets(Rows *r, const Objective *o, const int32_t *target, int64_t n, int64_t all) {
  int32_t *ids = r->host;
  for (int64_t i = 0; i < all; i++) ids[i] = i < n ? target[i] : o->mask == 0;
  return tensor_upload(r->model->dev, tensor_rows(r->target, 0, all), ids);
}

int rows_pair(Rows *r, double first) {
  CHECK(r->chunk > 1, ERR_USAGE,
        "device.row_chunk = 1 has no room for the two rows of sample.guidance: set it to 2 or more");
  r->pairs = true;
  r->second = 1 - first;
  return OK;
}

void rows_unpair(Rows *r) { r->pairs = false; }

int64_t rows_chunk(const Rows *r) { return r->pairs ? r->chunk / 2 : r->chunk; }

/* Logits of both rows of pairs first … first+n−1. The padding of the pass is behind the last ones. */
static int both_logits(Rows *r, int64_t first, int64_t n) {
  const Model *m = r->model;
  bool last = 2 * (first + n) == m->n_rows;
  int64_t rows = tensor_none(m->rows) ? m->n_rows : tensor_count(m->rows), all = last ? rows - 2 * first : 2 * n;
  return model_logits(r->model, tensor_rows(r->logits, 0, all), tensor_rows(m->h, 2 * first, all));
}

static int chunk_pairs(Rows *r, int64_t first, int64_t n) {
  const Model *m = r->model;
  Tensor flat = tensor_1d(r->logits.data, r->logits.type, 2 * n * m->columns);
  TRY(both_logits(r, first, n));
  return op_blend(m->dev, tensor_rows(flat, 0, n * m->columns), 1 - r->second, r->second,
                  tensor_rows(flat, n * m->columns, n * m->columns));
}

/* Logits of rows first … first+n−1 of the gathered ones, without the padding columns, which nothing but the products
 * reads: their weights are zero, and so are they and, since the gradient does not overwrite them, their gradients. */
static int chunk_logits(Rows *r, int64_t first, int64_t n, Tensor *logits) {
  Tensor all = tensor_rows(r->logits, 0, n);
  *logits = tensor_cols(all, 0, r->model->options.vocab);
  if (r->pairs) return chunk_pairs(r, first, n);
  return model_logits(r->model, all, tensor_rows(r->model->h, first, n));
}

/* Loss of rows first … first+n−1 of the gathered ones, and gradients of head and hidden rows. */
static int chunk_loss(Rows *r, const Objective *o, int64_t first, int64_t n, bool gradient) {
  Tensor logits, h = tensor_rows(r->model->h, first, n);
  TRY(chunk_logits(r, first, n, &logits));
  TRY(objective_loss(o, r->model->dev, tensor_rows(r->loss, first, n), logits, tensor_rows(r->target, first, n),
                     tensor_rows(r->weight, first, n), gradient));
  if (!gradient) return OK;
  return model_logits_backward(r->model, tensor_rows(r->model->dh, first, n), tensor_rows(r->logits, 0, n), h);
}

/* Number i of the staged ones. */
static double staged(const Rows *r, int64_t i) {
  return r->model->dev->real == DT_F64 ? ((double *)r->host)[i] : (double)((float *)r->host)[i];
}

static int losses_to_host(Rows *r, int64_t n, double *loss) {
  TRY(tensor_download(r->model->dev, r->host, tensor_rows(r->loss, 0, n)));
  for (int64_t i = 0; i < n; i++) loss[i] = staged(r, i);
  return OK;
}

int rows_total(Rows *r, double *loss) {
  TRY(tensor_download(r->model->dev, loss, r->total));
  return tensor_zero(r->model->dev, r->total);
}

/* Targets and weights of n rows and of the padding. */
static int upload_rows(Rows *r, const Objective *o, const Noised *noised, int64_t all) {
  Device *dev = r->model->dev;
  int64_t n = noised->n_rows;
  TRY(upload_targets(r, o, noised->target, n, all));
  TRY(tensor_from_f64(dev, tensor_rows(r->weight, 0, n), noised->weight, r->host));
  return all > n ? tensor_zero(dev, tensor_rows(r->weight, n, all - n)) : OK;
}

int rows_loss(Rows *r, const Objective *o, const Noised *noised, bool gradient, double *loss) {
  Device *dev = r->model->dev;
  int64_t n = noised->n_rows, all = computed(r, n);
  TRY(upload_rows(r, o, noised, all));
  for (int64_t first = 0; first < all; first += r->chunk)
    TRY(chunk_loss(r, o, first, all - first < r->chunk ? all - first : r->chunk, gradient));
  return loss ? losses_to_host(r, n, loss) : op_sum(dev, r->total, tensor_rows(r->loss, 0, n));
}

/* Loss and prediction of rows first … first+n−1 of the gathered ones. */
static int chunk_predict(Rows *r, const Objective *o, int64_t first, int64_t n) {
  Device *dev = r->model->dev;
  Tensor logits, target = tensor_rows(r->target, first, n);
  TRY(chunk_logits(r, first, n, &logits));
  TRY(op_prediction(dev, tensor_rows(r->predicted, first, n), logits, target, o->mask));
  TRY(op_argmax(dev, tensor_rows(r->ids, first, n), logits, o->mask));
  return objective_loss(o, dev, tensor_rows(r->loss, first, n), logits, target, tensor_rows(r->weight, first, n),
                        false);
}

static int predictions_to_host(Rows *r, const Noised *noised, Prediction *list) {
  Device *dev = r->model->dev;
  int64_t n = noised->n_rows;
  TRY(tensor_download(dev, r->host, tensor_rows(r->predicted, 0, n)));
  for (int64_t i = 0, k = 0; i < n; i++, k += PREDICTED)
    list[i] = (Prediction){.nll = staged(r, k), .top = staged(r, k + 1), .entropy = staged(r, k + 2)};
  const int32_t *ids = r->host;
  TRY(tensor_download(dev, r->host, tensor_rows(r->ids, 0, n)));
  for (int64_t i = 0; i < n; i++) {
    CHECK(ids[i] >= 0, ERR_NUMERIC, "%s", NOT_A_NUMBER);
    list[i].hit = ids[i] == noised->target[i];
  }
  return OK;
}

int rows_predict(Rows *r, const Objective *o, const Noised *noised, double *loss, Prediction *list) {
  int64_t n = noised->n_rows, all = computed(r, n);
  if (n == 0) return OK;
  TRY(upload_rows(r, o, noised, all));
  for (int64_t first = 0; first < all; first += r->chunk)
    TRY(chunk_predict(r, o, first, all - first < r->chunk ? all - first : r->chunk));
  TRY(losses_to_host(r, n, loss));
  return predictions_to_host(r, noised, list);
}

/* Rows, which may be strided, to the host. */
static int logits_to_host(Rows *r, Tensor f, int64_t n, float *logits) {
  void *scratch = NULL;
  TRY(mem_alloc(&scratch, (size_t)f.dims[1] * dtype_size(f.type)));
  int err = OK;
  for (int64_t i = 0; i < n && err == OK; i++)
    err = tensor_to_f32(r->model->dev, logits + i * f.dims[1], tensor_rows(f, i, 1), scratch);
  mem_free(&scratch);
  return err;
}

int rows_logits(Rows *r, int64_t first, int64_t n, float *logits) {
  Tensor f;
  ASSERT(n <= r->chunk);
  TRY(chunk_logits(r, first, n, &f));
  return logits_to_host(r, f, n, logits);
}

int rows_pair_logits(Rows *r, int64_t first, int64_t n, float *logits) {
  ASSERT(r->pairs && n <= rows_chunk(r));
  TRY(both_logits(r, first, n));
  return logits_to_host(r, tensor_cols(tensor_rows(r->logits, 0, 2 * n), 0, r->model->options.vocab), 2 * n, logits);
}

/* What rows_draw, rows_propose, rows_score and rows_draw_seen have in common. */
typedef struct Drawing {
  const DrawRule *rule;
  bool likeliest, keep; /* whether r->uniform is not used, r->keep is */
  int32_t never;
  bool measure; /* into r->measures */
  bool nll;     /* of r->target, into r->loss */
} Drawing;

/* The weights of n rows where they have one factor. */
static Tensor single(const Rows *r, int64_t first, int64_t n) {
  return tensor_rows(tensor_1d(r->weight.data, r->weight.type, r->model->capacity), first, n);
}

/* Targets ids[n] of weight 1; nll[n] is scratch. */
static int upload_seen(Rows *r, const Objective *o, int64_t n, const int32_t *ids, double *nll) {
  Device *dev = r->model->dev;
  int64_t all = computed(r, n);
  TRY(upload_targets(r, o, ids, n, all));
  for (int64_t i = 0; i < n; i++) nll[i] = 1;
  TRY(tensor_from_f64(dev, single(r, 0, n), nll, r->host));
  return all > n ? tensor_zero(dev, single(r, n, all - n)) : OK;
}

static int chunk_nll(Rows *r, const Objective *o, Tensor logits, int64_t first, int64_t k) {
  return objective_cross_entropy(o, r->model->dev, tensor_rows(r->loss, first, k), logits,
                                 tensor_rows(r->target, first, k), single(r, first, k), false);
}

static int draw_chunk(Rows *r, const Objective *o, int64_t first, int64_t k, const Drawing *x) {
  Device *dev = r->model->dev;
  Tensor logits, ids = tensor_rows(r->ids, first, k);
  TRY(chunk_logits(r, first, k, &logits));
  if (x->never >= 0) TRY(op_exclude(dev, logits, x->never));
  if (x->nll) TRY(chunk_nll(r, o, logits, first, k));
  TRY(objective_denoise(o, dev, ids, logits, x->likeliest ? TENSOR_NONE : tensor_rows(r->uniform, first, k),
                        x->keep ? tensor_rows(r->keep, first, k) : TENSOR_NONE, x->rule ? *x->rule : (DrawRule){0}));
  if (x->measure) TRY(op_confidence(dev, tensor_rows(r->measures, first, k), logits, ids, o->mask));
  return OK;
}

/* ids[n] (host) of the n rows of the last pass, chunk by chunk. */
static int draw_rows(Rows *r, const Objective *o, int64_t n, const Drawing *x, int32_t *ids) {
  int64_t all = computed(r, n);
  for (int64_t first = 0; first < all; first += rows_chunk(r))
    TRY(draw_chunk(r, o, first, all - first < rows_chunk(r) ? all - first : rows_chunk(r), x));
  TRY(tensor_download(r->model->dev, ids, tensor_rows(r->ids, 0, n)));
  for (int64_t i = 0; i < n; i++) CHECK(ids[i] >= 0, ERR_NUMERIC, "%s", NOT_A_NUMBER);
  return OK;
}

int rows_draw(Rows *r, const Objective *o, int64_t n, const double *uniform, const double *keep, const DrawRule *rule,
              int32_t *ids) {
  Drawing x = {.rule = rule, .likeliest = !uniform || rule->temperature == 0, .keep = keep, .never = -1};
  if (n == 0) return OK;
  if (!x.likeliest) TRY(tensor_upload(r->model->dev, tensor_rows(r->uniform, 0, n), uniform));
  if (keep) TRY(tensor_upload(r->model->dev, tensor_rows(r->keep, 0, n), keep));
  return draw_rows(r, o, n, &x, ids);
}

int rows_propose(Rows *r, const Objective *o, int64_t n, const double *uniform, const DrawRule *rule, int32_t never,
                 int32_t *ids, double *measures) {
  Drawing x = {.rule = rule, .likeliest = rule->temperature == 0, .never = never, .measure = true};
  if (n == 0) return OK;
  if (!x.likeliest) TRY(tensor_upload(r->model->dev, tensor_rows(r->uniform, 0, n), uniform));
  TRY(draw_rows(r, o, n, &x, ids));
  return tensor_download(r->model->dev, measures, tensor_rows(r->measures, 0, n));
}

int rows_nll(Rows *r, const Objective *o, int64_t n, const int32_t *ids, double *nll) {
  if (n == 0) return OK;
  TRY(upload_seen(r, o, n, ids, nll));
  int64_t all = computed(r, n);
  for (int64_t first = 0; first < all; first += rows_chunk(r)) {
    int64_t k = all - first < rows_chunk(r) ? all - first : rows_chunk(r);
    Tensor logits;
    TRY(chunk_logits(r, first, k, &logits));
    TRY(chunk_nll(r, o, logits, first, k));
  }
  return losses_to_host(r, n, nll);
}

int rows_score(Rows *r, const Objective *o, int64_t n, const int32_t *target, double *nll, int32_t *ids,
               double *measures) {
  const Drawing x = {.likeliest = true, .never = -1, .measure = true, .nll = true};
  if (n == 0) return OK;
  TRY(upload_seen(r, o, n, target, nll));
  TRY(draw_rows(r, o, n, &x, ids));
  TRY(tensor_download(r->model->dev, measures, tensor_rows(r->measures, 0, n)));
  return losses_to_host(r, n, nll);
}

int rows_draw_seen(Rows *r, const Objective *o, int64_t n, const int32_t *seen, const double *uniform,
                   const DrawRule *rule, int32_t *ids, double *nll) {
  Drawing x = {.rule = rule, .likeliest = rule->temperature == 0, .never = -1, .nll = true};
  if (n == 0) return OK;
  if (!x.likeliest) TRY(tensor_upload(r->model->dev, tensor_rows(r->uniform, 0, n), uniform));
  TRY(upload_seen(r, o, n, seen, nll));
  TRY(draw_rows(r, o, n, &x, ids));
  return losses_to_host(r, n, nll);
}
