/* nelbo — the bound on the negative log-likelihood of a data set, with its uncertainty.
 *
 * Each sequence gets `draws` draws of its noise by the estimator; its value is the mean of its summed losses; nll and
 * its interval are those of interval.h. Every draw is a function of (seed, draw, row): the same on any number of ranks.
 */
#pragma once
#include "dist/comm.h"
#include "measure/clip_search.h"
#include "measure/estimator.h"
#include "measure/interval.h"
#include "store/shards.h"

typedef struct NelboOptions {
  const EstimatorTable *estimator;
  const Config *cfg; /* its section eval, for estimators without draws; else may be NULL */
  int64_t draws;     /* 1 for estimators without draws */
  int64_t sequences; /* 0: all; else so many, chosen at random, the same for every seed */
  uint64_t seed;
  bool stratified;
  bool clip;                 /* also the sums of clip_search.h, of the estimator `time` */
  bool hide_labels;          /* the rows have classes, but the network does not see them */
  const char *progress;      /* NULL: quiet */
  const char *partial, *key; /* file of finished sequences and its key (items.h); NULL: none */
} NelboOptions;

typedef struct Nelbo {
  int64_t sequences, masked;
  int stop;                    /* the signal that stopped it: then there are no results; 0: complete */
  int64_t done;                /* finished sequences */
  Interval interval;           /* over sequences */
  double *loss;                /* [sequences] nat, mean over draws, rank 0 only, as the next two */
  int64_t *length;             /* [sequences] scored tokens */
  double *square;              /* [sequences] nat², Σ over draws of the squared distance from their mean */
  ClipPiece clip[CLIP_PIECES]; /* on all ranks, with options.clip */
} Nelbo;

/* ---- the parts of nelbo_run, for those that look closer at the same passes */
enum { NELBO_LOSS, NELBO_TOKENS, NELBO_MASKED, NELBO_SQUARE, NELBO_VALUES }; /* of a sequence, see Nelbo */

typedef struct NelboPasses {
  Network *net; /* not owned, nor the next two */
  Shards *data;
  const NelboOptions *o;
  int64_t n;     /* sequences */
  int64_t *rows; /* [n] of the data, ascending */
  int64_t *batch_rows;
  int32_t *tokens, *lengths; /* [batch,L], [batch] of the loaded ones */
  int32_t *labels;           /* [batch] the classes that the network sees, −1: none */
  double *loss;              /* [batch] of one draw */
  EstimatorRow *exact;       /* [batch] of an estimator without draws */
  double *values;            /* [batch, NELBO_VALUES] */
} NelboPasses;

/** nelbo_passes — the sequences to evaluate and memory for a batch of them. Not collective. ERR_MEMORY */
int nelbo_passes(NelboPasses *p, Network *net, Shards *data, const NelboOptions *o);
void nelbo_passes_end(NelboPasses *p);
/** nelbo_load — read these sequences, at most a batch, and begin their values[n, NELBO_VALUES]. */
int nelbo_load(NelboPasses *p, const int64_t *items, int64_t n, double *values);
/** nelbo_noise — net->noised := one draw of the loaded sequences; counts their masks. */
void nelbo_noise(NelboPasses *p, const int64_t *items, int64_t n, int64_t draw, double *values);
/** nelbo_add — the draw's p->loss into the values; draws come in order. */
void nelbo_add(const NelboPasses *p, int64_t n, int64_t draw, double *values);
/** nelbo_total — r := the sums over values[r->sequences, NELBO_VALUES] of rank 0. Collective.
 *  Errors  ERR_DATA: no token is scored; ERR_MEMORY */
int nelbo_total(Nelbo *r, const double *values, const Shards *data, Comm *comm);

/** nelbo_run — evaluate with the network's current weights. Collective; every rank gets the totals. A stop signal is
 *  obeyed after a pass of the network. The partial file stays.
 *  Errors  ERR_DATA: no token is scored, or the data's; those of items_run */
int nelbo_run(Nelbo *result, Network *net, Shards *data, Comm *comm, const NelboOptions *options);
void nelbo_destroy(Nelbo *n);
