/* chain — the exact log-likelihood of tokens under a network that fills in masks in a named order.
 *
 * The tokens to be scored are masked at first. A pass of the network gives p(x_l | z) at every masked position l; the
 * rule of commit.h chooses the set S(z) of positions that are filled next, with the tokens of the row:
 *   −log p(x) = Σ over passes  Σ_{l ∈ S(z)} −log p(x_l | z)
 * S(z) depends on the visible tokens alone: positions are ranked by confidence, margin or entropy of the distribution at
 * each, with the most likely token as the proposal, or from left to right. So the probabilities of all rows add up to 1.
 * Nothing is drawn. They are those of the samples by the same rule at temperature 1, except by confidence, where that
 * sampler ranks positions by the token that it has drawn for each.
 *
 * In block diffusion log p(x) is the sum over the blocks, each given the clean tokens of those before it. So all blocks of
 * a row advance in the same passes, as many as a block has steps.
 *
 * A network with time conditioning gets the time at which the schedule masks the row's present share of masks. */
#pragma once
#include "measure/estimator.h"
#include "sampling/commit.h"

typedef struct ChainOptions {
  Commit commit;
  int64_t steps; /* of rules that follow a number of steps; 0: as many as there are masks, one token a pass */
} ChainOptions;

/** chain_create — ERR_USAGE: a rule that random numbers decide; those of commit_create. */
int chain_create(ChainOptions *c, const CommitOptions *commit, int64_t steps);
/** chain_run — loss and likeliest of the n rows, n ≤ the network's batch, which advance together. net->noised is
 *  overwritten. For objectives that give x0.
 *  until_miss  a row ends, with a partial loss, where `likeliest` becomes false
 *  Errors  ERR_NUMERIC: the network's output is NaN; ERR_MEMORY; ERR_STOPPED (items.h) */
int chain_run(Network *net, const ChainOptions *c, EstimatorRow *rows, int64_t n, bool until_miss);
