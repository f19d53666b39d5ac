/* guidance — samples that follow their class, or their prompt, more closely than the network does.
 *
 * With c the logits of a sequence, and u those of the same sequence
 *   by class   without its class (job->label); the prompt stays. The network has learnt to do without (train.label_dropout)
 *   by prompt  where there is no class: with its given tokens masked, which needs no training for it
 * tokens are drawn from
 *   l = u + gamma (c − u)
 * gamma = 1 is the network itself, 0 ignores the class or what is given. Every pass has each sequence twice, so the model's
 * batch must be twice that of the job. Tokens are given if they are fixed at the start of sampler_run: those of the prompt,
 * and in the later blocks of a longer sample also the overlap with the block before.
 *
 * By class, gamma = 0 and 1 are single passes, without and with the class: guidance_set does not make pairs of them.
 * In block diffusion only a class guides: each sequence has a cache with its class and one without (blocks.c).
 *
 * Uniform noise mixes the distribution of a step instead of p(x0 | z), in the sampler that takes it.
 * Source: arXiv:2412.10193 §3.1 (by class); arXiv:2502.09992 App. B (by prompt), with its w = gamma − 1. */
#pragma once
#include "sampling/job.h"

/** guidance_pairs — whether that class, −1: none, and gamma need two passes. */
bool guidance_pairs(int32_t label, double gamma);
/** guidance_set — the class of the job's samples and their guidance. */
void guidance_set(SamplerJob *job, int32_t label, double gamma);
/** guidance_begin — job->pairs and, by prompt, job->given := the tokens of job->z that are not masks. guidance_end undoes
 *  it. */
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
/** guidance_rows — both[2n] := the rows, and those `shift` behind them, in the order that rows_pair wants. */
void guidance_rows(const Rows *r, int32_t *both, const int32_t *rows, int64_t n, int64_t shift);
/** guidance_forward — one pass of the network over z and, behind it, the same without the class or the given tokens, for
 *  the rows of both, as rows_pair wants them. */
int guidance_forward(SamplerJob *job, const GuidedPass *p);
