/* objective_uniform — diffusion whose noise replaces a token by a uniform one (UDLM).
 *
 * The noise draws from all tokens but the mask, which no row has: K = V − 1 of them, special ones included. At time t a
 * token is replaced with probability 1 − alpha, by itself with probability 1/K. The network does not see which tokens
 * were replaced, so it is conditioned on σ = −log alpha, and every position is scored:
 *
 *   p = softmax(f), f[m] ← −∞;  a = K alpha, b = 1 − alpha;  x_j = a [j = x0] + b,  y_j = a p_j + b
 *   loss_l = −alpha'/(K alpha)·Σ_j x_j/x_z·φ(y_j x_z/(y_z x_j)),  φ(q) = q − 1 − log q,  z the token at position l
 * It is never negative, and 0 if p is one-hot at x0. −alpha'/alpha = σ'.
 *
 * The bound of continuous time is the integral of the expected loss over t in [0,1], plus the divergence of z at t = 1
 * from the uniform law, which does not depend on the network:
 *   (alpha + b/K) log(a + b) + (1 − 1/K) b log b  nat a token at alpha = alpha(1): below alpha (1 + log(1 + a)), some
 * 0.004 at alpha(1) = 1e-3 with K = 50,000. As published, it is left out, and so is what lies below sampling_eps.
 * Source: Schiff et al., arXiv:2412.10193 §3.2; Sahoo et al., arXiv:2506.10892. */
#include "diffusion/noised.h"
#include <math.h>

static void uniform_score(const Objective *o, Noised *n, int64_t b, double t) {
  const double least = 1e-9; /* at t = 0 the loss diverges where a token is improbable */
  const int32_t *x0 = n->x0 + b * n->L, *z = n->z + b * n->L;
  double rate = schedule_rate(o->schedule, t), noise = fmax(least, schedule_masked(o->schedule, t));
  for (int64_t l = 0; l < n->length[b]; l++) {
    double *terms = noised_row(o, n, b, l, x0[l]);
    terms[0] = rate, terms[1] = noise, terms[2] = z[l];
  }
}

static int uniform_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                        bool gradient) {
  return op_uniform_bound(dev, loss, logits, target, weight, o->mask, gradient);
}

static void uniform_log_p(const Objective *o, double *out, const float *f, int32_t z, double t) {
  (void)z, (void)t;
  log_softmax(out, f, o->options.vocab, o->mask);
}

extern const ObjectiveTable objective_uniform;
const ObjectiveTable objective_uniform = {.name = "uniform",
                                          .gives = GIVES_X0_UNIFORM,
                                          .options = OPTION_TIMES,
                                          .timed = true,
                                          .terms = 3,
                                          .score = uniform_score,
                                          .loss = uniform_loss,
                                          .log_p = uniform_log_p};
