/* linear — the Linear layer: y = x Wᵀ + b. */
#pragma once
#include "model/params.h"

typedef struct Linear { /* indices of the parameters; bias −1: none */
  int weight, bias;
} Linear;

static inline Linear linear_without_bias(Linear l) { return (Linear){l.weight, -1}; }

/** linear_add — parameters `name`.weight [out,in] and, with bias, `name`.bias [out]: U(±1/√in), or zero.
 *  matrix: see Param. */
int linear_add(Params *p, Linear *l, const char *name, int64_t in, int64_t out, bool bias, bool zero, bool matrix);
/** linear_forward — y = l(x); with pre: pre = l(x), y = gelu(pre). */
int linear_forward(Params *p, Linear l, Tensor y, Tensor pre, Tensor x);
/** linear_backward — dx = or, with dx_add, += (dx may be none); parameter gradients +=. */
int linear_backward(Params *p, Linear l, Tensor dx, bool dx_add, Tensor dy, Tensor x);
/** linear_forward_part, linear_backward_part — the same for the outputs from `first` on, as many as y or dy has columns,
 *  of a layer without bias. */
int linear_forward_part(Params *p, Linear l, int64_t first, Tensor y, Tensor x);
int linear_backward_part(Params *p, Linear l, int64_t first, Tensor dx, Tensor dy, Tensor x);
/** linear_gelu_backward — backward of y = l(act), act = gelu(pre), from dy to dpre =; gradients of l's parameters +=, and
 *  that of the bias of `before`, whose output is pre, for which linear_backward must then be called without a bias. */
int linear_gelu_backward(Params *p, Linear l, Linear before, Tensor dpre, Tensor dy, Tensor act, Tensor pre);
