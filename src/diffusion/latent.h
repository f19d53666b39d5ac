/* latent — uniform noise as the largest entry of Gaussian noise. A token x of K is the vector
 *   w = α̃ onehot(x) + σ̃ ε,  ε ~ N(0, 1)^K,  α̃² = 1/(1 + e^γ),  σ̃² = 1/(1 + e^−γ)
 * and argmax w is x noised uniformly: it is x with probability P, and any other token with the same probability, so that
 *   alpha(γ) = (K P − 1)/(K − 1),  P = ∫ φ(y) Φ(y + e^(−γ/2))^(K−1) dy
 * softmax(w/τ) for a small τ is argmax w, softened: it is what the network sees instead in a curriculum.
 * Source: Sahoo et al., arXiv:2506.10892 §3, §4.1. */
#pragma once
#include "base/rng.h"

enum {
  LATENT_NODES = 257,
  LATENT_MOST = 32 /* entries of a softened token */
};
typedef struct Latent {
  int64_t tokens;                                  /* K */
  double low, high;                                /* γ at places 0 and 1, linear between them */
  double alpha[LATENT_NODES], slope[LATENT_NODES]; /* alpha and its slope at places i/(NODES − 1) */
} Latent;

/** latent_create — the table of alpha for γ from low to high, low < high; it falls. Between nodes alpha is a cubic. */
void latent_create(Latent *g, int64_t tokens, double low, double high);
/** latent_alpha — alpha at a place in [0,1]; *slope := its derivative by the place, negative. slope may be NULL. */
double latent_alpha(const Latent *g, double place, double *slope);
/** latent_place — where alpha has that value, 0 or 1 if it has it nowhere. */
double latent_place(const Latent *g, double alpha);
/** latent_upper — x with the probability q that a standard normal deviate is above it, 0 < q < 1. */
double latent_upper(double q);
/** latent_draw — the largest entries of softmax(w/temperature) of token x at that place, ids descending by weight, as
 *  random numbers of `key` say; returns how many, at most LATENT_MOST. ids[0] is argmax w. Tokens are numbered 0 … K
 *  without `mask`. What is left out weighs less than 1e-9 of the largest entry, or is behind the LATENT_MOST − 1 largest
 *  of the other tokens, in temperatures above some 0.002. */
int latent_draw(const Latent *g, double place, double temperature, int32_t x, int32_t mask, RngKey key,
                int32_t ids[LATENT_MOST], double weights[LATENT_MOST]);
