/* sampler_analytic — the reverse process of a score s(z, t), which is no distribution in general: with Δσ = σ_t − σ_s
 * and c = (e^Δσ − 1)/(e^σ_t − 1), a masked position takes token y with probability c·S_y and keeps its mask with what
 * is left, S_y = (e^σ_t − 1) s_y = exp(f_y)/(V − 1), at least 0; visible tokens stay. The last step goes to σ = 0,
 * keeps no mask, and draws, too.
 *
 * This is the staggered score times the transposed transition: e^Δσ s_y (1 − e^−Δσ) = (e^Δσ − 1) s_y for y ≠ m, and for
 * m e^Δσ + (1 − e^Δσ)(1 + Σ_{y≠m} s_y) = 1 − (e^Δσ − 1) Σ_{y≠m} s_y. c is the chance of unmasking of `ancestral`, and
 * with the score of SUBS, Σ S_y = 1: then all but the last step is `ancestral`. Source: arXiv:2310.16834 §4, Alg. 1. */
#include "base/err.h"
#include "diffusion/sampler.h"
#include <string.h>

static bool scored(const Objective *o) { return strcmp(o->table->name, "sedd") == 0; }

static int analytic_fits(const Objective *o, const ModelOptions *model) {
  (void)model;
  return scored(o) ? OK : sampler_draws_x0("analytic", o);
}

static int analytic_run(SamplerJob *job) {
  bool score = scored(job->objective);
  if (score) TRY(sampler_draws_f64("analytic of sedd", job));
  return sampler_walk(job,
                      (Walk){.every_step = true, .draw_last = true, .weighing = score ? WEIGH_SCORE : WEIGH_NOTHING});
}

extern const Sampler sampler_analytic;
const Sampler sampler_analytic = {"analytic", analytic_fits, analytic_run};
