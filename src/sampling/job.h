/* job — the input of a sampler: n samples from a network, and how their tokens are drawn.
 *
 * A sample is a pure function of (seed, its number): not of the batch it is drawn in, nor of the rank. */
#pragma once
#include "diffusion/rows.h"

typedef struct Draws Draws; /* sampling/draws.h */
typedef struct SamplerJob SamplerJob;
struct SamplerJob {
  Model *model; /* not owned, nor the next two */
  Rows *rows;
  const Objective *objective;
  int64_t steps;
  bool noise_removal; /* fill the masks that remain after the last step */
  DrawRule draw;      /* temperature, nucleus, f32; the sampler sets `keep` */
  int32_t label;      /* class of all samples, of networks with classes; −1: none */
  bool guided;        /* by the class or, without one, by the tokens that are fixed in z (guidance.h) */
  double guidance;    /* its gamma */
  bool pairs;         /* passes have each sequence twice; set by sampler_run where the job is guided */
  bool *given;        /* [n,L] the tokens that guide; set by sampler_run, NULL: none */
  uint64_t seed;
  int64_t first, n;    /* numbers of the samples: first … first+n−1, n ≤ the model's batch */
  int64_t length;      /* L of z: of the model's sequences, or of a block of block diffusion; set by sampler_run */
  int64_t block;       /* which block of a longer sample this is (strides.h, blocks.h); 0: the first or only one */
  int32_t *z;          /* [n,L] in: where ≠ m, fixed tokens; out: the samples */
  int32_t *lengths;    /* [n] L at first; out: tokens of samples that have ended; may be NULL */
  int64_t evaluations; /* out: passes of the network, of any number of sequences */
  int64_t evaluated;   /* out: sequences in these passes, summed */
  int64_t cached;      /* out: passes besides that fill the cache, of all sequences */
  /* a pass of the network for d's positions of the job's z; NULL: model_forward. Set by blocks.c */
  int (*pass)(SamplerJob *, const Draws *d);
  void *pass_arg;
  int (*progress)(void *arg, int64_t step); /* callback after each step; an error ends the sampler; may be NULL */
  void *progress_arg;
};

/** job_time — t_i = 1 − i(1 − 1e-5)/steps, i = 0 … steps. */
double job_time(int64_t i, int64_t steps);
/** job_chance — the probability that a masked position unmasks in a step: 1 − mc_s/mc_t, mc the masking probability. */
double job_chance(const SamplerJob *job, int64_t step);
