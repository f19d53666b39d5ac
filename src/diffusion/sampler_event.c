/* sampler_event — the samples of `ancestral`, bit for bit, of a network that is not told the time: the step in which
 * each position unmasks is drawn first, and each sequence meets the network only in steps where one of its own does,
 * T(1 − (1 − 1/T)^L) of T on average for a schedule linear in t. */
#include "base/err.h"
#include "diffusion/draws.h"
#include "diffusion/events.h"
#include <math.h>

static int event_fits(const Objective *o, const ModelOptions *model) {
  TRY(sampler_draws_x0("event", o));
  return sampler_timeless("event", model);
}

/* The first step in which `ancestral` would unmask the position. */
static void event_times(const SamplerJob *job, int64_t sample, Event *e, int64_t n) {
  for (int64_t i = 0; i < n; i++) e[i].time = INFINITY;
  for (int64_t step = 0, left = n; step < job->steps && left > 0; step++) {
    double chance = sampler_chance(job, step);
    for (int64_t i = 0; i < n; i++) {
      if (e[i].time < INFINITY || !draws_unmasks(job, sample, step, e[i].l, chance)) continue;
      e[i].time = (double)step;
      e[i].uniform = draws_token(job, sample, step, e[i].l);
      left--;
    }
  }
}

static int event_run(SamplerJob *job) {
  TRY(sampler_draws_f64("event", job));
  return events_run(job, event_times);
}

extern const Sampler sampler_event;
const Sampler sampler_event = {"event", event_fits, event_run};
