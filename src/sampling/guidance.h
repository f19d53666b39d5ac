/* guidance — samples that follow their prompt more closely than the network does, without training for it.
 *
 * With c the logits of a sequence and u those of the same sequence with its given tokens masked, tokens are drawn from
 *   l = u + gamma (c − u)
 * gamma = 1 is the network itself, 0 ignores what is given. Every pass has each sequence twice, so the model's batch must
 * be twice that of the job. Tokens are given if they are fixed at the start of sampler_run: those of the prompt, and in
 * the later blocks of a longer sample also the overlap with the block before.
 * Source: arXiv:2502.09992 App. B (unsupervised classifier-free guidance), with its w = gamma − 1. */
#pragma once
#include "sampling/job.h"

/** guidance_begin — job->given := the tokens of job->z that are not masks. guidance_end frees them. */
int guidance_begin(SamplerJob *job);
void guidance_end(SamplerJob *job);

typedef struct GuidedPass {
  const int32_t *z;    /* [B,L] */
  const int64_t *who;  /* [real] the job's sequences; NULL: 0, 1, … */
  int64_t real, B;     /* sequences behind the first `real` are padding */
  const double *sigma; /* [B] */
  const int32_t *rows; /* [n] of the B·L */
  int64_t n;
} GuidedPass;
/** guidance_forward — one pass of the network over z and, behind it, the same with the given tokens masked, for the rows
 *  of both, as rows_pair wants them. */
int guidance_forward(SamplerJob *job, const GuidedPass *p);
