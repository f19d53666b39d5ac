/* task — common to eval, profile, sample, score and logits: a checkpoint, its network, and an HDF5 file of results. */
#pragma once
#include "cmd/output.h"
#include "measure/estimator.h"
#include "network/weights.h"
#include "store/lock.h"

typedef struct Task {
  const Config *cfg; /* not owned, nor the next one */
  Comm *comm;
  const char *format; /* of the output */
  const char *which;  /* weights: "ema" or "live" */
  char checkpoint[FILES_PATH], output[FILES_PATH];
  char partial[FILES_PATH]; /* of finished items (measure/items.h) */
  char *key;                /* and its key; both set by task_key */
  Lock lock;                /* rank 0: on the output */
  H5 *file;                 /* the checkpoint, until its weights are loaded */
  CheckpointState state;
  Network net;
} Task;

typedef struct TaskOptions {
  const char *format;             /* "mdlm-eval" … */
  const char *checkpoint, *which; /* values of the deck's keys; checkpoint "": the best of run.dir */
  const char *output, *name;      /* value of the deck's key; "": that name in run.dir */
  const char *input;              /* a file that is read and must not be overwritten, or "" */
} TaskOptions;

/** task_claim — rank 0: t->output can be written (output_claim), and no other job is writing it until task_end. */
int task_claim(Task *t, const char *input);
/** task_begin — the state of the checkpoint, whose deck must describe the network of cfg, and a claim on the output.
 *  Errors  ERR_USAGE, ERR_DATA, ERR_IO, ERR_BUSY. Not collective. */
int task_begin(Task *t, const Config *cfg, Comm *comm, const TaskOptions *options);
/** task_open — the network for `batch` sequences of `length` tokens, weights included; closes t->file. key: the deck's
 *  word for the batch, which an error names. Not collective. */
int task_open(Task *t, int64_t length, const char *key, int64_t batch);
/** task_agree — the outcome of opening on all ranks, which must have read the same weights. Collective.
 *  Errors  those of any rank; ERR_DATA: a running job has replaced the checkpoint in between */
int task_agree(Task *t, Comm *comm, int err);
/** task_key — t->partial beside the output, and t->key: checkpoint, weights, the keys of `cfg` that results of the
 *  command depend on, those of `section` included, and more lines "name = value". Not collective.
 *  e  the estimator of section eval; NULL: results do not come from one
 *  Errors  ERR_MEMORY; ERR_USAGE: a path that is too long */
int task_key(Task *t, const Config *cfg, const char *section, const EstimatorTable *e, const char *more, ...)
    __attribute__((format(printf, 5, 6)));
/** task_stopped — after a stop: says how many of the n items, "sequences", are kept, and sets the exit code. */
void task_stopped(const Task *t, int stop, int64_t done, int64_t n, const char *units, int *exit_code);
/** task_done — the output is written: remove the partial file. On rank 0. */
void task_done(const Task *t);
/** task_publish — rank 0 writes the output: common attributes, then fill(). nll: NaN or infinite is refused.
 *  Collective. Errors  ERR_IO, ERR_NUMERIC */
int task_publish(Task *t, double nll, int (*fill)(H5 *f, const void *arg), const void *arg);
/** task_end — NULL-safe, clears t. */
void task_end(Task *t);
