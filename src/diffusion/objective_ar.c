/* objective_ar — the chain rule, left to right: nothing is masked, and row l of a causal network predicts token l + 1.
 *
 *   loss_l = −log p(x0_{l+1} | x0_1 … x0_l),  p = softmax(f) with f[m] ← −∞,  for the first length − 1 rows
 * The first token (bos) is given, so a sequence has length − 1 scored tokens, or L where the token after it is known. */
#include "diffusion/noised.h"

static void ar_score(const Objective *o, Noised *n, int64_t b, double t) {
  (void)t;
  const int32_t *x0 = n->x0 + b * n->L;
  for (int64_t l = 0; l + 1 < n->length[b]; l++) *noised_row(o, n, b, l, x0[l + 1]) = 1;
  if (n->end >= 0 && n->length[b] == n->L) *noised_row(o, n, b, n->L - 1, n->end) = 1;
}

static void ar_log_p(const Objective *o, double *out, const float *f, int32_t z, double t) {
  (void)z, (void)t;
  log_softmax(out, f, o->options.vocab, o->mask);
}

extern const ObjectiveTable objective_ar;
const ObjectiveTable objective_ar = {.name = "ar",
                                     .gives = GIVES_NEXT,
                                     .terms = 1,
                                     .score = ar_score,
                                     .loss = objective_cross_entropy,
                                     .log_p = ar_log_p};
