#include "train/optimizer.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/mem.h"
#include "train/freeze.h"
#include <math.h>

static int buffer(Device *dev, Tensor *t, DType type, int64_t n) {
  void *data;
  TRY(device_alloc(dev, &data, (size_t)n * dtype_size(type)));
  *t = tensor_1d(data, type, n);
  return OK;
}

static int64_t chunks_of(const Optimizer *o, int64_t n) {
  int64_t chunk = o->params->dev->ops->chunk;
  return (n + chunk - 1) / chunk;
}

int optimizer_create(Optimizer *o, Params *params, const OptimizerOptions *options) {
  const OptimizerOptions *c = options;
  Device *dev = params->dev;
  *o = (Optimizer){.options = *options, .params = params};
  o->shard = c->shard ? *c->shard : shard_whole(params->count);
  TRY(lr_create(&o->lr, &c->lr));
  Tensor *const state[] = {&o->m, &o->v, &o->ema};
  for (int i = 0; i < 3; i++) TRY(buffer(dev, state[i], params->value.type, shard_own(&o->shard)));
  TRY(traces_parse(&o->traces, c->traces ? c->traces : ""));
  for (int i = 0; i < o->traces.n; i++) TRY(buffer(dev, &o->traces.value[i], params->value.type, shard_own(&o->shard)));
  TRY(buffer(dev, &o->terms, DT_F64, chunks_of(o, params->count)));
  if (o->shard.parts > 1) TRY(mem_alloc(&o->shared, tensor_bytes(o->terms)));
  return buffer(dev, &o->squares, DT_F64, 1);
}

void optimizer_destroy(Optimizer *o) {
  if (o == NULL || o->params == NULL) return;
  const Tensor all[] = {o->m, o->v, o->ema, o->terms, o->squares};
  for (int i = 0; i < 5; i++) device_release(o->params->dev, all[i].data, tensor_bytes(all[i]));
  for (int i = 0; i < o->traces.n; i++)
    device_release(o->params->dev, o->traces.value[i].data, tensor_bytes(o->traces.value[i]));
  mem_free(&o->shared);
  *o = (Optimizer){0};
}

int optimizer_begin(Optimizer *o) {
  o->step = 0;
  for (int i = 0; i < o->traces.n; i++) /* parameters that are not trained stay so */
    TRY(shard_take(&o->shard, o->params->dev, o->traces.value[i], o->params->value));
  return shard_take(&o->shard, o->params->dev, o->ema, o->params->value);
}

static int download(Device *dev, double *host, Tensor t) {
  activity_begin(ACTIVITY_DEVICE, "its device's results");
  int err = tensor_download(dev, host, t);
  activity_end();
  return err;
}

static int sum_terms(Optimizer *o, double *squares) {
  TRY(op_sum_terms(o->params->dev, o->squares, o->terms));
  return download(o->params->dev, squares, o->squares);
}

/* Each term comes from one rank, and the others add 0 to it, which is exact. */
static int share_terms(Optimizer *o) {
  Device *dev = o->params->dev;
  if (o->shard.parts == 1) return OK;
  TRY(download(dev, o->shared, o->terms));
  TRY(comm_all_reduce(o->options.comm, o->shared, (size_t)tensor_count(o->terms), COMM_F64, COMM_SUM));
  return tensor_upload(dev, o->terms, o->shared);
}

int optimizer_squares(Optimizer *o, double *squares) {
  Params *p = o->params;
  ShardBlock b;
  for (int i = 0; i < p->n; i++)
    if (p->list[i].frozen) TRY(tensor_zero(p->dev, tensor_rows(p->grad, p->list[i].offset, p->list[i].count)));
  if (o->shard.parts > 1) TRY(tensor_zero(p->dev, o->terms));
  for (int64_t at = 0; shard_next(&o->shard, at, &b); at += b.n) {
    Tensor terms = tensor_rows(o->terms, b.part / p->dev->ops->chunk, chunks_of(o, b.size));
    TRY(op_squares(p->dev, terms, tensor_rows(p->grad, b.part, b.size)));
  }
  TRY(share_terms(o));
  return sum_terms(o, squares);
}

int optimizer_weights(Optimizer *o, double *squares) {
  TRY(op_squares(o->params->dev, o->terms, o->params->value));
  return sum_terms(o, squares);
}

/* The fields of `a` are those of the whole step. */
static int step_range(Optimizer *o, AdamW a, int64_t from, int64_t own, int64_t n) {
  const Params *p = o->params;
  a.p = tensor_rows(p->value, from, n);
  a.g = tensor_rows(p->grad, from, n);
  a.m = tensor_rows(o->m, own, n);
  a.v = tensor_rows(o->v, own, n);
  a.ema = tensor_rows(o->ema, own, n);
  a.low = o->shard.parts == 1 && !tensor_none(p->low) ? tensor_rows(p->low, from, n) : TENSOR_NONE;
  TRY(op_adamw(p->dev, &a));
  return traces_update(&o->traces, p->dev, o->step + 1, own, a.p);
}

static int step_block(Optimizer *o, AdamW a, const ShardBlock *b) {
  int64_t end = b->part + b->size, from, n;
  for (int64_t at = b->part; freeze_next(o->params, at, end, &from, &n); at = from + n)
    TRY(step_range(o, a, from, b->own + from - b->part, n));
  return OK;
}

int optimizer_step(Optimizer *o, double squares, double scale, double *norm, double *lr) {
  const OptimizerOptions *c = &o->options;
  double n = (double)o->step + 1;
  *lr = lr_at(&o->lr, o->step);
  *norm = scale * sqrt(squares);
  CHECK(isfinite(squares), ERR_NUMERIC, "the norm of the gradient is %g", *norm);
  AdamW a = {.squares = o->squares, .scale = scale};
  a.clip = c->clip;
  a.lr = *lr;
  a.beta1 = c->beta1;
  a.beta2 = c->beta2;
  a.eps = c->eps;
  a.weight_decay = c->weight_decay;
  a.correct1 = 1 - pow(c->beta1, n);
  a.correct2 = 1 - pow(c->beta2, n);
  a.ema_decay = fmin(c->ema, (1 + n) / (10 + n));
  ShardBlock b;
  for (int64_t at = 0; shard_next(&o->shard, at, &b); at += b.n) TRY(step_block(o, a, &b));
  o->step++;
  return OK;
}
