/* ar — the autoregressive transformer: the reference's blocks, causal, without noise level, gates or modulation.
 *
 *   x = E[z]
 *   block:  x ← x + dropout(W_o attention(rotary(W_qkv LN(x))))        position l attends to 0 … l
 *           x ← x + dropout(W_2 gelu(W_1 LN(x) + b_1) + b_2)
 *   final:  h = LN(x), logits = Linear(h), for the token at l + 1 */
#include "model/transformer.h"

static int ar_create(Model *m) {
  return transformer_create(m, (TransformerOptions){.causal = true}, transformer_parameters);
}

extern const ModelTable model_ar;
const ModelTable model_ar = {.name = "ar",
                             .causal = true,
                             .attends = true,
                             .halves = true,
                             .create = ar_create,
                             .forward = transformer_forward,
                             .backward = transformer_backward,
                             .destroy = transformer_destroy,
                             .step = transformer_step};
