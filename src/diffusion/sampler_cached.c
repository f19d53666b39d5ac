/* sampler_cached — the samples of `ancestral`, bit for bit, of a network that is not told the time: while no token
 * changes its output does not either, so it is asked only in steps where something unmasks.
 *
 * Source: arXiv:2406.07524 §4 ("caching"). */
#include "base/err.h"
#include "diffusion/draws.h"

static int cached_fits(const Objective *o, const ModelOptions *model) {
  TRY(sampler_draws_x0("cached", o));
  return sampler_timeless("cached", model);
}

static int cached_run(SamplerJob *job) { return sampler_walk(job, (Walk){0}); }

extern const Sampler sampler_cached;
const Sampler sampler_cached = {"cached", cached_fits, cached_run};
