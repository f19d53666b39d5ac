#include "sampling/commit.h"
#include "base/err.h"
#include "sampling/draws.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct CommitTable {
  const char *name;
  bool probabilities; /* scores are compared with one */
  bool random;        /* the number is drawn */
  /* one of the two: the number before the network runs, or that of the ranked candidates */
  int64_t (*planned)(const CommitStep *);
  int64_t (*passing)(const Commit *, const Candidate *, int64_t n);
};

/* ---- numbers that are known beforehand */
/* The same number in every step of the block, and one more in the first ones where that leaves a remainder. */
static int64_t top_k(const CommitStep *s) { return s->begun / s->steps + (s->step < s->begun % s->steps); }

/* The probability that a mask is filled in this step of the block. */
static double chance_of(const CommitStep *s) {
  SamplerJob job = *s->job;
  job.steps = s->steps;
  return job_chance(&job, s->step);
}

static int64_t schedule(const CommitStep *s) { return (int64_t)round((double)s->n * chance_of(s)); }

static int64_t binomial(const CommitStep *s) {
  int64_t k = 0;
  double chance = chance_of(s);
  for (int64_t i = 0; i < s->n; i++) k += draws_unmasks(s->job, s->sample, s->number, s->l[i], chance);
  return k;
}

/* ---- numbers from scores */
/* Scores that agree up to rounding errors have one rank, and bounds are compared with ranks. */
static double rounded(double x) {
  enum { BITS = 12 };
  int exponent;
  double fraction = frexp(x, &exponent);
  return isfinite(x) ? ldexp(rint(ldexp(fraction, BITS)), exponent - BITS) : x;
}

static int64_t threshold(const Commit *c, const Candidate *list, int64_t n) {
  double least = c->threshold > 1 ? c->threshold : rounded(c->threshold); /* above 1 none passes */
  int64_t k = 0;
  while (k < n && list[k].rank >= least) k++;
  return k;
}

/* The r-th one passes with a probability of at least 1 − factor/(r + 1). */
static int64_t factor(const Commit *c, const Candidate *list, int64_t n) {
  int64_t k = 0;
  while (k < n && list[k].rank >= rounded(1 - c->factor / (double)(k + 2))) k++;
  return k;
}

/* The divergence of the tokens' joint law from the product that they are drawn from is at most the sum of their
 * entropies without the largest one, which is bounded here. */
static int64_t entropy_bound(const Commit *c, const Candidate *list, int64_t n) {
  double most = 0, others = 0;
  for (int64_t k = 0; k < n; k++) {
    others += k > 0 ? fmin(most, list[k].entropy) : 0;
    most = fmax(most, list[k].entropy);
    if (others > c->bound) return k;
  }
  return n;
}

static const CommitTable rules[] = {{.name = "top_k", .planned = top_k},
                                    {.name = "threshold", .probabilities = true, .passing = threshold},
                                    {.name = "factor", .probabilities = true, .passing = factor},
                                    {.name = "entropy_bound", .passing = entropy_bound},
                                    {.name = "schedule", .planned = schedule},
                                    {.name = "binomial", .random = true, .planned = binomial},
                                    {0}};
static const char *const orders[ORDERS] = {[ORDER_CONFIDENCE] = "confidence",
                                           [ORDER_MARGIN] = "margin",
                                           [ORDER_ENTROPY] = "entropy",
                                           [ORDER_RANDOM] = "random",
                                           [ORDER_LEFT_TO_RIGHT] = "left_to_right"};

int commit_create(Commit *c, const CommitOptions *o) {
  *c = (Commit){.threshold = o->threshold, .factor = o->factor, .bound = o->entropy_bound};
  for (const CommitTable *t = rules; t->name; t++)
    if (strcmp(t->name, o->commit) == 0) c->table = t;
  CHECK(c->table, ERR_USAGE, "%s.commit = %s: no such rule", o->section, o->commit);
  while (c->order < ORDERS && strcmp(orders[c->order], o->order) != 0) c->order++;
  CHECK(c->order < ORDERS, ERR_USAGE, "%s.order = %s: no such order", o->section, o->order);
  CHECK(!c->table->probabilities || c->order <= ORDER_MARGIN, ERR_USAGE,
        "%s.commit = %s compares scores with a probability, which those of %s.order = %s are not; use %s or %s",
        o->section, c->table->name, o->section, orders[c->order], orders[ORDER_CONFIDENCE], orders[ORDER_MARGIN]);
  return OK;
}

bool commit_random(const Commit *c) { return c->table->random || c->order == ORDER_RANDOM; }

int64_t commit_planned(const Commit *c, const CommitStep *step) {
  if (!c->table->planned) return -1;
  if (step->step >= step->steps) return step->finish ? step->n : 0;
  int64_t k = c->table->planned(step);
  return k < step->n ? k : step->n;
}

/* Equal scores are ranked from left to right. */
double commit_score(const Commit *c, const double measures[3], double uniform) {
  const double scores[ORDERS] = {measures[0], measures[1], -measures[2], uniform, 0};
  return scores[c->order];
}

static int better(const void *a, const void *b) {
  const Candidate *x = a, *y = b;
  if (x->rank != y->rank) return x->rank > y->rank ? -1 : 1;
  return x->l < y->l ? -1 : x->l > y->l;
}

int64_t commit_choose(const Commit *c, Candidate *list, int64_t n, int64_t planned) {
  for (int64_t i = 0; i < n; i++) list[i].rank = rounded(list[i].score);
  qsort(list, (size_t)n, sizeof *list, better);
  int64_t k = planned < 0 ? c->table->passing(c, list, n) : planned;
  return k > 1 ? k : 1;
}
