/* posthoc — a power-law average of the weights of any width, made after training of the traces in checkpoints. */
#pragma once
#include "network/mix.h"

typedef struct Posthoc {
  double sigma;    /* the relative width that is wanted */
  int64_t step;    /* at this step; −1: that of the last checkpoint. Later ones are left out */
  double distance; /* out: of the profile that is made from the one that is wanted, over the norm of that */
} Posthoc;

/** posthoc_parts — *parts := traces of the n checkpoints and their weights, for mix_write; the caller frees them
 *  (mem_free). o->step becomes the step of the average.
 *  Errors  ERR_DATA: a checkpoint without traces, or none up to that step */
int posthoc_parts(Posthoc *o, const char *const *paths, int n, MixPart **parts, int *n_parts);
