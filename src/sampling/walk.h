/* walk — the reverse process step by step, from t = 1 to 1e-5: what samplers with steps share. */
#pragma once
#include "sampling/job.h"

typedef struct Walk {
  bool every_step; /* false: the network is evaluated only in steps that draw a token, and only if z has changed */
  bool draw_last;  /* the noise removal draws tokens, too */
  KeepRule keep;   /* what besides the schedule decides whether a position keeps its mask; KEEP_NEVER: nothing */
} Walk;

/** walk_run — the job's samples.
 *  Errors  ERR_NUMERIC: the network's output is NaN */
int walk_run(SamplerJob *job, Walk how);
