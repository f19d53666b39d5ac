/* flat — a flat device buffer of parameters (weights, moments, averages) to and from a group of a checkpoint, where it
 * is one float array per parameter. */
#pragma once
#include "dist/comm.h"
#include "model/params.h"
#include "store/checkpoint.h"

/* Flat — a flat buffer as named float arrays on the host. */
typedef struct Flat {
  float *data;             /* [p->count] */
  bool owned;              /* false: the buffer itself, which is f32 on the host */
  CheckpointArray *arrays; /* one for each parameter */
} Flat;

/** flat_create — arrays with the names and shapes of the parameters: views of `flat` where it is f32 on the host and no
 *  `copy` is asked for, else of new memory, zeroed. ERR_MEMORY. Not collective. */
int flat_create(Flat *f, Params *p, Tensor flat, bool copy);
/** flat_fill — f, which owns its memory, := the values of `flat`. ERR_MEMORY, ERR_DEVICE. Not collective. */
int flat_fill(Flat *f, Params *p, Tensor flat);
/** flat_use — `flat` := the values of f. ERR_MEMORY, ERR_DEVICE. Not collective. */
int flat_use(const Flat *f, Params *p, Tensor flat);
/** flat_destroy — clears f; fine after a failed flat_create or on zeros. */
void flat_destroy(Flat *f);
/** flat_load — `flat` := a group of that checkpoint, names and shapes checked. Rank 0 of `readers` reads the file and
 *  broadcasts it, the others' `f` is not used; NULL: this rank reads for itself. Collective over readers, and so are
 *  its errors.
 *  Errors  ERR_DATA, ERR_MEMORY, ERR_DEVICE */
int flat_load(H5 *f, CheckpointGroup group, Params *p, Tensor flat, Comm *readers);
