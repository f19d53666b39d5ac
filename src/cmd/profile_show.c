/* profile_show — the tables of a profile as text. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/profile_file.h"
#include <math.h>
#include <stdio.h>

enum { COUNT, ACCURACY, CONFIDENCE, LOSS, NLL, ENTROPY, STD, QUANTITIES, CALIBRATED = LOSS };
static const char *const names[QUANTITIES] = {"tokens", "accuracy", "confidence", "loss", "nll", "entropy", "std"};

typedef struct Table {
  int64_t bins, shares; /* shares: of the calibration, else 1 */
  double *values[QUANTITIES];
  double *low, *high; /* [bins], NULL: none */
} Table;

static void table_free(Table *t) {
  for (int q = 0; q < QUANTITIES; q++) mem_free(&t->values[q]);
  mem_free(&t->low);
  mem_free(&t->high);
}

static int read_set(H5 *f, const char *group, const char *name, int rank, const int64_t *dims, double **values) {
  char path[64];
  size_t n = (size_t)dims[0] * (size_t)(rank > 1 ? dims[1] : 1);
  snprintf(path, sizeof path, "%s/%s", group, name);
  TRY(mem_alloc(values, n * sizeof **values));
  return h5_read(f, path, H5_F64, rank, dims, *values);
}

/* The quantities and, with `edges`, low and high. */
static int table_read(Table *t, H5 *f, const char *group, bool edges) {
  char path[64];
  H5Info info;
  snprintf(path, sizeof path, "%s/tokens", group);
  TRY(h5_info(f, path, &info));
  CHECK((info.rank == 1 || info.rank == 2) && info.dims[0] > 0 && info.dims[info.rank - 1] > 0, ERR_DATA,
        "%s: %s has no bins", h5_path(f), path);
  t->bins = info.dims[info.rank - 1];
  t->shares = info.rank > 1 ? info.dims[0] : 1;
  for (int q = 0; q < (info.rank > 1 ? CALIBRATED : QUANTITIES); q++)
    TRY(read_set(f, group, names[q], info.rank, info.dims, &t->values[q]));
  if (!edges) return OK;
  TRY(read_set(f, group, "low", 1, &t->bins, &t->low));
  return read_set(f, group, "high", 1, &t->bins, &t->high);
}

/* The mean of a quantity over bins first … last − 1 of all shares, each counted as often as it has tokens. */
static double mean(const Table *t, int quantity, int64_t first, int64_t last) {
  double sum = 0, count = 0;
  for (int64_t s = 0; s < t->shares; s++)
    for (int64_t i = s * t->bins + first; i < s * t->bins + last; i++) {
      double n = t->values[COUNT][i];
      if (n > 0) sum += n * t->values[quantity][i];
      count += n;
    }
  return sum / count;
}

static double sum(const Table *t, int quantity, int64_t first, int64_t last) {
  double all = 0;
  for (int64_t s = 0; s < t->shares; s++)
    for (int64_t i = s * t->bins + first; i < s * t->bins + last; i++) all += t->values[quantity][i];
  return all;
}

/* The standard deviation of bins taken together. */
static double spread(const Table *t, int64_t first, int64_t last) {
  double all = mean(t, NLL, first, last), square = 0, count = sum(t, COUNT, first, last);
  for (int64_t i = first; i < last; i++) {
    double off = t->values[NLL][i] - all, std = t->values[STD][i];
    if (t->values[COUNT][i] > 0) square += t->values[COUNT][i] * (off * off + std * std);
  }
  return sqrt(square / count);
}

static void show_title(const char *what, bool losses) {
  log_info("  %-28s %10s %8s %8s%s", what, "tokens", "accuracy", "max p",
           losses ? "     loss   -log p      std  entropy" : "");
}

/* One line of bins first … last − 1. */
static void show_line(const Table *t, const char *label, int64_t first, int64_t last) {
  double count = sum(t, COUNT, first, last);
  char losses[80] = "";
  if (count == 0) {
    log_info("    %-26s %10d", label, 0);
    return;
  }
  if (t->values[LOSS])
    snprintf(losses, sizeof losses, " %8.5f %8.4f %8.4f %8.4f", sum(t, LOSS, first, last), mean(t, NLL, first, last),
             spread(t, first, last), mean(t, ENTROPY, first, last));
  log_info("    %-26s %10.0f %8.4f %8.4f%s", label, count, mean(t, ACCURACY, first, last),
           mean(t, CONFIDENCE, first, last), losses);
}

/* ---- a table per group; labels of its bins */
static void label_tenths(const Table *t, int64_t i, char text[64]) {
  snprintf(text, 64, "%.1f to %.1f", t->low[i], t->high[i]);
}

static void label_frequency(const Table *t, int64_t i, char text[64]) {
  snprintf(text, 64, "%.0f to %.0f times", t->low[i], t->high[i]);
}

static void label_distance(const Table *t, int64_t i, char text[64]) {
  if (i + 1 == t->bins) {
    snprintf(text, 64, "none is visible");
  } else if (t->low[i] == t->high[i]) {
    snprintf(text, 64, "%.0f", t->low[i]);
  } else {
    snprintf(text, 64, "%.0f to %.0f", t->low[i], t->high[i]);
  }
}

typedef struct Shown {
  const char *group, *title;
  void (*label)(const Table *t, int64_t i, char text[64]); /* NULL: by the number of the bin, a few lines in all */
} Shown;

static const Shown shown[] = {{"/share", "share of masked tokens", label_tenths},
                              {"/distance", "nearest visible token at", label_distance},
                              {"/frequency", "token in the data", label_frequency},
                              {"/position", "position", NULL},
                              {"/calibration", "max p", label_tenths}};

static void show_table(const Table *t, const Shown *s) {
  enum { LINES = 8 };
  char label[64];
  int64_t step = s->label ? 1 : (t->bins + LINES - 1) / LINES;
  show_title(s->title, t->values[LOSS] != NULL);
  for (int64_t i = 0; i < t->bins; i += step) {
    int64_t end = i + step < t->bins ? i + step : t->bins;
    if (s->label) {
      s->label(t, i, label);
    } else {
      snprintf(label, sizeof label, "%lld to %lld", (long long)i, (long long)end - 1);
    }
    show_line(t, label, i, end);
  }
}

/* The residual stream, as many numbers a line as fit. */
static int show_norms(H5 *f) {
  enum { A_LINE = 6 };
  H5Info info;
  double *rms = NULL;
  TRY(h5_info(f, "/residual/rms", &info));
  CHECK(info.rank == 1, ERR_DATA, "%s: /residual/rms is not a list of numbers", h5_path(f));
  if (info.dims[0] == 0) return OK; /* no token was predicted */
  TRY(read_set(f, "/residual", "rms", 1, info.dims, &rms));
  log_info("  rms of the residual stream after 0 to %lld branches", (long long)info.dims[0] - 1);
  for (int64_t i = 0; i < info.dims[0]; i += A_LINE) {
    char line[A_LINE * 16] = "";
    for (int64_t k = i, n = 0; k < i + A_LINE && k < info.dims[0]; k++)
      n += snprintf(line + n, sizeof line - (size_t)n, " %10.4g", rms[k]);
    log_info("   %s", line);
  }
  mem_free(&rms);
  return OK;
}

/* Attributes of the whole. */
static int show_totals(H5 *f) {
  static const char *const list[] = {"accuracy", "confidence", "prediction_entropy", "ece"};
  static const char *const what[] = {"accuracy", "max p", "entropy of p", "calibration error"};
  double value, rows, draws;
  for (int i = 0; i < 4; i++) {
    TRY(h5_get_real(f, "/", list[i], &value));
    log_info("  %-18s %.5f%s", what[i], value, i == 2 ? " nat" : "");
  }
  TRY(h5_get_real(f, "/", "variance_rows", &rows));
  TRY(h5_get_real(f, "/", "variance_draws", &draws));
  if (isnan(rows)) return log_info("  %-18s unknown: it needs eval.draws = 2 or more", "variance split"), OK;
  log_info("  %-18s %.6g nat2 between rows, %.6g between draws of a row", "variance split", rows, draws);
  return OK;
}

int profile_show(H5 *f) {
  for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
    Table t = {0};
    if (!h5_exists(f, shown[i].group)) continue;
    int err = table_read(&t, f, shown[i].group, shown[i].label != NULL);
    if (err == OK) show_table(&t, &shown[i]);
    table_free(&t);
    TRY(err);
  }
  TRY(show_norms(f));
  return show_totals(f);
}
