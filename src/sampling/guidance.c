#include "sampling/guidance.h"
#include "base/err.h"
#include "base/mem.h"
#include <string.h>

bool guidance_pairs(int32_t label, double gamma) { return gamma != 1 && (label < 0 || gamma != 0); }

void guidance_set(SamplerJob *job, int32_t label, double gamma) {
  job->guided = guidance_pairs(label, gamma);
  job->guidance = gamma;
  job->label = gamma == 0 ? -1 : label;
}

int guidance_begin(SamplerJob *job) {
  int64_t tokens = job->n * job->length;
  ASSERT(2 * job->n <= job->model->options.batch);
  job->pairs = true;
  if (job->label >= 0) return rows_pair(job->rows, job->guidance);
  TRY(mem_alloc(&job->given, (size_t)tokens * sizeof *job->given));
  for (int64_t i = 0; i < tokens; i++) job->given[i] = job->z[i] != job->objective->mask;
  return rows_pair(job->rows, job->guidance);
}

void guidance_end(SamplerJob *job) {
  mem_free(&job->given);
  job->pairs = false;
  rows_unpair(job->rows);
}

/* both[2B,L] := z, then z again, with its given tokens masked where those guide. */
static void double_up(const SamplerJob *job, const GuidedPass *p, int32_t *both) {
  int64_t L = job->length, B = p->B;
  for (int half = 0; half < 2; half++) memcpy(both + half * B * L, p->z, (size_t)(B * L) * sizeof *both);
  for (int64_t b = 0; b < B && job->given; b++) {
    int64_t from = b < p->real ? b : 0;
    const bool *given = job->given + (p->who ? p->who[from] : from) * L;
    for (int64_t l = 0; l < L; l++)
      if (given[l]) both[(B + b) * L + l] = job->objective->mask;
  }
}

void guidance_rows(const Rows *r, int32_t *both, const int32_t *rows, int64_t n, int64_t shift) {
  int64_t part = rows_chunk(r);
  for (int64_t first = 0; first < n; first += part) {
    int64_t count = n - first < part ? n - first : part;
    for (int64_t i = 0; i < count; i++) {
      both[2 * first + i] = rows[first + i];
      both[2 * first + count + i] = (int32_t)(shift + rows[first + i]);
    }
  }
}

int guidance_forward(SamplerJob *job, const GuidedPass *p) {
  int64_t L = job->length;
  int32_t *both = NULL, *rows = NULL, *labels = NULL;
  double *sigma = NULL;
  int err = OK;
  TRY_TO(done, mem_alloc(&both, (size_t)(2 * p->B * L) * sizeof *both));
  TRY_TO(done, mem_alloc(&rows, (size_t)(2 * p->n + 1) * sizeof *rows));
  TRY_TO(done, mem_alloc(&sigma, (size_t)(2 * p->B) * sizeof *sigma));
  TRY_TO(done, mem_alloc(&labels, (size_t)(2 * p->B) * sizeof *labels));
  double_up(job, p, both);
  guidance_rows(job->rows, rows, p->rows, p->n, p->B * L);
  for (int64_t b = 0; b < 2 * p->B; b++) {
    sigma[b] = p->sigma[b % p->B];
    labels[b] = b < p->B ? job->label : -1;
  }
  ModelInput in = {.B = 2 * p->B, .ids = both, .sigma = sigma, .labels = labels, .rows = rows, .n_rows = 2 * p->n};
  TRY_TO(done, model_forward(job->model, &in));
done:
  mem_free(&both);
  mem_free(&rows);
  mem_free(&sigma);
  mem_free(&labels);
  return err;
}
