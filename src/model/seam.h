/* seam — the step between two branches of a network: add the previous branch to the residual stream, then normalise and
 * modulate the sum for the next branch. A seam is one op_residual_norm and its tensors. */
#pragma once
#include "model/conditioning.h"

typedef struct Seam { /* parameters of the norm, and its results */
  NormKind kind;
  int weight, bias;        /* bias −1: none */
  Tensor x, h, mean, rstd; /* x: the residual stream after the addition; mean: NORM_LAYER only */
} Seam;

/* Join — the inputs of a seam. Tensors have the rows of the full batch, or more. */
typedef struct Join {
  int64_t n; /* rows of the seam */
  const Seam *seam;
  const Conditioning *conditioning;
  Tensor rows;                 /* [n] i32: the seam has these rows of the pass; none: the first n */
  Tensor x, branch;            /* the residual stream; the branch to add, or none */
  uint32_t layer;              /* of the branch's dropout: branches before the seam, this one included */
  const Modulation *gated;     /* has the gate of the branch; NULL without branch or conditioning; not owned */
  const Modulation *modulated; /* has shift and scale; NULL without conditioning; not owned */
  int gate, shift;             /* their columns; the scale is the column after the shift */
} Join;

/** seam_add — parameters of the norm, `name`.weight and, if asked, `name`.bias [D]. */
int seam_add(Params *p, Seam *s, const char *name, NormKind kind, int64_t D, bool bias);
void seam_plan(Arena *a, Seam *s, int64_t R, int64_t D);
/** seam_share — use the memory of another seam. */
void seam_share(Seam *s, const Seam *first);
/** seam_forward — the seam's x and h for its rows. Chosen rows are not for conditioning by time. */
int seam_forward(Model *m, const ModelInput *in, Join j);
/** seam_backward — for the rows [R,D] of the seam. Not for a norm with a bias.
 *  dh       in      gradient of h
 *  dx       in/out  gradient of the residual stream: after the seam in, before it out
 *  dbranch  out     gradient of the branch, if there is one
 *  Gradients of the modulations are set (=), that of the norm's weight is added to (+=). */
int seam_backward(Model *m, const ModelInput *in, Join j, Tensor dh, Tensor dx, Tensor dbranch);
