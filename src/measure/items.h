/* items — a long computation over n independent items, shared out over ranks, that can be stopped and gone on with.
 *
 * The result of an item is a function of its number alone, so neither the number of ranks nor an interruption changes
 * it. All ranks work in rounds of one batch, at whose ends they agree whether to go on. Rank 0 collects the results; with
 * a partial file it writes those that are finished every minute and when the computation is stopped, and finds them
 * again when it is run anew. */
#pragma once
#include "dist/comm.h"
#include "store/partial.h"

typedef struct ItemsWork {
  int64_t n;
  int64_t batch;   /* most items of a call */
  int64_t unit;    /* items are shared out in multiples of this: 1, or the batch so that calls are the same on any
                    * number of ranks */
  bool neighbours; /* a call gets consecutive items */
  H5Type type;     /* H5_F64 or H5_I32 */
  int64_t columns; /* of an item's result */
  /* results [n,columns] of these items, n ≤ batch. ERR_STOPPED, after items_stop has said so, gives the call up. */
  int (*run)(void *arg, const int64_t *items, int64_t n, void *results);
  void *arg;
  const char *partial, *key;    /* path of the partial file, and its key (partial.h); NULL: none */
  const char *progress, *units; /* label and unit of the progress line; NULL: quiet */
} ItemsWork;

/** items_run — *results := [n,columns], allocated, on rank 0; NULL elsewhere, and where *stop. *stop: the signal that
 *  asked for it (stop.h), the same on all ranks, 0 if all items are finished; *done: the finished ones. The partial file
 *  stays: the caller removes it when the results are safe. Collective.
 *  Errors  run's; ERR_MEMORY; ERR_IO */
int items_run(const ItemsWork *work, Comm *comm, void **results, int64_t *done, int *stop);
/** items_stop — ERR_STOPPED if this rank has been asked to stop: for run, between passes that take long. */
int items_stop(void);
