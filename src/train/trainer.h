/* trainer — one run: data, network, optimizer and their state on disk; a step; a validation.
 *
 * Every public call is collective over the communicator, and its error is agreed on unless it says otherwise. */
#pragma once
#include "base/config.h"
#include "dist/comm.h"
#include "network/network.h"
#include "store/checkpoint.h"
#include "store/loader.h"
#include "store/shards.h"
#include "train/history.h"
#include "train/layers.h"
#include "train/local.h"
#include "train/optimizer.h"
#include "train/reduce.h"
#include "train/rundir.h"
#include "train/saver.h"

typedef struct StepResult { /* of one step, summed over the global batch */
  double loss;              /* nat per token */
  double norm, lr;
  int64_t tokens, masked, rows; /* real tokens, masked tokens, rows whose logits were computed */
} StepResult;

typedef struct Trainer Trainer;

/* What draws samples while a run trains: sampling is a room above this one. */
typedef struct TrainerSampling {
  int (*open)(void *arg, Trainer *t); /* callback once the network is there and before anything is written. Local */
  /* callback that draws samples of the moving average, which is bound, into t->history.samples. *stop: the signal that
   * ended it, and then nothing is added; else it stays 0. Collective, errors agreed */
  int (*draw)(void *arg, int *stop);
  void *arg;
} TrainerSampling;

struct Trainer {
  const Config *cfg; /* not owned */
  Comm *comm;        /* not owned */
  char *deck;        /* resolved */
  Mixture *train;
  Shards *valid;  /* may be NULL */
  int64_t length; /* L: of a row of the data, with data.crop half of it */
  Network net;
  Optimizer optimizer;
  Reduction reduction;
  Loader *loader;
  History history;
  Layers layers;
  RunDir dir;
  bool writes;                       /* false: nothing is written (mdlm check) */
  Saver *saver;                      /* on rank 0, where it writes */
  Local local;                       /* checkpoints on the nodes' own disks */
  double saved;                      /* clock when last.h5 was last saved, at first that of the start */
  int64_t local_micro;               /* micro-batches of this rank a step */
  int64_t sequences, tokens, masked; /* since the start of the run */
  double valid_seconds;              /* of the last validation, 0: none yet */
  char init_digest[33];              /* of the weights of run.init, "" without */
  double best;                       /* nat per token of the best validation, NaN: none */
  const TrainerSampling *sampling;   /* not owned; NULL: none */
  double peak;                       /* FLOP/s of matrix products on this rank */
};

/** trainer_create — opens and allocates everything; with `writes`, locks the run directory and resumes as run.resume
 *  says. With train.sample_every, `sampling` draws samples; NULL: nothing does. Must not be moved in memory afterwards.
 *  Errors  ERR_USAGE, ERR_DATA, ERR_IO, ERR_BUSY, ERR_MEMORY */
int trainer_create(Trainer *t, const Config *cfg, Comm *comm, bool writes, const TrainerSampling *sampling);
void trainer_destroy(Trainer *t);
/** trainer_micro — one micro-batch forward and backward, adding to *sum (the loss stays on the device). Collective only
 *  for the last one of a step; errors are not agreed. */
int trainer_micro(Trainer *t, StepResult *sum);
/** trainer_update — reduce, clip, update after local_micro micro-batches; *sum becomes the global result.
 *  Errors  ERR_NUMERIC naming step and rank of a loss that is not finite: weights and checkpoints are as before */
int trainer_update(Trainer *t, StepResult *sum);
/** trainer_validate — bound of the validation data under the moving average; a new best is saved as best.h5. *stop: the
 *  signal that ended it, and then nothing is changed; else 0. */
int trainer_validate(Trainer *t, int *stop);
/** trainer_clip — the ends of the times of training := those that the last validation of the history has found, if any. */
void trainer_clip(Trainer *t);
/** trainer_save — copy the state, which a thread then writes as `name` in the run directory. Waits for the files of an
 *  earlier step, if the thread is still writing them.
 *  Errors  ERR_NUMERIC: the weights are not finite; those of saver_retry */
int trainer_save(Trainer *t, const char *name);
/** trainer_save_due — the checkpoints that train.save_every, save_minutes, keep_every and local_every ask for after this
 *  step; last.h5 also after the last step. Warns of files that could not be written. */
int trainer_save_due(Trainer *t);
/** trainer_saved — wait until the files are written; those on the nodes' own disks are removed if the run is complete. ERR_IO if one of the last save was not. */
int trainer_saved(Trainer *t);
/** trainer_complete — whether all steps and their last validation are done. */
bool trainer_complete(const Trainer *t);
/** trainer_run — steps up to train.steps, with log, validations and checkpoints. *stop: what ended it early
 * (stop_name), or 0. A signal is obeyed after a pass of the network, the file STOP after a step: the state saved is that
 * before an unfinished step or validation. */
int trainer_run(Trainer *t, int *stop);
/** trainer_noise — t->net.noised := the train.draws draws of each sequence of a micro-batch, one after the other, as
 *  functions of the sequence's place in the global batch, of the draw and of the block. */
void trainer_noise(Trainer *t, const Micro *micro);
/** trainer_validation — of the time of a training pass, about what a validation pass over the same sequences takes: a third,
 *  less with train.draws, of which it makes one. */
double trainer_validation(const Trainer *t);
/** trainer_flops — floating-point operations of training on that many rows of input and rows of logits. */
double trainer_flops(const Trainer *t, double tokens, double rows);

/* state.c: the trainer's state in a checkpoint */
/** trainer_state — what a checkpoint holds besides arrays and metrics. The pointers are the trainer's. Not collective. */
CheckpointState trainer_state(const Trainer *t);
/** trainer_groups — the groups of its checkpoints: those before this one. */
CheckpointGroup trainer_groups(const Trainer *t);
/** trainer_flat — *flat := the whole buffer of that group: where the ranks share it, gathered in the memory of the
 *  gradients, which the next step or the next call overwrites. Between steps. Collective; errors are local. */
int trainer_flat(Trainer *t, CheckpointGroup group, Tensor *flat);
/** trainer_resume — load last.h5 or, if that is damaged, previous.h5; or what every node has on its own disk, if that is
 *  newer (local.h). One rank of each node reads the file. *done := whether there is any. */
int trainer_resume(Trainer *t, bool *done);
