/* events — samplers that draw first when each masked position unmasks, which does not depend on the network, and then
 * ask the network only where something does.
 *
 * Every sequence has a clock of its own: a pass takes the next event of each that is not whole yet. So a pass has a row
 * of every sequence to fill, and those that are whole cost nothing. For networks that are not told the time. */
#pragma once
#include "diffusion/sampler.h"

typedef struct Event { /* a position of a sequence, and when it unmasks: events of equal times happen in one pass */
  double time;         /* counted from the start; those at INFINITY are left to the noise removal */
  int64_t l;
  double uniform; /* by which its token is drawn */
} Event;

/** events_run — fill job->z, where `events` gives the n masked positions of a sample their times.
 *  what = job->first + number of the sequence; e[i].l is filled in. */
int events_run(SamplerJob *job, void (*events)(const SamplerJob *, int64_t sample, Event *e, int64_t n));
