/* layers — norms of the weights, the gradient and the update of every parameter, recorded every train.layers_every steps:
 * the tables weight_norm, gradient_norm and update_norm of the history, with a series for each parameter. */
#pragma once
#include "model/params.h"
#include "train/history.h"

enum { LAYER_WEIGHT, LAYER_GRADIENT, LAYER_UPDATE, LAYER_NORMS };

typedef struct Layers {
  int64_t every;  /* 0: nothing is recorded or allocated */
  Params *params; /* not owned */
  MetricsTable tables[LAYER_NORMS];
  MetricsColumn *columns; /* [LAYER_NORMS, n+1] */
  double *row;            /* [n+1] */
  Tensor before;          /* [params->count]: the weights before the step, then its update */
  Tensor terms, squares;  /* of op_squares; [n] f64, one a parameter */
} Layers;

/** layers_create — for a run of `steps` steps, its tables added to the history; every = 0: nothing. Must not be moved in
 *  memory afterwards. ERR_MEMORY */
int layers_create(Layers *l, Params *params, History *h, int64_t every, int64_t steps);
void layers_destroy(Layers *l);
/** layers_due — whether the step that makes it `step` steps is to be recorded. */
bool layers_due(const Layers *l, int64_t step);
/** layers_before — of a step that is due: keep the weights. */
int layers_before(Layers *l);
/** layers_after — after it: a row in each table, from whole buffers of weights and gradients; the norm of the gradient is
 *  that of params->grad·scale. Waits for the device. Not collective. */
int layers_after(Layers *l, int64_t step, double scale);
