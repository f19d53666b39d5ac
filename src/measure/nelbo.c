#include "measure/nelbo.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "measure/items.h"
#include <stdlib.h>
#include <string.h>

enum { LOSS, TOKENS, MASKED, SQUARE, COLUMNS }; /* of a sequence's result */

typedef struct Work { /* what the passes of this rank need */
  Network *net;       /* not owned, nor the next two */
  Shards *data;
  const NelboOptions *o;
  int64_t n;
  int64_t *rows; /* [n] of the data, ascending */
  int64_t *batch_rows;
  int32_t *tokens, *lengths;
  double *loss; /* [batch] */
} Work;

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* The rows to evaluate: all, or n of them chosen at random, the same whatever the seed. */
static void choose_rows(Work *w, int64_t all) {
  const RngKey key = rng_key(0, RNG_EVAL_ROWS, 0, 0, 0);
  for (int64_t i = 0; i < w->n; i++)
    w->rows[i] = w->n == all ? i : (int64_t)rng_permute(key, (uint64_t)all, (uint64_t)i);
  if (w->n < all) qsort(w->rows, (size_t)w->n, sizeof *w->rows, ascending);
}

static int work_create(Work *w, Network *net, Shards *data, const NelboOptions *o, int64_t n) {
  int64_t L = net->model.options.length, batch = net->model.options.batch;
  *w = (Work){.net = net, .data = data, .o = o, .n = n};
  TRY(mem_alloc(&w->rows, (size_t)n * sizeof *w->rows));
  TRY(mem_alloc(&w->batch_rows, (size_t)batch * sizeof *w->batch_rows));
  TRY(mem_alloc(&w->tokens, (size_t)(batch * L) * sizeof *w->tokens));
  TRY(mem_alloc(&w->lengths, (size_t)batch * sizeof *w->lengths));
  TRY(mem_alloc(&w->loss, (size_t)batch * sizeof *w->loss));
  choose_rows(w, shards_rows(data));
  return OK;
}

static void work_destroy(Work *w) {
  mem_free(&w->rows);
  mem_free(&w->batch_rows);
  mem_free(&w->tokens);
  mem_free(&w->lengths);
  mem_free(&w->loss);
}

/* Noise sequence b of the batch, number `item` of n, for one draw. Strata are assigned to sequences by a keyed
 * permutation, so that the time is independent of the place in the corpus. */
static void noise(Work *w, int64_t b, int64_t item, int64_t draw) {
  const NelboOptions *o = w->o;
  EstimatorDraw d = {.seed = o->seed, .draw = draw, .row = w->rows[item], .n = w->n, .stratified = o->stratified};
  RngKey key = rng_key(o->seed, RNG_EVAL_ORDER, 0, (uint64_t)draw, 0);
  d.cell = (int64_t)rng_permute(key, (uint64_t)w->n, (uint64_t)item);
  o->estimator->noise(w->net, b, w->tokens + b * w->net->model.options.length, w->lengths[b], &d);
}

/* One draw of a batch: adds to each sequence's result. */
static int draw_run(Work *w, const int64_t *items, int64_t n, int64_t draw, double *results) {
  const Dropout none = {0};
  Noised *z = &w->net->noised;
  int64_t rows = 0;
  noised_begin(z, n);
  for (int64_t b = 0; b < n; b++) {
    int64_t before = z->masked;
    noise(w, b, items[b], draw);
    results[b * COLUMNS + MASKED] += (double)(z->masked - before);
  }
  TRY(network_loss(w->net, &none, false, w->loss, &rows));
  for (int64_t b = 0; b < n; b++) {
    double *r = results + b * COLUMNS, mean = draw ? r[LOSS] * (double)w->o->draws / (double)draw : 0;
    double off = w->loss[b] - mean;
    r[LOSS] += w->loss[b] / (double)w->o->draws;
    if (draw) r[SQUARE] += off * off * (double)draw / (double)(draw + 1);
  }
  return OK;
}

static int batch_run(void *arg, const int64_t *items, int64_t n, void *results) {
  Work *w = arg;
  double *r = results;
  for (int64_t b = 0; b < n; b++) w->batch_rows[b] = w->rows[items[b]];
  TRY(shards_read(w->data, w->batch_rows, n, w->tokens, w->lengths));
  memset(r, 0, (size_t)(n * COLUMNS) * sizeof *r);
  for (int64_t b = 0; b < n; b++) r[b * COLUMNS + TOKENS] = w->lengths[b] - (w->net->objective.diffusion ? 0 : 1);
  for (int64_t draw = 0; draw < w->o->draws; draw++) {
    if (draw) TRY(items_stop());
    TRY(draw_run(w, items, n, draw, r));
  }
  return OK;
}

/* Rank 0: the columns of the results, and their interval. */
static int add_up(Nelbo *r, const double *results) {
  int64_t n = r->sequences;
  TRY(mem_alloc(&r->loss, (size_t)n * sizeof *r->loss));
  TRY(mem_alloc(&r->length, (size_t)n * sizeof *r->length));
  TRY(mem_alloc(&r->square, (size_t)n * sizeof *r->square));
  for (int64_t i = 0; i < n; i++) {
    const double *x = results + i * COLUMNS;
    r->loss[i] = x[LOSS], r->length[i] = (int64_t)x[TOKENS], r->square[i] = x[SQUARE];
    r->masked += (int64_t)x[MASKED];
  }
  r->interval = interval_of(r->loss, r->length, n);
  return OK;
}

static int totals(Nelbo *r, const double *results, const Shards *data, Comm *comm) {
  TRY_ALL(comm, comm->rank == 0 ? add_up(r, results) : OK);
  TRY(comm_broadcast(comm, &r->interval, sizeof r->interval, 0));
  TRY(comm_broadcast(comm, &r->masked, sizeof r->masked, 0));
  if (r->interval.tokens > 0) return OK;
  return comm_agree(
      comm, comm->rank > 0 ? OK
                           : RAISE(ERR_DATA, "%s: no token is scored: its rows are single tokens, without a next one",
                                   shards_spec(data)));
}

/* A network without draws of noise has the same value in each. */
static ItemsWork items_of(Work *w) {
  return (ItemsWork){.n = w->n,
                     .batch = w->net->model.options.batch,
                     .unit = 1,
                     .type = H5_F64,
                     .columns = COLUMNS,
                     .run = batch_run,
                     .arg = w,
                     .partial = w->o->partial,
                     .key = w->o->key,
                     .progress = w->o->progress,
                     .units = "sequences"};
}

int nelbo_run(Nelbo *r, Network *net, Shards *data, Comm *comm, const NelboOptions *o) {
  int64_t n = shards_rows(data);
  void *results = NULL;
  if (o->sequences > 0 && o->sequences < n) n = o->sequences;
  *r = (Nelbo){.sequences = n};
  Work w;
  int err = comm_agree(comm, work_create(&w, net, data, o, n));
  ItemsWork items = items_of(&w);
  if (err == OK) err = items_run(&items, comm, &results, &r->done, &r->stop);
  if (err == OK && !r->stop) err = totals(r, results, data, comm);
  mem_free(&results);
  work_destroy(&w);
  if (err) nelbo_destroy(r);
  return err;
}

void nelbo_destroy(Nelbo *n) {
  if (n == NULL) return;
  mem_free(&n->loss);
  mem_free(&n->length);
  mem_free(&n->square);
}
