/* sampler_event — the samples of the plain reverse process, bit for bit, from a network without time conditioning: the
 * step in which each position unmasks is drawn first, and the network sees each sequence only in steps where one of its
 * own positions does, T(1 − (1 − 1/T)^L) of T on average for a schedule linear in t. */
#include "sampling/draws.h"
#include "sampling/events.h"
#include "sampling/sampler.h"
#include <math.h>

/* The first step in which the position unmasks. */
static void event_times(const SamplerJob *job, int64_t sample, Event *e, int64_t n) {
  for (int64_t i = 0; i < n; i++) e[i].time = INFINITY;
  for (int64_t step = 0, left = n; step < job->steps && left > 0; step++) {
    double chance = job_chance(job, step);
    for (int64_t i = 0; i < n; i++) {
      if (e[i].time < INFINITY || !draws_unmasks(job, sample, step, e[i].l, chance)) continue;
      e[i].time = (double)step;
      e[i].uniform = draws_token(job, sample, step, e[i].l);
      left--;
    }
  }
}

static int event_run(SamplerJob *job, const void *own) {
  (void)own;
  return events_run(job, event_times);
}

extern const SamplerTable sampler_event;
const SamplerTable sampler_event = {.name = "event", .takes = TAKES(GIVES_X0), .skips = true, .run = event_run};
