/* metrics — a run's history as HDF5: one column per quantity, appended while the run is alive.
 *
 * metrics.h5, format "mdlm-metrics": two groups of one-dimensional series of equal length, /train and /valid, each with
 * a `step` series; every series has the attributes unit and description. Attributes of /: deck, git, started. Readers
 * may open it at any time between two writes. The whole history also travels in every checkpoint, so that a resumed run
 * rewrites the file up to its step: a kill in the middle of a write loses nothing. */
#pragma once
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
/** metrics_add — append a row of n_columns values in memory. */
int metrics_add(MetricsTable *t, const double *row);
/** metrics_begin — (re)write path with the tables' present rows: to a temporary name, then renamed. */
int metrics_begin(const char *path, MetricsTable *const *tables, int n_tables, const char *deck);
typedef struct H5 H5;
/** metrics_store — write the tables as groups of f below prefix ("" or "/metrics"). */
int metrics_store(H5 *f, const char *prefix, MetricsTable *const *tables, int n_tables);
/** metrics_flush — append the rows not yet written; opens, extends and closes the file. ERR_IO naming the path; after
 * it the file may be unreadable until metrics_begin writes it anew. */
int metrics_flush(const char *path, MetricsTable *const *tables, int n_tables);
/** metrics_truncate — forget rows whose step is beyond `step`. */
void metrics_truncate(MetricsTable *t, int64_t step);
