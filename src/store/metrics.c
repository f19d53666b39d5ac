#include "store/metrics.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/version.h"
#include "store/draft.h"
#include <stdio.h>
#include <string.h>

enum { CHUNK_ROWS = 1024, NAME_SIZE = 256, FORMAT_VERSION = 1 };

int metrics_table_create(MetricsTable *t, const char *group, const MetricsColumn *columns, int n_columns,
                         int64_t capacity) {
  *t = (MetricsTable){.group = group, .columns = columns, .n_columns = n_columns, .capacity = capacity};
  return mem_alloc(&t->rows, (size_t)(capacity * n_columns) * sizeof *t->rows);
}

void metrics_table_destroy(MetricsTable *t) {
  if (!t) return;
  mem_free(&t->rows);
  memset(t, 0, sizeof *t);
}

/* Room for n rows; all rows of the table may be lost. */
static int table_reserve(MetricsTable *t, int64_t n) {
  if (n <= t->capacity) return OK;
  mem_free(&t->rows);
  t->capacity = t->n_rows = 0;
  TRY(mem_alloc(&t->rows, (size_t)(n * t->n_columns) * sizeof *t->rows));
  t->capacity = n;
  return OK;
}

static size_t table_bytes(const MetricsTable *t) { return (size_t)(t->n_rows * t->n_columns) * sizeof *t->rows; }

int metrics_table_copy(MetricsTable *to, const MetricsTable *from) {
  to->group = from->group;
  to->columns = from->columns;
  to->n_columns = from->n_columns;
  TRY(table_reserve(to, from->capacity));
  to->n_rows = from->n_rows;
  if (from->n_rows > 0) memcpy(to->rows, from->rows, table_bytes(from));
  return OK;
}

int metrics_table_share(MetricsTable *t, Comm *c) {
  int64_t n = t->n_rows;
  TRY(comm_broadcast(c, &n, sizeof n, 0));
  TRY_ALL(c, c->rank == 0 ? OK : table_reserve(t, n));
  t->n_rows = n;
  return comm_broadcast(c, t->rows, table_bytes(t), 0);
}

int metrics_add(MetricsTable *t, const double *row) {
  const size_t row_size = (size_t)t->n_columns * sizeof *row;
  if (t->n_rows == t->capacity) {
    int64_t capacity = 2 * t->capacity + 16;
    TRY(mem_realloc(&t->rows, (size_t)t->capacity * row_size, (size_t)capacity * row_size));
    t->capacity = capacity;
  }
  memcpy(t->rows + t->n_rows++ * t->n_columns, row, row_size);
  return OK;
}

void metrics_truncate(MetricsTable *t, int64_t step) {
  while (t->n_rows > 0 && t->rows[(t->n_rows - 1) * t->n_columns] > (double)step) t->n_rows--;
  if (t->written > t->n_rows) t->written = t->n_rows;
}

static void series_name(char name[NAME_SIZE], const char *prefix, const MetricsTable *t, int column) {
  snprintf(name, NAME_SIZE, "%s/%s/%s", prefix, t->group, t->columns[column].name);
}

/* Append rows first … n_rows−1 of one column, gathered in pieces. */
static int series_append(H5 *f, const char *name, const MetricsTable *t, int column, int64_t first) {
  double piece[CHUNK_ROWS];
  for (int64_t i = first, n; i < t->n_rows; i += n) {
    n = t->n_rows - i < CHUNK_ROWS ? t->n_rows - i : CHUNK_ROWS;
    for (int64_t k = 0; k < n; k++) piece[k] = t->rows[(i + k) * t->n_columns + column];
    TRY(h5_append(f, name, H5_F64, n, piece));
  }
  return OK;
}

int metrics_store(H5 *f, const char *prefix, MetricsTable *const *tables, int n_tables) {
  char name[NAME_SIZE];
  const int64_t none = 0;
  for (int i = 0; i < n_tables; i++)
    for (int c = 0; c < tables[i]->n_columns; c++) {
      series_name(name, prefix, tables[i], c);
      TRY(h5_make(f, name, H5_F64, 1, &none, CHUNK_ROWS));
      TRY(h5_describe(f, name, tables[i]->columns[c].unit, tables[i]->columns[c].description));
      TRY(series_append(f, name, tables[i], c, 0));
    }
  return OK;
}

static int begin(H5 *f, MetricsTable *const *tables, int n_tables, const char *deck, const Vocab *vocab) {
  TRY(h5_set_format(f, "mdlm-metrics", FORMAT_VERSION));
  TRY(h5_set_str(f, "/", "deck", deck));
  TRY(h5_set_str(f, "/", "git", version_git()));
  TRY(h5_set_str(f, "/", "started", clock_stamp()));
  if (vocab) TRY(vocab_store(vocab, f));
  return metrics_store(f, "", tables, n_tables);
}

int metrics_begin(const char *path, MetricsTable *const *tables, int n_tables, const char *deck, const Vocab *vocab) {
  H5 *f;
  TRY(draft_create(&f, path));
  TRY(draft_publish(&f, begin(f, tables, n_tables, deck, vocab), path));
  for (int i = 0; i < n_tables; i++) tables[i]->written = tables[i]->n_rows;
  return OK;
}

static int table_flush(H5 *f, const MetricsTable *t) {
  char name[NAME_SIZE];
  H5Info info;
  int columns = t->written == t->n_rows ? 1 : t->n_columns; /* without new rows only the file's own are checked */
  for (int c = 0; c < columns; c++) {
    series_name(name, "", t, c);
    TRY(h5_info(f, name, &info));
    CHECK(info.rank == 1 && info.dims[0] == t->written, ERR_IO,
          "%s: %s has %lld rows, %lld were written: another program changed the file", h5_path(f), name,
          (long long)info.dims[0], (long long)t->written);
    TRY(series_append(f, name, t, c, t->written));
  }
  return OK;
}

int metrics_flush(const char *path, MetricsTable *const *tables, int n_tables) {
  H5 *f;
  int err = OK, closed;
  if (h5_open(&f, path, true) != OK) return RAISE(ERR_IO, "cannot append metrics: %s", err_message());
  for (int i = 0; i < n_tables && err == OK; i++) err = table_flush(f, tables[i]);
  closed = h5_close(&f);
  TRY(err);
  TRY(closed);
  for (int i = 0; i < n_tables; i++) tables[i]->written = tables[i]->n_rows;
  return OK;
}
