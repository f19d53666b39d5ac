/* sampler — text out of masks: walks t from 1 to 1e-5 and lets the network fill in tokens.
 *
 * A sample is a pure function of (seed, its number): not of the batch it is drawn in, nor of the rank. */
#pragma once
#include "diffusion/rows.h"

/* DrawOptions — how a token is drawn from p(x0 | z): as it is (temperature 1, nucleus 1) with 53 random bits, or not.
 */
typedef struct DrawOptions {
  double temperature, nucleus;
  bool f32; /* as published samplers draw: rare tokens are cut off */
} DrawOptions;

typedef struct SamplerJob {
  Model *model; /* not owned, nor the next two */
  Rows *rows;
  const Objective *objective;
  int64_t steps;
  bool noise_removal; /* fill what is left at the last time with the likeliest tokens */
  DrawOptions draw;
  int32_t bos;        /* ar: the first token where that is free; −1: there is none */
  bool cache;         /* ar: keep keys and values, in place of recomputing the prefix */
  const char *remask; /* remask: cap, rescale or confidence, and its η */
  double remask_eta;
  uint64_t seed;
  int64_t first, n;    /* numbers of the samples: first … first+n−1, n ≤ the model's batch */
  int64_t block;       /* which part of longer samples this is (semi_ar.h); 0: the first or only one */
  int32_t *z;          /* [n,L] in: where ≠ m, fixed tokens; out: the samples */
  int64_t evaluations; /* out: passes of the network, whatever number of sequences went through */
  int64_t evaluated;   /* out: sequences that went through, summed over the passes */
  void (*progress)(void *arg, int64_t step); /* may be NULL */
  void *progress_arg;
} SamplerJob;

typedef struct Sampler {
  const char *name;
  /* ERR_USAGE with the reason where it cannot sample from that objective and network */
  int (*fits)(const Objective *, const ModelOptions *);
  int (*run)(SamplerJob *);
} Sampler;

/** sampler_find — the sampler of that name; ERR_USAGE if there is none. */
int sampler_find(const Sampler **s, const char *name);
/** sampler_time — t_i = 1 − i(1 − 1e-5)/steps, i = 0 … steps. */
double sampler_time(int64_t i, int64_t steps);

/* ---- what samplers share */
/** sampler_chance — that a position which is masked at the start of a step unmasks in it: 1 − mc_s/mc_t. */
double sampler_chance(const SamplerJob *job, int64_t step);
/* Weighing — what else decides whether a position unmasks in a step: nothing; the score of all tokens, which is no
 * distribution and multiplies the chance; p(m), dropped: (mc_t − mc_s)(1 − p(m)) stands against mc_s. */
typedef enum Weighing { WEIGH_NOTHING, WEIGH_SCORE, WEIGH_ODDS } Weighing;
typedef struct Walk {
  bool every_step; /* false: the network is asked only where something has changed and is asked for */
  bool draw_last;  /* the noise removal draws tokens, too */
  Weighing weighing;
} Walk;
/** sampler_walk — the reverse process step by step. */
int sampler_walk(SamplerJob *job, Walk how);
/** sampler_draws_f64 — OK unless sample.draw is f32. */
int sampler_draws_f64(const char *sampler, const SamplerJob *job);
/** sampler_suited — the name of a sampler that suits the objective, whatever its options. */
const char *sampler_suited(const Objective *o);
/** sampler_draws_x0 — OK if the objective's network tells p(x0 | z) without m. */
int sampler_draws_x0(const char *sampler, const Objective *o);
/** sampler_timeless — OK if the network is not told the time. */
int sampler_timeless(const char *sampler, const ModelOptions *model);
