/* objective_d3pm — the absorbing-state bound in T discrete steps, alpha(t) = 1 − t.
 *
 *   p = softmax(f) over all V tokens (subs_masking: f[m] ← −∞ first);  dt = 1/T, t ≤ 1 − 10⁻⁴, s = t − dt
 *   a = (1−t)/t·p(m) + 1,  b = (1−s)/s·p(m) + 1
 *   loss_l = T·[(dt/t)(log a − log p(x0_l)) + (1 − dt/t)(log a − log b)]  at masked l,  0 elsewhere
 *          + (−log p(x0_l)) of a second pass with input x0 and σ = 0, at every l: the reconstruction term
 * At t = dt the factor of log b is 0 and s = 0: the limit is taken. With p(m) = 0 both log a and log b vanish.
 * Source: Austin et al., arXiv:2107.03006 §3; arXiv:2406.07524 App. A. */
#include "base/err.h"
#include "diffusion/noised.h"
#include <math.h>
#include <string.h>

static int d3pm_check(const ObjectiveOptions *o) {
  CHECK(o->T > 0, ERR_USAGE,
        "diffusion.objective = d3pm is a bound in discrete time: set diffusion.T, for example to 1000");
  return OK;
}

static void d3pm_score(const Objective *o, Noised *n, int64_t b, double t) {
  double T = (double)o->options.T, dt = 1 / T, clamped = fmin(t, 1 - 1e-4), s = clamped - dt;
  bool last = s <= 1e-9 * dt;
  const double terms[4] = {1 / clamped, last ? 0 : T * (1 - dt / clamped), (1 - clamped) / clamped,
                           last ? 0 : dt / (clamped * s)}; /* (1−s)/s − (1−t)/t */
  int64_t first = n->n_rows;
  noised_masked_rows(o, n, b, terms[0]);
  for (int64_t r = first; r < n->n_rows && o->terms == 4; r++) memcpy(n->weight + 4 * r, terms, sizeof terms);
}

static void d3pm_second(const Objective *o, Noised *n) {
  n->n_rows = 0;
  memcpy(n->z, n->x0, (size_t)(n->B * n->L) * sizeof *n->z);
  for (int64_t b = 0; b < n->B; b++) {
    n->sigma[b] = 0;
    for (int64_t l = 0; l < n->length[b]; l++) {
      double *terms = noised_row(o, n, b, l, n->x0[b * n->L + l]);
      for (int i = 0; i < o->terms; i++) terms[i] = i == 0;
    }
  }
}

static int d3pm_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                     bool gradient) {
  if (o->options.subs_masking) return objective_cross_entropy(o, dev, loss, logits, target, weight, gradient);
  return op_absorbing_bound(dev, loss, logits, target, weight, o->mask, gradient);
}

static void d3pm_log_p(const Objective *o, double *out, const float *f, int32_t z, double t) {
  (void)z, (void)t;
  log_softmax(out, f, o->options.vocab, o->options.subs_masking ? o->mask : -1);
}

extern const ObjectiveTable objective_d3pm;
const ObjectiveTable objective_d3pm = {.name = "d3pm",
                                       .gives = GIVES_X0_OR_MASK,
                                       .options = OPTION_STEPS | OPTION_SUBS_MASKING,
                                       .terms = 4,
                                       .check = d3pm_check,
                                       .score = d3pm_score,
                                       .second = d3pm_second,
                                       .loss = d3pm_loss,
                                       .log_p = d3pm_log_p};
