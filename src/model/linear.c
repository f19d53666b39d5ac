#include "model/linear.h"
#include "base/err.h"
#include <math.h>

int linear_add(Params *p, Linear *l, const char *name, int64_t in, int64_t out, bool bias, bool zero, bool matrix) {
  int64_t dims[2] = {out, in};
  InitKind init = zero ? INIT_ZERO : INIT_UNIFORM;
  double bound = 1 / sqrt((double)in);
  l->bias = -1;
  TRY(params_add(p, &l->weight, init, bound, matrix, 2, dims, "%s.weight", name));
  if (bias) TRY(params_add(p, &l->bias, init, bound, false, 1, dims, "%s.bias", name));
  return OK;
}

int linear_forward(Params *p, Linear l, Tensor y, Tensor pre, Tensor x) {
  Tensor bias = l.bias < 0 ? TENSOR_NONE : x.type == DT_BF16 ? p->list[l.bias].low : p->list[l.bias].value;
  return op_dense(p->dev, y, pre, x, p->list[l.weight].weight, bias);
}

static Tensor bias_gradient(const Params *p, Linear l) { return l.bias < 0 ? TENSOR_NONE : p->list[l.bias].grad; }

int linear_backward(Params *p, Linear l, Tensor dx, bool dx_add, Tensor dy, Tensor x) {
  const Param *w = &p->list[l.weight];
  return op_dense_backward(p->dev, dx, dx_add, w->grad, bias_gradient(p, l), dy, x, w->weight);
}

int linear_forward_part(Params *p, Linear l, int64_t first, Tensor y, Tensor x) {
  Tensor weight = tensor_rows(p->list[l.weight].weight, first, cols_of(y));
  ASSERT(l.bias < 0);
  return op_dense(p->dev, y, TENSOR_NONE, x, weight, TENSOR_NONE);
}

int linear_backward_part(Params *p, Linear l, int64_t first, Tensor dx, Tensor dy, Tensor x) {
  const Param *w = &p->list[l.weight];
  int64_t n = cols_of(dy);
  ASSERT(l.bias < 0);
  return op_dense_backward(p->dev, dx, false, tensor_rows(w->grad, first, n), TENSOR_NONE, dy, x,
                           tensor_rows(w->weight, first, n));
}

int linear_gelu_backward(Params *p, Linear l, Linear before, Tensor dpre, Tensor dy, Tensor act, Tensor pre) {
  const Param *w = &p->list[l.weight];
  TRY(op_dense_backward(p->dev, TENSOR_NONE, false, w->grad, bias_gradient(p, l), dy, act, w->weight));
  return op_dense_gelu_backward(p->dev, dpre, dy, w->weight, pre, bias_gradient(p, before));
}
