/* optimizer — clipping, AdamW and the moving average of the weights, in one pass over flat buffers, or over this rank's
 * parts of them (shard.h).
 *
 * Order in step n = 0, 1, …: clip by the global norm, AdamW with lr(n), n += 1, EMA with
 * decay = min(ema, (1+n)/(10+n)), and the traces, if any. Source: Loshchilov & Hutter, arXiv:1711.05101; the recipe of arXiv:2406.07524 App. C.
 */
#pragma once
#include "dist/comm.h"
#include "model/params.h"
#include "train/lr.h"
#include "train/shard.h"
#include "train/traces.h"

typedef struct OptimizerOptions {
  LrOptions lr;
  double beta1, beta2, eps, weight_decay, clip, ema;
  const char *traces; /* widths, see traces.h; NULL: none */
  const Shard *shard; /* copied; NULL: the whole buffers */
  Comm *comm;         /* of the ranks that share them, not owned */
} OptimizerOptions;

typedef struct Optimizer {
  OptimizerOptions options;
  Lr lr;
  Params *params; /* not owned */
  Shard shard;
  Tensor m, v, ema; /* [shard_own] */
  Traces traces;    /* each [shard_own] */
  Tensor terms;     /* [⌈params->count/chunk⌉] f64: those of op_squares */
  double *shared;   /* the same on the host, where ranks share them; else NULL */
  Tensor squares;   /* [1] f64: Σ g² of the current step */
  int64_t step;     /* steps taken */
} Optimizer;

/** optimizer_create — zero moments; optimizer_begin or a checkpoint sets the averages.
 *  Errors  ERR_MEMORY, those of lr_create and traces_parse */
int optimizer_create(Optimizer *o, Params *params, const OptimizerOptions *options);
void optimizer_destroy(Optimizer *o);
/** optimizer_begin — the averages start at the weights, the counter at 0. */
int optimizer_begin(Optimizer *o);
/** optimizer_squares — *squares := Σ g² of params->grad, of which a rank needs its parts; waits for the device.
 *  Collective where ranks share the buffers; errors are local.
 *  Repeat  bitwise the same on any number of ranks */
int optimizer_squares(Optimizer *o, double *squares);
/** optimizer_weights — *squares := Σ p² of all weights; waits for the device. Not collective. */
int optimizer_weights(Optimizer *o, double *squares);
/** optimizer_step — one step from params->grad·scale, given its squares from optimizer_squares; *norm: 2-norm of that
 *  gradient before clipping, *lr: learning rate. Does not wait for the device. Only this rank's parts of the weights
 *  change, and where there are others not the bf16 copy. Not collective.
 *  Errors  ERR_NUMERIC if the norm is not finite: nothing is changed then */
int optimizer_step(Optimizer *o, double squares, double scale, double *norm, double *lr);
