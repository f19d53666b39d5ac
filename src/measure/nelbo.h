/* nelbo — the bound on the negative log-likelihood of a data set, with its uncertainty.
 *
 * Each sequence gets `draws` draws of (t, mask); its value is the mean of its summed losses; nll and its interval are
 * interval.h's. Every draw is a function of (seed, draw, row): the same on any number of ranks. time   t stratified
 * over the sequences, token masked with 1 − alpha(t), the objective's weight: the published estimator count  k uniform
 * on 1 … L, stratified; exactly k of L positions masked; weight L/k: the bound for ε = τ = 0 because ∫₀¹ Bin(k; L, t)/t
 * dt = 1/k; less variance */
#pragma once
#include "diffusion/network.h"
#include "dist/comm.h"
#include "store/shards.h"

typedef struct NelboOptions {
  bool count;               /* estimator: false: time */
  int64_t draws, sequences; /* sequences 0: all */
  uint64_t seed;
  bool stratified;
  const char *progress; /* NULL: quiet */
} NelboOptions;

typedef struct Nelbo {
  int64_t sequences, tokens, masked;
  double nll, low, high; /* nat per token; the 95 % interval, NaN for a single sequence */
  double *loss;          /* [sequences] nat, rank 0 only */
  int64_t *length;       /* [sequences] scored tokens, rank 0 only */
} Nelbo;

/** nelbo_run — evaluate rows 0 … sequences−1 with the network's bound weights. Collective; every rank gets the totals.
 */
int nelbo_run(Nelbo *result, Network *net, Shards *data, Comm *comm, const NelboOptions *options);
void nelbo_destroy(Nelbo *n);
