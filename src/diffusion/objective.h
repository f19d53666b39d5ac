/* objective — what is minimised: which rows of the network's output are scored, with what loss, and what a row of
 * logits says about the clean token.
 *
 * Loss and samplers share one parameterisation, so it is written once per objective, in objective_WORD.c; a new one is
 * that file and a row of keys.def. What the rest of the program asks of an objective is a field of its table. */
#pragma once
#include "base/rng.h"
#include "diffusion/law.h"
#include "ops/ops.h"

/* Gives — what the network's output is, as far as samplers and estimators care. */
typedef enum Gives {
  GIVES_NEXT,       /* p(next token | the tokens before): nothing is masked */
  GIVES_X0,         /* p(x0 | z), in which the mask has probability 0 */
  GIVES_X0_OR_MASK, /* p(x0 | z) with a probability of the mask, p(m) > 0 */
  GIVES_SCORE,      /* ratios of probabilities, not normalised */
  GIVES_X0_UNIFORM  /* p(x0 | z) without the mask, at every position: noise replaces tokens by uniform ones */
} Gives;

/* The options that an objective may have besides the noise schedule. */
typedef enum ObjectiveOption {
  OPTION_STEPS = 1,        /* diffusion.T > 0 */
  OPTION_SUBS_MASKING = 2, /* diffusion.subs_masking: p(m) := 0, so that it gives x0 */
  OPTION_REWEIGHT = 4,     /* diffusion.weight, diffusion.change_of_variables: the loss is a weight times −log p */
  OPTION_TIMES = 8,        /* diffusion.time: the loss is its first factor, the weight of the time, times the rest */
  OPTION_BLOCKS = 16       /* diffusion.block: a time for each block */
} ObjectiveOption;

typedef struct ObjectiveOptions {
  const char *name;
  const Schedule *schedule; /* not owned */
  int32_t mask;             /* m */
  int64_t vocab;            /* V */
  int64_t T;                /* diffusion steps; 0: continuous time */
  double tau;               /* smallest time of continuous time */
  bool subs_masking;
  bool change_of_variables;
  int64_t block;            /* L', tokens of a block of block diffusion; 0: none */
  bool plain;               /* diffusion.weight = one: training weighs all masked tokens the same */
  bool resample;            /* the share of masks of a block is between those of the ends of the times of training */
  double input_temperature; /* in training the network sees tokens softened at it (latent.h); 0: tokens */
  LawOptions law;           /* diffusion.time; `tokens` is filled in */
} ObjectiveOptions;

typedef struct Noised Noised; /* diffusion/noised.h */
typedef struct Objective Objective;
typedef struct ObjectiveTable {
  const char *name;
  Gives gives;      /* without subs_masking */
  unsigned options; /* those of ObjectiveOption that it may have */
  bool timed;       /* the network must be conditioned on the noise level */
  int terms;        /* factors of a scored row's loss; 1 with GIVES_X0 and with subs_masking */
  /* what else its options must fulfil: ERR_USAGE with the reason; may be NULL */
  int (*check)(const ObjectiveOptions *);
  /* rows, targets and the bound's weights of sequence b at time t, whose x0, z and length are set */
  void (*score)(const Objective *, Noised *, int64_t b, double t);
  /* z, sigma, rows, targets and weights of a second pass, whose loss is added; NULL: there is none */
  void (*second)(const Objective *, Noised *);
  int (*loss)(const Objective *, Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, bool gradient);
  void (*log_p)(const Objective *, double *out, const float *f, int32_t z, double t);
} ObjectiveTable;
struct Objective {
  const ObjectiveTable *table;
  const Schedule *schedule; /* not owned */
  ObjectiveOptions options;
  Gives gives;
  bool diffusion;    /* tokens are noised; false: the network sees x0 and predicts the next token */
  bool replaces;     /* noise replaces tokens by uniform ones besides m; false: by m */
  int32_t mask;      /* m */
  int terms;         /* factors of a scored row's loss */
  double tau;        /* smallest time drawn */
  double low, slope; /* change of variables: log(1 − e^−σ) = low + slope·t */
  Law law;           /* of the times of training */
};

extern const ObjectiveTable *const objectives[]; /* NULL-ended */

/** objective_create — the objective of those options.
 *  Errors  ERR_USAGE naming the keys of a deck that do not go together, and why */
int objective_create(Objective *o, const ObjectiveOptions *options);
/** objective_find — the table of that word. ERR_USAGE if there is none. */
int objective_find(const ObjectiveTable **table, const char *name);
/** objective_time — the time of an evaluated sequence from t uniform in [o->tau, 1]: t itself, or the next multiple of
 *  1/T. */
double objective_time(const Objective *o, double t);
/** objective_train_time — the time of a sequence in training, from the same t: by the law of diffusion.time. */
double objective_train_time(const Objective *o, double t);
/** objective_blocks — the blocks of a sequence of L tokens, each with a time of its own: 1 without diffusion.block. */
int64_t objective_blocks(const Objective *o, int64_t L);
/** objective_trains — what the loss of training estimates, in words; *bound: whether that is the bound. */
const char *objective_trains(const Objective *o, bool *bound);
/** objective_share — the share of the bound that uniform times cover: (alpha(τ) − alpha(1))/(1 − τ) in continuous time,
 *  where the whole is 1; blocks of one token need no times. */
double objective_share(const Objective *o);
/** objective_masked — the probability that a token of a sequence at time t is masked, or replaced by a uniform one. */
double objective_masked(const Objective *o, double t);
/** objective_time_of — the time at which the schedule masks that share of the tokens, at most 1. */
double objective_time_of(const Objective *o, double share);
/** objective_corrupt — z at positions from … to−1: the tokens x0 noised to time t by the random numbers of `key`. */
void objective_corrupt(const Objective *o, int32_t *z, const int32_t *x0, int64_t from, int64_t to, double t,
                       RngKey key);
/** objective_corrupt_train — the same for a block in training, with diffusion.resample. */
void objective_corrupt_train(const Objective *o, int32_t *z, const int32_t *x0, int64_t from, int64_t to, double t,
                             RngKey key);
/** objective_condition — the noise level that a network is conditioned on where tokens are masked as the schedule has
 *  it at time t. */
double objective_condition(const Objective *o, double t);

/** objective_loss — loss[r] (nat) of rows of logits, replaced by their gradient if `gradient`. */
int objective_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                   bool gradient);
/** objective_cross_entropy — the loss weight·(−log p(target)) of objectives with p(m) = 0. */
int objective_cross_entropy(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                            bool gradient);
/** objective_denoise — ids[r] drawn from softmax(logits[r]) without m by `rule` (its `forbid` is ignored), or the most
 *  likely token where `uniform` is none: x0 of masked rows, or the next token. */
int objective_denoise(const Objective *o, Device *dev, Tensor ids, Tensor logits, Tensor uniform, Tensor keep,
                      DrawRule rule);
/** objective_log_p — out[V]: log p(x0 = · | z) at a position with token z at time t, from the network's output f[V];
 *  the log score log s(·) of objectives that give a score. Host. */
void objective_log_p(const Objective *o, double *out, const float *f, int32_t z, double t);
/** log_softmax — out[V] = f − log Σ exp f with f[forbid] := −∞ (forbid < 0: none). Host. */
void log_softmax(double *out, const float *f, int64_t V, int32_t forbid);
