/* sampler_analytic — the reverse process of an unnormalised score s(z, t): with Δσ = σ_t − σ_s and
 * c = (e^Δσ − 1)/(e^σ_t − 1), a masked position takes token y with probability c·S_y and keeps its mask with the
 * remaining probability, if positive;  S_y = (e^σ_t − 1) s_y = exp(f_y)/(V − 1).  Visible tokens stay. The last step
 * goes to σ = 0, keeps no mask, and draws, too.
 *
 * This is the staggered score times the transposed transition:
 *   y ≠ m   e^Δσ s_y (1 − e^−Δσ) = (e^Δσ − 1) s_y
 *   y = m   e^Δσ + (1 − e^Δσ)(1 + Σ_{y≠m} s_y) = 1 − (e^Δσ − 1) Σ_{y≠m} s_y
 * c is the probability of unmasking in a step. For a network that gives p(x0 | z), Σ S_y = 1: then all steps but the
 * last are those of the plain reverse process. Source: arXiv:2310.16834 §4, Alg. 1. */
#include "sampling/sampler.h"
#include "sampling/walk.h"

static int analytic_run(SamplerJob *job, const void *own) {
  (void)own;
  KeepRule keep = job->objective->gives == GIVES_SCORE ? KEEP_SCORE : KEEP_NEVER;
  return walk_run(job, (Walk){.every_step = true, .draw_last = true, .keep = keep});
}

extern const SamplerTable sampler_analytic;
const SamplerTable sampler_analytic = {
    .name = "analytic", .takes = TAKES(GIVES_X0) | TAKES(GIVES_SCORE), .f32 = TAKES(GIVES_X0), .run = analytic_run};
