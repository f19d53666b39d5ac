#include "train/optimizer.h"
#include "base/err.h"
#include <math.h>

static int flat(Optimizer *o, Tensor *t) {
  void *data;
  TRY(device_alloc(o->params->dev, &data, tensor_bytes(o->params->value)));
  *t = tensor_1d(data, o->params->value.type, o->params->count);
  return OK;
}

static int squares(Device *dev, Tensor *t) {
  void *data;
  TRY(device_alloc(dev, &data, sizeof(double)));
  *t = tensor_1d(data, DT_F64, 1);
  return OK;
}

int optimizer_create(Optimizer *o, Params *params, const OptimizerOptions *options) {
  const OptimizerOptions *c = options;
  *o = (Optimizer){.options = *options, .params = params};
  TRY(lr_create(&o->lr, c->lr_schedule ? c->lr_schedule : "constant", c->lr, c->lr_min, c->warmup, c->steps));
  TRY(flat(o, &o->m));
  TRY(flat(o, &o->v));
  TRY(squares(params->dev, &o->squares));
  return flat(o, &o->ema);
}

void optimizer_destroy(Optimizer *o) {
  if (o == NULL || o->params == NULL) return;
  device_release(o->params->dev, o->m.data, tensor_bytes(o->m));
  device_release(o->params->dev, o->v.data, tensor_bytes(o->v));
  device_release(o->params->dev, o->ema.data, tensor_bytes(o->ema));
  device_release(o->params->dev, o->squares.data, tensor_bytes(o->squares));
  *o = (Optimizer){0};
}

int optimizer_begin(Optimizer *o) {
  o->step = 0;
  return tensor_copy(o->params->dev, o->ema, o->params->value);
}

int optimizer_squares(Optimizer *o, double *squares) {
  TRY(op_sum_squares(o->params->dev, o->squares, o->params->grad));
  return tensor_download(o->params->dev, squares, o->squares);
}

int optimizer_step(Optimizer *o, double squares, double scale, double *norm, double *lr) {
  const OptimizerOptions *c = &o->options;
  Params *p = o->params;
  double n = (double)o->step + 1;
  *lr = lr_at(&o->lr, o->step);
  *norm = scale * sqrt(squares);
  CHECK(isfinite(squares), ERR_NUMERIC, "the norm of the gradient is %g", *norm);
  AdamW a = {.p = p->value, .g = p->grad, .m = o->m, .v = o->v, .ema = o->ema, .low = p->low, .squares = o->squares};
  a.scale = scale;
  a.clip = c->clip;
  a.lr = *lr;
  a.beta1 = c->beta1;
  a.beta2 = c->beta2;
  a.eps = c->eps;
  a.weight_decay = c->weight_decay;
  a.correct1 = 1 - pow(c->beta1, n);
  a.correct2 = 1 - pow(c->beta2, n);
  a.ema_decay = fmin(c->ema, (1 + n) / (10 + n));
  TRY(op_adamw(p->dev, &a));
  o->step++;
  return OK;
}
