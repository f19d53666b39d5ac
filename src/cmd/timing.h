/* timing — one training step measured: its parts, the work of each group of ops, when gradients become final. */
#pragma once
#include "train/plan.h"
#include "train/roofline.h"
#include "train/trainer.h"

typedef struct Timing {
  double seconds, micro, update; /* of a step, a micro-batch, an update; a longer step is extrapolated */
  int64_t micros;                /* micro-batches that were run */
  bool whole;                    /* all of the step's, and the update */
  StepResult result;             /* of the first step, if it was whole */
  Work work;                     /* of a step */
  double start;                  /* of the micro-batch under way */
  Plan plan;                     /* its events */
} Timing;

/** timing_measure — runs a step, and again if that was short: the first one includes page faults, and planning on a GPU.
 *  Collective; errors are local. */
int timing_measure(Timing *m, Trainer *t);
/** timing_plan — the rest of m->plan, from the deck and the measured times. One rank. */
void timing_plan(Timing *m, const Trainer *t, const Ceilings *ceilings);
