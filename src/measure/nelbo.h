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
  int64_t draws, sequences; /* sequences 0: all; else so many, chosen at random, the same for every seed */
  uint64_t seed;
  bool stratified;
  const char *progress;      /* NULL: quiet */
  const char *partial, *key; /* file of finished sequences and its key (items.h); NULL: none */
} NelboOptions;

typedef struct Nelbo {
  int64_t sequences, masked;
  int stop;          /* the signal that stopped it: then there are no results; 0: complete */
  int64_t done;      /* finished sequences */
  Interval interval; /* over sequences */
  double *loss;      /* [sequences] nat, mean over draws, rank 0 only, as the next two */
  int64_t *length;   /* [sequences] scored tokens */
  double *square;    /* [sequences] nat², Σ over draws of the squared distance from their mean */
} Nelbo;

/** nelbo_run — evaluate with the network's current weights. Collective; every rank gets the totals. A stop signal is
 *  obeyed after a pass of the network. The partial file stays.
 *  Errors  ERR_DATA: no token is scored, or the data's; those of items_run */
int nelbo_run(Nelbo *result, Network *net, Shards *data, Comm *comm, const NelboOptions *options);
void nelbo_destroy(Nelbo *n);
