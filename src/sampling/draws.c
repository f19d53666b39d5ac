#include "sampling/draws.h"
#include "base/err.h"
#include "base/mem.h"
#include "sampling/guidance.h"
#include <math.h>
#include <string.h>

int draws_create(Draws *d, int64_t n) {
  *d = (Draws){0};
  TRY(mem_alloc(&d->rows, (size_t)n * sizeof *d->rows));
  TRY(mem_alloc(&d->ids, (size_t)n * sizeof *d->ids));
  TRY(mem_alloc(&d->uniform, (size_t)n * sizeof *d->uniform));
  return mem_alloc(&d->keep, (size_t)n * sizeof *d->keep);
}

void draws_destroy(Draws *d) {
  mem_free(&d->rows);
  mem_free(&d->ids);
  mem_free(&d->uniform);
  mem_free(&d->keep);
}

void draws_add(Draws *d, const SamplerJob *job, int64_t b, int64_t l, double uniform) {
  d->uniform[d->n] = uniform;
  d->rows[d->n++] = (int32_t)(b * job->length + l);
}

RngKey draws_key(const SamplerJob *job, RngPurpose purpose, DrawsStream stream, int64_t sample, int64_t step) {
  uint32_t layer = (uint32_t)job->block << DRAWS_STREAM_BITS | (uint32_t)stream;
  return rng_key(job->seed, purpose, layer, (uint64_t)step, (uint64_t)sample);
}

bool draws_unmasks(const SamplerJob *job, int64_t sample, int64_t step, int64_t l, double chance) {
  RngKey key = draws_key(job, RNG_SAMPLE_UNMASK, DRAWS_STEPS, sample, step);
  return rng_uniform(key, (uint64_t)l) < chance;
}

double draws_token(const SamplerJob *job, int64_t sample, int64_t step, int64_t l) {
  RngKey key = draws_key(job, RNG_SAMPLE_TOKEN, DRAWS_STEPS, sample, step);
  return rng_uniform(key, (uint64_t)l);
}

void draws_chosen(Draws *d, const SamplerJob *job, int64_t step, double chance) {
  int64_t L = job->length;
  d->n = 0;
  d->rule = KEEP_NEVER;
  for (int64_t b = 0; b < job->n; b++)
    for (int64_t l = 0; l < L; l++)
      if (job->z[b * L + l] == job->objective->mask && draws_unmasks(job, job->first + b, step, l, chance))
        draws_add(d, job, b, l, draws_token(job, job->first + b, step, l));
}

/* keep[r] of KeepRule for a position whose random number is u and which unmasks with chance c. In f64 it is the largest
 * S with which the mask stays: with odds the position unmasks where u is below c q/(1 − c + c q), q = S/(1 + S), which
 * is where q is above r. */
static double keep_of(KeepRule rule, bool f32, double u, double c) {
  if (rule == KEEP_SCORE) return u / c;
  if (rule == KEEP_CHANCE || f32) return 1 - c;
  double r = u * (1 - c) / (c * (1 - u));
  return r < 1 ? r / (1 - r) : INFINITY;
}

void draws_masked(Draws *d, const SamplerJob *job, int64_t step, double chance, KeepRule rule) {
  int64_t L = job->length;
  d->n = 0;
  d->rule = rule == KEEP_NEVER ? KEEP_CHANCE : rule;
  for (int64_t b = 0; b < job->n; b++) {
    RngKey key = draws_key(job, RNG_SAMPLE_UNMASK, DRAWS_STEPS, job->first + b, step);
    for (int64_t l = 0; l < L; l++) {
      if (job->z[b * L + l] != job->objective->mask) continue;
      d->keep[d->n] = keep_of(d->rule, job->draw.f32, rng_uniform(key, (uint64_t)l), chance);
      draws_add(d, job, b, l, draws_token(job, job->first + b, step, l));
    }
  }
}

int64_t draws_pass_size(const Device *dev, int64_t B, int64_t most) {
  int64_t size = 1;
  if (dev->ops->host) return B;
  while (size < B) size *= 2;
  return size < most ? size : most;
}

/* With another number of sequences a GPU's library may choose other kernels: the hidden rows of a sequence then differ
 * by rounding. What the other sequences are makes no difference. */
int draws_evaluate(SamplerJob *job, const Draws *d, int32_t *z, int64_t B, double t) {
  int64_t L = job->length, size = draws_pass_size(job->model->dev, B, job->n);
  double *sigma = NULL;
  int32_t *labels = NULL;
  job->evaluations++;
  job->evaluated += job->pairs ? 2 * B : B;
  if (job->pass) return job->pass(job, d);
  int err = OK;
  TRY_TO(done, mem_alloc(&sigma, (size_t)size * sizeof *sigma));
  TRY_TO(done, mem_alloc(&labels, (size_t)size * sizeof *labels));
  for (int64_t b = 0; b < size; b++) sigma[b] = objective_condition(job->objective, t), labels[b] = job->label;
  for (int64_t b = B; b < size; b++) memcpy(z + b * L, z, (size_t)L * sizeof *z);
  ModelInput in = {.B = size, .ids = z, .sigma = sigma, .labels = labels, .rows = d->rows, .n_rows = d->n};
  GuidedPass guided = {.z = z, .who = d->who, .real = B, .B = size, .sigma = sigma, .rows = d->rows, .n = d->n};
  err = job->pairs ? guidance_forward(job, &guided) : model_forward(job->model, &in);
done:
  mem_free(&sigma);
  mem_free(&labels);
  return err;
}

int draws_fill(SamplerJob *job, Draws *d, int32_t *z, bool likeliest, bool *changed) {
  DrawRule rule = job->draw;
  bool any = false;
  rule.keep = d->rule;
  TRY(rows_draw(job->rows, job->objective, d->n, likeliest ? NULL : d->uniform, d->rule == KEEP_NEVER ? NULL : d->keep,
                &rule, d->ids));
  for (int64_t i = 0; i < d->n; i++) {
    z[d->rows[i]] = d->ids[i];
    any = any || d->ids[i] != job->objective->mask;
  }
  if (changed) *changed = any;
  return OK;
}

int draws_finish(SamplerJob *job, Draws *d, bool likeliest) {
  draws_chosen(d, job, job->steps, 1);
  if (!job->noise_removal || d->n == 0) return OK;
  TRY(draws_evaluate(job, d, job->z, job->n, job_time(job->steps, job->steps)));
  return draws_fill(job, d, job->z, likeliest, NULL);
}
