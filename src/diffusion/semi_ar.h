/* semi_ar — samples longer than the sequences of the network: block after block, each of the network's length.
 *
 * A block begins `stride` tokens after the one before and carries over what both hold, L − stride tokens, as fixed
 * tokens; any diffusion sampler fills in the rest. So its law given its past is the sampler's own from these tokens.
 * Source: arXiv:2406.07524 §3.2.2 and Appendix B. Its program fills each block by steps + 1 updates at 1 − i/steps of
 * its cached sampler; here the times of a block are those of the chosen sampler (sampler_time), noise removal included,
 * as they are without blocks. */
#pragma once
#include "diffusion/sampler.h"

typedef struct SemiAr {
  int64_t strides; /* blocks after the first one; 0: no more than it */
  int64_t stride;  /* tokens that each of them adds; of no meaning without strides */
} SemiAr;

/** semi_ar_fits — ERR_USAGE with the reason where blocks of L tokens cannot advance so. */
int semi_ar_fits(const SemiAr *s, const Objective *o, int64_t L);
/** semi_ar_length — tokens of a sample: L + strides · stride. */
int64_t semi_ar_length(const SemiAr *s, int64_t L);
/** semi_ar_run — job->z[n, semi_ar_length] by that sampler; tokens other than m are fixed, and seen by the blocks that
 *  hold them. Evaluations are those of all blocks; progress counts up to (strides + 1) · steps.
 *  Repeat  a sample is a function of (seed, its number); its first block is the sample without strides, but for
 *  masks that are left where noise_removal is off: the next block fills them */
int semi_ar_run(const SemiAr *s, const Sampler *sampler, SamplerJob *job);
