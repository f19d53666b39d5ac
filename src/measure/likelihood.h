/* likelihood — log p(target | context) of many requests.
 *
 * Three values, by the network and the estimator:
 *   next-token networks             exact, from left to right
 *   an estimator without draws      exact under its order, the context visible (chain.h)
 *   else                            the bound E over j, sets of (T/j) Σ_masked −log p(x_l | z), with exactly j of the T
 *                                   target tokens masked and the context never: for j uniform on 1 … T it is the mean over
 *                                   all orders. Draw i of D has j = 1 + ((k − 1 + ⌊i·T/D⌋) mod T), k uniform on 1 … T:
 *                                   each j is uniform, so the mean is unbiased for any T and D, and the D of a request
 *                                   are spread evenly. A target of one token needs one draw.
 * The options of a question share k and the random numbers of their masks, which makes differences between them more
 * precise. Every draw is a function of (seed, question, draw).
 * Source: arXiv:2502.09992, App. B.5, without its rounding, which is biased for odd T and even D. */
#pragma once
#include "dist/comm.h"
#include "measure/estimator.h"
#include "store/requests.h"

/* What the network sees behind the target, as far as a row of it has room. */
typedef enum LikelihoodRest {
  REST_HIDDEN, /* nothing: it is hidden from attention */
  REST_MASK,   /* masks: unknown text goes on */
  REST_PAD,    /* padding */
  RESTS
} LikelihoodRest;

typedef struct LikelihoodOptions {
  const EstimatorTable *estimator; /* not used by next-token networks, nor is `greedy` */
  const Config *cfg;               /* its section eval, for estimators without draws */
  int64_t draws;
  uint64_t seed;
  LikelihoodRest rest;
  int32_t pad;               /* of REST_PAD */
  bool greedy;               /* decode without randomness, too: a pass per token */
  const char *progress;      /* NULL: quiet */
  const char *partial, *key; /* file of finished requests and its key (items.h); NULL: none */
} LikelihoodOptions;

typedef struct Likelihood {
  int stop;        /* the signal that stopped it: then there are no results; 0: complete */
  int64_t done;    /* finished requests */
  bool exact;      /* nothing is drawn */
  double *ll;      /* [n] nat, rank 0 only, as the next ones */
  double *error;   /* [n] standard error; NaN with one draw of a longer target */
  int32_t *greedy; /* [n] whether decoding gives the target: 1 or 0; −1: not asked */
  int64_t *draws;  /* [n] made */
} Likelihood;

/** likelihood_masks — how many of T target tokens draw number `draw` of D masks, 1 … T, for u uniform on [0,1). */
int64_t likelihood_masks(double u, int64_t T, int64_t draw, int64_t D);
/** likelihood_cut — tokens at the beginning of a context that a row of L tokens has no room for. */
int64_t likelihood_cut(const Requests *r, int64_t i, int64_t L);
/** likelihood_check — ERR_DATA: a target that a row of L tokens has no room for; for next-token networks a context that
 *  is empty, whose target's first token has no probability. */
int likelihood_check(const Requests *r, const char *path, const Objective *o, int64_t L);
/** likelihood_run — of all requests with the network's current weights. Collective. A stop signal is obeyed after a pass
 *  of the network. The partial file stays.
 *  Errors  ERR_NUMERIC: the network's output is NaN; those of items_run */
int likelihood_run(Likelihood *l, Network *net, const Requests *r, Comm *comm, const LikelihoodOptions *o);
void likelihood_destroy(Likelihood *l);
