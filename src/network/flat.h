/* flat — a flat device buffer of parameters (weights, moments, averages) to and from a group of a checkpoint, where it
 * is one float array per parameter. */
#pragma once
#include "model/params.h"
#include "store/checkpoint.h"

/* Flat — a flat buffer as named float arrays on the host; not copied if it is f32 on the host already. */
typedef struct Flat {
  float *data;
  bool owned;
  CheckpointArray *arrays; /* one for each parameter */
} Flat;

/** flat_create — the arrays of `flat`; their values, too, if `fill`. ERR_MEMORY, ERR_DEVICE. Not collective. */
int flat_create(Flat *f, Params *p, Tensor flat, bool fill);
/** flat_destroy — clears f; fine after a failed flat_create or on zeros. */
void flat_destroy(Flat *f);
/** flat_load — `flat` := a group of that checkpoint, names and shapes checked. ERR_DATA, ERR_MEMORY, ERR_DEVICE. */
int flat_load(const char *path, CheckpointGroup group, Params *p, Tensor flat);
