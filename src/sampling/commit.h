/* commit — which of the tokens that a step proposes for masked positions are kept: in which order they are ranked, and
 * how many of the first.
 *
 * A rule either knows the number before the network runs, so that steps without tokens cost nothing, or finds it from
 * the scores. It always keeps the first one. Of equal scores the lower position is first. From all masks a network
 * without learned positions gives the same distribution everywhere, up to rounding: scores that agree to 12 bits count as
 * equal, so that their order is not that of rounding errors. */
#pragma once
#include "base/config.h"
#include "sampling/job.h"

typedef struct Candidate { /* a proposal for one masked position */
  int64_t l;
  int32_t id;
  double score;   /* the order's, larger is better; −∞: last */
  double rank;    /* the score rounded to 12 bits, by commit_choose */
  double entropy; /* nat, of the distribution it was drawn from, at temperature 1 */
} Candidate;

typedef struct CommitStep { /* one sequence before a pass of the network */
  const SamplerJob *job;    /* not owned; of a rule without random numbers only its objective is read */
  int64_t sample, number;   /* number: of the step since the start of the sample, for random numbers */
  int64_t step, steps;      /* of the current block; step ≥ steps: behind the last one */
  int64_t begun;            /* masks of the block at its start */
  int64_t n;                /* those that are left … */
  const int64_t *l;         /* … and their positions */
  bool finish;              /* keep all masks behind the last step; false: none */
} CommitStep;

typedef enum CommitOrder {
  ORDER_CONFIDENCE,
  ORDER_MARGIN,
  ORDER_ENTROPY,
  ORDER_RANDOM,
  ORDER_LEFT_TO_RIGHT,
  ORDERS
} CommitOrder;

typedef struct CommitOptions { /* values of a section's keys */
  const char *section;         /* "sample": for messages */
  const char *commit, *order;
  double threshold, factor, entropy_bound;
} CommitOptions;

typedef struct CommitTable CommitTable;
typedef struct Commit {
  const CommitTable *table;
  CommitOrder order;
  double threshold, factor, bound;
} Commit;

/** commit_create — the rule of the deck. ERR_USAGE: an order whose scores are no probabilities for a rule that compares
 *  them with one, or no such word. */
int commit_create(Commit *c, const CommitOptions *options);
/** commit_random — whether random numbers decide what is kept. */
bool commit_random(const Commit *c);
/** commit_planned — how many proposals this step keeps, 0 … n; −1: that depends on their scores. */
int64_t commit_planned(const Commit *c, const CommitStep *step);
/** commit_score — the score of a proposal from the three measures of op_confidence and, for random order, a uniform
 *  number. */
double commit_score(const Commit *c, const double measures[3], double uniform);
/** commit_choose — ranks the candidates in place; returns how many of the first are kept, ≥ 1, at least `planned`. */
int64_t commit_choose(const Commit *c, Candidate *list, int64_t n, int64_t planned);
