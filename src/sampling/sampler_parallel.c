/* sampler_parallel — several tokens a pass: the network proposes a token for every masked position, and the surest
 * proposals are kept (commit.h); the others are proposed anew, now that more of the text is known.
 *
 * The sequence may be divided into blocks, which are filled from left to right; the network sees all of it. Every
 * sequence has its own clock: finished ones, and those whose rule keeps nothing in a step, cost nothing. A proposal is
 * drawn by temperature and nucleus, or is the most likely token with temperature 0; its confidence is that of the
 * network's own distribution. In a diffusion step all kept tokens are independent given the text before them, so more of
 * them a pass is another, poorer law: only with one token a pass and random order is it that of the network.
 *
 * Rules that follow sample.steps can leave masks behind the last step of a block: the noise removal fills them.
 * sample.eos and sample.stop_at_eos: a sequence ends where a drawn eos has no mask before it; behind it come pads.
 * Source: arXiv:2502.09992 (steps, confidence, blocks), arXiv:2505.22618 (threshold, factor), arXiv:2505.24857
 * (entropy bound). */
#include "base/err.h"
#include "base/mem.h"
#include "sampling/commit.h"
#include "sampling/draws.h"
#include "sampling/sampler.h"
#include <math.h>
#include <string.h>

typedef enum EosRule { EOS_FREE, EOS_NEVER, EOS_LAST, EOS_RULES } EosRule;
static const char *const eos_rules[EOS_RULES] = {[EOS_FREE] = "free", [EOS_NEVER] = "never", [EOS_LAST] = "last"};

typedef struct Parallel { /* its keys */
  Commit commit;
  int64_t block; /* tokens of a block */
  EosRule eos_rule;
  bool stop;         /* at eos */
  int32_t eos, fill; /* fill: what comes behind the end */
} Parallel;

typedef struct Track { /* where a sequence is */
  int64_t block, step; /* step of the block */
  int64_t number;      /* steps since the start of the sequence */
  int64_t begun;       /* masks of the block at its start, −1: it has not begun */
  int64_t planned, n;  /* of this pass: tokens to keep, or −1; proposals */
} Track;

typedef struct Passes {
  const Parallel *own;
  int64_t blocks, steps; /* steps: of a block */
  int64_t open, filled;  /* masks at the start, and how many of them are gone */
  Track *track;          /* [job->n] */
  bool *fixed;           /* [job->n · L] visible at the start */
  int32_t *z;            /* [job->n · L] the sequences of a pass, side by side */
  int64_t *who;          /* [job->n] their indices in the job */
  int64_t *l;            /* [L] masked positions of a block */
  Candidate *candidates; /* [L] */
  double *measures;      /* [job->n · L, 3] */
  Draws draws;
} Passes;

static int check(const Parallel *p, const Config *cfg, int64_t L) {
  CHECK(cfg->sample_block_length <= L, ERR_USAGE, "sample.block_length = %lld: a sequence has only %lld tokens",
        (long long)cfg->sample_block_length, (long long)L);
  CHECK(p->eos_rule < EOS_RULES, ERR_USAGE, "sample.eos = %s: no such rule", cfg->sample_eos);
  CHECK(p->eos_rule == EOS_FREE || p->eos >= 0, ERR_USAGE, "sample.eos: the tokenizer has no token that ends a text");
  CHECK(!p->stop || p->eos_rule != EOS_NEVER, ERR_USAGE,
        "sample.stop_at_eos waits for what sample.eos = never forbids");
  return OK;
}

static int parallel_create(void **own, const SamplerOptions *x) {
  const Config *cfg = x->cfg;
  int64_t L = x->model->length;
  Parallel p = {.block = cfg->sample_block_length > 0 ? cfg->sample_block_length : L,
                .stop = cfg->sample_stop_at_eos,
                .eos = x->eos,
                .fill = sampler_fill(x)};
  while (p.eos_rule < EOS_RULES && strcmp(eos_rules[p.eos_rule], cfg->sample_eos) != 0) p.eos_rule++;
  TRY(sampler_stops(x));
  TRY(check(&p, cfg, L));
  const CommitOptions commit = {.section = "sample",
                                .commit = cfg->sample_commit,
                                .order = cfg->sample_order,
                                .threshold = cfg->sample_threshold,
                                .factor = cfg->sample_factor,
                                .entropy_bound = cfg->sample_entropy_bound};
  TRY(commit_create(&p.commit, &commit));
  TRY(mem_alloc(own, sizeof p));
  *(Parallel *)*own = p;
  return OK;
}

static void parallel_destroy(void **own) { mem_free(own); }

static int begin(Passes *p, const SamplerJob *job, const Parallel *own) {
  int64_t L = job->length;
  size_t n = (size_t)job->n, tokens = n * (size_t)L;
  *p = (Passes){.own = own, .blocks = (L + own->block - 1) / own->block};
  p->steps = job->steps > p->blocks ? job->steps / p->blocks : 1;
  TRY(mem_alloc(&p->track, n * sizeof *p->track));
  TRY(mem_alloc(&p->fixed, tokens * sizeof *p->fixed));
  TRY(mem_alloc(&p->z, tokens * sizeof *p->z));
  TRY(mem_alloc(&p->who, n * sizeof *p->who));
  TRY(mem_alloc(&p->l, (size_t)L * sizeof *p->l));
  TRY(mem_alloc(&p->candidates, (size_t)L * sizeof *p->candidates));
  TRY(mem_alloc(&p->measures, 3 * tokens * sizeof *p->measures));
  for (size_t b = 0; b < n; b++) p->track[b].begun = -1;
  for (size_t i = 0; i < tokens; i++) {
    p->fixed[i] = job->z[i] != job->objective->mask;
    p->open += !p->fixed[i];
  }
  return draws_create(&p->draws, (int64_t)tokens);
}

static void end(Passes *p) {
  mem_free(&p->track);
  mem_free(&p->fixed);
  mem_free(&p->z);
  mem_free(&p->who);
  mem_free(&p->l);
  mem_free(&p->candidates);
  mem_free(&p->measures);
  draws_destroy(&p->draws);
}

/* p->l := the masked positions of the block of sequence b. Returns their number. */
static int64_t masks_of(Passes *p, const SamplerJob *job, int64_t b) {
  int64_t L = job->length, n = 0, from = p->track[b].block * p->own->block, to = from + p->own->block;
  for (int64_t l = from; l < (to < L ? to : L); l++)
    if (job->z[b * L + l] == job->objective->mask) p->l[n++] = l;
  return n;
}

/* How many proposals sequence b keeps in the current step, −1: that depends on them; `n` of its block are masked. */
static int64_t plan(const Passes *p, const SamplerJob *job, int64_t b, int64_t n) {
  const Track *t = &p->track[b];
  CommitStep step = {.job = job,
                     .sample = job->first + b,
                     .number = t->number,
                     .step = t->step,
                     .steps = p->steps,
                     .begun = t->begun,
                     .n = n,
                     .l = p->l,
                     .finish = job->noise_removal};
  return commit_planned(&p->own->commit, &step);
}

/* Goes to the next step of sequence b that keeps a token: false if there is none. */
static bool advance(Passes *p, const SamplerJob *job, int64_t b) {
  Track *t = &p->track[b];
  while (t->block < p->blocks) {
    t->n = masks_of(p, job, b);
    if (t->begun < 0) t->begun = t->n;
    t->planned = t->n > 0 ? plan(p, job, b, t->n) : 0;
    if (t->planned != 0) return true;
    if (t->n > 0 && t->step < p->steps) {
      t->step++, t->number++;
    } else {
      t->block++, t->step = 0, t->begun = -1;
    }
  }
  return false;
}

/* The candidates of the pass's sequence i, whose proposals begin at `first`, into the job's sequence b. */
static void keep(Passes *p, SamplerJob *job, int64_t b, int64_t first) {
  Track *t = &p->track[b];
  const Draws *d = &p->draws;
  const Commit *commit = &p->own->commit;
  int64_t L = job->length;
  RngKey key = draws_key(job, RNG_SAMPLE_UNMASK, DRAWS_ORDER, job->first + b, t->number);
  for (int64_t i = 0; i < t->n; i++) {
    int64_t r = first + i, l = d->rows[r] % L;
    const double *measures = p->measures + 3 * r;
    bool last = p->own->eos_rule == EOS_LAST && d->ids[r] == p->own->eos;
    p->candidates[i] =
        (Candidate){.l = l,
                    .id = d->ids[r],
                    .score = last ? -INFINITY : commit_score(commit, measures, rng_uniform(key, (uint64_t)l)),
                    .entropy = fmax(0, measures[2])};
  }
  int64_t k = commit_choose(commit, p->candidates, t->n, t->planned);
  for (int64_t i = 0; i < k; i++) job->z[b * L + p->candidates[i].l] = p->candidates[i].id;
  p->filled += k;
  t->step++, t->number++;
}

/* Ends sequence b at a drawn eos that has no mask before it. */
static void stop_at_eos(Passes *p, SamplerJob *job, int64_t b) {
  int64_t L = job->length, e = 0;
  int32_t *z = job->z + b * L;
  while (e < L && z[e] != job->objective->mask && (z[e] != p->own->eos || p->fixed[b * L + e])) e++;
  if (e == L || z[e] != p->own->eos) return;
  p->track[b].block = p->blocks;
  if (job->lengths) job->lengths[b] = (int32_t)(e + 1);
  for (int64_t l = e + 1; l < L; l++) {
    if (p->fixed[b * L + l]) continue;
    p->filled += z[l] == job->objective->mask;
    z[l] = p->own->fill;
  }
}

/* One pass of the network over all sequences that have a step; *more: whether there was any. */
static int pass(Passes *p, SamplerJob *job, bool *more) {
  int64_t L = job->length, B = 0, first = 0;
  Draws *d = &p->draws;
  d->n = 0;
  for (int64_t b = 0; b < job->n; b++) {
    if (!advance(p, job, b)) continue;
    memcpy(p->z + B * L, job->z + b * L, (size_t)L * sizeof *p->z);
    for (int64_t i = 0; i < p->track[b].n; i++)
      draws_add(d, job, B, p->l[i], draws_token(job, job->first + b, p->track[b].number, p->l[i]));
    p->who[B++] = b;
  }
  *more = B > 0;
  if (B == 0) return OK;
  d->who = p->who;
  TRY(draws_evaluate(job, d, p->z, B, 1));
  TRY(rows_propose(job->rows, job->objective, d->n, d->uniform, &job->draw,
                   p->own->eos_rule == EOS_NEVER ? p->own->eos : -1, d->ids, p->measures));
  for (int64_t i = 0; i < B; i++) {
    int64_t b = p->who[i];
    keep(p, job, b, first);
    first += p->track[b].n;
    if (p->own->stop) stop_at_eos(p, job, b);
  }
  return OK;
}

static int parallel_run(SamplerJob *job, const void *own) {
  Passes p;
  int err = OK;
  TRY_TO(done, begin(&p, job, own));
  for (bool more = true; more;) {
    TRY_TO(done, pass(&p, job, &more));
    int64_t step = more && p.open > 0 ? job->steps * p.filled / p.open : job->steps;
    if (job->progress) TRY_TO(done, job->progress(job->progress_arg, step));
  }
done:
  end(&p);
  return err;
}

extern const SamplerTable sampler_parallel;
const SamplerTable sampler_parallel = {.name = "parallel",
                                       .takes = TAKES(GIVES_X0),
                                       .skips = true,
                                       .stops = true,
                                       .create = parallel_create,
                                       .destroy = parallel_destroy,
                                       .run = parallel_run};
