/* sampler_ancestral — the reverse process, step by step: from t to s a masked position keeps its mask with probability
 * mc_s/mc_t (mc = 1 − alpha) and otherwise takes a token from p(x0 | z); visible tokens stay.
 *
 * Whether a position unmasks does not depend on the network, so that is drawn first and logits are made only of the
 * positions that unmask now. Source: arXiv:2406.07524 §3.2.2, Eq. (7).
 *
 * D3PM's network gives m a probability, too. As published samplers have it, that is dropped and the rest made to sum
 * to 1: the mask stays with weight mc_s against (mc_t − mc_s)·p(y) of each token y ≠ m. */
#include "base/err.h"
#include "diffusion/draws.h"
#include <string.h>

/* Whether the network gives m a probability. */
static bool weighs(const Objective *o) { return strcmp(o->table->name, "d3pm") == 0 && o->terms > 1; }

static int ancestral_fits(const Objective *o, const ModelOptions *model) {
  (void)model;
  return weighs(o) ? OK : sampler_draws_x0("ancestral", o);
}

static int ancestral_run(SamplerJob *job) {
  return sampler_walk(job, (Walk){.every_step = true, .weighing = weighs(job->objective) ? WEIGH_ODDS : WEIGH_NOTHING});
}

extern const Sampler sampler_ancestral;
const Sampler sampler_ancestral = {"ancestral", ancestral_fits, ancestral_run};
