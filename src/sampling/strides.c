#include "sampling/strides.h"
#include "base/err.h"
#include "base/mem.h"
#include "sampling/draws.h"
#include <string.h>

int strides_fits(const Strides *s, const Objective *o, int64_t L) {
  if (s->count == 0) return OK;
  CHECK(o->diffusion, ERR_USAGE,
        "sample.num_strides = %lld goes on block by block, which diffusion.objective = %s does not need: set it to 0",
        (long long)s->count, o->table->name);
  CHECK(L > 1, ERR_USAGE, "sample.num_strides = %lld: a block of one token has nothing to carry over; set it to 0",
        (long long)s->count);
  CHECK(s->stride >= 1 && s->stride < L, ERR_USAGE,
        "sample.stride_length = %lld must lie between 1 and %lld: a block of the network has %lld tokens and carries "
        "over at least one",
        (long long)s->stride, (long long)L - 1, (long long)L);
  int64_t block = o->options.block;
  if (block == 0) return OK;
  CHECK(s->stride % block == 0, ERR_USAGE, "sample.stride_length = %lld is no multiple of diffusion.block = %lld",
        (long long)s->stride, (long long)block);
  CHECK(strides_length(s, L) / block <= 1 << DRAWS_BLOCK_BITS, ERR_USAGE,
        "sample.num_strides = %lld: a sample can have %d blocks of diffusion.block = %lld tokens at most",
        (long long)s->count, 1 << DRAWS_BLOCK_BITS, (long long)block);
  return OK;
}

int64_t strides_length(const Strides *s, int64_t L) { return s->count ? L + s->count * s->stride : L; }

/* Progress of a block as a part of the whole. */
typedef struct Whole {
  const SamplerJob *job; /* not owned */
  int64_t block;
} Whole;

static int progress(void *arg, int64_t step) {
  const Whole *w = arg;
  return w->job->progress(w->job->progress_arg, w->block * w->job->steps + step);
}

/* Copies rows of n tokens between arrays with row strides `from` and `to`. */
static void copy(int32_t *z, int64_t to, const int32_t *x, int64_t from, int64_t rows, int64_t n) {
  for (int64_t b = 0; b < rows; b++) memcpy(z + b * to, x + b * from, (size_t)n * sizeof *z);
}

int strides_run(const Strides *s, const Sampler *sampler, SamplerJob *job) {
  if (s->count == 0) return sampler_run(sampler, job);
  int64_t L = job->model->options.length, block = job->model->options.block, length = strides_length(s, L);
  Whole whole = {.job = job};
  SamplerJob part = *job;
  int err = OK;
  if (job->progress) part.progress = progress, part.progress_arg = &whole;
  job->evaluations = job->evaluated = job->cached = 0;
  TRY(mem_alloc(&part.z, (size_t)(job->n * L) * sizeof *part.z));
  for (int64_t k = 0; k <= s->count; k++) {
    int32_t *z = job->z + k * s->stride;
    whole.block = k;
    part.block = block > 0 ? k * s->stride / block : k;
    copy(part.z, L, z, length, job->n, L);
    TRY_TO(done, sampler_run(sampler, &part));
    copy(z, length, part.z, L, job->n, L);
    job->evaluations += part.evaluations;
    job->evaluated += part.evaluated;
    job->cached += part.cached;
  }
done:
  mem_free(&part.z);
  return err;
}
