/* layers — what networks are made of: parameters of a layer, and the adaptive modulation shared by dit and dimamba. */
#pragma once
#include "model/model.h"

typedef struct Linear { /* indices of parameters; bias −1: none */
  int weight, bias;
} Linear;

/** linear_add — parameters `name`.weight [out,in] and, if asked, `name`.bias [out]: U(±1/√in), or zero.
 *  matrix: see Param. */
int linear_add(Params *p, Linear *l, const char *name, int64_t in, int64_t out, bool bias, bool zero, bool matrix);
/** linear_forward — y = l(x); with pre: pre = l(x), y = gelu(pre). */
int linear_forward(Params *p, Linear l, Tensor y, Tensor pre, Tensor x);
/** linear_backward — dx = or += (dx may be none); parameter gradients +=. */
int linear_backward(Params *p, Linear l, Tensor dx, bool dx_add, Tensor dy, Tensor x);

/* TimeEmbedding — c = SiLU(MLP(sinusoid(σ))): `sigma_map`. One row for all sequences when there is no time
 * conditioning. */
typedef struct TimeEmbedding {
  Linear in, out;
  int64_t G; /* groups: 1 or the batch */
  Tensor sigma, wave, pre1, act1, pre2, c, dc, dpre2, dact1, dpre1;
} TimeEmbedding;

enum { SINUSOID_WIDTH = 256 };

int time_embedding_add(Params *p, TimeEmbedding *t, int64_t cond_dim);
void time_embedding_plan(Arena *a, TimeEmbedding *t, DType real, int64_t G, int64_t cond_dim, bool training);
/** time_embedding_forward — t->c[G,C]; sigma NULL: 0. */
int time_embedding_forward(Params *p, TimeEmbedding *t, const double *sigma, int64_t B);
/** time_embedding_backward — parameter gradients += from t->dc. */
int time_embedding_backward(Params *p, TimeEmbedding *t);
