#include "measure/genppl.h"
#include "base/err.h"
#include "base/mem.h"
#include "dist/share.h"
#include "measure/entropy.h"
#include "measure/items.h"

typedef struct Window { /* tokens first … first+n−1 of a row */
  int64_t row, first, n;
} Window;

enum { LOSS, SCORED, COLUMNS }; /* of a window's result */

typedef struct Work { /* all windows, and this rank's share of the rows */
  Network *net;       /* not owned, nor the next one */
  Tokens *tokens;
  int32_t eos;
  Window *windows; /* [n] */
  int64_t n;
  Share rows;
  int32_t *ids;    /* [width] the row read last */
  int64_t row;     /* its number; −1: none */
  bool *score;     /* [width] which tokens of a window are scored */
  double *loss;    /* [batch] */
  double *entropy; /* [rows.part] */
} Work;

/* Windows of a single token have none that is scored and are left out. */
static int windows_list(Work *w, const Tokens *t, int64_t length) {
  int64_t most = tokens_rows(t) * ((tokens_width(t) + length - 1) / length);
  TRY(mem_alloc(&w->windows, (size_t)most * sizeof *w->windows));
  for (int64_t row = 0; row < tokens_rows(t); row++)
    for (int64_t first = 0, left = tokens_length(t, row); left > 1; first += length, left -= length)
      w->windows[w->n++] = (Window){row, first, left < length ? left : length};
  return OK;
}

static int work_create(Work *w, Network *net, Tokens *t, int32_t eos, const Comm *comm) {
  const ModelOptions *o = &net->model.options;
  *w = (Work){.net = net, .tokens = t, .eos = eos, .row = -1, .rows = share_of(comm, tokens_rows(t), 1)};
  TRY(windows_list(w, t, o->length));
  TRY(mem_alloc(&w->ids, (size_t)tokens_width(t) * sizeof *w->ids));
  TRY(mem_alloc(&w->score, (size_t)tokens_width(t) * sizeof *w->score));
  TRY(mem_alloc(&w->loss, (size_t)o->batch * sizeof *w->loss));
  return mem_alloc(&w->entropy, (size_t)w->rows.part * sizeof *w->entropy);
}

static void work_destroy(Work *w) {
  mem_free(&w->windows);
  mem_free(&w->ids);
  mem_free(&w->score);
  mem_free(&w->loss);
  mem_free(&w->entropy);
}

static int row_read(Work *w, int64_t row) {
  if (w->row == row) return OK;
  w->row = -1;
  TRY(tokens_read(w->tokens, row, w->ids));
  w->row = row;
  return OK;
}

/* Which tokens of a window are scored: all but eos, and the first eos. */
static void window_score(bool *score, const int32_t *ids, int64_t n, int32_t eos) {
  bool ended = ids[0] == eos;
  score[0] = false;
  for (int64_t l = 1; l < n; l++) {
    score[l] = ids[l] != eos || !ended;
    ended |= ids[l] == eos;
  }
}

static int batch_run(void *arg, const int64_t *items, int64_t n, void *results) {
  Work *w = arg;
  Network *net = w->net;
  double *r = results;
  const Dropout none = {0};
  int64_t rows = 0;
  noised_begin(&net->noised, n);
  for (int64_t b = 0; b < n; b++) {
    const Window *x = &w->windows[items[b]];
    TRY(row_read(w, x->row));
    const int32_t *ids = w->ids + x->first;
    window_score(w->score, ids, x->n, w->eos);
    r[b * COLUMNS + SCORED] = (double)noised_next(&net->objective, &net->noised, b, ids, x->n, w->score);
  }
  TRY(network_loss(net, &none, false, w->loss, &rows));
  for (int64_t b = 0; b < n; b++) r[b * COLUMNS + LOSS] = w->loss[b];
  return OK;
}

/* Batches are the same on any number of ranks. */
static ItemsWork items_of(Work *w, const GenpplOptions *o) {
  int64_t batch = w->net->model.options.batch;
  return (ItemsWork){.n = w->n,
                     .batch = batch,
                     .unit = batch,
                     .type = H5_F64,
                     .columns = COLUMNS,
                     .run = batch_run,
                     .arg = w,
                     .partial = o->partial,
                     .key = o->key,
                     .progress = o->progress,
                     .units = "windows"};
}

static int entropies(Work *w) {
  for (int64_t i = 0; i < w->rows.n; i++) {
    TRY(row_read(w, w->rows.first + i));
    w->entropy[i] = entropy(w->ids, tokens_length(w->tokens, w->row));
  }
  return OK;
}

/* Rank 0: sums over the windows of each row, in their order. */
static int add_up(Genppl *r, const Work *w, const double *results) {
  TRY(mem_alloc(&r->loss, (size_t)r->rows * sizeof *r->loss));
  TRY(mem_alloc(&r->scored, (size_t)r->rows * sizeof *r->scored));
  for (int64_t i = 0; i < w->n; i++) {
    r->loss[w->windows[i].row] += results[i * COLUMNS + LOSS];
    r->scored[w->windows[i].row] += (int64_t)results[i * COLUMNS + SCORED];
  }
  r->interval = interval_of(r->loss, r->scored, r->rows);
  return OK;
}

static int collect(Genppl *r, Work *w, Comm *comm) {
  bool root = comm->rank == 0;
  TRY_ALL(comm, entropies(w));
  size_t all = (size_t)(w->rows.part * comm->size) * sizeof *r->entropies;
  TRY_ALL(comm, root ? mem_alloc(&r->entropies, all) : OK);
  TRY(comm_gather(comm, r->entropies, w->entropy, (size_t)w->rows.part * sizeof *w->entropy, 0));
  for (int64_t i = 0; i < r->rows && root; i++) r->entropy += r->entropies[i] / (double)r->rows;
  TRY(comm_broadcast(comm, &r->interval, sizeof r->interval, 0));
  return comm_broadcast(comm, &r->entropy, sizeof r->entropy, 0);
}

static int score_all(Genppl *r, Work *w, const GenpplOptions *o, Comm *comm) {
  void *results = NULL;
  ItemsWork items = items_of(w, o);
  TRY(items_run(&items, comm, &results, &r->done, &r->stop));
  if (r->stop) return OK;
  int err = comm_agree(comm, comm->rank == 0 ? add_up(r, w, results) : OK);
  mem_free(&results);
  TRY(err);
  TRY(collect(r, w, comm));
  if (r->interval.tokens > 0) return OK;
  return comm_agree(
      comm, comm->rank > 0 ? OK
                           : RAISE(ERR_DATA, "%s: no token is scored: its rows are single tokens, or nothing but eos",
                                   tokens_path(w->tokens)));
}

int genppl_run(Genppl *r, Network *net, Tokens *t, int32_t eos, Comm *comm, const GenpplOptions *o) {
  Work w;
  *r = (Genppl){.rows = tokens_rows(t)};
  int err = comm_agree(comm, work_create(&w, net, t, eos, comm));
  r->windows = w.n;
  if (err == OK) err = score_all(r, &w, o, comm);
  work_destroy(&w);
  if (err) genppl_destroy(r);
  return err;
}

void genppl_destroy(Genppl *g) {
  if (g == NULL) return;
  mem_free(&g->loss);
  mem_free(&g->scored);
  mem_free(&g->entropies);
}
