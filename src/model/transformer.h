/* transformer — what dit, ar and gpt2 share: pre-norm blocks of attention and MLP, forward and explicit backward.
 *
 *   x = E[z]  (learned positions: + P[l])
 *   block:  x ← x + gate1 ⊙ dropout(W_o attention(rotary(W_qkv norm1(x))))
 *           x ← x + gate2 ⊙ dropout(W_2 gelu(W_1 norm2(x) + b_1) + b_2)
 *   final:  h = norm(x);   norm(x) = LN(x)·weight·(1 + scale) + shift
 * A network's file says which of these it has and adds its parameters; what is absent does nothing (gate 1, scale 0,
 * shift 0).
 *
 * Each residual addition is done by the norm that follows it, so a block is: norm1 (which adds the previous block's
 * MLP), attention, norm2 (which adds the attention), MLP; the last addition belongs to the final norm. */
#pragma once
#include "model/seam.h"

enum { SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2, MODS }; /* columns of a block's modulation, D each */

typedef struct Block {
  Seam norm1, norm2;
  Linear qkv, out, up, down;
  Tensor qkv_out, lse, o, branch1, pre, act, branch2;
  Tensor cache; /* [batch·L,2D] act: keys and values of all positions that steps have given */
} Block;

typedef struct TransformerOptions {
  bool conditioned; /* shift, scale and gate are Linears of the noise level (adaLN-zero) */
  bool causal;      /* a position sees itself and those before */
  bool positions;   /* learned positions, else rotary */
} TransformerOptions;

typedef struct Transformer {
  TransformerOptions options;
  int embedding, positions;
  Conditioning conditioning;
  Block *blocks;
  Seam final;
  Tensor lengths; /* [batch] i32: real positions of each sequence; none: all */
  Tensor x0;      /* [R,D] embedded tokens */
  Tensor dx, dbranch, dnorm, dqkv, dact;
  Arena caches; /* of the blocks, from the first step on */
} Transformer;

/** transformer_create — the network in m->impl, with the parameters that `parameters` adds in the order of a file's
 *  names; it also sets m->head_weight and m->head_bias. */
int transformer_create(Model *m, TransformerOptions options, int (*parameters)(Model *, Transformer *));
void transformer_destroy(Model *m);
/** transformer_parameters — those of dit; without conditioning those of ar. */
int transformer_parameters(Model *m, Transformer *t);
int transformer_forward(Model *m, const ModelInput *in);
int transformer_backward(Model *m, const ModelInput *in);
/** transformer_step — model_step of causal networks. */
int transformer_step(Model *m, int64_t B, int64_t position);

/* ---- between forward and backward */
/** transformer_join1, 2 — before attention of block i, or after the last one for i = blocks; before the MLP of block i.
 */
Join transformer_join1(const Model *m, int64_t i);
Join transformer_join2(const Model *m, int64_t i);
Attention transformer_attention(const Model *m, const ModelInput *in, const Block *b);
