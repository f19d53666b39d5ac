/* nelbo — the bound on the negative log-likelihood of a data set, with its uncertainty.
 *
 * Each sequence gets `draws` draws of its noise by the estimator; its value is the mean of its summed losses; nll and
 * its interval are those of interval.h. Every draw is a function of (seed, draw, row): the same on any number of ranks.
 */
#pragma once
#include "dist/comm.h"
#include "measure/estimator.h"
#include "measure/interval.h"
#include "store/shards.h"

typedef struct NelboOptions {
  const EstimatorTable *estimator;
  int64_t draws, sequences; /* sequences 0: all */
  uint64_t seed;
  bool stratified;
  const char *progress; /* NULL: quiet */
} NelboOptions;

typedef struct Nelbo {
  int64_t sequences, masked;
  Interval interval; /* over sequences */
  double *loss;      /* [sequences] nat, rank 0 only */
  int64_t *length;   /* [sequences] scored tokens, rank 0 only */
} Nelbo;

/** nelbo_run — evaluate rows 0 … sequences−1 with the network's current weights. Collective; every rank gets the
 *  totals. Errors  ERR_DATA: no token is scored, or the data's */
int nelbo_run(Nelbo *result, Network *net, Shards *data, Comm *comm, const NelboOptions *options);
void nelbo_destroy(Nelbo *n);
