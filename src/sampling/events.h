/* events — for samplers that first draw when each masked position unmasks, which does not depend on the network, and
 * then evaluate the network only where a position does.
 *
 * Every sequence has its own clock: a pass takes the next event of each unfinished sequence, so each sequence in it has
 * a row to fill, and finished sequences cost nothing. For networks without time conditioning. */
#pragma once
#include "sampling/job.h"

typedef struct Event { /* one position of a sequence, and when it unmasks; events of equal times share a pass */
  double time;         /* from the start; INFINITY: left to the noise removal */
  int64_t l;
  double uniform; /* decides its token */
} Event;

/** events_run — fill job->z. The callback sets time and uniform of the events e[n] of a sample, one for each masked
 *  position e[i].l; sample = job->first + index of the sequence.
 *  Errors  ERR_NUMERIC: the network's output is NaN */
int events_run(SamplerJob *job, void (*events)(const SamplerJob *, int64_t sample, Event *e, int64_t n));
