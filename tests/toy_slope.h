/* toy_slope — every parameter of a small network against finite differences in f64. */
#pragma once
#include "toy.h"

enum { TOY_EVERY = 1 << 30 }; /* as `most`: every element */

/* A scalar function of the parameters; with gradient, the parameter gradients += its own. It must do the same in every
 * call. */
typedef double (*ToyLoss)(Network *n, const void *arg, bool gradient);

/** toy_slopes — fail unless the gradients of loss(n, arg) agree with its finite differences: element by element, `most`
 *  drawn ones of each parameter or all of fewer, and along random directions of all parameters at once. */
void toy_slopes(Network *n, ToyLoss loss, const void *arg, int64_t most);
/** toy_cross_entropy — Σ_r weight[r]·(−log softmax(logits[r])[target[r]]) over all rows of the input, no token
 * forbidden; with gradient: parameter gradients += */
double toy_cross_entropy(Network *n, const ModelInput *in, const int32_t *target, const double *weight, bool gradient);
/** toy_pass_slopes — the same of toy_pass. */
void toy_pass_slopes(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, int64_t most);
