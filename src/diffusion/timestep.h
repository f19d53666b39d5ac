/* timestep — the time of each sequence of a batch, t = (1−τ)u + τ, and which of its tokens are masked.
 * Every draw is a pure function of (seed, purpose, step, global sequence index, position). */
#pragma once
#include "base/rng.h"
#include <stdbool.h>

/** timestep_draw — t of sequence i in a global batch of n. stratified: u = ((U_i + i)/n) mod 1, else u = U_i; U_i
 * uniform. Source: arXiv:2406.07524 App. C.3 (low-discrepancy sampler over the batch; here over the global batch) */
double timestep_draw(uint64_t seed, RngPurpose purpose, int64_t step, int64_t sequence, int64_t i, int64_t n,
                     bool stratified, double tau);
/** timestep_mask — z[L] := m where uniform(position) < chance, else x0. Returns the number of masked tokens. */
int64_t timestep_mask(int32_t *z, const int32_t *x0, int64_t L, int32_t m, double chance, RngKey key);
/** timestep_mask_count — z[L] := x0 with a uniformly drawn set of exactly k positions masked. */
void timestep_mask_count(int32_t *z, const int32_t *x0, int64_t L, int32_t m, int64_t k, RngKey key);
