#include "model/seam.h"
#include "base/err.h"

int seam_add(Params *p, Seam *s, const char *name, NormKind kind, int64_t D, bool bias) {
  s->kind = kind;
  s->bias = -1;
  TRY(params_add(p, &s->weight, INIT_ONE, 0, false, 1, &D, "%s.weight", name));
  if (bias) TRY(params_add(p, &s->bias, INIT_ZERO, 0, false, 1, &D, "%s.bias", name));
  return OK;
}

void seam_plan(Arena *a, Seam *s, int64_t R, int64_t D) {
  DType real = a->dev->real;
  s->x = arena_tensor(a, real, R, D);
  s->h = arena_tensor(a, a->dev->act, R, D);
  if (s->kind == NORM_LAYER) s->mean = arena_tensor(a, real, R, 0);
  s->rstd = arena_tensor(a, real, R, 0);
}

void seam_share(Seam *s, const Seam *first) {
  s->x = first->x, s->h = first->h;
  s->mean = first->mean, s->rstd = first->rstd;
}

/* Column `which`, of width D, of a modulation's value or gradient: one row per sequence of the seam's rows, or one for
 * all. */
static Tensor column(const Model *m, const ModelInput *in, const Join *j, Tensor of, int which) {
  int64_t D = m->options.width;
  return tensor_cols(j->conditioning->grouped ? tensor_rows(of, 0, j->n / in->L) : of, which * D, D);
}

/* The arguments common to forward and backward. */
static ResidualNorm arguments(const Model *m, const ModelInput *in, const Join *j) {
  const ModelOptions *o = &m->options;
  const Seam *s = j->seam;
  const Param *list = m->params.list;
  int64_t R = j->n;
  bool grouped = j->conditioning->grouped;
  ResidualNorm a = {.kind = s->kind, .rows_per_group = grouped ? in->L : R, .index = j->rows};
  a.x = tensor_rows(j->x, 0, R);
  if (!tensor_none(j->branch)) {
    a.branch = tensor_rows(j->branch, 0, R);
    a.dropout = in->dropout;
    a.dropout.layer += j->layer;
    a.dropout.L = in->L;
    a.dropout.clean = in->clean ? in->B * in->L : 0;
    a.dropout.draws = in->draws;
  }
  if (j->gated) a.gate = column(m, in, j, j->gated->value, j->gate);
  if (s->bias >= 0) a.shift = tensor_2d(list[s->bias].value.data, m->dev->real, 1, o->width);
  if (j->modulated) {
    a.shift = column(m, in, j, j->modulated->value, j->shift);
    a.scale = column(m, in, j, j->modulated->value, j->shift + 1);
  }
  a.weight = list[s->weight].value;
  a.x_out = tensor_rows(s->x, 0, R);
  a.h = tensor_rows(s->h, 0, R);
  if (s->kind == NORM_LAYER) a.mean = tensor_rows(s->mean, 0, R);
  a.rstd = tensor_rows(s->rstd, 0, R);
  return a;
}

int seam_forward(Model *m, const ModelInput *in, Join j) {
  ResidualNorm a = arguments(m, in, &j);
  TRY(op_residual_norm(m->dev, &a));
  if (in->tap.call == NULL) return OK;
  return in->tap.call(in->tap.arg, j.layer, tensor_none(a.branch) ? a.x : a.x_out, !tensor_none(j.rows));
}

int seam_backward(Model *m, const ModelInput *in, Join j, Tensor dh, Tensor dx, Tensor dbranch) {
  ResidualNorm a = arguments(m, in, &j);
  ASSERT(j.seam->bias < 0);
  a.dh = dh;
  a.dx = dx;
  a.dweight = m->params.list[j.seam->weight].grad;
  if (!tensor_none(a.branch)) a.dbranch = dbranch;
  if (j.gated) a.dgate = column(m, in, &j, j.gated->grad, j.gate);
  if (j.modulated) {
    a.dshift = column(m, in, &j, j.modulated->grad, j.shift);
    a.dscale = column(m, in, &j, j.modulated->grad, j.shift + 1);
  }
  return op_residual_norm_backward(m->dev, &a);
}
