/* rows — the output Linear and the objective on chosen rows only, a chunk of rows at a time.
 *
 * Logits are the largest tensors of a language model, and an objective that is zero at visible tokens needs about half
 * of them: the rows are those that the last forward pass was asked for. The logits of a chunk live in one buffer, which
 * the loss turns into their gradient in place. */
#pragma once
#include "diffusion/noised.h"
#include "model/model.h"

/* Prediction — what a row says of its target, with p = softmax(logits) without m: the law that samplers draw from. */
typedef struct Prediction {
  double nll;     /* −log p(target), nat */
  double top;     /* the largest p */
  double entropy; /* −Σ p log p, nat */
  bool hit;       /* the target is the most likely token */
} Prediction;

typedef struct Rows {
  Model *model; /* not owned */
  Arena arena;
  int64_t chunk;        /* rows of logits held at a time */
  bool pairs;           /* rows_pair */
  double second;        /* weight of a pair's second row */
  Tensor logits;        /* [chunk, V and padding columns], act in training, else real */
  int terms;            /* factors a row */
  Tensor loss, weight;  /* [capacity], [capacity, terms] real */
  Tensor predicted;     /* [capacity, 3] real; none in training */
  Tensor target, ids;   /* [capacity] i32 */
  Tensor uniform, keep; /* [capacity] f64 */
  Tensor measures;      /* [capacity, 3] f64: of rows_propose */
  Tensor total;         /* [1] f64: sum of losses since the last rows_total */
  void *host;           /* [capacity, max(terms, 3)] f64: staging */
} Rows;

/** rows_create — for a model's batch and an objective of `terms` factors a row; gradients if the model trains. The
 *  chunk is dev->row_chunk, or as many rows as 64 MiB hold (1 GiB of a GPU's memory). */
int rows_create(Rows *r, Model *model, int terms);
void rows_destroy(Rows *r);
/** rows_loss — loss[n_rows] (host, nat, weighted) of a noised batch, after model_forward of its rows.
 *  gradient: also adds to the head's gradients and sets model->dh.
 *  loss NULL: the sum is added to r->total on the device, without waiting for it. */
int rows_loss(Rows *r, const Objective *o, const Noised *n, bool gradient, double *loss);
/** rows_predict — loss[n_rows] as rows_loss gives it without gradient, bit for bit, and list[n_rows] (host): what the
 *  same logits predict. Not in training.
 *  Errors  ERR_NUMERIC: a logit is NaN */
int rows_predict(Rows *r, const Objective *o, const Noised *n, double *loss, Prediction *list);
/** rows_total — *loss (host) := the sum of losses since the last rows_total; waits for the device. */
int rows_total(Rows *r, double *loss);
/** rows_pair — from now on the wanted rows of a pass are pairs: in each part of 2·rows_chunk(r) rows, or what is left
 *  for the last one, the first half are the first rows of pairs and the second half the second ones. The logits of a pair
 *  are first·(first one's) + (1 − first)·(second one's), and row i of the functions below is pair i. Not in training.
 *  Errors  ERR_USAGE: device.row_chunk = 1 */
int rows_pair(Rows *r, double first);
void rows_unpair(Rows *r);
/** rows_pair_logits — logits[2n,V] (host): those of the first rows of pairs first … first+n−1, then those of the second
 *  ones, not mixed. first is a multiple of rows_chunk(r), and n is rows_chunk(r) or what is left. */
int rows_pair_logits(Rows *r, int64_t first, int64_t n, float *logits);
/** rows_chunk — rows, or pairs, whose logits are held at a time. */
int64_t rows_chunk(const Rows *r);
/** rows_logits — logits[n,V] (host) of rows first … first+n−1 of those of the last pass; n ≤ r->chunk. */
int rows_logits(Rows *r, int64_t first, int64_t n, float *logits);
/** rows_nll — nll[n] (host): −log p(ids) without m at the n rows of the last pass. */
int rows_nll(Rows *r, const Objective *o, int64_t n, const int32_t *ids, double *nll);
/** rows_score — the same from one set of logits with what the network says before it sees the target: ids[n], the most
 *  likely tokens, and measures[n,3] of op_confidence (all host).
 *  Errors   ERR_NUMERIC: a logit is NaN */
int rows_score(Rows *r, const Objective *o, int64_t n, const int32_t *target, double *nll, int32_t *ids,
               double *measures);
/** rows_draw — ids[n] (host): clean tokens, or m where a position keeps its mask, drawn at the n rows of the last pass by
 *  `rule` (its `forbid` is ignored).
 *  uniform  [n] in, host; NULL: the most likely token, rule is not read; not used with temperature 0
 *  keep     [n] in, host; NULL with KEEP_NEVER
 *  Errors   ERR_NUMERIC: a logit is NaN */
int rows_draw(Rows *r, const Objective *o, int64_t n, const double *uniform, const double *keep, const DrawRule *rule,
              int32_t *ids);
/** rows_propose — tokens drawn as by rows_draw without `keep`, and how sure the network is of them.
 *  never     a token that is not drawn; −1: none
 *  measures  [n,3] out, host: of op_confidence, at temperature 1, without m and `never`
 *  Errors    ERR_NUMERIC: a logit is NaN */
int rows_propose(Rows *r, const Objective *o, int64_t n, const double *uniform, const DrawRule *rule, int32_t never,
                 int32_t *ids, double *measures);
/** rows_draw_seen — tokens drawn as by rows_draw without `keep`, and nll[n] (host) as rows_nll gives it for the tokens
 *  seen[n]. */
int rows_draw_seen(Rows *r, const Objective *o, int64_t n, const int32_t *seen, const double *uniform,
                   const DrawRule *rule, int32_t *ids, double *nll);
