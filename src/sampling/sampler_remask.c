/* sampler_remask — the reverse process in which a drawn token may be masked again and drawn anew, now that more
 * of the text is known.
 *
 * Let alpha be the probability that a token is visible, alpha_t before a step and alpha_s ≥ alpha_t after it. In the
 * step a visible token is remasked with probability σ, and a masked position is filled from p(x0 | z) with probability
 * u. Samples stay as noisy as the schedule says, which is what the network was trained on, if
 *
 *   alpha_s = alpha_t (1 − σ) + (1 − alpha_t) u,   u = (alpha_s − (1 − σ) alpha_t)/(1 − alpha_t)
 *
 * which is a probability as long as σ ≤ σmax = min(1, (1 − alpha_s)/alpha_t). σ = 0 gives the samples without
 * remasking, bit for bit: the same random numbers decide which positions unmask and their tokens. They also decide
 * which tokens are remasked, since a position is either visible or masked. With η = sample.remask_eta between 0 and 1,
 * sample.remask says how σ follows from it:
 *
 *   cap         σ = min(η, σmax)
 *   rescale     σ = η σmax
 *   confidence  σ = η σmax · softmax(−c) at the visible positions of a sequence, c the p(x0 | z) that the network gave
 *               the token when it was drawn: less than one token a step, most likely an improbable one. For a masked
 *               position c = ∞, so σ = 0 in its u: remasked tokens then exceed the masks of the schedule, and the
 *               noise removal fills those that remain.
 *
 * Tokens fixed at the start are not remasked, nor counted in the softmax. The network is evaluated only in steps where
 * something unmasks, at the time of the step.
 * Source: arXiv:2503.00307 §3 and §4.1; η = 1 with confidence is the variant of its experiments. */
#include "base/err.h"
#include "base/mem.h"
#include "sampling/draws.h"
#include "sampling/sampler.h"
#include <math.h>
#include <string.h>

typedef enum RemaskKind { CAP, RESCALE, CONFIDENCE } RemaskKind;
static const char *const kinds[] = {[CAP] = "cap", [RESCALE] = "rescale", [CONFIDENCE] = "confidence"};

typedef struct RemaskOptions { /* sample.remask, sample.remask_eta */
  RemaskKind kind;
  double eta;
} RemaskOptions;

typedef struct Remask {
  const RemaskOptions *options;
  Draws draws; /* the positions that unmask in a step */
  int64_t n;
  int32_t *again;     /* [n] those that are remasked in it */
  bool *fixed;        /* [job->n · L] visible at the start */
  double *confidence; /* [job->n · L] of the visible tokens: p when it was drawn */
  double *sigma;      /* [L] of the positions of a sequence */
  double *nll;        /* [job->n · L] of the draws */
} Remask;

static int remask_create(void **own, const SamplerOptions *x) {
  const char *word = x->cfg->sample_remask;
  int kind = 0, count = sizeof kinds / sizeof *kinds;
  while (kind < count && strcmp(kinds[kind], word) != 0) kind++;
  CHECK(kind < count, ERR_USAGE, "sample.remask = %s: must be cap, rescale or confidence", word);
  TRY(mem_alloc(own, sizeof(RemaskOptions)));
  *(RemaskOptions *)*own = (RemaskOptions){.kind = (RemaskKind)kind, .eta = x->cfg->sample_remask_eta};
  return OK;
}

static void remask_destroy(void **own) { mem_free(own); }

static int begin(Remask *r, const SamplerJob *job, const RemaskOptions *options) {
  int64_t L = job->length;
  size_t tokens = (size_t)(job->n * L);
  *r = (Remask){.options = options};
  TRY(draws_create(&r->draws, (int64_t)tokens));
  TRY(mem_alloc(&r->again, tokens * sizeof *r->again));
  TRY(mem_alloc(&r->fixed, tokens * sizeof *r->fixed));
  TRY(mem_alloc(&r->confidence, tokens * sizeof *r->confidence));
  TRY(mem_alloc(&r->sigma, (size_t)L * sizeof *r->sigma));
  TRY(mem_alloc(&r->nll, tokens * sizeof *r->nll));
  for (size_t i = 0; i < tokens; i++) r->fixed[i] = job->z[i] != job->objective->mask;
  return OK;
}

static void end(Remask *r) {
  draws_destroy(&r->draws);
  mem_free(&r->again);
  mem_free(&r->fixed);
  mem_free(&r->confidence);
  mem_free(&r->sigma);
  mem_free(&r->nll);
}

typedef struct Chances { /* probability of a mask before and after a step, and σmax */
  double now, next, most;
} Chances;

static Chances chances_of(const SamplerJob *job, int64_t step) {
  const Schedule *s = job->objective->schedule;
  Chances c = {.now = schedule_masked(s, job_time(step, job->steps)),
               .next = schedule_masked(s, job_time(step + 1, job->steps))};
  c.most = c.next < 1 - c.now ? c.next / (1 - c.now) : 1;
  return c;
}

/* r->sigma of sequence b. */
static void sigmas(Remask *r, const SamplerJob *job, int64_t b, double most) {
  int64_t L = job->length;
  double same = r->options->kind == CAP ? fmin(r->options->eta, most) : r->options->eta * most, sum = 0;
  for (int64_t l = 0; l < L; l++) {
    int64_t i = b * L + l;
    bool doubted = job->z[i] != job->objective->mask && !r->fixed[i];
    r->sigma[l] = r->options->kind != CONFIDENCE ? same : doubted ? exp(-r->confidence[i]) : 0;
    sum += r->sigma[l];
  }
  for (int64_t l = 0; l < L && r->options->kind == CONFIDENCE && sum > 0; l++) r->sigma[l] *= same / sum;
}

/* The positions that unmask in this step and those that are remasked, before anything changes. */
static void choose(Remask *r, const SamplerJob *job, int64_t step) {
  int64_t L = job->length;
  Chances c = chances_of(job, step);
  r->draws.n = r->n = 0;
  for (int64_t b = 0; b < job->n; b++) {
    int64_t sample = job->first + b;
    sigmas(r, job, b, c.most);
    for (int64_t l = 0; l < L; l++) {
      int64_t i = b * L + l;
      double sigma = r->sigma[l], unmask = (c.now - c.next + sigma * (1 - c.now)) / c.now;
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

static int take_step(Remask *r, SamplerJob *job, int64_t step) {
  Draws *d = &r->draws;
  choose(r, job, step);
  if (d->n > 0) {
    TRY(draws_evaluate(job, d, job->z, job->n, job_time(step, job->steps)));
    TRY(draws_fill(job, d, job->z, false, NULL));
    if (r->options->kind == CONFIDENCE) TRY(rows_nll(job->rows, job->objective, d->n, d->ids, r->nll));
  }
  for (int64_t i = 0; i < d->n && r->options->kind == CONFIDENCE; i++) r->confidence[d->rows[i]] = exp(-r->nll[i]);
  for (int64_t i = 0; i < r->n; i++) job->z[r->again[i]] = job->objective->mask;
  return OK;
}

static int remask_run(SamplerJob *job, const void *own) {
  Remask r;
  int err = OK;
  TRY_TO(done, begin(&r, job, own));
  for (int64_t i = 0; i < job->steps; i++) {
    TRY_TO(done, take_step(&r, job, i));
    if (job->progress) TRY_TO(done, job->progress(job->progress_arg, i + 1));
  }
  TRY_TO(done, draws_finish(job, &r.draws, true));
done:
  end(&r);
  return err;
}

extern const SamplerTable sampler_remask;
const SamplerTable sampler_remask = {
    .name = "remask", .takes = TAKES(GIVES_X0), .create = remask_create, .destroy = remask_destroy, .run = remask_run};
