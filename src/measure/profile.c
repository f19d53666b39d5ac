#include "measure/profile.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/mem.h"
#include "dist/share.h"
#include "measure/items.h"
#include "measure/profile_norms.h"
#include <math.h>
#include <string.h>

enum { GROUPS_MOST = 512 }; /* results are kept for each group of sequences until the end */
enum { CELL = sizeof(ProfileCell) / sizeof(double), NORM = sizeof(ProfileNorm) / sizeof(double) };

typedef struct Work {
  NelboPasses passes;
  ProfileNorms norms;
  ProfileBins *bins;  /* not owned */
  int64_t group;      /* sequences of an item; the last one may have fewer */
  int64_t columns;    /* of an item's result: the values of its sequences, the cells, the norms */
  Prediction *list;   /* [batch·L] */
  int64_t *sequences; /* [batch] of the pass, */
  double **results;   /* [batch] the results of their items */
  double *values;     /* [batch, NELBO_VALUES] */
} Work;

static int work_create(Work *w, ProfileBins *bins, Network *net, Shards *data, const NelboOptions *o) {
  const ModelOptions *m = &net->model.options;
  size_t batch = (size_t)m->batch;
  *w = (Work){.bins = bins};
  TRY(nelbo_passes(&w->passes, net, data, o));
  TRY(profile_bins_create(bins, m->length, m->vocab));
  w->group = (w->passes.n + GROUPS_MOST - 1) / GROUPS_MOST;
  TRY(profile_norms_create(&w->norms, net));
  w->columns = w->group * NELBO_VALUES + bins->first[CUTS] * CELL + w->norms.seams * NORM;
  TRY(mem_alloc(&w->list, batch * (size_t)m->length * sizeof *w->list));
  TRY(mem_alloc(&w->sequences, batch * sizeof *w->sequences));
  TRY(mem_alloc(&w->results, batch * sizeof *w->results));
  return mem_alloc(&w->values, batch * NELBO_VALUES * sizeof *w->values);
}

static void work_destroy(Work *w) {
  profile_norms_destroy(&w->norms);
  nelbo_passes_end(&w->passes);
  mem_free(&w->list);
  mem_free(&w->sequences);
  mem_free(&w->results);
  mem_free(&w->values);
}

static void add(ProfileCell *to, const Prediction *p, double loss) {
  to->rows += 1;
  to->nll += p->nll;
  to->square += p->nll * p->nll;
  to->loss += loss;
  to->hits += p->hit;
  to->top += p->top;
  to->entropy += p->entropy;
}

/* The rows of one pass into the cells of their items, and the losses of their sequences. */
static void add_rows(Work *w) {
  const Network *net = w->passes.net;
  const Noised *z = &net->noised;
  int64_t bin[CUTS];
  profile_bins_begin(w->bins);
  for (int64_t i = 0; i < z->n_rows; i++) {
    int64_t b = z->rows[i] / z->L;
    ProfileCell *cells = (ProfileCell *)(w->results[b] + w->group * NELBO_VALUES);
    profile_bins_row(w->bins, &net->objective, z, i, &w->list[i], bin);
    for (int c = 0; c < CUTS; c++) add(&cells[bin[c]], &w->list[i], net->row_loss[i]);
    w->passes.loss[b] += net->row_loss[i];
  }
}

/* The norms of that pass, too, those of n sequences. */
static void add_norms(Work *w, int64_t n) {
  const ProfileNorms *x = &w->norms;
  int64_t batch = w->passes.net->model.options.batch;
  for (int64_t b = 0; b < n; b++) {
    ProfileNorm *to = (ProfileNorm *)(w->results[b] + w->columns) - x->seams;
    for (int64_t s = 0; s < x->seams; s++) {
      double squares = x->squares[s * batch + b];
      to[s].squares += squares;
      to[s].rows += squares > 0 ? (double)x->rows[b] : 0; /* no such seam */
    }
  }
}

/* The first pass of a draw, with norms, or another one, of clean tokens. */
static int pass_run(Work *w, int64_t n, int pass) {
  Network *net = w->passes.net;
  if (pass == 0) TRY(profile_norms_begin(&w->norms));
  TRY(network_predict(net, pass, w->list));
  add_rows(w);
  if (pass > 0) return OK;
  TRY(profile_norms_end(&w->norms));
  add_norms(w, n);
  return OK;
}

/* All draws of the first n of w->sequences. */
static int batch_run(Work *w, int64_t n) {
  NelboPasses *p = &w->passes;
  TRY(nelbo_load(p, w->sequences, n, w->values));
  for (int64_t draw = 0; draw < p->o->draws; draw++) {
    TRY(items_stop());
    nelbo_noise(p, w->sequences, n, draw, w->values);
    memset(p->loss, 0, (size_t)n * sizeof *p->loss);
    for (int pass = 0; pass < network_passes(p->net); pass++) TRY(pass_run(w, n, pass));
    nelbo_add(p, n, draw, w->values);
  }
  for (int64_t b = 0; b < n; b++)
    memcpy(w->results[b] + w->sequences[b] % w->group * NELBO_VALUES, w->values + b * NELBO_VALUES,
           NELBO_VALUES * sizeof *w->values);
  return OK;
}

/* Items are groups; a batch has several whole ones, or is a part of one. */
static int groups_run(void *arg, const int64_t *items, int64_t n, void *results) {
  Work *w = arg;
  int64_t batch = w->passes.net->model.options.batch, have = 0;
  memset(results, 0, (size_t)(n * w->columns) * sizeof(double));
  for (int64_t i = 0; i < n; i++)
    for (int64_t s = items[i] * w->group; s < (items[i] + 1) * w->group && s < w->passes.n; s++) {
      w->sequences[have] = s;
      w->results[have++] = (double *)results + i * w->columns;
      if (have < batch) continue;
      TRY(batch_run(w, have));
      have = 0;
    }
  return have ? batch_run(w, have) : OK;
}

/* How often each token occurs in this rank's share of the sequences. */
static int count_share(NelboPasses *p, const Comm *comm, int64_t *count) {
  const Share share = share_of(comm, p->n, 1);
  int64_t L = p->net->model.options.length, batch = p->net->model.options.batch;
  for (int64_t i = 0; i < share.n; i += batch) {
    int64_t n = share.n - i < batch ? share.n - i : batch;
    TRY(shards_read(p->data, p->rows + share.first + i, n, p->tokens, p->lengths));
    for (int64_t b = 0; b < n; b++)
      for (int64_t l = 0; l < p->lengths[b]; l++) count[p->tokens[b * L + l]]++;
    activity_tick();
  }
  return OK;
}

static int count_tokens(Work *w, Comm *comm) {
  int64_t V = w->bins->V, *count = NULL;
  int err = mem_alloc(&count, (size_t)V * sizeof *count);
  if (err == OK) err = count_share(&w->passes, comm, count);
  err = comm_agree(comm, err);
  if (err == OK) err = comm_all_reduce(comm, count, (size_t)V, COMM_I64, COMM_SUM);
  if (err == OK) err = comm_agree(comm, profile_bins_count(w->bins, count));
  mem_free(&count);
  return err;
}

/* Rank 0: the cells' sums over the groups in order; values: those of the sequences without gaps, to the front. */
static int add_up(Profile *p, const Work *w, double *results, int64_t groups) {
  int64_t cells = p->bins.first[CUTS], values = w->group * NELBO_VALUES;
  int64_t numbers = cells * CELL, seams = w->norms.seams;
  TRY(mem_alloc(&p->cells, (size_t)cells * sizeof *p->cells));
  TRY(mem_alloc(&p->norms, (size_t)seams * sizeof *p->norms));
  double *sums = (double *)p->cells, *norms = (double *)p->norms;
  for (int64_t g = 0; g < groups; g++) {
    const double *from = results + g * w->columns;
    for (int64_t i = 0; i < numbers; i++) sums[i] += from[values + i];
    for (int64_t i = 0; i < seams * NORM; i++) norms[i] += from[values + numbers + i];
    memmove(results + g * values, from, (size_t)values * sizeof *results);
  }
  for (p->seams = seams; p->seams > 0 && p->norms[p->seams - 1].rows == 0;) p->seams--;
  return OK;
}

static int run(Profile *p, Nelbo *r, Work *w, Comm *comm) {
  const NelboOptions *o = w->passes.o;
  int64_t groups = (w->passes.n + w->group - 1) / w->group, batch = w->passes.net->model.options.batch / w->group;
  void *results = NULL;
  ItemsWork items = {.n = groups,
                     .batch = batch > 1 ? batch : 1,
                     .unit = 1,
                     .type = H5_F64,
                     .columns = w->columns,
                     .run = groups_run,
                     .arg = w,
                     .partial = o->partial,
                     .key = o->key,
                     .progress = o->progress,
                     .units = "groups of sequences"};
  TRY(count_tokens(w, comm));
  TRY(items_run(&items, comm, &results, &r->done, &r->stop));
  r->done = r->done * w->group < r->sequences ? r->done * w->group : r->sequences;
  int err = OK;
  if (!r->stop) err = comm_agree(comm, comm->rank == 0 ? add_up(p, w, results, groups) : OK);
  if (!r->stop && err == OK) err = nelbo_total(r, results, w->passes.data, comm);
  mem_free(&results);
  return err;
}

int profile_run(Profile *p, Nelbo *r, Network *net, Shards *data, Comm *comm, const NelboOptions *o) {
  Work w;
  *p = (Profile){0};
  int err = comm_agree(comm, work_create(&w, &p->bins, net, data, o));
  *r = (Nelbo){.sequences = w.passes.n};
  if (err == OK) err = run(p, r, &w, comm);
  work_destroy(&w);
  if (err == OK) return OK;
  nelbo_destroy(r);
  profile_destroy(p);
  return err;
}

void profile_destroy(Profile *p) {
  if (p == NULL) return;
  profile_bins_destroy(&p->bins);
  mem_free(&p->cells);
  mem_free(&p->norms);
}

/* Where only masked rows are scored, no row has share or distance 0; where the next token is predicted, all have. */
int64_t profile_cut(const Profile *p, const Network *net, Cut cut, int64_t *first) {
  bool masks = net->objective.diffusion;
  int64_t n = cut == CUT_CALIBRATION ? PROFILE_SHARES : p->bins.first[cut + 1] - p->bins.first[cut];
  *first = 0;
  if (cut == CUT_POSITION || cut == CUT_FREQUENCY) return n;
  if (!masks) return cut == CUT_CALIBRATION;
  *first = network_passes(net) == 1 && !net->objective.replaces;
  return n - *first;
}

ProfileCell profile_total(const ProfileCell *cells, int64_t n) {
  ProfileCell t = {0};
  for (int64_t i = 0; i < n; i++) {
    t.rows += cells[i].rows;
    t.nll += cells[i].nll;
    t.square += cells[i].square;
    t.loss += cells[i].loss;
    t.hits += cells[i].hits;
    t.top += cells[i].top;
    t.entropy += cells[i].entropy;
  }
  return t;
}

double profile_ece(const Profile *p, int64_t first, int64_t n) {
  const ProfileCell *cells = p->cells + p->bins.first[CUT_CALIBRATION];
  double off = 0, rows = 0;
  for (int64_t k = 0; k < PROFILE_TENTHS; k++) {
    double hits = 0, top = 0;
    for (int64_t s = first; s < first + n; s++) {
      const ProfileCell *c = &cells[s * PROFILE_TENTHS + k];
      hits += c->hits, top += c->top, rows += c->rows;
    }
    off += fabs(hits - top);
  }
  return rows > 0 ? off / rows : NAN;
}
