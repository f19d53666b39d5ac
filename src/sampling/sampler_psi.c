/* sampler_psi — predictor-corrector sampling (Ψ-samplers): a step from t to s draws each token from
 *
 *   κ·q(z_s | z_t) + (1 − κ)·q_s(· | π)
 * where q(z_s | z_t) is the step of the reverse process, π its step to a clean token (alpha_s = 1), and
 * q_s(· | π) = alpha_s π + (1 − alpha_s)·prior noises that again. κ = sample.kappa: 1 is the reverse process, 0 draws
 * all tokens of a step anew. With the true posterior the samples have the marginals q_s whatever κ is. In the last step
 * alpha_s is 1 or nearly so, where both parts are the same. sample.kappa_from = cap, rescale: κ = 1 − σ/(1 − alpha_s)
 * with the σ of remasking.h, at least 0 for uniform noise. There, too, are the times of sample.hold.
 *
 * Noise that masks: the second part remasks a visible token with probability σ = (1 − κ)(1 − alpha_s) and fills a masked
 * one with probability alpha_s, which is remasking (remasking.h) with that σ. κ = 1 gives the samples of the reverse
 * process, bit for bit; κ from σ those of remasking with σ, which may be larger than 1 − alpha_s.
 *
 * Noise that replaces tokens by uniform ones: with K tokens, p = p(x0 | z) and D = K alpha_t p_z + 1 − alpha_t
 *
 *   D·q(z_s = y | z_t = z) = (K alpha_t p_z + alpha_t (1 − alpha_s)/alpha_s) [y = z] + (alpha_s − alpha_t) p_y
 *                            + (1 − alpha_t/alpha_s)(1 − alpha_s)/K
 *   D·π_y                  = K alpha_t p_z [y = z] + (1 − alpha_t) p_y
 * so a token stays, is drawn from p, or from the prior. The samples begin with uniform tokens where z has masks; what is
 * fixed at the start stays. Guided by a class (guidance.h) the distributions r of the whole step are mixed, with the class
 * and without: in proportion to r_c^gamma r_u^(1 − gamma), since p decides in each how likely a token is to stay.
 * Every position is evaluated in every step. sample.noise_removal ends with one more pass,
 * which takes the most likely token everywhere; without it the last step goes to alpha_s = 1. The temperature and the
 * nucleus shape what is drawn from p; p_z is the network's.
 * Source: Sahoo et al., arXiv:2602.21185; the posterior: arXiv:2412.10193 §3.2. */
#include "base/err.h"
#include "base/mem.h"
#include "diffusion/timestep.h"
#include "sampling/draws.h"
#include "sampling/remasking.h"
#include "sampling/sampler.h"
#include <math.h>
#include <string.h>

typedef struct PsiOptions {
  bool constant; /* kappa, whatever σ is */
  double kappa;
  Remask remask;
} PsiOptions;

static int psi_create(void **own, const SamplerOptions *x) {
  const char *word = x->cfg->sample_kappa_from;
  TRY(mem_alloc(own, sizeof(PsiOptions)));
  *(PsiOptions *)*own = (PsiOptions){.constant = strcmp(word, "constant") == 0,
                                     .kappa = x->cfg->sample_kappa,
                                     .remask = remasking_options(x->cfg, word)};
  return OK;
}

static void psi_destroy(void **own) { mem_free(own); }

static double sigma_of(const void *own, double now, double next) {
  const PsiOptions *o = own;
  return o->constant ? (1 - o->kappa) * next : remasking_sigma(&o->remask, now, next);
}

static double kappa_of(const PsiOptions *o, double now, double next) {
  if (o->constant || next == 0) return o->kappa; /* without noise both parts are the same */
  return fmax(0, 1 - sigma_of(o, now, next) / next);
}

/* ---- uniform noise */
typedef struct Replacing {
  Draws draws;   /* the positions that are not fixed */
  int32_t *seen; /* [draws.n] their tokens before the step */
  double *nll;   /* [draws.n] −log p of these */
  float *logits; /* guided: [2·rows_chunk,V] */
  double *law;   /* guided: [rows_chunk,V] */
} Replacing;

static int begin(Replacing *r, SamplerJob *job) {
  int64_t L = job->length, V = job->objective->options.vocab;
  size_t tokens = (size_t)(job->n * L);
  *r = (Replacing){0};
  TRY(draws_create(&r->draws, (int64_t)tokens));
  TRY(mem_alloc(&r->seen, tokens * sizeof *r->seen));
  TRY(mem_alloc(&r->nll, tokens * sizeof *r->nll));
  if (job->pairs) {
    size_t numbers = (size_t)(rows_chunk(job->rows) * V);
    TRY(mem_alloc(&r->logits, 2 * numbers * sizeof *r->logits));
    TRY(mem_alloc(&r->law, numbers * sizeof *r->law));
  }
  for (int64_t b = 0; b < job->n; b++) {
    RngKey key = draws_key(job, RNG_SAMPLE_PRIOR, DRAWS_STEPS, job->first + b, 0);
    for (int64_t l = 0; l < L; l++) {
      if (job->z[b * L + l] != job->objective->mask) continue;
      job->z[b * L + l] = timestep_token(rng_uniform(key, (uint64_t)l), V, job->objective->mask);
      draws_add(&r->draws, job, b, l, 0);
    }
  }
  return OK;
}

static void end(Replacing *r) {
  draws_destroy(&r->draws);
  mem_free(&r->seen);
  mem_free(&r->nll);
  mem_free(&r->logits);
  mem_free(&r->law);
}

typedef struct Step {
  double kappa, now, next; /* 1 − alpha before and after it */
  int64_t V;
  int32_t m;
} Step;

/* The parts of D r(z_s | z_t = z), where p_z = p: z itself, a token drawn from p(x0 | z), one of the prior. */
typedef struct Parts {
  double stay, drawn, noise;
} Parts;

static Parts parts_of(const Step *s, double p) {
  double at = 1 - s->now, as = 1 - s->next, k = s->kappa, known = (double)(s->V - 1) * at * p, D = known + s->now;
  return (Parts){.stay = k * (known + at * s->next / as) + (1 - k) * as * known,
                 .drawn = k * (s->now - s->next) + (1 - k) * as * s->now,
                 .noise = k * (s->now - s->next) / as * s->next + (1 - k) * s->next * D};
}

/* The token that follows z, where p_z = p and x0 was drawn from p: by the random number u. */
static int32_t next_token(const Step *s, int32_t z, double p, int32_t x0, double u) {
  Parts x = parts_of(s, p);
  u *= x.stay + x.drawn + x.noise; /* D */
  if (u < x.stay) return z;
  if (u < x.stay + x.drawn || x.noise == 0) return x0;
  return timestep_token((u - x.stay - x.drawn) / x.noise, s->V, s->m);
}

/* law[V] += weight · log(D r), from logits f[V]. */
static void add_law(const Step *s, double *law, const float *f, int32_t z, double weight) {
  const double least = 1e-300;
  double sum = 0, most = -INFINITY;
  for (int64_t y = 0; y < s->V; y++)
    if (y != s->m) most = fmax(most, (double)f[y]);
  for (int64_t y = 0; y < s->V; y++)
    if (y != s->m) sum += exp((double)f[y] - most);
  Parts x = parts_of(s, exp((double)f[z] - most) / sum);
  for (int64_t y = 0; y < s->V; y++) {
    double r = (y == z ? x.stay : 0) + x.drawn * exp((double)f[y] - most) / sum + x.noise / (double)(s->V - 1);
    law[y] += weight * log(fmax(r, least));
  }
}

/* The token that follows z by the mixed law, from the logits c with the class and u without: by the random number at. */
static int32_t guided_token(const Step *s, double *law, const float *c, const float *u, int32_t z, double gamma,
                            double at) {
  double most = -INFINITY, sum = 0;
  int32_t last = z;
  memset(law, 0, (size_t)s->V * sizeof *law);
  add_law(s, law, c, z, gamma);
  add_law(s, law, u, z, 1 - gamma);
  law[s->m] = -INFINITY;
  for (int64_t y = 0; y < s->V; y++) most = fmax(most, law[y]);
  for (int64_t y = 0; y < s->V; y++) sum += law[y] = exp(law[y] - most);
  at *= sum;
  for (int32_t y = 0; y < s->V; y++) {
    if (law[y] > 0) last = y;
    if ((at -= law[y]) < 0) break;
  }
  return last;
}

/* d->ids := the tokens that follow r->seen, from the pairs of the last pass. */
static int draw_guided(Replacing *r, SamplerJob *job, const Step *s) {
  Draws *d = &r->draws;
  int64_t V = s->V, part = rows_chunk(job->rows);
  for (int64_t first = 0, n; first < d->n; first += n) {
    n = d->n - first < part ? d->n - first : part;
    TRY(rows_pair_logits(job->rows, first, n, r->logits));
    for (int64_t i = 0; i < 2 * n * V; i++)
      CHECK(!isnan(r->logits[i]), ERR_NUMERIC,
            "the network's output is NaN: the weights of the checkpoint are damaged");
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
      d->ids[first + i] = guided_token(s, r->law + i * V, r->logits + i * V, r->logits + (n + i) * V,
                                       r->seen[first + i], job->guidance, d->uniform[first + i]);
  }
  for (int64_t i = 0; i < d->n; i++) job->z[d->rows[i]] = d->ids[i];
  return OK;
}

static int take_step(Replacing *r, SamplerJob *job, const PsiOptions *x, int64_t step) {
  Draws *d = &r->draws;
  const Objective *o = job->objective;
  int64_t L = job->length;
  bool last = step + 1 == job->steps && !job->noise_removal;
  double t = remasking_time(&x->remask, step, job->steps);
  double now = schedule_masked(o->schedule, t);
  double next = last ? 0 : schedule_masked(o->schedule, remasking_time(&x->remask, step + 1, job->steps));
  Step s = {.kappa = kappa_of(x, now, next), .now = now, .next = next, .V = o->options.vocab, .m = o->mask};
  for (int64_t i = 0; i < d->n; i++) {
    d->uniform[i] = draws_token(job, job->first + d->rows[i] / L, step, d->rows[i] % L);
    r->seen[i] = job->z[d->rows[i]];
  }
  TRY(draws_evaluate(job, d, job->z, job->n, t));
  if (job->pairs) return draw_guided(r, job, &s);
  TRY(rows_draw_seen(job->rows, o, d->n, r->seen, d->uniform, &job->draw, d->ids, r->nll));
  for (int64_t i = 0; i < d->n; i++) {
    RngKey key = draws_key(job, RNG_SAMPLE_UNMASK, DRAWS_STEPS, job->first + d->rows[i] / L, step);
    double u = rng_uniform(key, (uint64_t)(d->rows[i] % L));
    job->z[d->rows[i]] = next_token(&s, r->seen[i], exp(-r->nll[i]), d->ids[i], u);
  }
  return OK;
}

static int replace(Replacing *r, SamplerJob *job, const PsiOptions *x) {
  for (int64_t i = 0; i < job->steps; i++) {
    TRY(take_step(r, job, x, i));
    if (job->progress) TRY(job->progress(job->progress_arg, i + 1));
  }
  if (!job->noise_removal || r->draws.n == 0) return OK;
  TRY(draws_evaluate(job, &r->draws, job->z, job->n, job_time(job->steps, job->steps)));
  return draws_fill(job, &r->draws, job->z, true, NULL);
}

static int psi_run(SamplerJob *job, const void *own) {
  const PsiOptions *o = own;
  Replacing r;
  if (!job->objective->replaces)
    return remasking_run(job, &(Remasking){.sigma = sigma_of, .own = own, .remask = &o->remask});
  int err = begin(&r, job);
  if (err == OK) err = replace(&r, job, o);
  end(&r);
  return err;
}

extern const SamplerTable sampler_psi;
const SamplerTable sampler_psi = {.name = "psi",
                                  .takes = TAKES(GIVES_X0) | TAKES(GIVES_X0_UNIFORM),
                                  .create = psi_create,
                                  .destroy = psi_destroy,
                                  .run = psi_run};
