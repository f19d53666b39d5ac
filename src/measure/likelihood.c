#include "measure/likelihood.h"
#include "base/err.h"
#include "base/mem.h"
#include "measure/chain.h"
#include "measure/items.h"
#include <math.h>
#include <string.h>

enum { LL, ERROR, GREEDY, DRAWS, COLUMNS }; /* of a request's result */
enum { UNKNOWN = -1 };                      /* an error; a NaN would not be kept in the partial file */

typedef struct Work {
  Network *net; /* not owned, nor the next two */
  const Requests *r;
  const LikelihoodOptions *o;
  ChainOptions decoder;  /* of `greedy`: one token a pass, the surest first */
  int32_t *x;            /* [batch,L] the loaded requests */
  EstimatorRow *rows;    /* [batch] */
  int64_t *item, *who;   /* [batch] the request of a row; the row of a sequence of the pass */
  double *loss;          /* [batch] of a pass */
  double *mean, *square; /* [batch] over draws */
  Prediction *list;      /* [batch·L] of a next-token network */
  bool *scored;          /* [L] */
} Work;

int64_t likelihood_masks(double u, int64_t T, int64_t draw, int64_t D) {
  return 1 + ((int64_t)(u * (double)T) + draw * T / D) % T;
}

int64_t likelihood_cut(const Requests *r, int64_t i, int64_t L) {
  int64_t over = r->context[i] + r->target[i] - L;
  return over > 0 ? over : 0;
}

int likelihood_check(const Requests *r, const char *path, const Objective *o, int64_t L) {
  int64_t need = o->diffusion ? 0 : 1;
  for (int64_t i = 0; i < r->n; i++) {
    CHECK(r->target[i] <= L - need, ERR_DATA,
          "%s: the target of request %lld has %lld tokens, a row of the network %lld%s", path, (long long)i,
          (long long)r->target[i], (long long)L, need ? ", the first of which must be of the context" : "");
    CHECK(r->context[i] >= need, ERR_DATA,
          "%s: request %lld has no context: a network that predicts the next token needs one, such as bos", path,
          (long long)i);
  }
  return OK;
}

/* ---- rows */
static int32_t filler(const Work *w) { return w->o->rest == REST_MASK ? w->net->objective.mask : w->o->pad; }

/* Request i becomes row b: the end of its context, its target, the rest of the row. */
static void load(Work *w, int64_t b, int64_t i) {
  const Requests *r = w->r;
  int64_t L = w->net->model.options.length, cut = likelihood_cut(r, i, L), n = r->context[i] + r->target[i] - cut;
  int32_t *x = w->x + b * L;
  memcpy(x, r->tokens + r->offset[i] + cut, (size_t)n * sizeof *x);
  for (int64_t l = n; l < L; l++) x[l] = filler(w);
  w->item[b] = i;
  w->rows[b] = (EstimatorRow){.x0 = x,
                              .first = n - r->target[i],
                              .end = n,
                              .length = w->o->rest == REST_MASK ? L : n,
                              .label = -1,
                              .likeliest = true};
}

static void result(double *to, double ll, double error, double greedy, double draws) {
  to[LL] = ll, to[ERROR] = error, to[GREEDY] = greedy, to[DRAWS] = draws;
}

/* ---- next-token networks */
static int run_next(Work *w, int64_t n, double *results) {
  Network *net = w->net;
  Noised *z = &net->noised;
  noised_begin(z, n);
  for (int64_t b = 0; b < n; b++) {
    const EstimatorRow *r = &w->rows[b];
    for (int64_t l = 0; l < z->L; l++) w->scored[l] = l >= r->first && l < r->end;
    noised_next(&net->objective, z, b, r->x0, r->end, w->scored);
    result(results + b * COLUMNS, 0, 0, 1, 1);
  }
  TRY(network_predict(net, 0, w->list));
  for (int64_t k = 0; k < z->n_rows; k++) {
    double *to = results + z->rows[k] / z->L * COLUMNS;
    to[LL] -= net->row_loss[k];
    if (!w->list[k].hit) to[GREEDY] = 0;
  }
  return OK;
}

/* ---- an estimator without draws */
static int run_exact(Work *w, int64_t n, double *results) {
  TRY(w->o->estimator->exact(w->net, w->o->cfg, w->rows, n));
  for (int64_t b = 0; b < n; b++) result(results + b * COLUMNS, -w->rows[b].loss, 0, w->rows[b].likeliest, 1);
  return OK;
}

/* ---- draws */
static int64_t draws_of(const Work *w, int64_t b) { return w->rows[b].end - w->rows[b].first > 1 ? w->o->draws : 1; }

/* Row b becomes sequence i of the pass, with the masks of that draw. */
static void noise(Work *w, int64_t i, int64_t b, int64_t draw) {
  const EstimatorRow *r = &w->rows[b];
  const Requests *requests = w->r;
  int64_t T = r->end - r->first, question = requests->option_of ? requests->option_of[w->item[b]] : w->item[b];
  double u = rng_uniform(rng_key(w->o->seed, RNG_EVAL_TIME, 0, 0, (uint64_t)question), 0);
  RngKey mask = rng_key(w->o->seed, RNG_EVAL_MASK, 0, (uint64_t)draw, (uint64_t)question);
  noised_part(&w->net->objective, &w->net->noised, i, r->x0, r->first, r->end, r->length,
              likelihood_masks(u, T, draw, w->o->draws), mask);
  w->who[i] = b;
}

/* One draw of the rows that have so many. */
static int run_draw(Work *w, int64_t n, int64_t draw) {
  const Dropout none = {0};
  int64_t B = 0, rows = 0;
  noised_begin(&w->net->noised, n);
  for (int64_t b = 0; b < n; b++)
    if (draw < draws_of(w, b)) noise(w, B++, b, draw);
  w->net->noised.B = B;
  if (B == 0) return OK;
  TRY(network_loss(w->net, &none, false, w->loss, &rows));
  for (int64_t i = 0; i < B; i++) {
    int64_t b = w->who[i];
    double off = w->loss[i] - w->mean[b];
    w->mean[b] += off / (double)(draw + 1);
    w->square[b] += off * (w->loss[i] - w->mean[b]);
  }
  return OK;
}

static int run_draws(Work *w, int64_t n, double *results) {
  for (int64_t b = 0; b < n; b++) w->mean[b] = w->square[b] = 0;
  for (int64_t draw = 0; draw < w->o->draws; draw++) {
    if (draw) TRY(items_stop());
    TRY(run_draw(w, n, draw));
  }
  for (int64_t b = 0; b < n; b++) {
    double D = (double)draws_of(w, b);
    bool one = w->rows[b].end - w->rows[b].first == 1;
    result(results + b * COLUMNS, -w->mean[b], one ? 0 : D > 1 ? sqrt(w->square[b] / (D * (D - 1))) : UNKNOWN, -1, D);
  }
  if (!w->o->greedy) return OK;
  TRY(items_stop());
  TRY(chain_run(w->net, &w->decoder, w->rows, n, true));
  for (int64_t b = 0; b < n; b++) results[b * COLUMNS + GREEDY] = w->rows[b].likeliest;
  return OK;
}

/* ---- all */
static int batch_run(void *arg, const int64_t *items, int64_t n, void *results) {
  Work *w = arg;
  for (int64_t b = 0; b < n; b++) load(w, b, items[b]);
  if (!w->net->objective.diffusion) return run_next(w, n, results);
  return w->o->estimator->exact ? run_exact(w, n, results) : run_draws(w, n, results);
}

static int work_create(Work *w, Network *net, const Requests *r, const LikelihoodOptions *o) {
  const CommitOptions surest = {.section = "likelihood", .commit = "top_k", .order = "confidence"};
  size_t batch = (size_t)net->model.options.batch, L = (size_t)net->model.options.length;
  *w = (Work){.net = net, .r = r, .o = o};
  TRY(chain_create(&w->decoder, &surest, 0));
  TRY(mem_alloc(&w->x, batch * L * sizeof *w->x));
  TRY(mem_alloc(&w->rows, batch * sizeof *w->rows));
  TRY(mem_alloc(&w->item, batch * sizeof *w->item));
  TRY(mem_alloc(&w->who, batch * sizeof *w->who));
  TRY(mem_alloc(&w->loss, batch * sizeof *w->loss));
  TRY(mem_alloc(&w->mean, batch * sizeof *w->mean));
  TRY(mem_alloc(&w->square, batch * sizeof *w->square));
  TRY(mem_alloc(&w->scored, L * sizeof *w->scored));
  return net->objective.diffusion ? OK : mem_alloc(&w->list, batch * L * sizeof *w->list);
}

static void work_destroy(Work *w) {
  mem_free(&w->x);
  mem_free(&w->rows);
  mem_free(&w->item);
  mem_free(&w->who);
  mem_free(&w->loss);
  mem_free(&w->mean);
  mem_free(&w->square);
  mem_free(&w->list);
  mem_free(&w->scored);
}

/* Rank 0: the columns of the results. */
static int take(Likelihood *l, const double *values, int64_t n) {
  TRY(mem_alloc(&l->ll, (size_t)n * sizeof *l->ll));
  TRY(mem_alloc(&l->error, (size_t)n * sizeof *l->error));
  TRY(mem_alloc(&l->greedy, (size_t)n * sizeof *l->greedy));
  TRY(mem_alloc(&l->draws, (size_t)n * sizeof *l->draws));
  for (int64_t i = 0; i < n; i++) {
    const double *x = values + i * COLUMNS;
    l->ll[i] = x[LL], l->error[i] = x[ERROR] == UNKNOWN ? NAN : x[ERROR], l->greedy[i] = (int32_t)x[GREEDY],
    l->draws[i] = (int64_t)x[DRAWS];
  }
  return OK;
}

int likelihood_run(Likelihood *l, Network *net, const Requests *r, Comm *comm, const LikelihoodOptions *o) {
  void *results = NULL;
  Work w;
  *l = (Likelihood){.exact = !net->objective.diffusion || o->estimator->exact};
  int err = comm_agree(comm, work_create(&w, net, r, o));
  const ItemsWork items = {.n = r->n,
                           .batch = net->model.options.batch,
                           .unit = 1,
                           .type = H5_F64,
                           .columns = COLUMNS,
                           .run = batch_run,
                           .arg = &w,
                           .partial = o->partial,
                           .key = o->key,
                           .progress = o->progress,
                           .units = "requests"};
  if (err == OK) err = items_run(&items, comm, &results, &l->done, &l->stop);
  if (err == OK && !l->stop) err = comm_agree(comm, comm->rank == 0 ? take(l, results, r->n) : OK);
  mem_free(&results);
  work_destroy(&w);
  if (err) likelihood_destroy(l);
  return err;
}

void likelihood_destroy(Likelihood *l) {
  if (l == NULL) return;
  mem_free(&l->ll);
  mem_free(&l->error);
  mem_free(&l->greedy);
  mem_free(&l->draws);
}
