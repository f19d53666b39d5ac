#include "sampling/blocks.h"
#include "base/err.h"
#include "base/mem.h"
#include "sampling/draws.h"
#include "sampling/guidance.h"
#include <string.h>

typedef struct Run {
  const Blocks *blocks;  /* not owned, nor the job */
  SamplerJob *job, part; /* all of the samples; the current block of them */
  bool cache;
  int64_t size, count;  /* tokens of a block; blocks */
  int64_t copies;       /* of each sequence in a pass: guided, one with its class and then one without */
  int64_t first;        /* position of the current one */
  int32_t *ids, *clean; /* [copies·n, L] tokens of a pass; clean: without the cache */
  int32_t *rows, *both; /* [n·size], [copies·n·size] the rows of the first copies, and of all */
  int32_t *labels;      /* [copies·n] */
  bool *fixed;          /* [n,L] at the start */
  int64_t *end;         /* [n] behind a drawn eos that ends the sequence; 0: none yet */
} Run;

static int begin(Run *r, const Blocks *b, SamplerJob *job) {
  const ModelOptions *o = &job->model->options;
  size_t n = (size_t)job->n, copies = job->pairs ? 2 : 1, tokens = n * (size_t)o->length;
  *r = (Run){.blocks = b, .job = job, .part = *job, .size = o->block, .count = o->length / o->block};
  r->copies = (int64_t)copies;
  r->cache = b->cache && !o->training;
  r->part.z = NULL;
  TRY(mem_alloc(&r->part.z, n * (size_t)r->size * sizeof *r->part.z));
  TRY(mem_alloc(&r->ids, copies * tokens * sizeof *r->ids));
  TRY(mem_alloc(&r->clean, copies * tokens * sizeof *r->clean));
  TRY(mem_alloc(&r->rows, n * (size_t)r->size * sizeof *r->rows));
  TRY(mem_alloc(&r->both, copies * n * (size_t)r->size * sizeof *r->both));
  TRY(mem_alloc(&r->labels, copies * n * sizeof *r->labels));
  TRY(mem_alloc(&r->fixed, tokens * sizeof *r->fixed));
  TRY(mem_alloc(&r->end, n * sizeof *r->end));
  for (size_t i = 0; i < copies * n; i++) r->labels[i] = i < n ? job->label : -1;
  for (size_t i = 0; i < tokens; i++) r->fixed[i] = job->z[i] != job->objective->mask;
  return OK;
}

static void end(Run *r) {
  mem_free(&r->part.z);
  mem_free(&r->ids);
  mem_free(&r->clean);
  mem_free(&r->rows);
  mem_free(&r->both);
  mem_free(&r->labels);
  mem_free(&r->fixed);
  mem_free(&r->end);
}

/* ids := positions first … first+n−1 of all sequences. */
static void take(const Run *r, int32_t *ids, int64_t first, int64_t n) {
  for (int64_t b = 0; b < r->job->n; b++)
    memcpy(ids + b * n, r->job->z + b * r->job->length + first, (size_t)n * sizeof *ids);
}

/* r->ids := the same, for each copy. */
static void take_copies(const Run *r, int64_t first, int64_t n) {
  for (int64_t k = 0; k < r->copies; k++) take(r, r->ids + k * r->job->n * n, first, n);
}

/* The block of all sequences from the part into the job. */
static void put_back(const Run *r) {
  for (int64_t b = 0; b < r->job->n; b++)
    memcpy(r->job->z + b * r->job->length + r->first, r->part.z + b * r->size, (size_t)r->size * sizeof *r->part.z);
}

/* A pass over the current block of all sequences, also of those that have no rows in it: the rows of the cache are
 * theirs. */
static int pass(SamplerJob *part, const Draws *d) {
  Run *r = part->pass_arg;
  Model *m = part->model;
  bool prefix = !r->cache && m->dev->ops->host && !m->options.training; /* elsewhere passes have one shape */
  int64_t from = r->cache ? r->first : 0, L = r->cache ? r->size : prefix ? r->first + r->size : m->options.length;
  put_back(r);
  take_copies(r, from, L);
  if (!r->cache) memcpy(r->clean, r->ids, (size_t)(r->copies * part->n * L) * sizeof *r->clean);
  for (int64_t i = 0; i < d->n; i++) {
    int64_t b = d->rows[i] / r->size, l = d->rows[i] % r->size;
    r->rows[i] = (int32_t)((d->who ? d->who[b] : b) * L + r->first - from + l);
  }
  ModelInput in = {.B = r->copies * part->n, .L = L, .ids = r->ids, .labels = r->labels};
  in.rows = r->rows, in.n_rows = r->copies * d->n;
  if (r->copies > 1) guidance_rows(part->rows, r->both, r->rows, d->n, part->n * L), in.rows = r->both;
  if (r->cache) return model_step(m, &in, r->first);
  in.clean = r->clean;
  if (!prefix) in.L = 0; /* all positions */
  return model_forward(m, &in);
}

/* The keys and values of the block, which is complete. */
static int keep(Run *r) {
  if (!r->cache) return OK;
  take_copies(r, r->first, r->size);
  r->job->cached++;
  ModelInput in = {.B = r->copies * r->job->n, .L = r->size, .ids = r->ids, .labels = r->labels, .rows = r->rows};
  return model_step(r->job->model, &in, r->first);
}

/* The open positions of sequence b from `first` on become this token. */
static void fill_rest(const Run *r, int64_t b, int64_t first, int32_t token) {
  int64_t L = r->job->length;
  for (int64_t l = first; l < L; l++)
    if (!r->fixed[b * L + l]) r->job->z[b * L + l] = token;
}

/* Ends the sequences in which the block has a drawn eos. Until all are done eos stands behind it, since what comes there
 * in the end may be the mask. */
static void stop_at_eos(const Run *r) {
  int64_t L = r->job->length;
  for (int64_t b = 0; b < r->job->n; b++) {
    int64_t e = r->first;
    while (e < r->first + r->size && (r->job->z[b * L + e] != r->blocks->eos || r->fixed[b * L + e])) e++;
    if (r->end[b] > 0 || e == r->first + r->size) continue;
    r->end[b] = e + 1;
    if (r->job->lengths) r->job->lengths[b] = (int32_t)(e + 1);
    fill_rest(r, b, e + 1, r->blocks->eos);
  }
}

/* Whether one of n tokens of a sequence from `first` on is a mask. */
static bool masked(const SamplerJob *job, int64_t first, int64_t n) {
  for (int64_t b = 0; b < job->n; b++)
    for (int64_t l = first; l < first + n; l++)
      if (job->z[b * job->length + l] == job->objective->mask) return true;
  return false;
}

/* Progress of a block as a part of the whole. */
static int progress(void *arg, int64_t step) {
  const Run *r = arg;
  int64_t steps = r->part.steps, done = r->first / r->size * steps + step;
  return r->job->progress(r->job->progress_arg, done * r->job->steps / (r->count * steps));
}

static int fill_block(Run *r, int (*run)(SamplerJob *, const void *own), const void *own) {
  if (!masked(r->job, r->first, r->size)) return OK;
  r->part.block = r->job->block + r->first / r->size;
  r->part.evaluations = r->part.evaluated = 0;
  take(r, r->part.z, r->first, r->size);
  TRY(run(&r->part, own));
  put_back(r);
  r->job->evaluations += r->part.evaluations;
  r->job->evaluated += r->part.evaluated;
  if (r->blocks->stop) stop_at_eos(r);
  return OK;
}

int blocks_run(const Blocks *b, int (*run)(SamplerJob *, const void *own), const void *own, SamplerJob *job) {
  Run r;
  int err = OK;
  TRY_TO(done, begin(&r, b, job));
  r.part.length = r.size;
  r.part.steps = job->steps > r.count ? job->steps / r.count : 1;
  r.part.lengths = NULL;
  r.part.pass = pass;
  r.part.pass_arg = &r;
  if (job->progress) r.part.progress = progress, r.part.progress_arg = &r;
  while (masked(job, r.first, job->length - r.first)) {
    TRY_TO(done, fill_block(&r, run, own));
    if (masked(job, r.first + r.size, job->length - r.first - r.size)) TRY_TO(done, keep(&r));
    r.first += r.size;
  }
  for (int64_t i = 0; i < job->n; i++)
    if (r.end[i] > 0) fill_rest(&r, i, r.end[i], b->fill);
done:
  end(&r);
  return err;
}
