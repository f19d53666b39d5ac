/* power — power-law moving averages of the weights, and how one is made of others after training.
 *
 * The average of width σ at step t weighs the weights of step τ by the profile
 *   p(τ) = (γ+1) τ^γ / t^(γ+1),   0 ≤ τ ≤ t,      σ² = (γ+1)/((γ+2)²(γ+3)):  σ is its standard deviation over t
 * It follows from the one before by θ̂ ← β θ̂ + (1−β) θ, β = (1 − 1/t)^(γ+1): the mass of step k is then exactly the
 * integral of p over (k−1, k]. Another average is the combination Σ w_i θ̂_i of stored ones whose profile is nearest to
 * its own in the 2-norm, under Σ w_i = 1, so that parameters that do not move stay what they are:
 *   A w = b + λ1,   A_ij = ∫ p_i p_j dτ = (γ_i+1)(γ_j+1)/(γ_i+γ_j+1) · (t_e/t_l)^γ_l / t_l,   b_i = ∫ p_i p dτ
 * where l is the later of i and j and e the earlier one.
 * Source: Karras et al., arXiv:2312.02696 §3 and App. C, without the condition on Σ w_i. */
#pragma once
#include <stdint.h>

#define POWER_NARROW 0.005 /* the range of widths */
#define POWER_WIDE 0.28

typedef struct Power {
  double step; /* t */
  double gamma;
} Power;

/** power_gamma — γ of the relative width σ, POWER_NARROW ≤ σ ≤ POWER_WIDE. */
double power_gamma(double sigma);
/** power_fresh — 1 − β at step t ≥ 1: the share of the current weights. */
double power_fresh(double gamma, int64_t step);
/** power_product — ∫ p_a p_b dτ. */
double power_product(Power a, Power b);
/** power_solve — weight[n]: the combination of the n profiles nearest to `wanted`. A profile that is one of the others
 *  or a combination of them, to rounding, gets weight 0. *distance := that of the two profiles over the norm of `wanted`.
 *  Errors  ERR_MEMORY */
int power_solve(const Power *p, int n, Power wanted, double *weight, double *distance);
