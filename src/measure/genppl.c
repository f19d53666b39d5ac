#include "measure/genppl.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "measure/entropy.h"
#include <string.h>

typedef struct Window { /* tokens first … first+n−1 of a row */
  int64_t row, first, n;
} Window;

typedef struct Work { /* all windows, and one rank's part of them: whole batches */
  Window *windows;    /* [n] */
  int64_t n, batch, first, mine, part;
  int32_t *ids;           /* [width] the row read last */
  int64_t row;            /* which; −1: none */
  double *loss, *entropy; /* [part], [row_part] */
  int64_t *scored;        /* [part] */
  double *batch_loss;     /* [batch] */
  int64_t row_first, row_mine, row_part;
} Work;

/* Rank r's share of n: `part` from r·part on, fewer at the end. */
static void share(const Comm *comm, int64_t n, int64_t part, int64_t *first, int64_t *mine) {
  *first = part * comm->rank < n ? part * comm->rank : n;
  *mine = n - *first < part ? n - *first : part;
}

/* A window of one token has none to be scored. */
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
  int64_t rows = tokens_rows(t);
  *w = (Work){.row = -1, .batch = o->batch};
  TRY(windows_list(w, t, o->length));
  int64_t batches = (w->n + w->batch - 1) / w->batch;
  w->part = (batches + comm->size - 1) / comm->size * w->batch;
  w->row_part = (rows + comm->size - 1) / comm->size;
  share(comm, w->n, w->part, &w->first, &w->mine);
  share(comm, rows, w->row_part, &w->row_first, &w->row_mine);
  TRY(mem_alloc(&w->ids, (size_t)tokens_width(t) * sizeof *w->ids));
  TRY(mem_alloc(&w->loss, (size_t)w->part * sizeof *w->loss));
  TRY(mem_alloc(&w->scored, (size_t)w->part * sizeof *w->scored));
  TRY(mem_alloc(&w->batch_loss, (size_t)w->batch * sizeof *w->batch_loss));
  return mem_alloc(&w->entropy, (size_t)w->row_part * sizeof *w->entropy);
}

static void work_destroy(Work *w) {
  mem_free(&w->windows);
  mem_free(&w->ids);
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

/* Sequence b of the batch; how many of its tokens are scored. A causal network does not see what follows them. */
static int64_t window_add(Network *net, int64_t b, const int32_t *ids, int64_t n, int32_t eos) {
  Noised *z = &net->noised;
  int64_t before = z->n_rows;
  bool ended = ids[0] == eos;
  memset(z->z + b * z->L, 0, (size_t)z->L * sizeof *z->z);
  memcpy(z->z + b * z->L, ids, (size_t)n * sizeof *ids);
  z->length[b] = (int32_t)n;
  z->sigma[b] = 0;
  for (int64_t l = 1; l < n; l++) {
    if (ids[l] != eos || !ended) *noised_row(&net->objective, z, b, l - 1, ids[l]) = 1;
    ended |= ids[l] == eos;
  }
  return z->n_rows - before;
}

static int batch_run(Network *net, Tokens *t, Work *w, int32_t eos, int64_t at, int64_t B) {
  const Dropout none = {0};
  int64_t rows = 0;
  noised_begin(&net->noised, B);
  for (int64_t b = 0; b < B; b++) {
    const Window *x = &w->windows[w->first + at + b];
    TRY(row_read(w, t, x->row));
    w->scored[at + b] = window_add(net, b, w->ids + x->first, x->n, eos);
  }
  net->noised.scored = net->noised.n_rows;
  TRY(network_loss(net, &none, false, w->batch_loss, &rows));
  memcpy(w->loss + at, w->batch_loss, (size_t)B * sizeof *w->loss);
  return OK;
}

static int part_run(Network *net, Tokens *t, Work *w, int32_t eos, const char *what) {
  Progress progress;
  for (int64_t i = 0; i < w->row_mine; i++) {
    TRY(row_read(w, t, w->row_first + i));
    w->entropy[i] = entropy(w->ids, tokens_length(t, w->row));
  }
  progress_start(&progress, what ? what : "", "windows", w->mine);
  for (int64_t at = 0; at < w->mine; at += w->batch) {
    int64_t B = w->mine - at < w->batch ? w->mine - at : w->batch;
    TRY(batch_run(net, t, w, eos, at, B));
    if (what) progress_show(&progress, at + B);
  }
  if (what) progress_end(&progress, w->mine);
  return OK;
}

/* What the windows of a row add up to, in their order. */
static void add_up(Genppl *r, const Work *w, const double *loss, const int64_t *scored) {
  for (int64_t i = 0; i < w->n; i++) {
    r->loss[w->windows[i].row] += loss[i];
    r->scored[w->windows[i].row] += scored[i];
  }
  r->interval = interval_of(r->loss, r->scored, r->rows);
  for (int64_t i = 0; i < r->rows; i++) r->entropy += r->entropies[i] / (double)r->rows;
}

static int collect_to(Genppl *r, const Work *w, Comm *comm, double *loss, int64_t *scored) {
  TRY(comm_gather(comm, loss, w->loss, (size_t)w->part * sizeof *loss, 0));
  TRY(comm_gather(comm, scored, w->scored, (size_t)w->part * sizeof *scored, 0));
  TRY(comm_gather(comm, r->entropies, w->entropy, (size_t)w->row_part * sizeof *w->entropy, 0));
  if (comm->rank == 0) add_up(r, w, loss, scored);
  TRY(comm_broadcast(comm, &r->interval, sizeof r->interval, 0));
  return comm_broadcast(comm, &r->entropy, sizeof r->entropy, 0);
}

static int room(Genppl *r, const Work *w, const Comm *comm, double **loss, int64_t **scored) {
  if (comm->rank > 0) return OK;
  TRY(mem_alloc(loss, (size_t)(w->part * comm->size) * sizeof **loss));
  TRY(mem_alloc(scored, (size_t)(w->part * comm->size) * sizeof **scored));
  TRY(mem_alloc(&r->loss, (size_t)r->rows * sizeof *r->loss));
  TRY(mem_alloc(&r->scored, (size_t)r->rows * sizeof *r->scored));
  return mem_alloc(&r->entropies, (size_t)(w->row_part * comm->size) * sizeof *r->entropies);
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
    err = comm_agree(comm, comm->rank > 0
                               ? OK
                               : RAISE(ERR_DATA, "%s: no token is scored: each row is one token, or nothing but eos",
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
