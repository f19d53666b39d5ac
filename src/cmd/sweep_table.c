#include "cmd/sweep_table.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/results.h"
#include "store/draft.h"
#include "store/lock.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct Row { /* of a cell that is done, else all zero */
  bool done;
  Results results;
  Spread rows, source; /* how well the value of these rows is known, and that of their source */
  double seconds;
} Row;

typedef struct Pair { /* two cells that differ in their checkpoint only */
  int a, b;
  Difference difference;
} Pair;

typedef struct Table {
  const Sweep *sweep; /* not owned */
  Row *rows;          /* [n_cells] */
  Pair *pairs;
  int n_pairs;
} Table;

/* ---- reading */
static int row_read(Row *r, const SweepCell *cell) {
  H5 *f = NULL;
  if (!sweep_done(cell)) return OK;
  TRY(h5_open(&f, cell->path, false));
  int err = results_read(&r->results, f);
  if (err == OK) err = h5_get_real(f, "/", "seconds", &r->seconds);
  h5_close(&f);
  TRY(err);
  r->rows = interval_masks(&r->results.losses);
  r->source = interval_sequences(&r->results.losses, r->results.block);
  r->done = true;
  return OK;
}

/* Whether a and b are one evaluation, as of two checkpoints with the same weights. */
static bool same(const SweepCell *a, const SweepCell *b) { return strcmp(a->name, b->name) == 0; }

/* Same rows and, unless both are exact, the same masks. */
static bool comparable(const Table *t, int i, int k) {
  const SweepCell *a = &t->sweep->cells[i], *b = &t->sweep->cells[k];
  const Losses *x = &t->rows[i].results.losses, *y = &t->rows[k].results.losses;
  if (!t->rows[i].done || !t->rows[k].done || a->data != b->data || a->checkpoint == b->checkpoint) return false;
  if (same(a, b)) return false;
  if ((x->draws == 0) != (y->draws == 0) || x->n != y->n) return false;
  if (memcmp(x->tokens, y->tokens, (size_t)x->n * sizeof *x->tokens) != 0) return false;
  return x->draws == 0 || (a->estimator == b->estimator && a->draws == b->draws && a->T == b->T && a->seed == b->seed);
}

static int pairs_find(Table *t) {
  int n = t->sweep->n_cells;
  for (int pass = 0; pass < 2; pass++) {
    t->n_pairs = 0;
    for (int i = 0; i < n; i++)
      for (int k = i + 1; k < n; k++) {
        if (!comparable(t, i, k)) continue;
        if (pass == 1)
          t->pairs[t->n_pairs] = (Pair){
              i, k,
              interval_difference(&t->rows[i].results.losses, &t->rows[k].results.losses, t->rows[i].results.block)};
        t->n_pairs++;
      }
    if (pass == 0) TRY(mem_alloc(&t->pairs, (size_t)(t->n_pairs + 1) * sizeof *t->pairs));
  }
  return OK;
}

static void table_destroy(Table *t) {
  for (int i = 0; i < t->sweep->n_cells && t->rows; i++) results_destroy(&t->rows[i].results);
  mem_free(&t->rows);
  mem_free(&t->pairs);
}

static int table_create(Table *t, const Sweep *s) {
  *t = (Table){.sweep = s};
  int err = mem_alloc(&t->rows, (size_t)s->n_cells * sizeof *t->rows);
  for (int i = 0; i < s->n_cells && err == OK; i++) err = row_read(&t->rows[i], &s->cells[i]);
  if (err == OK) err = pairs_find(t);
  if (err) table_destroy(t);
  return err;
}

/* ---- printing: every form has the same columns */
typedef struct Form {
  const char *name, *begin, *between, *end;
  bool padded; /* cells are padded to the width of their column */
} Form;
static const Form forms[] = {{"text", "", "  ", "", true},
                             {"csv", "", ",", "", false},
                             {"markdown", "| ", " | ", " |", false},
                             {"latex", "", " & ", " \\\\", false}};
enum { COLUMNS = 11, CELL = 160 };
static const char *const titles[COLUMNS] = {"checkpoint", "step", "data",    "estimator", "draws", "T",
                                            "seed",       "nll",  "se rows", "se source", "ppl"};

/* A name as the form can hold it: of a long path its end, which tells checkpoints apart. */
static void put_name(char *to, const Form *f, const char *text) {
  bool latex = strcmp(f->name, "latex") == 0;
  size_t n = 0, size = strlen(text), most = latex ? CELL / 2 - 2 : CELL - 3;
  if (size > most) text += size - most;
  for (; *text && n + 3 < CELL; text++) {
    if (latex && strchr("_%&#$", *text)) to[n++] = '\\';
    to[n++] = *text == ',' || *text == '|' ? ';' : *text;
  }
  to[n] = '\0';
}

static void put_number(char *to, double x, int digits) {
  if (isnan(x))
    snprintf(to, CELL, "-");
  else
    snprintf(to, CELL, "%.*f", digits, x);
}

static void put_row(char cells[COLUMNS][CELL], const Table *t, const Form *f, int i) {
  const SweepCell *c = &t->sweep->cells[i];
  const SweepCheckpoint *k = &t->sweep->checkpoints[c->checkpoint];
  const Row *r = &t->rows[i];
  put_name(cells[0], f, k->path);
  snprintf(cells[1], CELL, "%lld", (long long)k->state.step);
  put_name(cells[2], f, t->sweep->data[c->data].name);
  snprintf(cells[3], CELL, "%s", k->exact ? "exact" : c->estimator);
  snprintf(cells[4], CELL, c->drawn ? "%lld" : "-", (long long)c->draws);
  snprintf(cells[5], CELL, k->exact ? "-" : "%lld", (long long)c->T);
  snprintf(cells[6], CELL, c->drawn ? "%lld" : "-", (long long)c->seed);
  for (int n = 7; n < COLUMNS; n++) snprintf(cells[n], CELL, "%s", n > 7 ? "-" : *c->error ? "failed" : "missing");
  if (!r->done) return;
  put_number(cells[7], r->source.value, 5);
  put_number(cells[8], r->rows.se, 5);
  put_number(cells[9], r->source.se, 5);
  put_number(cells[10], exp(r->source.value), 4);
}

static int put_line(const char *line) {
  return log_text(line) == 0 ? OK : RAISE(ERR_IO, "cannot write the table to standard output");
}

static int print_row(char cells[COLUMNS][CELL], const Form *f, const int width[COLUMNS]) {
  char line[COLUMNS * (CELL + 8)];
  size_t n = (size_t)snprintf(line, sizeof line, "%s", f->begin);
  for (int k = 0; k < COLUMNS; k++)
    n += (size_t)snprintf(line + n, sizeof line - n, "%-*s%s", f->padded && k + 1 < COLUMNS ? width[k] : 0, cells[k],
                          k + 1 < COLUMNS ? f->between : f->end);
  return put_line(line);
}

static int print_table(const Table *t, const Form *f) {
  char cells[COLUMNS][CELL], rule[COLUMNS][CELL];
  int width[COLUMNS];
  for (int k = 0; k < COLUMNS; k++) width[k] = (int)strlen(titles[k]);
  for (int i = 0; i < t->sweep->n_cells && f->padded; i++) {
    put_row(cells, t, f, i);
    for (int k = 0; k < COLUMNS; k++) width[k] = (int)strlen(cells[k]) > width[k] ? (int)strlen(cells[k]) : width[k];
  }
  for (int k = 0; k < COLUMNS; k++) snprintf(cells[k], CELL, "%s", titles[k]), snprintf(rule[k], CELL, "---");
  if (strcmp(f->name, "latex") == 0) TRY(put_line("\\begin{tabular}{lllllllrrrr}"));
  TRY(print_row(cells, f, width));
  if (strcmp(f->name, "markdown") == 0) TRY(print_row(rule, f, width));
  for (int i = 0; i < t->sweep->n_cells; i++) {
    put_row(cells, t, f, i);
    TRY(print_row(cells, f, width));
  }
  return strcmp(f->name, "latex") == 0 ? put_line("\\end{tabular}") : OK;
}

/* For people: which of two checkpoints is better. */
static void print_pairs(const Table *t) {
  enum { MOST = 60 };
  const Sweep *s = t->sweep;
  char text[SWEEP_WORDS];
  if (t->n_pairs > 0) log_info("differences of nll, 95 %% interval of the source:");
  for (int i = 0; i < t->n_pairs && i < MOST; i++) {
    const Pair *p = &t->pairs[i];
    const SweepCell *a = &s->cells[p->a], *b = &s->cells[p->b];
    const Spread *d = &p->difference.spread;
    log_info("  %s less %s: %.5f [%.5f, %.5f], p = %.2g", s->checkpoints[b->checkpoint].path, sweep_words(s, a, text),
             d->value, d->low, d->high, p->difference.p);
  }
  if (t->n_pairs > MOST) log_info("  … and %d more in sweep.h5", t->n_pairs - MOST);
}

static int print(const Table *t) {
  const Form *f = forms;
  while (strcmp(f->name, t->sweep->cfg->sweep_format) != 0) f++;
  TRY(print_table(t, f));
  if (f->padded) print_pairs(t);
  return OK;
}

/* ---- HDF5 */
typedef const char *(*TextOf)(const Table *, int);
typedef double (*RealOf)(const Table *, int);

static const SweepCell *cell_of(const Table *t, int i) { return &t->sweep->cells[i]; }
static const SweepCheckpoint *checkpoint_of(const Table *t, int i) {
  return &t->sweep->checkpoints[cell_of(t, i)->checkpoint];
}
static const char *name_of(const Table *t, int i) { return cell_of(t, i)->name; }
static const char *path_of(const Table *t, int i) { return checkpoint_of(t, i)->path; }
static const char *weights_of(const Table *t, int i) { return checkpoint_of(t, i)->state.weights_digest; }
static const char *data_of(const Table *t, int i) { return t->sweep->data[cell_of(t, i)->data].name; }
static const Protocol *protocol_of(const Table *t, int i) {
  return shards_protocol(t->sweep->data[cell_of(t, i)->data].shards);
}
static const char *digest_of(const Table *t, int i) { return protocol_of(t, i)->digest; }
static const char *detokenizer_of(const Table *t, int i) { return protocol_of(t, i)->detokenizer; }
static const char *tokenizer_of(const Table *t, int i) { return checkpoint_of(t, i)->state.vocab.tokenizer; }
static const char *estimator_of(const Table *t, int i) {
  return checkpoint_of(t, i)->exact ? "exact" : cell_of(t, i)->estimator;
}
static const char *status_of(const Table *t, int i) {
  const SweepCell *c = cell_of(t, i);
  return t->rows[i].done ? "done" : *c->error ? c->error : "missing";
}
static double step_of(const Table *t, int i) { return (double)checkpoint_of(t, i)->state.step; }
static double draws_of(const Table *t, int i) { return (double)cell_of(t, i)->draws; }
static double T_of(const Table *t, int i) { return (double)cell_of(t, i)->T; }
static double seed_of(const Table *t, int i) { return (double)cell_of(t, i)->seed; }
static double wrap_of(const Table *t, int i) { return protocol_of(t, i)->wrap; }
static double length_of(const Table *t, int i) {
  return (double)shards_length(t->sweep->data[cell_of(t, i)->data].shards);
}
static double if_done(const Table *t, int i, double x) { return t->rows[i].done ? x : NAN; }
static double nll_of(const Table *t, int i) { return if_done(t, i, t->rows[i].source.value); }
static double se_rows_of(const Table *t, int i) { return if_done(t, i, t->rows[i].rows.se); }
static double se_source_of(const Table *t, int i) { return if_done(t, i, t->rows[i].source.se); }
static double low_of(const Table *t, int i) { return if_done(t, i, t->rows[i].source.low); }
static double high_of(const Table *t, int i) { return if_done(t, i, t->rows[i].source.high); }
static double seconds_of(const Table *t, int i) { return if_done(t, i, t->rows[i].seconds); }
static double tokens_of(const Table *t, int i) {
  const Losses *l = &t->rows[i].results.losses;
  double sum = 0;
  for (int64_t k = 0; k < l->n && t->rows[i].done; k++) sum += (double)l->tokens[k];
  return if_done(t, i, sum);
}

static double bits_per_byte_of(const Table *t, int i) {
  const Row *r = &t->rows[i];
  return if_done(t, i, results_bits_per_byte(&r->results.text, r->source.value));
}

static const struct {
  const char *name;
  TextOf of;
} texts[] = {{"name", name_of},           {"checkpoint", path_of},     {"weights_digest", weights_of},
             {"data", data_of},           {"data_digest", digest_of},  {"detokenizer", detokenizer_of},
             {"tokenizer", tokenizer_of}, {"estimator", estimator_of}, {"status", status_of}};
static const struct {
  const char *name, *unit, *description;
  RealOf of;
} reals[] = {
    {"step", "step", "of the checkpoint", step_of},
    {"draws", "", "draws of the masks per sequence", draws_of},
    {"T", "step", "diffusion steps of the bound, 0: continuous time", T_of},
    {"seed", "", "seed of the masks", seed_of},
    {"wrap", "", "1: rows are wrapped from running text", wrap_of},
    {"length", "token", "L of the data", length_of},
    {"nll", "nat per token", "bound on the negative log-likelihood, or its exact value", nll_of},
    {"se_rows", "nat per token", "standard error of the value of these rows", se_rows_of},
    {"se_source", "nat per token", "standard error of the value of their source", se_source_of},
    {"low", "nat per token", "lower end of the 95 % interval of the value of their source", low_of},
    {"high", "nat per token", "upper end", high_of},
    {"bits_per_byte", "bit", "of the text before tokenization; NaN: the data do not tell its size", bits_per_byte_of},
    {"tokens", "token", "scored tokens", tokens_of},
    {"seconds", "s", "time of the evaluation", seconds_of}};

static int store_columns(H5 *f, const Table *t) {
  int64_t n = t->sweep->n_cells;
  char **text = NULL, name[64];
  double *real = NULL;
  int err = mem_alloc(&text, (size_t)n * sizeof *text);
  if (err == OK) err = mem_alloc(&real, (size_t)n * sizeof *real);
  for (size_t k = 0; k < sizeof texts / sizeof *texts && err == OK; k++) {
    for (int i = 0; i < n; i++) text[i] = (char *)texts[k].of(t, i);
    snprintf(name, sizeof name, "/cells/%s", texts[k].name);
    err = h5_write_text(f, name, n, text);
  }
  for (size_t k = 0; k < sizeof reals / sizeof *reals && err == OK; k++) {
    for (int i = 0; i < n; i++) real[i] = reals[k].of(t, i);
    snprintf(name, sizeof name, "/cells/%s", reals[k].name);
    err = output_series(f, name, H5_F64, n, real, reals[k].unit, reals[k].description);
  }
  mem_free(&text);
  mem_free(&real);
  return err;
}

/* The values of the sequences of a cell. */
static int store_values(H5 *f, const Table *t, int i) {
  const Losses *l = &t->rows[i].results.losses;
  char group[64], name[80];
  if (!t->rows[i].done) return OK;
  for (int k = 0; k < i; k++)
    if (same(cell_of(t, k), cell_of(t, i))) return OK; /* they are there */
  snprintf(group, sizeof group, "/values/%s", cell_of(t, i)->name);
  TRY(h5_group(f, group));
  snprintf(name, sizeof name, "%s/loss", group);
  TRY(output_series(f, name, H5_F64, l->n, l->loss, "nat", "of each sequence, mean over draws"));
  snprintf(name, sizeof name, "%s/tokens", group);
  TRY(output_series(f, name, H5_I64, l->n, l->tokens, "token", "scored tokens of each sequence"));
  if (l->square == NULL) return OK;
  snprintf(name, sizeof name, "%s/square", group);
  return output_series(f, name, H5_F64, l->n, l->square, "nat2", "squared distances of the draws from their mean");
}

static int store_pairs(H5 *f, const Table *t) {
  enum { A, B, VALUE, LOW, HIGH, SE, P, FIELDS };
  static const char *const names[FIELDS][3] = {
      {"/pairs/a", "", "number of a cell"},
      {"/pairs/b", "", "number of another, of the same rows and masks"},
      {"/pairs/difference", "nat per token", "nll of b less that of a"},
      {"/pairs/low", "nat per token", "lower end of its 95 % interval"},
      {"/pairs/high", "nat per token", "upper end"},
      {"/pairs/se", "nat per token", "standard error of the difference, of the source"},
      {"/pairs/p", "", "two-sided p value of no difference"}};
  double *x = NULL;
  if (t->n_pairs == 0) return OK;
  TRY(h5_group(f, "/pairs"));
  TRY(mem_alloc(&x, (size_t)t->n_pairs * sizeof *x));
  int err = OK;
  for (int k = 0; k < FIELDS && err == OK; k++) {
    for (int i = 0; i < t->n_pairs; i++) {
      const Pair *p = &t->pairs[i];
      const Spread *d = &p->difference.spread;
      const double all[FIELDS] = {p->a, p->b, d->value, d->low, d->high, d->se, p->difference.p};
      x[i] = all[k];
    }
    err = output_series(f, names[k][0], H5_F64, t->n_pairs, x, names[k][1], names[k][2]);
  }
  mem_free(&x);
  return err;
}

static int fill(H5 *f, const Table *t) {
  char *deck = NULL;
  TRY(h5_set_format(f, "mdlm-sweep", 1));
  TRY(config_resolved(t->sweep->cfg, &deck));
  int err = h5_set_str(f, "/", "deck", deck);
  mem_free(&deck);
  TRY(err);
  TRY(h5_group(f, "/cells"));
  TRY(store_columns(f, t));
  TRY(h5_group(f, "/values"));
  for (int i = 0; i < t->sweep->n_cells; i++) TRY(store_values(f, t, i));
  return store_pairs(f, t);
}

/* Jobs that share the cells may end at the same time: each waits for the one that writes. */
static int lock_wait(Lock *lock, const char *path) {
  enum { TRIES = 600 };
  const struct timespec tenth = {.tv_nsec = 100000000};
  for (int i = 1;; i++) {
    int err = lock_take(lock, path);
    if (err != ERR_BUSY || i == TRIES) return err;
    err_clear();
    nanosleep(&tenth, NULL);
  }
}

static int store(const Table *t, const char *path) {
  H5 *f = NULL;
  TRY(draft_create(&f, path));
  return draft_publish(&f, fill(f, t), path);
}

int sweep_report(const Sweep *s, bool stores, int *done) {
  char path[FILES_PATH];
  Lock lock = {0};
  Table t;
  TRY(files_path(path, s->dir, "sweep.h5"));
  int locked = stores ? lock_wait(&lock, path) : OK;
  int err = table_create(&t, s); /* behind the lock: the last job that writes has the cells of all */
  if (err == OK) {
    err = print(&t);
    if (stores && locked == OK && err == OK) err = store(&t, path);
    *done = 0;
    for (int i = 0; i < s->n_cells; i++) *done += t.rows[i].done;
    table_destroy(&t);
  }
  lock_release(&lock, path);
  return err ? err : locked;
}
