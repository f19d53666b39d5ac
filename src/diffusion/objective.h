/* objective — what is minimised: which tokens the network sees, which rows are scored, with what loss, and what a row
 * of logits says about the clean token. Loss and samplers share one parameterisation, so it is written once per
 * objective, in objective_NAME.c. */
#pragma once
#include "base/rng.h"
#include "diffusion/schedule.h"
#include "ops/ops.h"

/* Noised — one micro-batch, host memory: what goes into the network and which rows of its output count. */
typedef struct Noised {
  int64_t B, L, capacity; /* capacity: sequences the arrays have room for */
  int32_t *x0, *z;        /* [B,L] clean and noisy tokens                 */
  int32_t *length;        /* [B]   real positions                         */
  double *sigma;          /* [B]   what the network is told of the noise  */
  int64_t n_rows;
  int32_t *rows, *target; /* [n_rows] row of [B·L], ascending; its clean token */
  double *weight;         /* [n_rows, objective's terms] factors of the row's loss */
  int64_t masked;         /* masked tokens at real positions              */
  int64_t scored;         /* positions that the loss is an average over   */
} Noised;

typedef struct ObjectiveOptions {
  const char *name;
  const Schedule *schedule; /* not owned */
  int32_t mask;             /* m */
  int64_t vocab;            /* V */
  int64_t T;                /* diffusion steps; 0: continuous time */
  double tau;               /* smallest time of continuous time */
  bool subs_masking;        /* d3pm: p(m) := 0, as SUBS has it */
  bool importance_sampling, change_of_variables;
} ObjectiveOptions;

typedef struct Objective Objective;
typedef struct ObjectiveTable {
  const char *name;
  bool diffusion; /* tokens are masked; false: the network sees x0 and predicts the next token */
  /* rows, targets and weights of sequence b, whose x0, z and length are there, at time t */
  void (*score)(const Objective *, Noised *, int64_t b, double t);
  /* z, sigma, rows, targets and weights of a second pass whose loss is added; NULL: there is none */
  void (*second)(const Objective *, Noised *);
  int (*loss)(const Objective *, Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, bool gradient);
  void (*log_p)(const Objective *, double *out, const float *f, int32_t z, double t);
} ObjectiveTable;
struct Objective {
  const ObjectiveTable *table;
  const Schedule *schedule; /* not owned */
  ObjectiveOptions options;
  int32_t mask;      /* m */
  int terms;         /* factors a row: 1, or 4 where the loss has two parts */
  double tau;        /* smallest time step drawn */
  double low, slope; /* importance sampling and change of variables: log(1 − e^−σ) = low + slope·t */
};

/** objective_create — the objective of those options.
 *  Errors  ERR_USAGE naming the keys of a deck that do not go together, and why */
int objective_create(Objective *o, const ObjectiveOptions *options);
/** objective_time — the time of a sequence from t uniform in [o->tau, 1]: t itself, the next multiple of 1/T, or the
 *  time at which log(1 − e^−σ) is uniform (importance sampling). Source: arXiv:2406.07524 App. C.1 */
double objective_time(const Objective *o, double t);
/** objective_share — how much of the bound the times of training cover: (alpha(τ) − alpha(1))/(1 − τ) in continuous
 *  time, where the whole is 1. */
double objective_share(const Objective *o);
/** objective_masked — the probability that a token of a sequence at time t is masked. */
double objective_masked(const Objective *o, double t);
/** objective_condition — what a network is told where tokens are masked as the schedule has it at time t. */
double objective_condition(const Objective *o, double t);

/** noised_create — room for `capacity` sequences of L tokens and `terms` factors a row. */
int noised_create(Noised *n, int64_t capacity, int64_t L, int terms);
void noised_destroy(Noised *n);
/** noised_begin — empty, for B sequences to come. */
void noised_begin(Noised *n, int64_t B);
/** noised_add — sequence b: z is in n->z[b] already; x0[L], real length, time t. */
void noised_add(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t);
/** noised_draw — sequence b with its tokens masked by `mask` at the objective's time for t uniform in [o->tau, 1]. */
void noised_draw(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t, RngKey mask);
/** noised_count — sequence b with exactly k of its L positions masked, k uniform on 1 … L as t is on [0,1), each scored
 *  row weighing L/k: the bound of subs for ε = τ = 0, because ∫₀¹ Bin(k; L, t)/t dt = 1/k. */
void noised_count(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t, RngKey mask);
/** noised_row — one more scored row: position l of sequence b with that target; its factors, to be filled in. */
double *noised_row(const Objective *o, Noised *n, int64_t b, int64_t l, int32_t target);
/** noised_masked_rows — the rows of all masked real positions of sequence b, each with the one factor `weight`. */
void noised_masked_rows(const Objective *o, Noised *n, int64_t b, double weight);

/** objective_loss — loss[r] (nat) of rows of logits, replaced by their gradient if asked. */
int objective_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                   bool gradient);
/** objective_cross_entropy — the loss weight·(−log p(target)) of those whose p never is m. */
int objective_cross_entropy(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                            bool gradient);
/** objective_denoise — ids[r] drawn from softmax(logits[r]) without m as `how` says (its ids, logits and uniform;
 * forbid is filled in), or its arg-max where how->uniform is none: p(x0 | z) of masked rows, or the next token. */
int objective_denoise(const Objective *o, Device *dev, Draw how);
/** objective_log_p — out[V]: log p(x0 = · | z) at a position with token z at time t, from the network's output f[V];
 *  of sedd the log score log s(·). Host. */
void objective_log_p(const Objective *o, double *out, const float *f, int32_t z, double t);
/** log_softmax — out[V] = f − log Σ exp f with f[forbid] := −∞ (forbid < 0: none). Host. */
void log_softmax(double *out, const float *f, int64_t V, int32_t forbid);
