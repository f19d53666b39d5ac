/* timestep — the time of each sequence of a batch, t = (1−τ)u + τ, and which of its tokens are masked.
 * Every draw is a pure function of (seed, purpose, step, global sequence index, position). */
#pragma once
#include "base/rng.h"
#include <stdbool.h>

/** timestep_draw — t of sequence i in a global batch of n. stratified: u = ((U_i + i)/n) mod 1, else u = U_i; U_i
 * uniform. Source: arXiv:2406.07524 App. C.3 (low-discrepancy sampler over the batch; here over the global batch) */
double timestep_draw(uint64_t seed, RngPurpose purpose, int64_t step, int64_t sequence, int64_t i, int64_t n,
                     bool stratified, double tau);
/** timestep_cell — the cell that sequence i of n has in a step: a permutation of 0 … n−1 in which consecutive sequences lie
 *  far apart, turned by a random number of cells in every step. So each rank and micro-batch has times from all of
 *  [τ,1], about as many masks as the others, and as much work. n ≤ 2^32. */
int64_t timestep_cell(uint64_t seed, RngPurpose purpose, int64_t step, int64_t i, int64_t n);
/** timestep_blocks — t[blocks]: those of the blocks of sequence i, each stratified over all n·blocks cells of the batch,
 *  which a permutation of its own in every step assigns: so the time of a block is uniform in [τ,1] wherever it stands.
 *  With one block that of timestep_draw. Source: arXiv:2503.09573 App. C.3, whose cells go row by row, so that the
 *  blocks of a row have nearly the same time */
void timestep_blocks(double *t, int64_t blocks, uint64_t seed, RngPurpose purpose, int64_t step, int64_t sequence,
                     int64_t i, int64_t n, bool stratified, double tau);
/** timestep_mask — z at positions from … to−1 := m where uniform(position) < chance, else x0. Returns the number of masks. */
int64_t timestep_mask(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int32_t m, double chance, RngKey key);
/** timestep_token — token number ⌊uK⌋ of the K = V − 1 tokens besides m, u uniform on [0,1). */
int32_t timestep_token(double u, int64_t V, int32_t m);
/** timestep_replace — z at positions from … to−1 := a uniform one of the tokens besides m, which may be x0, where
 *  uniform(position) < chance, else x0. Where it is below, uniform(position)/chance decides which one: it is uniform, too. */
void timestep_replace(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int64_t V, int32_t m, double chance,
                      RngKey key);
/** timestep_mask_between — the law of timestep_mask given that least … most positions are masked, as if z were drawn anew
 *  until that holds. 0 < chance < 1, or least and most allow the sure number of masks. */
void timestep_mask_between(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int32_t m, double chance,
                           int64_t least, int64_t most, RngKey key);
/** timestep_mask_count — z at positions from … to−1 := x0 with a uniformly drawn set of exactly k of them masked. */
void timestep_mask_count(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int32_t m, int64_t k, RngKey key);
