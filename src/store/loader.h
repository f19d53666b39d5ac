/* loader — the sequences of each step, prefetched by a thread.
 *
 * Sequence k of step n is draw j of an endless stream. A loader that starts at step n0, before which `sequences` of the
 * stream were drawn (n0·global_batch, unless the batch has changed), has
 *   j   = sequences + (n − n0)·global_batch + place(k)
 *   draw j is number i of the stream of a set s with N rows   (mixture_draw; with one set i = j)
 *   e   = i / N                                               (the epoch of the set)
 *   row = rng_permute(key(seed, RNG_ORDER, e), N, i mod N)    (other values of data.order: see loader_row)
 * With one set place(k) = k. With several it is a permutation of the batch, new in each step: the sets take turns in a
 * fixed order, the time of sequence k is drawn in the k-th part of [0,1], and no set may always get the same times.
 * This is a pure function: any rank can take any part of any step, and resuming needs only the step and
 * the number of sequences. A rank takes
 * k = first … first+count−1 of every step.
 *
 * With crop, rows have 2L tokens and each visit takes L of them, from position loader_crop on, so that a token of the
 * text is seen at varying positions. The first token of the crop is replaced by bos. */
#pragma once
#include "store/mixture.h"
#include <stdbool.h>

typedef enum LoaderOrder { ORDER_PERMUTED, ORDER_BLOCKED, ORDER_SEQUENTIAL } LoaderOrder;

typedef struct LoaderOptions {
  Mixture *data; /* not owned; while the loader exists, only its thread may read from it */
  LoaderOrder order;
  uint64_t seed;
  int64_t step;         /* the first step to deliver */
  int64_t sequences;    /* of the stream that were drawn before it */
  int64_t global_batch; /* sequences a step */
  int64_t first, count; /* this rank's part of it */
  int64_t micro_batch;  /* sequences delivered at a time; divides count */
  bool crop;            /* needs rows of even length without padding */
  int32_t bos;          /* for crops */
} LoaderOptions;

typedef struct Micro {    /* one micro-batch; valid until the next loader_next */
  int64_t step, first;    /* the step, and k of its first sequence in the global batch */
  int64_t n, L;           /* L: row length, halved with crop */
  const int32_t *tokens;  /* [n,L] */
  const int32_t *lengths; /* [n]   */
  const int32_t *labels;  /* [n] their classes, −1: unknown */
  const int32_t *sets;    /* [n] */
  const int64_t *rows;    /* [n] their row numbers in their sets */
} Micro;

typedef struct Loader Loader;

/** loader_create — start the thread; it reads two micro-batches ahead. Not collective.
 *  Errors  ERR_USAGE: inconsistent batch sizes, crop with rows of odd length */
int loader_create(Loader **l, const LoaderOptions *options);
/** loader_next — the next micro-batch, ordered by step, then by k. Blocks until it has been read.
 *  Errors  those of the thread, with its message (ERR_DATA, also for a padded row with crop) */
int loader_next(Loader *l, Micro *m);
/** loader_destroy — stop the thread; NULL-safe, clears the handle. */
void loader_destroy(Loader **l);
/** loader_row — the row, of N, that number j of a set's endless stream is. */
int64_t loader_row(LoaderOrder order, uint64_t seed, int64_t N, int64_t j);
/** loader_crop — the position in its row of 2L tokens where the crop of sequence k of a step starts: uniform in
 *  0 … L−1. */
int64_t loader_crop(uint64_t seed, int64_t step, int64_t k, int64_t L);
