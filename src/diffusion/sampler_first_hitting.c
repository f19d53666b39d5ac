/* sampler_first_hitting — the limit of ever smaller steps, of a network that is not told the time: positions unmask one
 * after the other, at most L passes of the network a sequence.
 *
 * A position is masked at t with chance mc(t), so the mc at which it unmasks is uniform between 0 and mc(1); positions
 * for which it is below mc(1e-5) are left to the noise removal. sample.steps has no meaning.
 * Source: arXiv:2409.02908 §4. */
#include "base/err.h"
#include "diffusion/draws.h"
#include "diffusion/events.h"
#include <math.h>

static int first_hitting_fits(const Objective *o, const ModelOptions *model) {
  TRY(sampler_draws_x0("first_hitting", o));
  return sampler_timeless("first_hitting", model);
}

static void hitting_times(const SamplerJob *job, int64_t sample, Event *e, int64_t n) {
  const Schedule *s = job->objective->schedule;
  RngKey when = draws_key(job, RNG_SAMPLE_UNMASK, DRAWS_CONTINUOUS, sample, 0);
  RngKey token = draws_key(job, RNG_SAMPLE_TOKEN, DRAWS_CONTINUOUS, sample, 0);
  double first = schedule_masked(s, sampler_time(0, 1)), last = schedule_masked(s, sampler_time(1, 1));
  for (int64_t i = 0; i < n; i++) {
    double masked = first * rng_uniform(when, (uint64_t)e[i].l);
    e[i].time = masked < last ? INFINITY : first - masked;
    e[i].uniform = rng_uniform(token, (uint64_t)e[i].l);
  }
}

static int first_hitting_run(SamplerJob *job) {
  TRY(sampler_draws_f64("first_hitting", job));
  return events_run(job, hitting_times);
}

extern const Sampler sampler_first_hitting;
const Sampler sampler_first_hitting = {"first_hitting", first_hitting_fits, first_hitting_run};
