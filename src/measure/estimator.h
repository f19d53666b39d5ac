/* estimator — the menu of estimators of the bound: how a sequence is masked and how its scored rows are weighted.
 *
 * One file, estimator_WORD.c, and one row of keys.def each. */
#pragma once
#include "network/network.h"

/* One draw of one sequence: everything its noise is a function of. */
typedef struct EstimatorDraw {
  uint64_t seed;
  int64_t draw, row; /* which draw; row of the data */
  int64_t cell, n;   /* stratum of the row among n */
  bool stratified;
} EstimatorDraw;

typedef struct EstimatorTable {
  const char *name;
  bool whole; /* estimates the complete bound, ε = τ = 0; false: over the times of training only */
  /* ERR_USAGE with the reason where the objective has no such bound; NULL: every objective has */
  int (*check)(const Objective *);
  /* sequence b of net->noised: x0[L] with its real length */
  void (*noise)(Network *, int64_t b, const int32_t *x0, int64_t length, const EstimatorDraw *);
} EstimatorTable;

extern const EstimatorTable *const estimators[]; /* NULL-ended; the first suits every objective */

/** estimator_find — the estimator of that word; "auto": the last one of the menu that the objective has. ERR_USAGE if it
 *  does not have it, with one that fits. */
int estimator_find(const EstimatorTable **table, const char *name, const Objective *o);
