/* sampler_ar — from left to right: token l + 1 is drawn from p(x_{l+1} | x_0 … x_l), the softmax without m of row l of
 * a causal network. The first token is bos, unless it is fixed.
 *
 * Fixed tokens stay, and all draws to the right of them see them. A free token between fixed ones depends on the tokens
 * to its left only.
 *
 * With the cache a pass is one position of all sequences, and its keys and values are kept; without, a pass is the
 * whole prefix. Both use the same random numbers, and on the CPU the network's output has the same bits, since those of a
 * row do not depend on the number of rows (src/ops/cpu/gemm.c), and so have the tokens. On a GPU outputs differ by
 * rounding, and a token differs where its random number falls between two roundings of a sum. A network in training has
 * no cache and takes whole sequences. sample.steps and sample.noise_removal are not used. */
#include "base/err.h"
#include "base/mem.h"
#include "sampling/draws.h"
#include "sampling/sampler.h"

typedef struct Ar {
  int32_t bos; /* the first token where that is free; −1: there is none */
  bool cache;  /* keep keys and values instead of recomputing the prefix */
} Ar;

static int ar_create(void **own, const SamplerOptions *x) {
  TRY(mem_alloc(own, sizeof(Ar)));
  *(Ar *)*own = (Ar){.bos = x->bos, .cache = x->cfg->sample_cache};
  return OK;
}

static void ar_destroy(void **own) { mem_free(own); }

/* bos where the first token is free; *last: the last free position of any sequence, 0 if there is none. */
static int start(SamplerJob *job, int32_t bos, int64_t *last) {
  int64_t L = job->model->options.length;
  *last = 0;
  for (int64_t b = 0; b < job->n; b++) {
    int32_t *z = job->z + b * L;
    CHECK(z[0] != job->objective->mask || bos >= 0, ERR_USAGE,
          "sample.sampler = ar begins with the token bos, which the tokenizer does not have: fix the first token");
    if (z[0] == job->objective->mask) z[0] = bos;
    for (int64_t l = *last + 1; l < L; l++)
      if (z[l] == job->objective->mask) *last = l;
  }
  return OK;
}

/* A pass of the network for d's rows over `count` positions of every sequence from `first` on; with the cache, one
 * position. */
static int evaluate(SamplerJob *job, bool cache, const Draws *d, int32_t *ids, int64_t first, int64_t count) {
  int64_t L = job->model->options.length;
  for (int64_t b = 0; b < job->n; b++)
    for (int64_t i = 0; i < count; i++) ids[b * count + i] = job->z[b * L + first + i];
  job->evaluations++;
  job->evaluated += job->n;
  ModelInput in = {.B = job->n, .L = count, .ids = ids, .rows = d->rows, .n_rows = d->n};
  if (!cache && count == L) in.L = 0; /* all positions */
  return cache ? model_step(job->model, &in, first) : model_forward(job->model, &in);
}

/* Token l + 1 of every sequence that has it free. */
static int write_next(SamplerJob *job, bool cache, Draws *d, int32_t *ids, int64_t l) {
  int64_t L = job->model->options.length, first = cache ? l : 0, count = l + 1 - first;
  /* a GPU's library plans per shape: there all passes have the same one, rows after l included, as in training */
  if (!cache && (!job->model->dev->ops->host || job->model->options.training)) count = L;
  d->n = 0;
  for (int64_t b = 0; b < job->n; b++) {
    if (job->z[b * L + l + 1] != job->objective->mask) continue;
    d->rows[d->n] = (int32_t)(b * count + l - first);
    d->uniform[d->n++] = draws_token(job, job->first + b, l + 1, l + 1);
  }
  if (d->n == 0 && !cache) return OK;
  TRY(evaluate(job, cache, d, ids, first, count));
  TRY(draws_fill(job, d, ids, false, NULL)); /* each replaces the token before it in ids */
  for (int64_t i = 0; i < d->n; i++) job->z[d->rows[i] / count * L + l + 1] = ids[d->rows[i]];
  return OK;
}

static int ar_run(SamplerJob *job, const void *own) {
  const Ar *ar = own;
  Draws d;
  int32_t *ids = NULL;
  int64_t last;
  bool cache = ar->cache && !job->model->options.training;
  int err = OK;
  TRY_TO(done, draws_create(&d, job->n));
  TRY_TO(done, mem_alloc(&ids, (size_t)(job->n * (cache ? 1 : job->model->options.length)) * sizeof *ids));
  TRY_TO(done, start(job, ar->bos, &last));
  for (int64_t l = 0; l < last; l++) {
    TRY_TO(done, write_next(job, cache, &d, ids, l));
    if (job->progress) TRY_TO(done, job->progress(job->progress_arg, (l + 1) * job->steps / last));
  }
done:
  mem_free(&ids);
  draws_destroy(&d);
  return err;
}

extern const SamplerTable sampler_ar;
const SamplerTable sampler_ar = {.name = "ar",
                                 .takes = TAKES(GIVES_NEXT),
                                 .f32 = TAKES(GIVES_NEXT),
                                 .create = ar_create,
                                 .destroy = ar_destroy,
                                 .run = ar_run};
