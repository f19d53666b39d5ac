#include "model/model.h"
#include "base/err.h"
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

int model_create(Model *m, Device *dev, const ModelOptions *options) {
  *m = (Model){.options = *options, .dev = dev, .head_weight = -1, .head_bias = -1};
  CHECK(options->width % 8 == 0, ERR_USAGE, "model.width = %lld is not a multiple of 8", (long long)options->width);
  CHECK(options->length * options->width / 8 < INT64_C(1) << 32, ERR_USAGE,
        "sequences of %lld tokens at model.width = %lld are too long for the dropout streams",
        (long long)options->length, (long long)options->width);
  CHECK(options->length * options->batch < INT32_MAX, ERR_USAGE,
        "%lld sequences of %lld tokens are too many for one pass: lower the batch", (long long)options->batch,
        (long long)options->length);
  TRY(model_find(&m->table, options->name));
  int err = m->table->create(m);
  if (err) model_destroy(m);
  return err;
}

void model_destroy(Model *m) {
  if (m == NULL || m->table == NULL) return;
  m->table->destroy(m);
  arena_destroy(&m->arena);
  params_destroy(&m->params);
  *m = (Model){0};
}

/* The input as networks see it: with its L filled in. */
static ModelInput whole(const Model *m, const ModelInput *in) {
  ModelInput x = *in;
  if (x.L == 0) x.L = m->options.length;
  return x;
}

int model_forward(Model *m, const ModelInput *in) {
  const ModelInput x = whole(m, in);
  ASSERT(x.B > 0 && x.B <= m->options.batch && x.L > 0 && x.L <= m->options.length);
  ASSERT(in->L == 0 || (m->table->step && !m->options.training));
  TRY(tensor_upload(m->dev, tensor_rows(m->ids, 0, model_rows(&x)), x.ids));
  return m->table->forward(m, &x);
}

int model_step(Model *m, const int32_t *ids, int64_t B, int64_t position) {
  ASSERT(m->table->step && !m->options.training);
  ASSERT(B > 0 && B <= m->options.batch && position >= 0 && position < m->options.length);
  TRY(tensor_upload(m->dev, tensor_rows(m->ids, 0, B), ids));
  return m->table->step(m, B, position);
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

int model_logits(Model *m, Tensor logits, Tensor h) {
  return linear_forward(&m->params, (Linear){m->head_weight, m->head_bias}, logits, TENSOR_NONE, h);
}

int model_logits_backward(Model *m, Tensor dh, Tensor dlogits, Tensor h) {
  return linear_backward(&m->params, (Linear){m->head_weight, m->head_bias}, dh, false, dlogits, h);
}

double model_flops(const Model *m, double *body, double *attention, double *head) {
  double K = 0;
  for (int i = 0; i < m->params.n; i++) /* every large matrix except the head multiplies each row once */
    if (m->params.list[i].matrix && i != m->head_weight) K += (double)m->params.list[i].count;
  *body = 2 * K;
  *attention = m->attention_flops;
  *head = 2 * (double)m->options.width * (double)m->options.vocab;
  return *body + *attention + *head;
}
