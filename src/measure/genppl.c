#include "measure/genppl.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "dist/share.h"
#include "measure/entropy.h"
#include <string.h>

typedef struct Window { /* tokens first … first+n−1 of a row */
  int64_t row, first, n;
} Window;

typedef struct Work { /* all windows, and this rank's share of them, in whole batches, and of the rows */
  Window *windows;    /* [n] */
  int64_t n, batch;
  Share share, rows;
  int32_t *ids;           /* [width] the row read last */
  int64_t row;            /* its number; −1: none */
  bool *score;            /* [width] which tokens of a window are scored */
  double *loss, *entropy; /* [share.part], [rows.part] */
  int64_t *scored;        /* [share.part] */
  double *batch_loss;     /* [batch] */
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

static int work_create(Work *w, const Network *net, const Tokens *t, const Comm *comm) {
  const ModelOptions *o = &net->model.options;
  *w = (Work){.row = -1, .batch = o->batch};
  TRY(windows_list(w, t, o->length));
  w->share = share_of(comm, w->n, w->batch);
  w->rows = share_of(comm, tokens_rows(t), 1);
  TRY(mem_alloc(&w->ids, (size_t)tokens_width(t) * sizeof *w->ids));
  TRY(mem_alloc(&w->score, (size_t)tokens_width(t) * sizeof *w->score));
  TRY(mem_alloc(&w->loss, (size_t)w->share.part * sizeof *w->loss));
  TRY(mem_alloc(&w->scored, (size_t)w->share.part * sizeof *w->scored));
  TRY(mem_alloc(&w->batch_loss, (size_t)w->batch * sizeof *w->batch_loss));
  return mem_alloc(&w->entropy, (size_t)w->rows.part * sizeof *w->entropy);
}

static void work_destroy(Work *w) {
  mem_free(&w->windows);
  mem_free(&w->ids);
  mem_free(&w->score);
  mem_free(&w->loss);
  mem_free(&w->scored);
  mem_free(&w->batch_loss);
  mem_free(&w->entropy);
}

static int row_read(Work *w, Tokens *t, int64_t row) {
  if (w->row == row) return OK;
  w->row = -1;
  TRY(tokens_read(t, row, w->ids));
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

static int batch_run(Network *net, Tokens *t, Work *w, int32_t eos, int64_t at, int64_t B) {
  const Dropout none = {0};
  int64_t rows = 0;
  noised_begin(&net->noised, B);
  for (int64_t b = 0; b < B; b++) {
    const Window *x = &w->windows[w->share.first + at + b];
    TRY(row_read(w, t, x->row));
    const int32_t *ids = w->ids + x->first;
    window_score(w->score, ids, x->n, eos);
    w->scored[at + b] = noised_next(&net->objective, &net->noised, b, ids, x->n, w->score);
  }
  TRY(network_loss(net, &none, false, w->batch_loss, &rows));
  memcpy(w->loss + at, w->batch_loss, (size_t)B * sizeof *w->loss);
  return OK;
}

static int part_run(Network *net, Tokens *t, Work *w, int32_t eos, const char *what) {
  Progress progress;
  for (int64_t i = 0; i < w->rows.n; i++) {
    TRY(row_read(w, t, w->rows.first + i));
    w->entropy[i] = entropy(w->ids, tokens_length(t, w->row));
  }
  progress_start(&progress, what ? what : "", "windows", w->share.n);
  for (int64_t at = 0; at < w->share.n; at += w->batch) {
    int64_t B = w->share.n - at < w->batch ? w->share.n - at : w->batch;
    TRY(batch_run(net, t, w, eos, at, B));
    if (what) progress_show(&progress, at + B);
  }
  if (what) progress_end(&progress, w->share.n);
  return OK;
}

/* Sums over the windows of each row, in their order. */
static void add_up(Genppl *r, const Work *w, const double *loss, const int64_t *scored) {
  for (int64_t i = 0; i < w->n; i++) {
    r->loss[w->windows[i].row] += loss[i];
    r->scored[w->windows[i].row] += scored[i];
  }
  r->interval = interval_of(r->loss, r->scored, r->rows);
  for (int64_t i = 0; i < r->rows; i++) r->entropy += r->entropies[i] / (double)r->rows;
}

static int collect_to(Genppl *r, const Work *w, Comm *comm, double *loss, int64_t *scored) {
  TRY(comm_gather(comm, loss, w->loss, (size_t)w->share.part * sizeof *loss, 0));
  TRY(comm_gather(comm, scored, w->scored, (size_t)w->share.part * sizeof *scored, 0));
  TRY(comm_gather(comm, r->entropies, w->entropy, (size_t)w->rows.part * sizeof *w->entropy, 0));
  if (comm->rank == 0) add_up(r, w, loss, scored);
  TRY(comm_broadcast(comm, &r->interval, sizeof r->interval, 0));
  return comm_broadcast(comm, &r->entropy, sizeof r->entropy, 0);
}

static int room(Genppl *r, const Work *w, const Comm *comm, double **loss, int64_t **scored) {
  if (comm->rank > 0) return OK;
  TRY(mem_alloc(loss, (size_t)(w->share.part * comm->size) * sizeof **loss));
  TRY(mem_alloc(scored, (size_t)(w->share.part * comm->size) * sizeof **scored));
  TRY(mem_alloc(&r->loss, (size_t)r->rows * sizeof *r->loss));
  TRY(mem_alloc(&r->scored, (size_t)r->rows * sizeof *r->scored));
  return mem_alloc(&r->entropies, (size_t)(w->rows.part * comm->size) * sizeof *r->entropies);
}

static int collect(Genppl *r, const Work *w, Comm *comm) {
  double *loss = NULL;
  int64_t *scored = NULL;
  int err = comm_agree(comm, room(r, w, comm, &loss, &scored));
  if (err == OK) err = collect_to(r, w, comm, loss, scored);
  mem_free(&loss);
  mem_free(&scored);
  return err;
}

int genppl_run(Genppl *r, Network *net, Tokens *t, int32_t eos, Comm *comm, const char *progress) {
  Work w;
  *r = (Genppl){.rows = tokens_rows(t)};
  int err = comm_agree(comm, work_create(&w, net, t, comm));
  r->windows = w.n;
  if (err == OK) err = comm_agree(comm, part_run(net, t, &w, eos, progress));
  if (err == OK) err = collect(r, &w, comm);
  if (err == OK && r->interval.tokens == 0)
    err = comm_agree(
        comm, comm->rank > 0 ? OK
                             : RAISE(ERR_DATA, "%s: no token is scored: its rows are single tokens, or nothing but eos",
                                     tokens_path(t)));
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
