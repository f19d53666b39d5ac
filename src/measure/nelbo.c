#include "measure/nelbo.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "measure/items.h"
#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* The rows to evaluate: all, or n of them chosen at random, the same whatever the seed. */
static void choose_rows(NelboPasses *p, int64_t all) {
  const RngKey key = rng_key(0, RNG_EVAL_ROWS, 0, 0, 0);
  for (int64_t i = 0; i < p->n; i++)
    p->rows[i] = p->n == all ? i : (int64_t)rng_permute(key, (uint64_t)all, (uint64_t)i);
  if (p->n < all) qsort(p->rows, (size_t)p->n, sizeof *p->rows, ascending);
}

int nelbo_passes(NelboPasses *p, Network *net, Shards *data, const NelboOptions *o) {
  int64_t L = net->model.options.length, batch = model_batch(&net->model, 1), all = shards_rows(data);
  *p = (NelboPasses){.net = net, .data = data, .o = o};
  p->n = o->sequences > 0 && o->sequences < all ? o->sequences : all;
  TRY(mem_alloc(&p->rows, (size_t)p->n * sizeof *p->rows));
  TRY(mem_alloc(&p->batch_rows, (size_t)batch * sizeof *p->batch_rows));
  TRY(mem_alloc(&p->tokens, (size_t)(batch * L) * sizeof *p->tokens));
  TRY(mem_alloc(&p->lengths, (size_t)batch * sizeof *p->lengths));
  TRY(mem_alloc(&p->labels, (size_t)batch * sizeof *p->labels));
  TRY(mem_alloc(&p->loss, (size_t)net->model.options.batch * sizeof *p->loss));
  TRY(mem_alloc(&p->exact, (size_t)batch * sizeof *p->exact));
  TRY(mem_alloc(&p->values, (size_t)batch * NELBO_VALUES * sizeof *p->values));
  choose_rows(p, all);
  return OK;
}

void nelbo_passes_end(NelboPasses *p) {
  mem_free(&p->rows);
  mem_free(&p->batch_rows);
  mem_free(&p->tokens);
  mem_free(&p->lengths);
  mem_free(&p->labels);
  mem_free(&p->loss);
  mem_free(&p->exact);
  mem_free(&p->values);
}

int nelbo_load(NelboPasses *p, const int64_t *items, int64_t n, double *values) {
  for (int64_t b = 0; b < n; b++) p->batch_rows[b] = p->rows[items[b]];
  TRY(shards_read(p->data, p->batch_rows, n, p->tokens, p->lengths));
  TRY(shards_labels(p->data, p->batch_rows, n, p->labels));
  for (int64_t b = 0; b < n && (p->o->hide_labels || p->net->model.options.classes == 0); b++) p->labels[b] = -1;
  memset(values, 0, (size_t)(n * NELBO_VALUES) * sizeof *values);
  for (int64_t b = 0; b < n; b++)
    values[b * NELBO_VALUES + NELBO_TOKENS] = p->lengths[b] - (p->net->objective.diffusion ? 0 : 1);
  return OK;
}

/* Sequence b of net->noised := one draw of the loaded sequence `at`, number `item` of n. Strata are assigned to sequences
 * by a keyed permutation, so that the time is independent of the place in the corpus. */
static void noise(NelboPasses *p, int64_t b, int64_t at, int64_t item, int64_t draw) {
  const NelboOptions *o = p->o;
  EstimatorDraw d = {.seed = o->seed, .draw = draw, .row = p->rows[item], .n = p->n, .stratified = o->stratified};
  RngKey key = rng_key(o->seed, RNG_EVAL_ORDER, 0, (uint64_t)draw, 0);
  d.cell = (int64_t)rng_permute(key, (uint64_t)p->n, (uint64_t)item);
  o->estimator->noise(p->net, b, p->tokens + at * p->net->model.options.length, p->lengths[at], &d);
}

/* Pass — draws draw … draw+draws−1 of the loaded sequences first … first+n−1: sequence b is draw b % draws of them. */
typedef struct Pass {
  int64_t first, n, draw, draws;
} Pass;

static void pass_noise(NelboPasses *p, const Pass *x, const int64_t *items, double *values) {
  Noised *z = &p->net->noised;
  noised_begin(z, x->n * x->draws);
  z->draws = x->draws;
  for (int64_t b = 0; b < x->n * x->draws; b++) {
    int64_t before = z->masked, at = x->first + b / x->draws;
    z->label[b] = p->labels[at];
    noise(p, b, at, items[at], x->draw + b % x->draws);
    values[at * NELBO_VALUES + NELBO_MASKED] += (double)(z->masked - before);
  }
}

static void pass_add(const NelboPasses *p, const Pass *x, double *values) {
  double draws = (double)p->o->draws;
  for (int64_t b = 0; b < x->n * x->draws; b++) {
    double *r = values + (x->first + b / x->draws) * NELBO_VALUES, draw = (double)(x->draw + b % x->draws);
    double mean = draw > 0 ? r[NELBO_LOSS] * draws / draw : 0, off = p->loss[b] - mean;
    r[NELBO_LOSS] += p->loss[b] / draws;
    if (draw > 0) r[NELBO_SQUARE] += off * off * draw / (draw + 1);
  }
}

void nelbo_noise(NelboPasses *p, const int64_t *items, int64_t n, int64_t draw, double *values) {
  const Pass x = {.n = n, .draw = draw, .draws = 1};
  pass_noise(p, &x, items, values);
}

void nelbo_add(const NelboPasses *p, int64_t n, int64_t draw, double *values) {
  const Pass x = {.n = n, .draw = draw, .draws = 1};
  pass_add(p, &x, values);
}

/* Numbers of a sequence. */
static int64_t columns_of(const NelboOptions *o) {
  return NELBO_VALUES + (o->clip ? (int64_t)(CLIP_PIECES * sizeof(ClipPiece) / sizeof(double)) : 0);
}

/* The loaded sequences by an estimator without draws. */
static int batch_exact(NelboPasses *p, int64_t n, double *values) {
  int64_t L = p->net->model.options.length;
  for (int64_t b = 0; b < n; b++)
    p->exact[b] =
        (EstimatorRow){.x0 = p->tokens + b * L, .end = p->lengths[b], .length = p->lengths[b], .label = p->labels[b]};
  TRY(p->o->estimator->exact(p->net, p->o->cfg, p->exact, n));
  for (int64_t b = 0; b < n; b++) {
    values[b * NELBO_VALUES + NELBO_LOSS] = p->exact[b].loss;
    values[b * NELBO_VALUES + NELBO_MASKED] = (double)p->lengths[b];
  }
  return OK;
}

static int pass_run(NelboPasses *p, const Pass *x, const int64_t *items, double *results) {
  const Dropout none = {0};
  int64_t rows = 0, columns = columns_of(p->o);
  pass_noise(p, x, items, p->values);
  TRY(network_loss(p->net, &none, false, p->loss, &rows));
  pass_add(p, x, p->values);
  for (int64_t b = 0; b < x->n * x->draws && p->o->clip; b++)
    clip_search_add((ClipPiece *)(results + (x->first + b / x->draws) * columns + NELBO_VALUES), p->net, b);
  return OK;
}

/* All draws of the loaded sequences; their sums for the search go behind their values. In block diffusion several draws
 * of a sequence share the pass over its clean tokens; values do not depend on how many. */
static int batch_draws(NelboPasses *p, const int64_t *items, int64_t n, double *results) {
  enum { SHARED = 16 };
  const Model *m = &p->net->model;
  int64_t most = m->options.block == 0 ? 1 : SHARED < m->options.batch ? SHARED : m->options.batch;
  Pass x = {0};
  for (; x.draw < p->o->draws; x.draw += x.draws) {
    x.draws = p->o->draws - x.draw < most ? p->o->draws - x.draw : most;
    int64_t whole = model_batch(m, x.draws) / x.draws;
    for (x.first = 0; x.first < n; x.first += x.n) {
      if (x.draw || x.first) TRY(items_stop());
      x.n = n - x.first < whole ? n - x.first : whole;
      TRY(pass_run(p, &x, items, results));
    }
  }
  return OK;
}

static int batch_run(void *arg, const int64_t *items, int64_t n, void *results) {
  NelboPasses *p = arg;
  int64_t columns = columns_of(p->o);
  memset(results, 0, (size_t)(n * columns) * sizeof(double));
  TRY(nelbo_load(p, items, n, p->values));
  TRY(p->o->estimator->exact ? batch_exact(p, n, p->values) : batch_draws(p, items, n, results));
  for (int64_t b = 0; b < n; b++)
    memcpy((double *)results + b * columns, p->values + b * NELBO_VALUES, NELBO_VALUES * sizeof *p->values);
  return OK;
}

/* Rank 0: the sums of all sequences, in order, and then the values of all without gaps. */
static void add_up_clip(Nelbo *r, const NelboOptions *o, double *results) {
  int64_t columns = columns_of(o);
  double *sums = (double *)r->clip;
  if (columns == NELBO_VALUES) return;
  for (int64_t i = 0; i < r->sequences; i++) {
    const double *from = results + i * columns;
    for (int64_t k = NELBO_VALUES; k < columns; k++) sums[k - NELBO_VALUES] += from[k];
    memmove(results + i * NELBO_VALUES, from, NELBO_VALUES * sizeof *from);
  }
}

/* Rank 0: the columns of the results, and their interval. */
static int add_up(Nelbo *r, const double *values) {
  int64_t n = r->sequences;
  TRY(mem_alloc(&r->loss, (size_t)n * sizeof *r->loss));
  TRY(mem_alloc(&r->length, (size_t)n * sizeof *r->length));
  TRY(mem_alloc(&r->square, (size_t)n * sizeof *r->square));
  for (int64_t i = 0; i < n; i++) {
    const double *x = values + i * NELBO_VALUES;
    r->loss[i] = x[NELBO_LOSS], r->length[i] = (int64_t)x[NELBO_TOKENS], r->square[i] = x[NELBO_SQUARE];
    r->masked += (int64_t)x[NELBO_MASKED];
  }
  r->interval = interval_of(r->loss, r->length, n);
  return OK;
}

int nelbo_total(Nelbo *r, const double *values, const Shards *data, Comm *comm) {
  TRY_ALL(comm, comm->rank == 0 ? add_up(r, values) : OK);
  TRY(comm_broadcast(comm, &r->interval, sizeof r->interval, 0));
  TRY(comm_broadcast(comm, &r->masked, sizeof r->masked, 0));
  if (r->interval.tokens > 0) return OK;
  return comm_agree(
      comm, comm->rank > 0 ? OK
                           : RAISE(ERR_DATA, "%s: no token is scored: its rows are single tokens, without a next one",
                                   shards_spec(data)));
}

/* A network without draws of noise has the same value in each. */
static ItemsWork items_of(NelboPasses *p) {
  return (ItemsWork){.n = p->n,
                     .batch = model_batch(&p->net->model, 1),
                     .unit = 1,
                     .type = H5_F64,
                     .columns = columns_of(p->o),
                     .run = batch_run,
                     .arg = p,
                     .partial = p->o->partial,
                     .key = p->o->key,
                     .progress = p->o->progress,
                     .units = "sequences"};
}

int nelbo_run(Nelbo *r, Network *net, Shards *data, Comm *comm, const NelboOptions *o) {
  void *results = NULL;
  NelboPasses p;
  int err = comm_agree(comm, nelbo_passes(&p, net, data, o));
  ItemsWork items = items_of(&p);
  *r = (Nelbo){.sequences = p.n};
  if (err == OK) err = items_run(&items, comm, &results, &r->done, &r->stop);
  if (err == OK && !r->stop && comm->rank == 0) add_up_clip(r, o, results);
  if (err == OK && !r->stop) err = nelbo_total(r, results, data, comm);
  if (err == OK && !r->stop && o->clip) err = comm_broadcast(comm, r->clip, sizeof r->clip, 0);
  mem_free(&results);
  nelbo_passes_end(&p);
  if (err) nelbo_destroy(r);
  return err;
}

void nelbo_destroy(Nelbo *n) {
  if (n == NULL) return;
  mem_free(&n->loss);
  mem_free(&n->length);
  mem_free(&n->square);
}
