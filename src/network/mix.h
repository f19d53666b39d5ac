/* mix — a checkpoint whose weights are a weighted sum of the weights of others. */
#pragma once
#include "store/checkpoint.h"

typedef struct MixPart {
  const char *path; /* not owned */
  CheckpointGroup group;
  double weight;
} MixPart;

/** mix_write — write a checkpoint at `out` with Σ weight·θ of the n parts, summed in double in their order, rounded once.
 *  Reads and writes one parameter at a time. Its /params and /ema are the same weights; step, deck and vocabulary are
 *  those of the part with the most steps; the parts are its parents (ancestry.h). *step := that step. Call on one rank.
 *  Errors  ERR_USAGE, ERR_DATA naming two files and how they differ, or one that is damaged; ERR_NUMERIC; ERR_IO */
int mix_write(const char *out, const MixPart *parts, int n, int64_t *step);
