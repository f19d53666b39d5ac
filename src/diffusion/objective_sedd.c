/* objective_sedd — the denoising score entropy of absorbing diffusion.
 *
 *   log s_y = f_y − log(e^σ − 1) − log(V − 1),  s := 1 at the input token;  r = 1/(e^σ − 1)
 *   loss_l = σ'·[Σ_{y≠m} s_y − r log s_{x0_l} + r(log r − 1)]  at masked l,  0 elsewhere
 * With g = f − log(V − 1), s = r e^g and the logarithms of r cancel:
 *   loss_l = σ'/(e^σ − 1)·[Σ_{y≠m} e^{g_y} − g_{x0_l} − 1]
 * which is never negative at e^g = p(x0 | z), is 0 at the true score of a known x0, and is free of cancellation. The
 * weight is that of −log p in the continuous-time bound, and where Σ e^g = 1 so is the loss. σ is the true noise level
 * also where the network is not conditioned on it. Source: Lou et al., arXiv:2310.16834 Eq. (5), §4.2. */
#include "diffusion/noised.h"
#include <math.h>

static void sedd_score(const Objective *o, Noised *n, int64_t b, double t) {
  noised_masked_rows(o, n, b, schedule_weight(o->schedule, t));
}

static int sedd_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                     bool gradient) {
  return op_score_entropy(dev, loss, logits, target, weight, o->mask, gradient);
}

static void sedd_log_p(const Objective *o, double *out, const float *f, int32_t z, double t) {
  int64_t V = o->options.vocab;
  double shift = log(expm1(schedule_sigma(o->schedule, t))) + log((double)V - 1);
  for (int64_t v = 0; v < V; v++) out[v] = v == z ? 0 : (double)f[v] - shift;
}

extern const ObjectiveTable objective_sedd;
const ObjectiveTable objective_sedd = {.name = "sedd",
                                       .gives = GIVES_SCORE,
                                       .options = OPTION_TIMES,
                                       .terms = 1,
                                       .score = sedd_score,
                                       .loss = sedd_loss,
                                       .log_p = sedd_log_p};
