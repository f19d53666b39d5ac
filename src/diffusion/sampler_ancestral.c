/* sampler_ancestral — the reverse process, step by step: from t to s a masked position keeps its mask with probability
 * mc_s/mc_t (mc = 1 − alpha) and otherwise takes a token from p(x0 | z); visible tokens stay.
 *
 * Whether a position unmasks does not depend on the network, so that is drawn first and logits are made only of the
 * positions that unmask now. Source: arXiv:2406.07524 §3.2.2, Eq. (7). */
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "diffusion/sampler.h"
#include <string.h>

typedef struct Draws { /* the positions filled in one step */
  int64_t n;
  int32_t *rows, *ids;
  double *uniform, *sigma;
} Draws;

static int draws_create(Draws *d, int64_t rows, int64_t n) {
  *d = (Draws){0};
  TRY(mem_alloc(&d->rows, (size_t)rows * sizeof *d->rows));
  TRY(mem_alloc(&d->ids, (size_t)rows * sizeof *d->ids));
  TRY(mem_alloc(&d->uniform, (size_t)rows * sizeof *d->uniform));
  return mem_alloc(&d->sigma, (size_t)n * sizeof *d->sigma);
}

static void draws_destroy(Draws *d) {
  mem_free(&d->rows);
  mem_free(&d->ids);
  mem_free(&d->uniform);
  mem_free(&d->sigma);
}

/* Masked positions that unmask in this step (chance 1: all of them), each with the uniform that draws its token. */
static void choose(Draws *d, const SamplerJob *job, int64_t step, double chance) {
  int64_t L = job->model->options.length;
  d->n = 0;
  for (int64_t b = 0; b < job->n; b++) {
    uint64_t sample = (uint64_t)(job->first + b);
    RngKey unmask = rng_key(job->seed, RNG_SAMPLE_UNMASK, 0, (uint64_t)step, sample);
    RngKey token = rng_key(job->seed, RNG_SAMPLE_TOKEN, 0, (uint64_t)step, sample);
    for (int64_t l = 0; l < L; l++) {
      if (job->z[b * L + l] != job->objective->mask || rng_uniform(unmask, (uint64_t)l) >= chance) continue;
      d->uniform[d->n] = rng_uniform(token, (uint64_t)l);
      d->rows[d->n++] = (int32_t)(b * L + l);
    }
  }
}

/* One pass of the network at time t, and tokens for the chosen positions. */
static int fill(SamplerJob *job, Draws *d, double t, bool likeliest) {
  for (int64_t b = 0; b < job->n; b++) d->sigma[b] = objective_condition(job->objective, t);
  ModelInput in = {.B = job->n, .ids = job->z, .sigma = d->sigma};
  TRY(model_forward(job->model, &in));
  job->evaluations++;
  TRY(rows_draw(job->rows, job->objective, d->rows, d->n, likeliest ? NULL : d->uniform, d->ids));
  for (int64_t i = 0; i < d->n; i++) job->z[d->rows[i]] = d->ids[i];
  return OK;
}

static int ancestral_fits(const Objective *o) {
  const char *name = o->table->name;
  CHECK(o->table->diffusion, ERR_USAGE,
        "sample.sampler = ancestral unmasks tokens in any order; diffusion.objective = %s writes from left to right",
        name);
  CHECK(strcmp(name, "sedd") != 0, ERR_USAGE,
        "sample.sampler = ancestral draws from p(x0 | z); diffusion.objective = sedd has ratios of probabilities in "
        "its place");
  CHECK(o->terms == 1, ERR_USAGE,
        "sample.sampler = ancestral needs p(m) = 0; diffusion.objective = %s has it with diffusion.subs_masking = true "
        "only",
        name);
  return OK;
}

static int ancestral_run(SamplerJob *job) {
  const Schedule *schedule = job->objective->schedule;
  Draws d;
  int err = OK;
  job->evaluations = 0;
  TRY_TO(done, draws_create(&d, job->n * job->model->options.length, job->n));
  for (int64_t i = 0; i < job->steps; i++) {
    double t = sampler_time(i, job->steps), s = sampler_time(i + 1, job->steps);
    double now = schedule_masked(schedule, t), next = schedule_masked(schedule, s);
    choose(&d, job, i, (now - next) / now);
    TRY_TO(done, fill(job, &d, t, false));
    if (job->progress) job->progress(job->progress_arg, i + 1);
  }
  if (job->noise_removal) {
    choose(&d, job, job->steps, 1);
    if (d.n > 0) TRY_TO(done, fill(job, &d, sampler_time(job->steps, job->steps), true));
  }
done:
  draws_destroy(&d);
  return err;
}

extern const Sampler sampler_ancestral;
const Sampler sampler_ancestral = {"ancestral", ancestral_fits, ancestral_run};
