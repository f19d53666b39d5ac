/* noised — one micro-batch on the host: what goes into the network and which rows of its output are scored. */
#pragma once
#include "base/rng.h"
#include "diffusion/objective.h"
#include "model/model.h"

struct Noised {
  int64_t B, L, capacity; /* capacity: sequences that the arrays have room for */
  int64_t draws;          /* consecutive sequences are so many draws of the noise of the same clean one */
  int32_t *x0, *z;        /* [B,L] clean and noisy tokens */
  TokenMix mix;           /* of z softened, n = 0: z; with room after noised_soften */
  int32_t *length;        /* [B]   real positions */
  int32_t *label;         /* [B]   classes, −1: none */
  double *sigma;          /* [B]   noise level that the network is conditioned on */
  int32_t end; /* the token that follows a row without padding, the target of its last position; −1: unknown */
  int64_t n_rows;
  int32_t *rows, *target; /* [n_rows] row of [B·L], ascending; its clean token */
  double *weight;         /* [n_rows, objective's terms] factors of the row's loss */
  double *t;              /* [L] room for the times of a sequence's blocks, for those that draw them */
  double *time;           /* [B, blocks] the time of each block, after noised_draw and noised_train */
  int64_t from, to;       /* real positions of the block that score() is asked for; without blocks all */
  int64_t masked;         /* masked tokens at real positions, or replaced ones that differ from x0 */
  int64_t scored;         /* positions that the loss is an average over */
};

/** noised_create — room for `capacity` sequences of L tokens and `terms` factors a row. */
int noised_create(Noised *n, int64_t capacity, int64_t L, int terms);
/** noised_soften — room for softened tokens, which noised_train draws with diffusion.input_temperature. ERR_MEMORY */
int noised_soften(Noised *n);
void noised_destroy(Noised *n);
/** noised_begin — empty, for B sequences to come, a draw of each, without classes; their `end` is unknown. */
void noised_begin(Noised *n, int64_t B);
/** noised_add — sequence b, whose z is in n->z[b] already: x0[L], real length, time t of all its blocks. */
void noised_add(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t);
/** noised_draw — sequence b with the tokens of each of its objective_blocks noised by `mask` at the objective's time for
 *  t[block] uniform in [o->tau, 1]. */
void noised_draw(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, const double *t,
                 RngKey mask);
/** noised_train — the same for training: at the times of diffusion.time, with the weights of noised_reweigh. */
void noised_train(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, const double *t,
                  RngKey mask);
/** noised_reweigh — rows from `first` on, of a sequence at time t: from the bound's weights, the first factor of each row,
 *  to those of training, which are the bound's divided by the law's density, or 1 with diffusion.weight = one. */
void noised_reweigh(const Objective *o, Noised *n, int64_t first, double t);
/** noised_count — sequence b with exactly k of the L positions of each block masked, k uniform on 1 … L for t[block]
 *  uniform on [0,1), each scored row weighted by L/k: the bound for ε = τ = 0, because ∫₀¹ Bin(k; L, t)/t dt = 1/k. For
 *  objectives that give x0 in continuous time. */
void noised_count(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, const double *t,
                  RngKey mask);
/** noised_part — sequence b with exactly k of its tokens first … end−1 masked, 1 ≤ k ≤ end − first, each weighted by
 *  (end − first)/k: for k uniform that is the bound of noised_count for these tokens given the others, which may hold
 *  masks of their own. length: of the row as the network sees it. The set of masks depends on positions within the part. */
void noised_part(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t first, int64_t end,
                 int64_t length, int64_t k, RngKey mask);
/** noised_level — the noise level that the network is conditioned on for z[length]: that of the time at which so many
 *  tokens are masked. */
double noised_level(const Objective *o, const int32_t *z, int64_t length);
/** noised_next — sequence b as it is, for objectives that give the next token: ids[length], of which the tokens with
 *  scored[l] are scored, l ≥ 1. Returns how many. */
int64_t noised_next(const Objective *o, Noised *n, int64_t b, const int32_t *ids, int64_t length, const bool *scored);

/* ---- for objectives: what score() and second() write */
/** noised_row — add a scored row: position l of sequence b with this target. Returns its factors, to be filled in. */
double *noised_row(const Objective *o, Noised *n, int64_t b, int64_t l, int32_t target);
/** noised_masked_rows — the rows of the masked positions n->from … n->to−1 of sequence b, each with the single factor
 *  `weight`. */
void noised_masked_rows(const Objective *o, Noised *n, int64_t b, double weight);
