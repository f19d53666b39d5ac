#include "train/optimizer.h"
#include "base/err.h"
#include <math.h>

static int flat(Optimizer *o, Tensor *t) {
  void *data;
  TRY(device_alloc(o->params->dev, &data, tensor_bytes(o->params->value)));
  *t = tensor_1d(data, o->params->value.type, o->params->count);
  return OK;
}

int optimizer_create(Optimizer *o, Params *params, const OptimizerOptions *options) {
  const OptimizerOptions *c = options;
  *o = (Optimizer){.options = *options, .params = params};
  TRY(lr_create(&o->lr, c->lr_schedule ? c->lr_schedule : "constant", c->lr, c->lr_min, c->warmup, c->steps));
  TRY(flat(o, &o->m));
  TRY(flat(o, &o->v));
  return flat(o, &o->ema);
}

void optimizer_destroy(Optimizer *o) {
  if (o == NULL || o->params == NULL) return;
  device_release(o->params->dev, o->m.data, tensor_bytes(o->m));
  device_release(o->params->dev, o->v.data, tensor_bytes(o->v));
  device_release(o->params->dev, o->ema.data, tensor_bytes(o->ema));
  *o = (Optimizer){0};
}

int optimizer_begin(Optimizer *o) {
  o->step = 0;
  return tensor_copy(o->params->dev, o->ema, o->params->value);
}

int optimizer_step(Optimizer *o, double scale, double *norm, double *lr) {
  const OptimizerOptions *c = &o->options;
  Params *p = o->params;
  double squares;
  TRY(sum_squares(p->dev, p->grad, &squares));
  *norm = scale * sqrt(squares);
  *lr = lr_at(&o->lr, o->step);
  CHECK(isfinite(*norm), ERR_NUMERIC, "the norm of the gradient is %g", *norm);
  double clip = c->clip > 0 ? c->clip / (*norm + 1e-6) : 1, n = (double)++o->step;
  AdamW a = {.p = p->value, .g = p->grad, .m = o->m, .v = o->v, .ema = o->ema, .low = p->low};
  a.factor = scale * (clip < 1 ? clip : 1);
  a.lr = *lr;
  a.beta1 = c->beta1;
  a.beta2 = c->beta2;
  a.eps = c->eps;
  a.weight_decay = c->weight_decay;
  a.correct1 = 1 - pow(c->beta1, n);
  a.correct2 = 1 - pow(c->beta2, n);
  a.ema_decay = fmin(c->ema, (1 + n) / (10 + n));
  return adamw(p->dev, &a);
}
