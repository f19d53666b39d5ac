/* loader — the sequences of each step, read ahead by a thread.
 *
 * Sequence k of step n is number j = n·global_batch + k of an endless stream; epoch e = j / N, and within it the row is
 * rng_permute(key(seed, RNG_ORDER, e), N, j mod N), or as data.order says. A pure function: any rank can take any
 * part of any step, and resuming needs the step only. A rank takes k = first … first+count−1 of every step.
 *
 * With crop a row has 2L tokens, of which a visit takes L from place loader_crop on, so that no token of the text
 * always stands at the same position; the first becomes bos, and the last eos where that is given. */
#pragma once
#include "store/shards.h"
#include <stdbool.h>

typedef enum LoaderOrder { ORDER_PERMUTED, ORDER_BLOCKED, ORDER_SEQUENTIAL } LoaderOrder;

typedef struct LoaderOptions {
  Shards *shards; /* not owned; only the loader's thread may read it while the loader lives */
  LoaderOrder order;
  uint64_t seed;
  int64_t step;         /* the first step to deliver */
  int64_t global_batch; /* sequences a step */
  int64_t first, count; /* this rank's part of it */
  int64_t micro_batch;  /* sequences delivered at a time; divides count */
  bool crop;            /* of rows of even length, all positions scored */
  int32_t bos, eos;     /* of a crop; eos −1: its last token stays */
} LoaderOptions;

typedef struct Micro {    /* one micro-batch; valid until the next loader_next */
  int64_t step, first;    /* the step, and k of its first sequence in the global batch */
  int64_t n, L;           /* L: length of a row, with crop half of it */
  const int32_t *tokens;  /* [n,L] */
  const int32_t *lengths; /* [n]   */
  const int64_t *rows;    /* [n] which rows of the data they are */
} Micro;

typedef struct Loader Loader;

/** loader_create — start the thread; it reads two micro-batches ahead. Not collective.
 *  Errors  ERR_USAGE: parts that do not fit, crop of rows of odd length */
int loader_create(Loader **l, const LoaderOptions *options);
/** loader_next — the next micro-batch in order: steps ascending, then k ascending. Blocks until it is there.
 *  Errors  what the thread met (ERR_DATA, also for a padded row with crop …), with its message */
int loader_next(Loader *l, Micro *m);
/** loader_destroy — stop the thread; NULL-safe, clears the handle. */
void loader_destroy(Loader **l);
/** loader_row — which row of N the j-th sequence of the endless stream is. */
int64_t loader_row(LoaderOrder order, uint64_t seed, int64_t N, int64_t j);
/** loader_crop — where in its row of 2L tokens sequence k of a step begins: uniform in 0 … L−1. */
int64_t loader_crop(uint64_t seed, int64_t step, int64_t k, int64_t L);
