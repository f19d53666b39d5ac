/* seam — between two parts of a network: the branch before is added to the residual stream, the sum is normed and
 * modulated for the branch after. One residual_norm, with where its arguments stand. */
#pragma once
#include "model/layers.h"

typedef struct Seam { /* its parameters and what it leaves behind */
  NormKind kind;
  int weight, bias;        /* bias −1: none */
  Tensor x, h, mean, rstd; /* x: the residual stream after its addition; mean: of NORM_LAYER */
} Seam;

/* Join — what a seam joins. Tensors are of the full batch. */
typedef struct Join {
  const Seam *seam;
  const Conditioning *conditioning;
  Tensor x, branch; /* the stream, and what is added to it, if anything */
  uint32_t layer;   /* of the branch's dropout */
  /* not owned; NULL without conditioning, like the gate's without branch */
  const Modulation *gated, *modulated;
  int gate, shift; /* their columns; the scale stands after the shift */
} Join;

/** seam_add — parameters of the norm, `name`.weight and, if asked, `name`.bias [D]. */
int seam_add(Params *p, Seam *s, const char *name, NormKind kind, int64_t D, bool bias);
void seam_plan(Arena *a, Seam *s, int64_t R, int64_t D);
/** seam_share — use the memory of another seam. */
void seam_share(Seam *s, const Seam *first);
/** seam_forward — the seam's x and h for the rows of this pass. */
int seam_forward(Model *m, const ModelInput *in, Join j);
/** seam_backward — gradient of its h in, gradient of its branch (if any) out; dx is carried along; gradients of the
 *  modulations =, of the weight +=. Not for a norm with a bias. dh, dx, dbranch [R,D] of this pass. */
int seam_backward(Model *m, const ModelInput *in, Join j, Tensor dh, Tensor dx, Tensor dbranch);
