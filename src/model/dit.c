/* dit — the diffusion transformer: bidirectional, pre-norm, modulated by the noise level (adaLN-zero).
 *
 *   x = E[z];  c = SiLU(MLP(sinusoid(σ)))  (with model.classes: + SiLU(C[y]), y the class)
 *   block:  (shift1,scale1,gate1,shift2,scale2,gate2) = Linear(c)
 *           x ← x + gate1 ⊙ dropout(W_o attention(rotary(W_qkv mod(LN(x), shift1, scale1))))
 *           x ← x + gate2 ⊙ dropout(W_2 gelu(W_1 mod(LN(x), shift2, scale2) + b_1) + b_2)
 *   final:  h = mod(LN(x), shift, scale), logits = Linear(h) */
#include "model/transformer.h"

static int dit_create(Model *m) {
  return transformer_create(m, (TransformerOptions){.conditioned = true}, transformer_parameters);
}

extern const ModelTable model_dit;
const ModelTable model_dit = {.name = "dit",
                              .timed = true,
                              .attends = true,
                              .halves = true,
                              .create = dit_create,
                              .forward = transformer_forward,
                              .backward = transformer_backward,
                              .destroy = transformer_destroy,
                              .step = transformer_step};
