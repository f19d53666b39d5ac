#include "model/model.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/menu.h"
#include "model/linear.h"

int model_find(const ModelTable **table, const char *name) {
  MENU_FIND(*table, models, name);
  CHECK(*table, ERR_USAGE, "model.name = %s: no such network", name);
  return OK;
}

int heads_check(const ModelOptions *o) {
  CHECK(o->width % o->heads == 0 && o->width / o->heads % 2 == 0, ERR_USAGE,
        "model.width = %lld does not split into model.heads = %lld heads of even width", (long long)o->width,
        (long long)o->heads);
  return OK;
}

/* A GPU's library plans its products per shape. Padding the number of wanted rows to multiples of the unit, and to
 * powers of two below it, keeps the number of shapes small. */
enum { DEVICE_UNIT = 256, DEVICE_LEAST = 8 };

int64_t model_padded(const Model *m, int64_t n) {
  int64_t unit = m->unit > 1 ? DEVICE_LEAST : 1;
  while (unit < m->unit && unit < n) unit *= 2;
  return n > 0 ? (n + unit - 1) / unit * unit : unit;
}

static int block_check(const ModelTable *table, const ModelOptions *o) {
  if (o->block == 0) return OK;
  CHECK(table->halves, ERR_USAGE, "model.name = %s has no block diffusion", table->name);
  CHECK(o->block > 0 && o->length % o->block == 0, ERR_USAGE, "blocks of %lld tokens do not divide rows of %lld tokens",
        (long long)o->block, (long long)o->length);
  CHECK(!o->time_conditioning, ERR_USAGE,
        "model.time_conditioning: in block diffusion each block has its own time; set it to false");
  return OK;
}

int model_create(Model *m, Device *dev, const ModelOptions *options) {
  int64_t halves = options->block ? 2 : 1;
  *m =
      (Model){.options = *options, .dev = dev, .head_weight = -1, .head_bias = -1, .params = {.parts = options->parts}};
  if (m->options.draws == 0) m->options.draws = 1;
  ASSERT(options->batch % m->options.draws == 0);
  CHECK(options->width % 8 == 0, ERR_USAGE, "model.width = %lld is not a multiple of 8", (long long)options->width);
  CHECK(halves * options->length * options->width / 8 < INT64_C(1) << 32, ERR_USAGE,
        "sequences of %lld tokens at model.width = %lld are too long for the dropout streams",
        (long long)options->length, (long long)options->width);
  int64_t parts = options->mixed > halves ? options->mixed : halves; /* numbers of rows, or of their entries, are i32 */
  bool fits = parts * options->length * options->batch <= INT32_MAX;
  CHECK(fits, ERR_USAGE, "%lld sequences of %lld tokens are too many for one pass: lower the batch%s",
        (long long)options->batch, (long long)options->length, m->options.draws > 1 ? " or train.draws" : "");
  TRY(model_find(&m->table, options->name));
  CHECK(options->classes == 0 || m->table->timed, ERR_USAGE, "model.name = %s cannot be conditioned on a class",
        m->table->name);
  TRY(block_check(m->table, options));
  m->unit = dev->ops->host ? 1 : DEVICE_UNIT;
  m->capacity = model_padded(m, options->batch * options->length);
  m->most = m->capacity;
  if (options->mixed > 0)
    TRY(mem_alloc(&m->mix_scratch, (size_t)(m->capacity * options->mixed) * sizeof *m->mix_scratch));
  if (options->block) m->most += model_padded(m, options->batch / m->options.draws * options->length);
  int err = m->table->create(m);
  if (err) model_destroy(m);
  return err;
}

void model_destroy(Model *m) {
  if (m == NULL || m->table == NULL) return;
  m->table->destroy(m);
  arena_destroy(&m->arena);
  mem_free(&m->mix_scratch);
  params_destroy(&m->params);
  *m = (Model){0};
}

void model_plan(Arena *a, Model *m, bool all) {
  DType act = m->dev->act;
  int64_t D = m->options.width;
  m->ids = arena_tensor(a, DT_I32, m->most, 0);
  m->index = arena_tensor(a, DT_I32, m->capacity, 0);
  if (m->options.mixed > 0) {
    int64_t entries = m->capacity * m->options.mixed;
    m->mix.begin = arena_tensor(a, DT_I32, m->capacity + 1, 0);
    m->mix.ids = arena_tensor(a, DT_I32, entries, 0);
    m->mix.rows = arena_tensor(a, DT_I32, entries, 0);
    m->mix.weights = arena_tensor(a, m->dev->real, entries, 0);
  }
  if (all) m->picked = arena_tensor(a, act, m->capacity, D);
  if (m->options.training) m->dh = arena_tensor(a, act, m->capacity, D);
}

int64_t model_batch(const Model *m, int64_t draws) {
  const ModelOptions *o = &m->options;
  int64_t clean = o->block && draws < o->draws ? o->batch / o->draws : o->batch / draws;
  return clean * draws;
}

/* The input as networks see it: with its L and draws filled in, and with rows NULL if all rows are wanted. */
static ModelInput whole(const Model *m, const ModelInput *in) {
  ModelInput x = *in;
  bool all = true;
  if (x.L == 0) x.L = m->options.length;
  if (x.draws == 0) x.draws = 1;
  if (x.rows == NULL) x.n_rows = x.B * x.L;
  for (int64_t i = 0; i < x.n_rows && x.rows && all; i++) all = x.rows[i] == i;
  if (x.n_rows == x.B * x.L && all) x.rows = NULL;
  return x;
}

/* The clean tokens, once for the draws that share them. */
static int upload_clean(Model *m, const ModelInput *in) {
  int64_t noisy = in->B * in->L, L = in->draws > 1 ? in->L : noisy; /* all at a time, if they lie side by side */
  for (int64_t at = noisy; at < model_rows(in); at += L)
    TRY(tensor_upload(m->dev, tensor_rows(m->ids, at, L), in->clean + (at - noisy) * in->draws));
  return OK;
}

/* The mixture of a pass as the ops take it. */
static Mixture mixture(const Model *m, const ModelInput *in) {
  int64_t n = in->mix->n;
  return (Mixture){.begin = tensor_rows(m->mix.begin, 0, in->B * in->L + 1),
                   .ids = tensor_rows(m->mix.ids, 0, n),
                   .rows = tensor_rows(m->mix.rows, 0, n),
                   .weights = tensor_rows(m->mix.weights, 0, n)};
}

static int upload_mixture(Model *m, const ModelInput *in) {
  ASSERT(in->clean == NULL && m->options.mixed > 0 && in->mix->n <= tensor_count(m->mix.ids));
  const Mixture x = mixture(m, in);
  TRY(tensor_upload(m->dev, x.begin, in->mix->begin));
  TRY(tensor_upload(m->dev, x.ids, in->mix->ids));
  TRY(tensor_upload(m->dev, x.rows, in->mix->rows));
  return tensor_from_f64(m->dev, x.weights, in->mix->weights, m->mix_scratch);
}

/* Tokens and wanted rows to the device. */
static int upload(Model *m, const ModelInput *in) {
  int64_t n = in->n_rows, padded = model_padded(m, n), noisy = in->B * in->L;
  ASSERT(in->B > 0 && in->B <= m->options.batch && in->L > 0 && in->L <= m->options.length);
  ASSERT(n >= 0 && n <= noisy && in->B % in->draws == 0 && model_rows(in) <= m->most);
  if (in->mix)
    TRY(upload_mixture(m, in));
  else
    TRY(tensor_upload(m->dev, tensor_rows(m->ids, 0, noisy), in->ids));
  if (in->clean) TRY(upload_clean(m, in));
  m->rows = TENSOR_NONE, m->n_rows = n;
  if (in->rows == NULL) return OK;
  m->rows = tensor_rows(m->index, 0, padded);
  if (n > 0) TRY(tensor_upload(m->dev, tensor_rows(m->index, 0, n), in->rows));
  return padded > n ? tensor_zero(m->dev, tensor_rows(m->index, n, padded - n)) : OK;
}

int model_forward(Model *m, const ModelInput *in) {
  const ModelInput x = whole(m, in);
  ASSERT(in->L == 0 || (m->table->step && !m->options.training));
  ASSERT((in->clean != NULL) == (m->options.block > 0));
  TRY(upload(m, &x));
  return m->table->forward(m, &x);
}

int model_step(Model *m, const ModelInput *in, int64_t position) {
  const ModelInput x = whole(m, in);
  ASSERT(m->table->step && !m->options.training && in->clean == NULL);
  ASSERT(m->options.block > 0 || (m->table->causal && in->L == 1));
  ASSERT(in->L > 0 && position >= 0 && position + in->L <= m->options.length);
  TRY(upload(m, &x));
  return m->table->step(m, &x, position);
}

int model_embed(Model *m, const ModelInput *in, Tensor x, int table) {
  Tensor value = m->params.list[table].value;
  if (in->mix == NULL) return op_embed(m->dev, x, tensor_rows(m->ids, 0, rows_of(x)), value);
  const Mixture mix = mixture(m, in);
  return op_embed_mix(m->dev, x, &mix, value);
}

int model_embed_backward(Model *m, const ModelInput *in, Tensor dx, int table) {
  Tensor grad = m->params.list[table].grad;
  if (in->mix == NULL) return op_embed_backward(m->dev, grad, dx, tensor_rows(m->ids, 0, rows_of(dx)));
  const Mixture mix = mixture(m, in);
  return op_embed_mix_backward(m->dev, grad, dx, &mix);
}

int model_pick(Model *m, const ModelInput *in, Tensor all) {
  Tensor from = tensor_rows(all, 0, in->B * in->L);
  m->h = all;
  if (tensor_none(m->rows)) return OK;
  m->h = m->picked;
  return op_gather_rows(m->dev, tensor_rows(m->picked, 0, tensor_count(m->rows)), from, m->rows);
}

int model_unpick(Model *m, const ModelInput *in, Tensor memory, Tensor *dall) {
  *dall = tensor_rows(m->dh, 0, in->B * in->L);
  if (tensor_none(m->rows)) return OK;
  *dall = tensor_rows(memory, 0, in->B * in->L);
  return op_scatter_rows(m->dev, *dall, tensor_rows(m->dh, 0, in->n_rows), tensor_rows(m->rows, 0, in->n_rows));
}

int model_backward(Model *m, const ModelInput *in) {
  const ModelInput x = whole(m, in);
  ASSERT(m->options.training);
  TRY(m->table->backward(m, &x));
  return model_ready(m, &x, 0);
}

int model_ready(const Model *m, const ModelInput *in, int parameter) {
  return in->ready.call ? in->ready.call(in->ready.arg, m->params.list[parameter].offset) : OK;
}

void model_head(Model *m, Linear head) {
  m->head_weight = head.weight, m->head_bias = head.bias;
  params_pad(&m->params, head.weight);
  if (head.bias >= 0) params_pad(&m->params, head.bias);
  m->columns = m->dev->ops->host ? m->options.vocab : m->params.list[head.weight].padded;
}

/* A view of a parameter of the head, with as many rows as there are columns of logits. */
static Tensor head_view(const Model *m, int parameter, Tensor t) {
  return m->columns == m->options.vocab ? t : params_padded(&m->params.list[parameter], t);
}

int model_logits(Model *m, Tensor logits, Tensor h) {
  const Param *w = &m->params.list[m->head_weight], *b = m->head_bias < 0 ? NULL : &m->params.list[m->head_bias];
  Tensor bias = b == NULL ? TENSOR_NONE : head_view(m, m->head_bias, h.type == DT_BF16 ? b->low : b->value);
  return op_dense(m->dev, logits, TENSOR_NONE, h, head_view(m, m->head_weight, w->weight), bias);
}

int model_logits_backward(Model *m, Tensor dh, Tensor dlogits, Tensor h) {
  const Param *w = &m->params.list[m->head_weight];
  Tensor db = m->head_bias < 0 ? TENSOR_NONE : head_view(m, m->head_bias, m->params.list[m->head_bias].grad);
  return op_dense_backward(m->dev, dh, false, head_view(m, m->head_weight, w->grad), db, dlogits, h,
                           head_view(m, m->head_weight, w->weight));
}

double model_flops(const Model *m, double *body, double *attention, double *head) {
  double K = 0;
  for (int i = 0; i < m->params.n; i++) /* every large matrix except the head multiplies each row once */
    if (m->params.list[i].matrix && i != m->head_weight) K += (double)m->params.list[i].count;
  double clean = m->options.block ? 1 / (double)m->options.draws : 0; /* sequences to each noisy one */
  *body = (1 + clean) * (2 * K - m->late_flops) - clean * m->spared_flops;
  *attention = m->attention_flops;
  *head = 2 * (double)m->options.width * (double)m->options.vocab + m->late_flops;
  return *body + *attention + *head;
}
