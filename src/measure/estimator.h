/* estimator — the menu of estimators of the bound: how a sequence is masked and what its scored rows weigh.
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
  bool whole; /* the bound's integral over times is complete: for ε = τ = 0; false: of the times of training */
  /* ERR_USAGE with the reason where the objective has no such bound; NULL: every objective has */
  int (*check)(const Objective *);
  /* sequence b of net->noised: x0[L] with its real length */
  void (*noise)(Network *, int64_t b, const int32_t *x0, int64_t length, const EstimatorDraw *);
} EstimatorTable;

extern const EstimatorTable *const estimators[]; /* NULL-ended; the first suits every objective */

/** estimator_find — the estimator of that word, for that objective. ERR_USAGE with the reason and one that fits. */
int estimator_find(const EstimatorTable **table, const char *name, const Objective *o);
