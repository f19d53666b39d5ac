/* strides — samples longer than the sequences of the network: block after block, each of the network's length.
 *
 * A block begins `stride` tokens after the previous one and carries over their common L − stride tokens as fixed
 * tokens; any diffusion sampler fills in the rest. So its law given its past is the sampler's own, given these tokens.
 * Source: arXiv:2406.07524 §3.2.2 and Appendix B. The public implementation fills each block by steps + 1 updates at
 * 1 − i/steps; here the times of a block are those of the chosen sampler (job_time), noise removal included, as they
 * are without strides. */
#pragma once
#include "sampling/sampler.h"

typedef struct Strides {
  int64_t count;  /* blocks after the first one; 0: samples of the network's length */
  int64_t stride; /* tokens that each of them adds; meaningless if count is 0 */
} Strides;

/** strides_fits — ERR_USAGE with the reason where blocks of L tokens cannot advance so. */
int strides_fits(const Strides *s, const Objective *o, int64_t L);
/** strides_length — tokens of a sample: L + strides · stride. */
int64_t strides_length(const Strides *s, int64_t L);
/** strides_run — job->z[n, strides_length] by that sampler; tokens other than m are fixed, and seen by the blocks that
 *  hold them. Evaluations are those of all blocks; progress counts up to (strides + 1) · steps.
 *  Repeat  a sample is a function of (seed, its number); its first block is the sample without strides, but for
 *  masks that are left where noise_removal is off: the next block fills them */
int strides_run(const Strides *s, const Sampler *sampler, SamplerJob *job);
