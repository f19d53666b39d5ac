/* objective_subs — MDLM's substitution parameterisation.
 *
 *   zero masking probability:  f[m] ← −∞, p = softmax(f)
 *   carry-over:                where z ≠ m, p is one-hot at z
 *   loss_l = w(t)·(−log p(x0_l))  at masked l,  0 elsewhere
 *
 *   continuous time          w = σ'(t)/(e^σ(t) − 1)
 *   T steps                  w = 1/t, t ≤ 1 − 10⁻⁴: the discrete-time bound with p(m) = 0
 *   change of variables      w = log(1 − e^−σ(1)) − log(1 − e^−σ(0)): the probability of a mask is drawn so that the
 *                            rest of the weight cancels
 *
 *   blocks                   (diffusion.block) every block of L' tokens has its own t and w; the network sees the block
 *                            and, clean, what is before it. A block of one token is always masked with w = 1, which is
 *                            the integral over t: the loss is then the likelihood itself
 *
 * Only masked real positions are scored: elsewhere loss and gradient are zero, and logits are never computed.
 * Source: arXiv:2406.07524 §3.2.3, Eq. (10), App. C.1; blocks: arXiv:2503.09573 Eq. (8). */
#include "diffusion/noised.h"
#include <math.h>

static void subs_score(const Objective *o, Noised *n, int64_t b, double t) {
  const ObjectiveOptions *c = &o->options;
  double weight = c->change_of_variables ? o->slope : schedule_weight(o->schedule, t);
  noised_masked_rows(o, n, b, c->T > 0 ? 1 / fmin(t, 1 - 1e-4) : weight);
}

static void subs_log_p(const Objective *o, double *out, const float *f, int32_t z, double t) {
  (void)t;
  if (z == o->mask) {
    log_softmax(out, f, o->options.vocab, o->mask);
  } else {
    for (int64_t v = 0; v < o->options.vocab; v++) out[v] = v == z ? 0 : -INFINITY;
  }
}

extern const ObjectiveTable objective_subs;
const ObjectiveTable objective_subs = {.name = "subs",
                                       .gives = GIVES_X0,
                                       .options = OPTION_STEPS | OPTION_REWEIGHT | OPTION_TIMES | OPTION_BLOCKS,
                                       .terms = 1,
                                       .score = subs_score,
                                       .loss = objective_cross_entropy,
                                       .log_p = subs_log_p};
