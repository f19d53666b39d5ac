#include "sampling/remasking.h"
#include "base/err.h"
#include "base/mem.h"
#include "sampling/draws.h"
#include <math.h>
#include <string.h>

Remask remasking_options(const Config *cfg, const char *word) {
  return (Remask){.rescale = strcmp(word, "rescale") == 0,
                  .eta = cfg->sample_remask_eta,
                  .hold = cfg->sample_hold,
                  .hold_time = cfg->sample_hold_time};
}

double remasking_sigma(const Remask *o, double now, double next) {
  double most = next < 1 - now ? next / (1 - now) : 1;
  return o->rescale ? o->eta * most : fmin(o->eta, most);
}

/* Both the way to hold_time and the way from it have one step at least. */
double remasking_time(const Remask *o, int64_t i, int64_t steps) {
  int64_t held = steps < 3 ? 0 : (int64_t)fmin(round(o->hold * (double)steps), (double)steps - 2);
  if (held == 0) return job_time(i, steps);
  double last = job_time(1, 1), at = fmax(o->hold_time, last), rest = (double)(steps - held);
  int64_t before = (int64_t)fmin(fmax(round(rest * (1 - at)), 1), rest - 1), after = steps - held - before;
  if (i < before) return 1 - (double)i * (1 - at) / (double)before;
  if (i <= before + held) return at;
  return at - (double)(i - before - held) * (at - last) / (double)after;
}

typedef struct Run {
  const Remasking *how;
  Draws draws; /* the positions that unmask in a step */
  int64_t n;
  int32_t *again;     /* [n] those that are remasked in it */
  bool *fixed;        /* [job->n · L] visible at the start */
  double *confidence; /* [job->n · L] of the visible tokens: p when it was drawn */
  double *sigma;      /* [L] of the positions of a sequence */
  double *nll;        /* [job->n · L] of the draws */
} Run;

static int begin(Run *r, const SamplerJob *job, const Remasking *how) {
  int64_t L = job->length;
  size_t tokens = (size_t)(job->n * L);
  *r = (Run){.how = how};
  TRY(draws_create(&r->draws, (int64_t)tokens));
  TRY(mem_alloc(&r->again, tokens * sizeof *r->again));
  TRY(mem_alloc(&r->fixed, tokens * sizeof *r->fixed));
  TRY(mem_alloc(&r->confidence, tokens * sizeof *r->confidence));
  TRY(mem_alloc(&r->sigma, (size_t)L * sizeof *r->sigma));
  TRY(mem_alloc(&r->nll, tokens * sizeof *r->nll));
  for (size_t i = 0; i < tokens; i++) r->fixed[i] = job->z[i] != job->objective->mask;
  return OK;
}

static void end(Run *r) {
  draws_destroy(&r->draws);
  mem_free(&r->again);
  mem_free(&r->fixed);
  mem_free(&r->confidence);
  mem_free(&r->sigma);
  mem_free(&r->nll);
}

/* r->sigma of sequence b. */
static void sigmas(Run *r, const SamplerJob *job, int64_t b, double same) {
  int64_t L = job->length;
  double sum = 0;
  for (int64_t l = 0; l < L; l++) {
    int64_t i = b * L + l;
    bool doubted = job->z[i] != job->objective->mask && !r->fixed[i];
    r->sigma[l] = !r->how->by_confidence ? same : doubted ? exp(-r->confidence[i]) : 0;
    sum += r->sigma[l];
  }
  for (int64_t l = 0; l < L && r->how->by_confidence && sum > 0; l++) r->sigma[l] *= same / sum;
}

/* The positions that unmask in this step and those that are remasked, before anything changes. */
static void choose(Run *r, const SamplerJob *job, int64_t step) {
  int64_t L = job->length;
  const Schedule *s = job->objective->schedule;
  const Remask *o = r->how->remask;
  double now = schedule_masked(s, remasking_time(o, step, job->steps)),
         next = schedule_masked(s, remasking_time(o, step + 1, job->steps)),
         same = r->how->sigma(r->how->own, now, next);
  r->draws.n = r->n = 0;
  for (int64_t b = 0; b < job->n; b++) {
    int64_t sample = job->first + b;
    sigmas(r, job, b, same);
    for (int64_t l = 0; l < L; l++) {
      int64_t i = b * L + l;
      double sigma = r->sigma[l], unmask = (now - next + sigma * (1 - now)) / now;
      if (r->fixed[i]) continue;
      bool masked = job->z[i] == job->objective->mask;
      if (!draws_unmasks(job, sample, step, l, masked ? unmask : sigma)) continue;
      if (masked)
        draws_add(&r->draws, job, b, l, draws_token(job, sample, step, l));
      else
        r->again[r->n++] = (int32_t)i;
    }
  }
}

static int take_step(Run *r, SamplerJob *job, int64_t step) {
  Draws *d = &r->draws;
  choose(r, job, step);
  if (d->n > 0) {
    TRY(draws_evaluate(job, d, job->z, job->n, remasking_time(r->how->remask, step, job->steps)));
    TRY(draws_fill(job, d, job->z, false, NULL));
    if (r->how->by_confidence) TRY(rows_nll(job->rows, job->objective, d->n, d->ids, r->nll));
  }
  for (int64_t i = 0; i < d->n && r->how->by_confidence; i++) r->confidence[d->rows[i]] = exp(-r->nll[i]);
  for (int64_t i = 0; i < r->n; i++) job->z[r->again[i]] = job->objective->mask;
  return OK;
}

int remasking_run(SamplerJob *job, const Remasking *how) {
  Run r;
  int err = OK;
  TRY_TO(done, begin(&r, job, how));
  for (int64_t i = 0; i < job->steps; i++) {
    TRY_TO(done, take_step(&r, job, i));
    if (job->progress) TRY_TO(done, job->progress(job->progress_arg, i + 1));
  }
  TRY_TO(done, draws_finish(job, &r.draws, true));
done:
  end(&r);
  return err;
}
