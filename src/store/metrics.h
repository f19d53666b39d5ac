/* metrics — the history of a run as HDF5: one series per quantity, appended during the run.
 *
 * metrics.h5, format "mdlm-metrics", version 1:
 *   /train/<series> /valid/<series>   [n] f64, the same n within a group; one of them is `step`
 *   /weight_norm, /gradient_norm, /update_norm   the same, a series for each parameter (train.layers_every)
 *   /samples/<series>                 [n] f64, a row a token (train.sample_every); /vocab has their text (shards.h)
 *   attributes of a series            unit, description
 *   attributes of /                   format, format_version, version, deck, git, started
 * Readers may open the file at any time between two writes. Every checkpoint also holds the whole history, and a
 * resumed run rewrites the file up to its step: a kill in the middle of a write loses nothing. */
#pragma once
#include "dist/comm.h"
#include "store/vocab.h"
#include <stddef.h>
#include <stdint.h>

typedef struct MetricsColumn {
  const char *name, *unit, *description;
} MetricsColumn;

typedef struct MetricsTable {   /* rows in memory, row-major */
  const char *group;            /* "train", "valid" */
  const MetricsColumn *columns; /* column 0 is the step */
  int n_columns;
  int64_t n_rows, capacity, written; /* written: rows already in the file */
  double *rows;                      /* [capacity, n_columns] */
} MetricsTable;

/** metrics_table_create — an empty table with room for `capacity` rows. */
int metrics_table_create(MetricsTable *t, const char *group, const MetricsColumn *columns, int n_columns,
                         int64_t capacity);
void metrics_table_destroy(MetricsTable *t);
/** metrics_table_copy — *to, which is a table or zeros, := the rows of `from`. Reuses its memory if they fit. */
int metrics_table_copy(MetricsTable *to, const MetricsTable *from);
/** metrics_table_share — the rows of rank 0 on all ranks, whose tables have the same columns. Collective. */
int metrics_table_share(MetricsTable *t, Comm *c);
/** metrics_add — append a row of n_columns values in memory. */
int metrics_add(MetricsTable *t, const double *row);
/** metrics_begin — (re)write path with the tables' rows so far, under a temporary name that is then renamed. vocab: of
 *  tokens in the tables; NULL: there are none. */
int metrics_begin(const char *path, MetricsTable *const *tables, int n_tables, const char *deck, const Vocab *vocab);
/** metrics_store — write the tables as groups of f below prefix ("" or "/metrics"). */
int metrics_store(H5 *f, const char *prefix, MetricsTable *const *tables, int n_tables);
/** metrics_flush — open the file, append the rows not yet written, and close it. ERR_IO naming the path; the file may
 *  then be unreadable until metrics_begin rewrites it. */
int metrics_flush(const char *path, MetricsTable *const *tables, int n_tables);
/** metrics_truncate — drop the rows after `step`. */
void metrics_truncate(MetricsTable *t, int64_t step);
