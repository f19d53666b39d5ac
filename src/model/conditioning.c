#include "model/conditioning.h"
#include "base/err.h"
#include "base/mem.h"

int embeddings_add(Params *p, Conditioning *c, int64_t cond_dim) {
  TimeEmbedding *t = &c->time;
  int64_t table[2] = {c->label.classes + 1, cond_dim};
  TRY(linear_add(p, &t->in, "sigma_map.mlp.0", SINUSOID_WIDTH, cond_dim, true, false, false));
  TRY(linear_add(p, &t->out, "sigma_map.mlp.2", cond_dim, cond_dim, true, false, false));
  if (c->label.classes == 0) return OK;
  TRY(params_add(p, &c->label.table, INIT_NORMAL, 1, false, 2, table, "cond_map.embedding_table.weight"));
  p->list[c->label.table].extra = true;
  return OK;
}

static void time_embedding_plan(Arena *a, TimeEmbedding *t, DType real, int64_t G, int64_t C, bool training) {
  t->G = G;
  t->sigma = arena_tensor(a, real, G, 0);
  t->wave = arena_tensor(a, real, G, SINUSOID_WIDTH);
  t->pre1 = arena_tensor(a, real, G, C);
  t->act1 = arena_tensor(a, real, G, C);
  t->pre2 = arena_tensor(a, real, G, C);
  t->c = arena_tensor(a, real, G, C);
  if (!training) return;
  t->dc = arena_tensor(a, real, G, C);
  t->dpre2 = arena_tensor(a, real, G, C);
  t->dact1 = arena_tensor(a, real, G, C);
  t->dpre1 = arena_tensor(a, real, G, C);
}

static void class_embedding_plan(Arena *a, ClassEmbedding *e, DType real, int64_t G, int64_t C, bool training) {
  if (e->classes == 0) return;
  e->labels = arena_tensor(a, DT_I32, G, 0);
  e->pre = arena_tensor(a, real, G, C);
  e->act = arena_tensor(a, real, G, C);
  if (training) e->dpre = arena_tensor(a, real, G, C);
}

/* t->sigma[G] := sigma[B], padded with zeros; all zero if sigma is NULL. */
static int upload_sigma(Params *p, const TimeEmbedding *t, const double *sigma, int64_t B) {
  enum { PIECE = 64 };
  double in[PIECE], scratch[PIECE];
  for (int64_t i = 0; i < t->G; i += PIECE) {
    int64_t n = t->G - i < PIECE ? t->G - i : PIECE;
    for (int64_t k = 0; k < n; k++) in[k] = sigma && i + k < B ? sigma[i + k] : 0;
    TRY(tensor_from_f64(p->dev, tensor_rows(t->sigma, i, n), in, scratch));
  }
  return OK;
}

/* t->c[G,C] := the embedding of sigma[B]; sigma NULL: of 0. */
static int time_embedding_forward(Params *p, TimeEmbedding *t, const double *sigma, int64_t B) {
  TRY(upload_sigma(p, t, sigma, B));
  TRY(op_sinusoid(p->dev, t->wave, t->sigma));
  TRY(linear_forward(p, t->in, t->pre1, TENSOR_NONE, t->wave));
  TRY(op_silu(p->dev, t->act1, t->pre1));
  TRY(linear_forward(p, t->out, t->pre2, TENSOR_NONE, t->act1));
  return op_silu(p->dev, t->c, t->pre2);
}

/* Parameter gradients += from t->dc. */
static int time_embedding_backward(Params *p, TimeEmbedding *t) {
  TRY(op_silu_backward(p->dev, t->dpre2, t->dc, t->pre2));
  TRY(linear_backward(p, t->out, t->dact1, false, t->dpre2, t->act1));
  TRY(op_silu_backward(p->dev, t->dpre1, t->dact1, t->pre1));
  return linear_backward(p, t->in, TENSOR_NONE, false, t->dpre1, t->wave);
}

/* e->labels := those of the sequences of the pass, whose −1 is the last row of the table. */
static int upload_labels(Params *p, const ClassEmbedding *e, const ModelInput *in) {
  enum { PIECE = 64 };
  int32_t rows[PIECE];
  int64_t sequences = model_sequences(in);
  for (int64_t i = 0; i < sequences; i += PIECE) {
    int64_t n = sequences - i < PIECE ? sequences - i : PIECE;
    for (int64_t k = 0; k < n; k++) {
      int32_t y = in->labels ? in->labels[model_noisy(in, i + k)] : -1;
      ASSERT(y >= -1 && y < e->classes);
      rows[k] = y < 0 ? (int32_t)e->classes : y;
    }
    TRY(tensor_upload(p->dev, tensor_rows(e->labels, i, n), rows));
  }
  return OK;
}

/* c[G,C] += the embedding of the labels. */
static int class_embedding_forward(Params *p, ClassEmbedding *e, Tensor c, const ModelInput *in) {
  int64_t n = model_sequences(in);
  Tensor pre = tensor_rows(e->pre, 0, n), act = tensor_rows(e->act, 0, n);
  TRY(upload_labels(p, e, in));
  TRY(op_embed(p->dev, pre, tensor_rows(e->labels, 0, n), p->list[e->table].value));
  TRY(op_silu(p->dev, act, pre));
  return op_add(p->dev, tensor_rows(c, 0, n), act);
}

/* Gradient of the table += from dc[G,C]. */
static int class_embedding_backward(Params *p, ClassEmbedding *e, Tensor dc, const ModelInput *in) {
  int64_t n = model_sequences(in);
  Tensor dpre = tensor_rows(e->dpre, 0, n);
  TRY(op_silu_backward(p->dev, dpre, tensor_rows(dc, 0, n), tensor_rows(e->pre, 0, n)));
  return op_embed_backward(p->dev, p->list[e->table].grad, dpre, tensor_rows(e->labels, 0, n));
}

int conditioning_create(Conditioning *c, const ModelOptions *o) {
  c->timed = o->time_conditioning;
  c->label.classes = o->classes;
  c->grouped = c->timed || o->classes > 0;
  c->n = o->blocks + 1;
  return mem_alloc(&c->list, (size_t)c->n * sizeof *c->list);
}

void conditioning_destroy(Conditioning *c) { mem_free(&c->list); }

int modulation_add(Params *p, Conditioning *c, int64_t i, const char *name, const ModelOptions *o, int64_t columns) {
  TRY(linear_add(p, &c->list[i].linear, name, o->cond_dim, columns * o->width, true, true, false));
  p->list[c->list[i].linear.bias].gate = o->width;
  return OK;
}

void conditioning_plan(Arena *a, Conditioning *c, DType real, const ModelOptions *o, int64_t columns) {
  int64_t G = c->grouped ? o->batch + (o->block > 0 ? o->batch / o->draws : 0) : 1;
  time_embedding_plan(a, &c->time, real, G, o->cond_dim, o->training);
  class_embedding_plan(a, &c->label, real, G, o->cond_dim, o->training);
  for (int64_t i = 0; i < c->n; i++) {
    int64_t width = (i < o->blocks ? columns : FINAL_COLUMNS) * o->width;
    c->list[i].value = arena_tensor(a, real, G, width);
    if (o->training) c->list[i].grad = arena_tensor(a, real, G, width);
  }
}

int conditioning_forward(Params *p, Conditioning *c, const ModelInput *in) {
  bool constant = !c->grouped && tensor_none(p->grad);
  if (constant && c->bindings == p->bindings) return OK;
  TRY(time_embedding_forward(p, &c->time, c->timed ? in->sigma : NULL, in->B));
  if (c->label.classes > 0) TRY(class_embedding_forward(p, &c->label, c->time.c, in));
  for (int64_t i = 0; i < c->n; i++)
    TRY(linear_forward(p, c->list[i].linear, c->list[i].value, TENSOR_NONE, c->time.c));
  c->bindings = p->bindings;
  return OK;
}

int modulation_clear(Params *p, Conditioning *c, int64_t i) { return tensor_zero(p->dev, c->list[i].grad); }

int modulation_backward(Params *p, Conditioning *c, int64_t i, const ModelInput *in) {
  TimeEmbedding *t = &c->time;
  int64_t G = c->grouped ? model_sequences(in) : 1;
  if (c->list == NULL) return OK;
  if (i == c->n - 1)
    TRY(tensor_zero(p->dev, t->dc)); /* all groups, since the MLP's backward reads those beyond the pass too */
  return linear_backward(p, c->list[i].linear, tensor_rows(t->dc, 0, G), true, tensor_rows(c->list[i].grad, 0, G),
                         tensor_rows(t->c, 0, G));
}

int conditioning_backward(Params *p, Conditioning *c, const ModelInput *in) {
  if (c->list == NULL) return OK;
  if (c->label.classes > 0) TRY(class_embedding_backward(p, &c->label, c->time.dc, in));
  return time_embedding_backward(p, &c->time);
}
