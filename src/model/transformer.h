/* transformer — the common part of the transformer networks: pre-norm blocks of attention and MLP, forward and explicit
 * backward.
 *
 *   x = E[z]   (learned positions: + P[l])
 *   block:  x ← x + gate1 ⊙ dropout(W_o attention(rotary(W_qkv norm1(x))))
 *           x ← x + gate2 ⊙ dropout(W_2 gelu(W_1 norm2(x) + b_1) + b_2)
 *   final:  h = norm(x)
 *   where   norm(x) = LN(x)·weight·(1 + scale) + shift
 *
 * A network's file chooses among these parts and adds their parameters. An absent part is the identity: gate 1, scale 0
 * and shift 0.
 *
 * Each residual addition is done by the norm that follows it. A block is therefore: norm1 (adds the MLP of the previous
 * block), attention, norm2 (adds the attention), MLP. The final norm does the last addition.
 *
 * Block diffusion (options.block) runs the clean rows through the same layers, behind the noisy ones; attention reads both
 * (see Attention).
 *
 * Rows meet in attention only: behind that of the last block, only the wanted rows are computed. They are gathered there,
 * and their gradients are scattered there. The clean half ends with the keys and values of the last block, which has no
 * queries for it. Where each sequence has its own modulation all rows are computed, since the sums over the rows of a
 * sequence that its modulation needs are those of whole sequences. */
#pragma once
#include "model/seam.h"

enum { SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2, MODS }; /* columns of a block's modulation, D each */

typedef struct Block {
  Seam norm1, norm2;
  Linear qkv, out, up, down;
  Tensor qkv_out, lse, o, branch1, pre, act, branch2;
  Tensor cache; /* [batch·L,2D] act: keys and values of the positions that steps have computed */
} Block;

typedef struct TransformerOptions {
  bool conditioned; /* shift, scale and gate come from the noise level and the class (adaLN-zero) */
  bool causal;      /* a position attends to itself and to earlier ones */
  bool positions;   /* learned positions instead of rotary ones */
} TransformerOptions;

typedef struct Transformer {
  TransformerOptions options;
  int embedding, positions;
  Conditioning conditioning;
  Block *blocks;
  Seam final;
  Tensor lengths; /* [batch] i32: real positions of each sequence; none without mask_padding */
  Tensor x0;      /* [R,D] embedded tokens */
  Tensor late_o;  /* [capacity,D] act: attention's output at the wanted rows */
  Tensor dx, dbranch, dnorm, dqkv, dact;
  Arena caches; /* the blocks' caches, allocated by the first step */
} Transformer;

/** transformer_create — the network in m->impl. `parameters` adds its parameters, in the order of a checkpoint, and
 *  sets m->head_weight and m->head_bias. */
int transformer_create(Model *m, TransformerOptions options, int (*parameters)(Model *, Transformer *));
void transformer_destroy(Model *m);
/** transformer_parameters — embedding, blocks, head, named as in the reference; time MLP and adaLN if conditioned. */
int transformer_parameters(Model *m, Transformer *t);
int transformer_forward(Model *m, const ModelInput *in);
int transformer_backward(Model *m, const ModelInput *in);
/** transformer_step — model_step, for networks without conditioning by time. */
int transformer_step(Model *m, const ModelInput *in, int64_t position);

/* ---- shared by forward and backward */
/** transformer_late — the wanted rows if behind block i's attention only they are computed in this pass, else none. */
Tensor transformer_late(const Model *m, int64_t i);
/** transformer_rows — the number of rows that are computed behind block i's attention. */
int64_t transformer_rows(const Model *m, const ModelInput *in, int64_t i);
/** transformer_join1, transformer_join2 — the seams before the attention of block i (i = blocks: the final one), and
 *  before its MLP. */
Join transformer_join1(const Model *m, const ModelInput *in, int64_t i);
Join transformer_join2(const Model *m, const ModelInput *in, int64_t i);
/** transformer_queries — the number of rows whose queries are computed in block i: the first ones of the pass. */
int64_t transformer_queries(const Model *m, const ModelInput *in, int64_t i);
/** transformer_rotate — the rotary embedding of block i's queries and keys, or its inverse; qkv of all rows of the pass,
 *  which stand at position `first` of their sequences and behind it. */
int transformer_rotate(Model *m, const ModelInput *in, int64_t i, Tensor qkv, int64_t first, bool inverse);
Attention transformer_attention(const Model *m, const ModelInput *in, int64_t i);
