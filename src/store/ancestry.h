/* ancestry — the checkpoints that a mixed checkpoint was made of: its group /parents, one value a parent.
 *
 *   file, digest, weights  text   path; checkpoint_digest; the group that was taken: ema, params, …
 *   step                   i64
 *   weight                 f64    factor in the sum */
#pragma once
#include "store/checkpoint.h"
#include "store/files.h"

typedef struct Parent {
  char path[FILES_PATH];
  char digest[33];
  char weights[16];
  int64_t step;
  double weight;
} Parent;

/** ancestry_there — whether the file has parents. */
bool ancestry_there(H5 *f);
/** ancestry_store — write the parents of a checkpoint. ERR_IO */
int ancestry_store(H5 *f, const Parent *parents, int64_t n);
/** ancestry_load — *parents := the *n parents, which the caller frees (mem_free); NULL and 0 if there are none.
 *  ERR_DATA */
int ancestry_load(H5 *f, Parent **parents, int64_t *n);
