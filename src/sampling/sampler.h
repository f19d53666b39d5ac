/* sampler — the menu of samplers: text out of masks, or from left to right.
 *
 * A sampler is one file, sampler_WORD.c, and one row of keys.def. Its table says which objectives it can sample from;
 * its own options are read from the deck by create() and known to no other file. */
#pragma once
#include "base/config.h"
#include "sampling/blocks.h"

#define TAKES(gives) (1u << (gives)) /* a set of Gives */

typedef struct SamplerOptions {
  const Config *cfg; /* section `sample`; not owned, nor the next two */
  const Objective *objective;
  const ModelOptions *model;
  int32_t label;         /* class of the samples, −1: none */
  int32_t bos, eos, pad; /* of the tokenizer: beginning and end of a sequence, and what follows it; −1: there is none */
} SamplerOptions;

typedef struct SamplerTable {
  const char *name;
  unsigned takes; /* what an objective may give: TAKES(GIVES_X0) | … */
  unsigned f32;   /* those of `takes` that can be drawn in f32, as published samplers do */
  bool skips;     /* passes that change nothing are left out: the network must not be conditioned on time */
  bool stops;     /* it obeys sample.stop_at_eos itself; with diffusion.block any sampler does */
  /* the sampler's own options to *own, from mem_alloc; both NULL: it has none. ERR_USAGE naming the key */
  int (*create)(void **own, const SamplerOptions *options);
  void (*destroy)(void **own);
  int (*run)(SamplerJob *job, const void *own);
} SamplerTable;

typedef struct Sampler {
  const SamplerTable *table;
  void *own;     /* the sampler's options */
  Blocks blocks; /* of block diffusion */
} Sampler;

extern const SamplerTable
    *const samplers[]; /* NULL-ended, in order of preference: messages advise the first that fits */

/** sampler_create — the sampler of sample.sampler.
 *  Errors  ERR_USAGE: it cannot sample from that objective and network, with a sampler that can; its own options */
int sampler_create(Sampler *s, const SamplerOptions *options);
/** sampler_stops — ERR_USAGE with the reason where samples cannot end at eos, if sample.stop_at_eos wants that. */
int sampler_stops(const SamplerOptions *options);
/** sampler_fill — the token behind the end of a text: pad, or eos where there is no pad. */
int32_t sampler_fill(const SamplerOptions *options);
/** sampler_run — the samples of the job, in block diffusion block by block.
 *  Errors  ERR_NUMERIC: the network's output is NaN */
int sampler_run(const Sampler *s, SamplerJob *job);
/** sampler_destroy — NULL-safe, clears s. */
void sampler_destroy(Sampler *s);
