/* objective_subs — MDLM's substitution parameterisation in continuous time.
 *
 *   zero masking probability:  f[m] ← −∞, p = softmax(f);   carry over: where z ≠ m, p is one-hot at z
 *   loss_l = σ'(t)/(e^σ(t) − 1) · (−log p(x0_l))  at masked l,  0 elsewhere
 * Only masked real positions are scored; the others' loss and gradient are zero and their logits are never made.
 * Source: arXiv:2406.07524 §3.2.3, Eq. (10). */
#include "diffusion/objective.h"

static void subs_score(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t) {
  double weight = schedule_weight(o->schedule, t);
  for (int64_t l = 0; l < length; l++) {
    if (n->z[b * n->L + l] != o->mask) continue;
    n->rows[n->n_rows] = (int32_t)(b * n->L + l);
    n->target[n->n_rows] = x0[l];
    n->weight[n->n_rows++] = weight;
  }
}

static int subs_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                     bool gradient) {
  return cross_entropy(dev, loss, logits, target, weight, o->mask, gradient);
}

static int subs_denoise(const Objective *o, Device *dev, Tensor ids, Tensor logits, Tensor uniform) {
  return tensor_none(uniform) ? argmax(dev, ids, logits, o->mask) : draw(dev, ids, logits, uniform, o->mask);
}

extern const ObjectiveTable objective_subs;
const ObjectiveTable objective_subs = {"subs", subs_score, subs_loss, subs_denoise};
