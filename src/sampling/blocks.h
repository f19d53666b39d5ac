/* blocks — the samples of block diffusion: block after block from left to right, each filled in by any sampler of masked
 * tokens, as if it were a whole sequence, given the blocks before it.
 *
 * With the cache a pass of the network is the block alone, which sees the keys and values of the earlier ones; a complete
 * block passes once more, clean, which makes its own keys and values final. Without, a pass is all of the sequence up
 * to the block, in both halves. The cache is exact: earlier blocks never see later ones. Both use the same random
 * numbers, and on the CPU the network's output has the same bits, and so have the samples.
 *
 * Fixed tokens stay. A block sees those of itself and of the blocks before it, not those after it. A block without masks
 * costs its clean pass only. sample.steps are those of a whole sequence: every block gets its part, at least one. The
 * clean passes are counted by themselves.
 * Source: arXiv:2503.09573 §4 and Algorithm 2 */
#pragma once
#include "sampling/job.h"

typedef struct Blocks {
  bool cache;        /* sample.cache; not in training, where models have none */
  bool stop;         /* sample.stop_at_eos: a sample ends at the first drawn eos */
  int32_t eos, fill; /* fill: what comes behind it */
} Blocks;

/** blocks_run — the job's samples, each block by the sampler `run` with its options `own`. */
int blocks_run(const Blocks *b, int (*run)(SamplerJob *, const void *own), const void *own, SamplerJob *job);
