/* sampler_first_hitting — the limit of ever smaller steps, from a network without time conditioning: positions unmask
 * one after the other, in at most L passes of the network per sequence.
 *
 * A position is masked at t with probability mc(t), so the mc at which it unmasks is uniform between 0 and mc(1);
 * positions for which it is below mc(1e-5) are left to the noise removal. sample.steps is not used.
 * Source: arXiv:2409.02908 §4. */
#include "sampling/draws.h"
#include "sampling/events.h"
#include "sampling/sampler.h"
#include <math.h>

static void hitting_times(const SamplerJob *job, int64_t sample, Event *e, int64_t n) {
  const Schedule *s = job->objective->schedule;
  RngKey when = draws_key(job, RNG_SAMPLE_UNMASK, DRAWS_CONTINUOUS, sample, 0);
  RngKey token = draws_key(job, RNG_SAMPLE_TOKEN, DRAWS_CONTINUOUS, sample, 0);
  double first = schedule_masked(s, job_time(0, 1)), last = schedule_masked(s, job_time(1, 1));
  for (int64_t i = 0; i < n; i++) {
    double masked = first * rng_uniform(when, (uint64_t)e[i].l);
    e[i].time = masked < last ? INFINITY : first - masked;
    e[i].uniform = rng_uniform(token, (uint64_t)e[i].l);
  }
}

static int first_hitting_run(SamplerJob *job, const void *own) {
  (void)own;
  return events_run(job, hitting_times);
}

extern const SamplerTable sampler_first_hitting;
const SamplerTable sampler_first_hitting = {
    .name = "first_hitting", .takes = TAKES(GIVES_X0), .skips = true, .run = first_hitting_run};
