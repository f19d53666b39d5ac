/* objective — what is minimised: which tokens the network sees, which rows are scored, with what loss, and what a row
 * of logits says about the clean token. Loss and samplers share one parameterisation, so it is written once per
 * objective. */
#pragma once
#include "diffusion/schedule.h"
#include "ops/ops.h"

/* Noised — one micro-batch, host memory: what goes into the network and which rows of its output count. */
typedef struct Noised {
  int64_t B, L, capacity; /* capacity: sequences the arrays have room for */
  int32_t *z;             /* [B,L] noisy tokens                           */
  double *sigma;          /* [B]   noise levels                           */
  int64_t n_rows;
  int32_t *rows, *target; /* [n_rows] row of [B·L], ascending; its clean token */
  double *weight;         /* [n_rows] factor of the row's loss            */
  int64_t masked;         /* masked tokens, padding included              */
  int64_t scored;         /* positions that the loss is an average over: Σ lengths */
} Noised;

typedef struct Objective Objective;
typedef struct ObjectiveTable {
  const char *name;
  /* rows, targets and weights of sequence b whose z, x0, length and t are known */
  void (*score)(const Objective *, Noised *, int64_t b, const int32_t *x0, int64_t length, double t);
  int (*loss)(const Objective *, Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, bool gradient);
  int (*denoise)(const Objective *, Device *, Tensor ids, Tensor logits, Tensor uniform);
} ObjectiveTable;
struct Objective {
  const ObjectiveTable *table;
  const Schedule *schedule; /* not owned */
  int32_t mask;             /* m */
};

/** objective_create — the objective of that name; ERR_USAGE if there is none. */
int objective_create(Objective *o, const char *name, const Schedule *schedule, int32_t mask);
/** noised_create — room for `capacity` sequences of L tokens. */
int noised_create(Noised *n, int64_t capacity, int64_t L);
void noised_destroy(Noised *n);
/** noised_begin — empty, for B sequences to come. */
void noised_begin(Noised *n, int64_t B);
/** noised_add — sequence b: z is in n->z[b] already; x0[L], real length, time t. */
void noised_add(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t);
/** objective_loss — loss[r] (nat) of rows of logits, replaced by their gradient if asked. */
int objective_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                   bool gradient);
/** objective_denoise — ids[r] drawn from p(x0 | z) of masked rows by uniform[r], or its arg-max where uniform is none.
 */
int objective_denoise(const Objective *o, Device *dev, Tensor ids, Tensor logits, Tensor uniform);
