/* sampler_ancestral — the reverse process, step by step: from t to s a masked position keeps its mask with probability
 * mc_s/mc_t (mc = 1 − alpha) and otherwise takes a token from p(x0 | z); visible tokens stay.
 *
 * Whether a position unmasks does not depend on the network, so that is drawn first, and logits are computed only of
 * the positions that unmask. Source: arXiv:2406.07524 §3.2.2, Eq. (7).
 *
 * Where the network gives the mask a probability, published samplers drop it and normalise the rest:
 *   the mask stays with weight mc_s, against (mc_t − mc_s)·p(y) for each token y ≠ m */
#include "sampling/sampler.h"
#include "sampling/walk.h"

static int ancestral_run(SamplerJob *job, const void *own) {
  (void)own;
  return walk_run(
      job, (Walk){.every_step = true, .keep = job->objective->gives == GIVES_X0_OR_MASK ? KEEP_ODDS : KEEP_NEVER});
}

extern const SamplerTable sampler_ancestral;
const SamplerTable sampler_ancestral = {.name = "ancestral",
                                        .takes = TAKES(GIVES_X0) | TAKES(GIVES_X0_OR_MASK),
                                        .f32 = TAKES(GIVES_X0) | TAKES(GIVES_X0_OR_MASK),
                                        .run = ancestral_run};
