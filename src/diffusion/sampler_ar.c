/* sampler_ar — from left to right: token l + 1 is drawn from p(x_{l+1} | x_0 … x_l), the softmax without m of row l of
 * a causal network. The first token is bos, unless it is fixed.
 *
 * Fixed tokens stay and are seen by all draws to the right of them. A free token between fixed ones knows its left side
 * only: tokens after it do not change its law.
 *
 * With the cache a pass is one position of all sequences, and its keys and values are kept; without, a pass is the
 * prefix from the first token on. The draws' numbers are the same, and on a CPU with AVX-512 so are the bits of the
 * network's output (FEW_ROWS in src/ops/cpu/cpu.h), and with them the tokens. Elsewhere outputs differ by rounding, and
 * a token where its number falls between two roundings of a sum. sample.steps and sample.noise_removal have no meaning.
 */
#include "base/err.h"
#include "base/mem.h"
#include "diffusion/draws.h"

static int ar_fits(const Objective *o, const ModelOptions *model) {
  (void)model;
  CHECK(!o->table->diffusion, ERR_USAGE,
        "sample.sampler = ar writes from left to right; diffusion.objective = %s fills in masked tokens in any order; "
        "use %s",
        o->table->name, sampler_suited(o));
  return OK;
}

/* bos where the first token is free; *last: the last free position of any sequence, 0 if there is none to be drawn. */
static int start(SamplerJob *job, int64_t *last) {
  int64_t L = job->model->options.length;
  *last = 0;
  for (int64_t b = 0; b < job->n; b++) {
    int32_t *z = job->z + b * L;
    CHECK(z[0] != job->objective->mask || job->bos >= 0, ERR_USAGE,
          "sample.sampler = ar begins with the token bos, which the tokenizer does not have: fix the first token");
    if (z[0] == job->objective->mask) z[0] = job->bos;
    for (int64_t l = *last + 1; l < L; l++)
      if (z[l] == job->objective->mask) *last = l;
  }
  return OK;
}

/* A pass of the network over `count` positions of every sequence from `first` on: all of its hidden rows, or with the
 * cache those of one position. */
static int look(SamplerJob *job, int32_t *ids, int64_t first, int64_t count) {
  int64_t L = job->model->options.length;
  for (int64_t b = 0; b < job->n; b++)
    for (int64_t i = 0; i < count; i++) ids[b * count + i] = job->z[b * L + first + i];
  job->evaluations++;
  job->evaluated += job->n;
  if (job->cache) return model_step(job->model, ids, job->n, first);
  ModelInput in = {.B = job->n, .L = count, .ids = ids};
  return model_forward(job->model, &in);
}

/* Token l + 1 of every sequence that has it free. */
static int write_next(SamplerJob *job, Draws *d, int32_t *ids, int64_t l) {
  int64_t L = job->model->options.length, first = job->cache ? l : 0, count = l + 1 - first;
  /* a GPU's library plans for a shape: there, all passes have one, and rows after l are of no consequence */
  if (!job->cache && !job->model->dev->ops->host) count = L;
  d->n = 0;
  for (int64_t b = 0; b < job->n; b++) {
    if (job->z[b * L + l + 1] != job->objective->mask) continue;
    d->rows[d->n] = (int32_t)(b * count + l - first);
    d->uniform[d->n++] = draws_token(job, job->first + b, l + 1, l + 1);
  }
  if (d->n == 0 && !job->cache) return OK;
  TRY(look(job, ids, first, count));
  TRY(draws_fill(job, d, ids, false, NULL)); /* each in the place of the token that it follows */
  for (int64_t i = 0; i < d->n; i++) job->z[d->rows[i] / count * L + l + 1] = ids[d->rows[i]];
  return OK;
}

static int ar_run(SamplerJob *job) {
  Draws d;
  int32_t *ids = NULL;
  int64_t last;
  int err = OK;
  job->evaluations = job->evaluated = 0;
  TRY_TO(done, draws_create(&d, job->n));
  TRY_TO(done, mem_alloc(&ids, (size_t)(job->n * (job->cache ? 1 : job->model->options.length)) * sizeof *ids));
  TRY_TO(done, start(job, &last));
  for (int64_t l = 0; l < last; l++) {
    TRY_TO(done, write_next(job, &d, ids, l));
    if (job->progress) job->progress(job->progress_arg, (l + 1) * job->steps / last);
  }
done:
  mem_free(&ids);
  draws_destroy(&d);
  return err;
}

extern const Sampler sampler_ar;
const Sampler sampler_ar = {"ar", ar_fits, ar_run};
