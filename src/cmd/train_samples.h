/* train_samples — the samples that training draws every train.sample_every steps, always of the same noise and prompts:
 * those that `mdlm sample` would draw from the moving average of that step. */
#pragma once
#include "sampling/sampler.h"
#include "store/prompt.h"
#include "train/trainer.h"

typedef struct TrainSamples {
  TrainerSampling callbacks;
  Trainer *trainer; /* not owned */
  Sampler sampler;
  Prompts prompts;
  int32_t label;   /* class of the samples, −1: none */
  int32_t *z;      /* [micro_batch,L] */
  int64_t *tokens; /* [count,L] those of all ranks */
} TrainSamples;

/** train_samples_init — the callbacks for trainer_create, which opens what they need. Must not be moved in memory
 *  afterwards.
 *  Errors of opening  ERR_USAGE: the deck's sampler does not suit its objective; ERR_DATA of the prompts; ERR_MEMORY */
void train_samples_init(TrainSamples *s);
/** train_samples_destroy — also if it was not opened. */
void train_samples_destroy(TrainSamples *s);
