/* toy_slope — compare the parameter gradients of a small network with finite differences in f64, within the error bound
 * of slope.h. */
#pragma once
#include "slope.h"
#include "toy.h"

enum { TOY_EVERY = 1 << 30 }; /* as `most`: every element */

/* A scalar function of the parameters that is a sum of positive terms. With `gradient` it adds to the parameter
 * gradients. It must do the same in every call. */
typedef double (*ToyLoss)(Network *n, const void *arg, bool gradient);

/** toy_slopes — fail unless the gradients of loss(n, arg) agree with finite differences: for all elements of each
 *  parameter, or `most` random ones and the one with the largest gradient, and along random directions of all
 *  parameters at once. Fail, too, if finite differences are too inaccurate to show an error of 1e-4 in the largest
 *  gradient of a parameter. */
void toy_slopes(Network *n, ToyLoss loss, const void *arg, int64_t most);

/* ---- the two halves of toy_slopes, for a test that compares other gradients */
typedef struct ToySlope {
  Slope slope;
  int64_t element;
} ToySlope;

typedef struct ToySlopes {
  const Params *params; /* not owned */
  ToySlope *list;       /* [n] */
  int64_t n;
  Slope along[3];
  double *directions; /* [3, params.count] */
} ToySlopes;
typedef char ToyWhy[256];

/** toy_slopes_measure — measure finite differences into *s and return the gradients [params.count]. The caller frees *s
 *  with toy_slopes_free and the gradients with mem_free. */
double *toy_slopes_measure(ToySlopes *s, Network *n, ToyLoss loss, const void *arg, int64_t most);
/** toy_slopes_agree — whether the gradients agree with the slopes; if not, `why` describes the first disagreement. */
bool toy_slopes_agree(const ToySlopes *s, const double *grad, ToyWhy why);
void toy_slopes_free(ToySlopes *s);

/** toy_cross_entropy — Σ_r weight[r]·(−log softmax(logits[r])[target[r]]) over all rows of the input, no token
 *  forbidden. With `gradient` it adds to the parameter gradients. */
double toy_cross_entropy(Network *n, const ModelInput *in, const int32_t *target, const double *weight, bool gradient);
/** toy_pass_slopes — toy_slopes of toy_pass. */
void toy_pass_slopes(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, int64_t most);
