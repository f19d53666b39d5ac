/* remasking — the reverse process of masks in which a token may be masked again and drawn anew, now that more of the text
 * is known: what samplers that differ in the probability σ of that share.
 *
 * Let alpha be the probability that a token is visible, alpha_t before a step and alpha_s ≥ alpha_t after it. In the
 * step a visible token is remasked with probability σ, and a masked position is filled from p(x0 | z) with probability
 * u. Samples stay as noisy as the schedule says, which is what the network was trained on, if
 *
 *   alpha_s = alpha_t (1 − σ) + (1 − alpha_t) u,   u = (alpha_s − (1 − σ) alpha_t)/(1 − alpha_t)
 *
 * which is a probability as long as σ ≤ σmax = min(1, (1 − alpha_s)/alpha_t). σ = 0 gives the samples without
 * remasking, bit for bit: the same random numbers decide which positions unmask and their tokens. They also decide
 * which tokens are remasked, since a position is either visible or masked.
 * Tokens fixed at the start are not remasked. The network is evaluated only in steps where something unmasks, at the
 * time of the step. Source: arXiv:2503.00307 §3. */
#pragma once
#include "base/config.h"
#include "sampling/job.h"

/* Remask — how σ follows from η between 0 and 1, and the times of the steps (sample.remask_eta, hold, hold_time):
 *
 *   cap      σ = min(η, σmax)
 *   rescale  σ = η σmax
 * The times of a job (job_time), but `hold` of the steps stay at hold_time, where tokens are remasked and filled only;
 * the other steps go there from 1, and from there to the end, as evenly as whole steps allow. */
typedef struct Remask {
  bool rescale;
  double eta, hold, hold_time;
} Remask;

typedef struct Remasking {
  /* σ in a step with masking probability `now` before it and `next` after it */
  double (*sigma)(const void *own, double now, double next);
  const void *own;      /* not owned, nor the next one */
  const Remask *remask; /* the times */
  /* σ is divided among the visible tokens of a sequence in proportion to e^−c, c the p(x0 | z) that the network gave the
   * token when it was drawn. For a masked position c = ∞, so σ = 0 in its u: remasked tokens then exceed the masks of
   * the schedule, and the noise removal fills those that remain */
  bool by_confidence;
} Remasking;

/** remasking_options — those of the deck. `word`: cap, rescale or another one. */
Remask remasking_options(const Config *cfg, const char *word);
/** remasking_sigma — σ in a step with masking probability `now` before it and `next` after it. */
double remasking_sigma(const Remask *o, double now, double next);
/** remasking_time — t_i, i = 0 … steps. */
double remasking_time(const Remask *o, int64_t i, int64_t steps);
/** remasking_run — the job's samples.
 *  Errors  ERR_NUMERIC: the network's output is NaN */
int remasking_run(SamplerJob *job, const Remasking *how);
