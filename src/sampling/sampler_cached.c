/* sampler_cached — the samples of the plain reverse process, bit for bit, from a network without time conditioning:
 * its output changes only when a token does, so it is evaluated only in steps where something unmasks.
 *
 * Source: arXiv:2406.07524 §4 ("caching"). */
#include "sampling/sampler.h"
#include "sampling/walk.h"

static int cached_run(SamplerJob *job, const void *own) {
  (void)own;
  return walk_run(job, (Walk){0});
}

extern const SamplerTable sampler_cached;
const SamplerTable sampler_cached = {
    .name = "cached", .takes = TAKES(GIVES_X0), .f32 = TAKES(GIVES_X0), .skips = true, .run = cached_run};
