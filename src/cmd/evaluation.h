/* evaluation — one data set under one checkpoint: for eval and, cell by cell, for sweep. */
#pragma once
#include "cmd/results.h"
#include "cmd/task.h"
#include "measure/nelbo.h"

typedef struct Evaluation {
  Task task;
  Shards *data;
  const EstimatorTable *estimator;
  int64_t draws; /* 1 where the network's value is exact */
  Nelbo result;
  TextRate text;  /* rank 0, after the run */
  double seconds; /* of this run; one that goes on from a partial file has fewer */
} Evaluation;

/** evaluation_estimate — the estimator and the draws of the task's deck, for e's network and data, and the key of the
 *  partial file. Not collective. ERR_USAGE, ERR_MEMORY */
int evaluation_estimate(Evaluation *e);
/** evaluation_warn — says so if rows of the data have another length or cut than those the weights were trained on. */
void evaluation_warn(const CheckpointState *state, const char *checkpoint, const Shards *data);
/** evaluation_run — e->result; not published where that was stopped. progress: NULL: quiet. Collective. */
int evaluation_run(Evaluation *e, const char *progress);
/** evaluation_losses — the values of the sequences. Rank 0. */
Losses evaluation_losses(const Evaluation *e);
/** evaluation_source — how well the value of their source is known. Rank 0. */
Spread evaluation_source(const Evaluation *e);
