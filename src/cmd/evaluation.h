/* evaluation — one data set under one checkpoint: for eval and, cell by cell, for sweep. */
#pragma once
#include "cmd/results.h"
#include "cmd/task.h"
#include "measure/nelbo.h"

typedef struct Evaluation {
  Task task;
  Shards *data;
  const EstimatorTable *estimator;
  char words[ESTIMATOR_TEXT]; /* its options, for the result line */
  bool exact;                 /* nothing is drawn: the network predicts the next token, or the estimator has no draws */
  int64_t draws;              /* 1 where that is so */
  Nelbo result;
  TextRate text;  /* rank 0, after the run */
  double seconds; /* of this run; one that goes on from a partial file has fewer */
} Evaluation;

/** evaluation_open — eval.data under eval.checkpoint, for an output of that format: `output`, a deck's value, or `name` in
 *  run.dir. Not collective. Errors  those of task_begin and task_open; ERR_USAGE: no data */
int evaluation_open(Evaluation *e, const Config *cfg, Comm *comm, const char *format, const char *output,
                    const char *name);
/** evaluation_announce — log what is about to be measured ("evaluating"), with warnings. */
void evaluation_announce(const Evaluation *e, const char *doing);
/** evaluation_close — what evaluation_open and the run have made. */
void evaluation_close(Evaluation *e);
/** evaluation_estimate — the estimator and the draws of the task's deck, for e's network and data, and the key of the
 *  partial file. Not collective. ERR_USAGE, ERR_MEMORY */
int evaluation_estimate(Evaluation *e);
/** evaluation_warn — says so if rows of the data have another length or cut than those the weights were trained on. */
void evaluation_warn(const CheckpointState *state, const char *checkpoint, const Shards *data);
/** evaluation_run — e->result; not published where that was stopped. progress: NULL: quiet. Collective. */
int evaluation_run(Evaluation *e, const char *progress);
/** evaluation_options — what nelbo_run is asked for. */
NelboOptions evaluation_options(const Evaluation *e, const char *progress);
/** evaluation_publish — write the output: `fill` calls evaluation_fill. Collective. */
int evaluation_publish(Evaluation *e, int (*fill)(H5 *f, const void *arg), const void *arg);
/** evaluation_fill — attributes and the values of each sequence; arg: an Evaluation. */
int evaluation_fill(H5 *f, const void *arg);
/** evaluation_report — both intervals, and the line that programs read, with `more` at its end. Rank 0. */
void evaluation_report(const Evaluation *e, const char *more);
/** evaluation_losses — the values of the sequences. Rank 0. */
Losses evaluation_losses(const Evaluation *e);
/** evaluation_source — how well the value of their source is known. Rank 0. */
Spread evaluation_source(const Evaluation *e);
