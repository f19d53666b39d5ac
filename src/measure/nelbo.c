#include "measure/nelbo.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "dist/share.h"

typedef struct Work { /* this rank's share and the buffers of a batch */
  Share share;
  int64_t batch;
  int64_t *rows;
  int32_t *tokens, *lengths;
  double *loss, *batch_loss;
  int64_t *length;
} Work;

static int work_create(Work *w, const Network *net, int64_t sequences, const Comm *comm) {
  int64_t L = net->model.options.length;
  *w = (Work){.share = share_of(comm, sequences, 1), .batch = net->model.options.batch};
  TRY(mem_alloc(&w->rows, (size_t)w->batch * sizeof *w->rows));
  TRY(mem_alloc(&w->tokens, (size_t)(w->batch * L) * sizeof *w->tokens));
  TRY(mem_alloc(&w->lengths, (size_t)w->batch * sizeof *w->lengths));
  TRY(mem_alloc(&w->batch_loss, (size_t)w->batch * sizeof *w->batch_loss));
  TRY(mem_alloc(&w->loss, (size_t)w->share.part * sizeof *w->loss));
  return mem_alloc(&w->length, (size_t)w->share.part * sizeof *w->length);
}

static void work_destroy(Work *w) {
  mem_free(&w->rows);
  mem_free(&w->tokens);
  mem_free(&w->lengths);
  mem_free(&w->batch_loss);
  mem_free(&w->loss);
  mem_free(&w->length);
}

/* Noise sequence b of the batch, row `row` of n, for one draw. Strata are assigned to rows by a keyed permutation, so
 * that the time is independent of the place in the corpus. */
static void noise(Network *net, const Work *w, const NelboOptions *o, int64_t b, int64_t row, int64_t n, int64_t draw) {
  EstimatorDraw d = {.seed = o->seed, .draw = draw, .row = row, .n = n, .stratified = o->stratified};
  d.cell = (int64_t)rng_permute(rng_key(o->seed, RNG_EVAL_ORDER, 0, (uint64_t)draw, 0), (uint64_t)n, (uint64_t)row);
  o->estimator->noise(net, b, w->tokens + b * net->model.options.length, w->lengths[b], &d);
}

/* One draw of one batch: adds each sequence's loss. */
static int batch_run(Network *net, Work *w, const NelboOptions *o, int64_t at, int64_t B, int64_t n, int64_t draw,
                     int64_t *masked) {
  noised_begin(&net->noised, B);
  for (int64_t b = 0; b < B; b++) noise(net, w, o, b, w->share.first + at + b, n, draw);
  const Dropout none = {0};
  int64_t rows = 0;
  TRY(network_loss(net, &none, false, w->batch_loss, &rows));
  for (int64_t b = 0; b < B; b++) w->loss[at + b] += w->batch_loss[b] / (double)o->draws;
  *masked += net->noised.masked;
  return OK;
}

static int part_run(Network *net, Shards *data, Work *w, const NelboOptions *o, int64_t n, int64_t *masked) {
  Progress progress;
  progress_start(&progress, o->progress ? o->progress : "", "sequences", w->share.n);
  for (int64_t at = 0; at < w->share.n; at += w->batch) {
    int64_t B = w->share.n - at < w->batch ? w->share.n - at : w->batch;
    for (int64_t b = 0; b < B; b++) w->rows[b] = w->share.first + at + b;
    TRY(shards_read(data, w->rows, B, w->tokens, w->lengths));
    for (int64_t b = 0; b < B; b++) w->length[at + b] = w->lengths[b] - (net->objective.diffusion ? 0 : 1);
    for (int64_t draw = 0; draw < o->draws; draw++) TRY(batch_run(net, w, o, at, B, n, draw, masked));
    if (o->progress) progress_show(&progress, at + B);
  }
  if (o->progress) progress_end(&progress, w->share.n);
  return OK;
}

static int collect(Nelbo *r, const Work *w, Comm *comm) {
  if (comm->rank == 0) {
    TRY(mem_alloc(&r->loss, (size_t)(w->share.part * comm->size) * sizeof *r->loss));
    TRY(mem_alloc(&r->length, (size_t)(w->share.part * comm->size) * sizeof *r->length));
  }
  TRY(comm_gather(comm, r->loss, w->loss, (size_t)w->share.part * sizeof *w->loss, 0));
  TRY(comm_gather(comm, r->length, w->length, (size_t)w->share.part * sizeof *w->length, 0));
  TRY(comm_all_reduce(comm, &r->masked, 1, COMM_I64, COMM_SUM));
  if (comm->rank == 0) r->interval = interval_of(r->loss, r->length, r->sequences);
  return comm_broadcast(comm, &r->interval, sizeof r->interval, 0);
}

int nelbo_run(Nelbo *r, Network *net, Shards *data, Comm *comm, const NelboOptions *o) {
  int64_t n = shards_rows(data);
  if (o->sequences > 0 && o->sequences < n) n = o->sequences;
  *r = (Nelbo){.sequences = n};
  Work w;
  int err = comm_agree(comm, work_create(&w, net, n, comm));
  if (err == OK) err = comm_agree(comm, part_run(net, data, &w, o, n, &r->masked));
  if (err == OK) err = collect(r, &w, comm);
  if (err == OK && r->interval.tokens == 0)
    err = comm_agree(
        comm, comm->rank > 0 ? OK
                             : RAISE(ERR_DATA, "%s: no token is scored: its rows are single tokens, without a next one",
                                     shards_spec(data)));
  work_destroy(&w);
  if (err) nelbo_destroy(r);
  return err;
}

void nelbo_destroy(Nelbo *n) {
  if (n == NULL) return;
  mem_free(&n->loss);
  mem_free(&n->length);
}
