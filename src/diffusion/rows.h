/* rows — the output Linear and the objective on chosen rows only, a chunk of rows at a time.
 *
 * Logits are the largest tensors of a language model, and an objective that is zero at visible tokens needs about half
 * of them. The rows' hidden vectors are gathered once; the logits of a chunk live in one buffer, which the loss turns
 * into their gradient in place. */
#pragma once
#include "diffusion/objective.h"
#include "model/model.h"

typedef struct Rows {
  Model *model; /* not owned */
  Arena arena;
  int64_t chunk;       /* rows of logits held at a time */
  int64_t unit;        /* rows are made up to a multiple of this, with rows of weight 0; to a power of two below */
  Tensor h, dh;        /* [capacity, D] act: gathered hidden rows and their gradient */
  Tensor logits;       /* [chunk, V], act in training, else real */
  int terms;           /* factors a row */
  Tensor loss, weight; /* [capacity], [capacity, terms] real */
  Tensor index, target, ids; /* [capacity] i32 */
  Tensor uniform, stay;      /* [capacity] f64 */
  Tensor total;              /* [1] f64: sum of losses that nobody has asked for yet */
  void *host;                /* [capacity, terms] f64: staging */
} Rows;

/** rows_create — for a model's batch and an objective of `terms` factors a row; gradients if the model trains. The
 * chunk is dev->row_chunk, or what 64 MiB hold (1 GiB where device memory is not the host's). */
int rows_create(Rows *r, Model *model, int terms);
void rows_destroy(Rows *r);
/** rows_loss — loss[n_rows] (host, nat, weighted) of a noised batch whose hidden rows model_forward has made.
 *  gradient: also adds to the head's gradients and sets model->dh. loss NULL: the sum is added
 *  to r->total on the device, so that the host need not wait. */
int rows_loss(Rows *r, const Objective *o, const Noised *n, bool gradient, double *loss);
/** rows_total — *loss (host) := what rows_loss has added up since the last rows_total; waits for the device. */
int rows_total(Rows *r, double *loss);
/** rows_logits — logits[n,V] (host) of rows first … first+n−1 of the last forward pass; n ≤ r->chunk. */
int rows_logits(Rows *r, int64_t first, int64_t n, float *logits);
/** rows_nll — nll[n] (host): −log p(ids) without m at rows[n] of the last forward pass, of an objective with p(x0 | z).
 */
int rows_nll(Rows *r, const Objective *o, const int32_t *rows, int64_t n, const int32_t *ids, double *nll);
/* RowDraw — how tokens are drawn: see Draw of ops.h. */
typedef struct RowDraw {
  const double *uniform, *stay; /* [n] host; uniform NULL: the likeliest; stay may be NULL */
  double temperature, nucleus;
  bool f32, odds;
} RowDraw;
/** rows_draw — ids[n] (host): clean tokens, or m where a position stays, drawn at rows[n] of the last forward pass.
 *  ERR_NUMERIC where the logits are no numbers. */
int rows_draw(Rows *r, const Objective *o, const int32_t *rows, int64_t n, const RowDraw *how, int32_t *ids);
