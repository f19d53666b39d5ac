/* dit — the diffusion transformer: bidirectional, pre-norm, modulated by the noise level (adaLN-zero).
 *
 *   x = E[z];  c = SiLU(MLP(sinusoid(σ)))
 *   block:  (shift1,scale1,gate1,shift2,scale2,gate2) = Linear(c)
 *           x ← x + gate1 ⊙ dropout(W_o attention(rotary(W_qkv mod(LN(x), shift1, scale1))))
 *           x ← x + gate2 ⊙ dropout(W_2 gelu(W_1 mod(LN(x), shift2, scale2) + b_1) + b_2)
 *   final:  h = mod(LN(x), shift, scale), logits = Linear(h)
 *
 * Each residual addition is done by the norm that follows it, so a block is: norm1 (which adds the previous block's
 * MLP), attention, norm2 (which adds the attention), MLP; the last addition belongs to the final norm. */
#include "base/err.h"
#include "base/mem.h"
#include "model/layers.h"
#include <math.h>
#include <stdio.h>

enum { SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2, MODS };

typedef struct Seam { /* one residual_norm: its weight and what it leaves behind */
  int weight;
  Tensor x, h, mean, rstd; /* x: the residual stream after its addition */
} Seam;

typedef struct Block {
  Seam norm1, norm2;
  Linear qkv, out, up, down, mod;
  Tensor mods, dmods; /* [G,6D] */
  Tensor qkv_out, lse, o, branch1, pre, act, branch2;
} Block;

typedef struct Dit {
  int embedding;
  TimeEmbedding time;
  Block *blocks;
  Seam final;
  Linear final_mod;
  Tensor final_mods, final_dmods; /* [G,2D] */
  Tensor x0;                      /* [R,D] embedded tokens */
  Tensor dx, dbranch, dnorm, dqkv, dact;
} Dit;

static int norm_add(Params *p, int *index, int64_t D, const char *name) {
  return params_add(p, index, INIT_ONE, 0, false, 1, &D, "%s", name);
}

static int block_add(Params *p, Block *b, int i, const ModelOptions *o) {
  int64_t D = o->width, M = o->mlp_ratio * D;
  char name[64];
#define NAME(part) (snprintf(name, sizeof name, "blocks.%d." part, i), name)
  TRY(norm_add(p, &b->norm1.weight, D, NAME("norm1.weight")));
  TRY(linear_add(p, &b->qkv, NAME("attn_qkv"), D, 3 * D, false, false, true));
  TRY(linear_add(p, &b->out, NAME("attn_out"), D, D, false, false, true));
  TRY(norm_add(p, &b->norm2.weight, D, NAME("norm2.weight")));
  TRY(linear_add(p, &b->up, NAME("mlp.0"), D, M, true, false, true));
  TRY(linear_add(p, &b->down, NAME("mlp.2"), M, D, true, false, true));
  return linear_add(p, &b->mod, NAME("adaLN_modulation"), o->cond_dim, MODS * D, true, true, false);
#undef NAME
}

static int params_of(Model *m, Dit *dit) {
  const ModelOptions *o = &m->options;
  Params *p = &m->params;
  int64_t table[2] = {o->vocab, o->width};
  Linear head;
  TRY(params_add(p, &dit->embedding, INIT_UNIFORM, 1 / sqrt((double)o->width), false, 2, table,
                 "vocab_embed.embedding"));
  TRY(time_embedding_add(p, &dit->time, o->cond_dim));
  for (int i = 0; i < o->blocks; i++) TRY(block_add(p, &dit->blocks[i], i, o));
  TRY(norm_add(p, &dit->final.weight, o->width, "output_layer.norm_final.weight"));
  TRY(linear_add(p, &head, "output_layer.linear", o->width, o->vocab, true, true, true));
  m->head_weight = head.weight;
  m->head_bias = head.bias;
  return linear_add(p, &dit->final_mod, "output_layer.adaLN_modulation", o->cond_dim, 2 * o->width, true, true, false);
}

static void seam_plan(Arena *a, Seam *s, DType real, int64_t R, int64_t D) {
  s->x = arena_tensor(a, real, R, D);
  s->h = arena_tensor(a, real, R, D);
  s->mean = arena_tensor(a, real, R, 0);
  s->rstd = arena_tensor(a, real, R, 0);
}

static void block_plan(Arena *a, Block *b, const ModelOptions *o, DType real) {
  int64_t R = o->batch * o->length, D = o->width;
  seam_plan(a, &b->norm1, real, R, D);
  b->qkv_out = arena_tensor(a, real, R, 3 * D);
  b->lse = arena_tensor(a, real, R, o->heads);
  b->o = arena_tensor(a, real, R, D);
  b->branch1 = arena_tensor(a, real, R, D);
  seam_plan(a, &b->norm2, real, R, D);
  b->pre = arena_tensor(a, real, R, o->mlp_ratio * D);
  b->act = arena_tensor(a, real, R, o->mlp_ratio * D);
  b->branch2 = arena_tensor(a, real, R, D);
}

/* Without training all blocks share one block's activations: nothing is read again after the next block's first norm.
 */
static void plan(Arena *a, Model *m, Dit *dit) {
  const ModelOptions *o = &m->options;
  DType real = m->dev->real;
  int64_t R = o->batch * o->length, D = o->width, G = o->time_conditioning ? o->batch : 1;
  m->ids = arena_tensor(a, DT_I32, R, 0);
  dit->x0 = arena_tensor(a, real, R, D);
  time_embedding_plan(a, &dit->time, real, G, o->cond_dim, o->training);
  for (int i = 0; i < o->blocks; i++) {
    Block *b = &dit->blocks[i], *first = &dit->blocks[0];
    if (i == 0 || o->training) {
      block_plan(a, b, o, real);
    } else {
      Seam norm1 = {b->norm1.weight, first->norm1.x, first->norm1.h, first->norm1.mean, first->norm1.rstd};
      Seam norm2 = {b->norm2.weight, first->norm2.x, first->norm2.h, first->norm2.mean, first->norm2.rstd};
      b->norm1 = norm1, b->norm2 = norm2;
      b->qkv_out = first->qkv_out, b->lse = first->lse, b->o = first->o, b->branch1 = first->branch1;
      b->pre = first->pre, b->act = first->act, b->branch2 = first->branch2;
    }
    b->mods = arena_tensor(a, real, G, MODS * D);
    if (o->training) b->dmods = arena_tensor(a, real, G, MODS * D);
  }
  seam_plan(a, &dit->final, real, R, D);
  dit->final_mods = arena_tensor(a, real, G, 2 * D);
  m->h = dit->final.h;
  if (!o->training) return;
  dit->final_dmods = arena_tensor(a, real, G, 2 * D);
  m->dh = arena_tensor(a, real, R, D);
  dit->dx = arena_tensor(a, real, R, D);
  dit->dbranch = arena_tensor(a, real, R, D);
  dit->dnorm = arena_tensor(a, real, R, D);
  dit->dqkv = arena_tensor(a, real, R, 3 * D);
  dit->dact = arena_tensor(a, real, R, o->mlp_ratio * D);
}

static int dit_create(Model *m) {
  Dit *dit = NULL;
  TRY(mem_alloc(&dit, sizeof *dit));
  m->impl = dit;
  TRY(mem_alloc(&dit->blocks, (size_t)m->options.blocks * sizeof(Block)));
  TRY(params_of(m, dit));
  TRY(params_commit(&m->params, m->dev, m->options.training));
  arena_measure(&m->arena, m->dev);
  plan(&m->arena, m, dit);
  TRY(arena_commit(&m->arena));
  plan(&m->arena, m, dit);
  return OK;
}

static void dit_destroy(Model *m) {
  Dit *dit = m->impl;
  if (dit) mem_free(&dit->blocks);
  mem_free(&m->impl);
}

/* The seam after `branch` has been computed: which gate closes it, and where its modulation stands. */
static ResidualNorm seam(const Model *m, const ModelInput *in, const Seam *s, Tensor x, Tensor branch, Tensor gate,
                         Tensor shift, Tensor scale, uint32_t layer) {
  const ModelOptions *o = &m->options;
  int64_t R = in->B * o->length;
  ResidualNorm a = {.kind = NORM_LAYER, .rows_per_group = o->time_conditioning ? o->length : R, .dropout = in->dropout};
  a.dropout.layer = in->dropout.layer + layer;
  a.dropout.L = o->length;
  a.x = tensor_rows(x, 0, R);
  if (!tensor_none(branch)) {
    a.branch = tensor_rows(branch, 0, R);
    a.gate = gate;
  } else {
    a.dropout.p = 0;
  }
  a.shift = shift;
  a.scale = scale;
  a.weight = m->params.list[s->weight].value;
  a.x_out = tensor_rows(s->x, 0, R);
  a.h = tensor_rows(s->h, 0, R);
  a.mean = tensor_rows(s->mean, 0, R);
  a.rstd = tensor_rows(s->rstd, 0, R);
  return a;
}

static Tensor mod_cols(const Model *m, const ModelInput *in, Tensor mods, int which) {
  int64_t D = m->options.width;
  return tensor_cols(m->options.time_conditioning ? tensor_rows(mods, 0, in->B) : mods, which * D, D);
}

/* The three seams of the network: before attention of block i, before its MLP, and the final one. */
static ResidualNorm seam1(const Model *m, const ModelInput *in, int i) {
  const Dit *dit = m->impl;
  const Block *b = &dit->blocks[i], *last = i ? b - 1 : NULL;
  return seam(m, in, &b->norm1, last ? last->norm2.x : dit->x0, last ? last->branch2 : TENSOR_NONE,
              last ? mod_cols(m, in, last->mods, GATE2) : TENSOR_NONE, mod_cols(m, in, b->mods, SHIFT1),
              mod_cols(m, in, b->mods, SCALE1), (uint32_t)(2 * i));
}
static ResidualNorm seam2(const Model *m, const ModelInput *in, int i) {
  const Dit *dit = m->impl;
  const Block *b = &dit->blocks[i];
  return seam(m, in, &b->norm2, i ? b->norm1.x : dit->x0, b->branch1, mod_cols(m, in, b->mods, GATE1),
              mod_cols(m, in, b->mods, SHIFT2), mod_cols(m, in, b->mods, SCALE2), (uint32_t)(2 * i + 1));
}
static ResidualNorm seam_final(const Model *m, const ModelInput *in) {
  const Dit *dit = m->impl;
  const Block *last = &dit->blocks[m->options.blocks - 1];
  return seam(m, in, &dit->final, last->norm2.x, last->branch2, mod_cols(m, in, last->mods, GATE2),
              mod_cols(m, in, dit->final_mods, 0), mod_cols(m, in, dit->final_mods, 1),
              (uint32_t)(2 * m->options.blocks));
}

static Attention attention_of(const Model *m, const ModelInput *in, const Block *b) {
  const Dit *dit = m->impl;
  int64_t R = in->B * m->options.length;
  Attention a = {.heads = m->options.heads, .L = m->options.length, .causal = false};
  a.qkv = tensor_rows(b->qkv_out, 0, R);
  a.o = tensor_rows(b->o, 0, R);
  a.lse = tensor_rows(b->lse, 0, R);
  if (m->options.training) a.dqkv = tensor_rows(dit->dqkv, 0, R);
  return a;
}

static int block_forward(Model *m, const ModelInput *in, int i) {
  Dit *dit = m->impl;
  Block *b = &dit->blocks[i];
  Params *p = &m->params;
  int64_t R = in->B * m->options.length;
  ResidualNorm s = seam1(m, in, i);
  TRY(residual_norm(m->dev, &s));
  TRY(linear_forward(p, b->qkv, tensor_rows(b->qkv_out, 0, R), TENSOR_NONE, s.h));
  TRY(rotary(m->dev, tensor_rows(b->qkv_out, 0, R), m->options.heads, m->options.length, false));
  Attention a = attention_of(m, in, b);
  TRY(attention(m->dev, &a));
  TRY(linear_forward(p, b->out, tensor_rows(b->branch1, 0, R), TENSOR_NONE, a.o));
  s = seam2(m, in, i);
  TRY(residual_norm(m->dev, &s));
  TRY(linear_forward(p, b->up, tensor_rows(b->act, 0, R), tensor_rows(b->pre, 0, R), s.h));
  return linear_forward(p, b->down, tensor_rows(b->branch2, 0, R), TENSOR_NONE, tensor_rows(b->act, 0, R));
}

static int dit_forward(Model *m, const ModelInput *in) {
  Dit *dit = m->impl;
  Params *p = &m->params;
  int64_t R = in->B * m->options.length;
  TRY(embed(m->dev, tensor_rows(dit->x0, 0, R), tensor_rows(m->ids, 0, R), p->list[dit->embedding].value));
  TRY(time_embedding_forward(p, &dit->time, m->options.time_conditioning ? in->sigma : NULL, in->B));
  for (int i = 0; i < m->options.blocks; i++)
    TRY(linear_forward(p, dit->blocks[i].mod, dit->blocks[i].mods, TENSOR_NONE, dit->time.c));
  TRY(linear_forward(p, dit->final_mod, dit->final_mods, TENSOR_NONE, dit->time.c));
  for (int i = 0; i < m->options.blocks; i++) TRY(block_forward(m, in, i));
  ResidualNorm s = seam_final(m, in);
  return residual_norm(m->dev, &s);
}

/* Backward through a seam: gradient of its h in, gradient of its branch (if any) out; dx is carried along. */
static int seam_backward(Model *m, ResidualNorm *a, const Seam *s, Tensor dh, Tensor dgate, Tensor dshift,
                         Tensor dscale) {
  Dit *dit = m->impl;
  int64_t R = a->x.dims[0];
  a->dh = dh;
  a->dx = tensor_rows(dit->dx, 0, R);
  a->dweight = m->params.list[s->weight].grad;
  a->dshift = dshift;
  a->dscale = dscale;
  if (!tensor_none(a->branch)) {
    a->dbranch = tensor_rows(dit->dbranch, 0, R);
    a->dgate = dgate;
  }
  return residual_norm_backward(m->dev, a);
}

static int block_backward(Model *m, const ModelInput *in, int i) {
  Dit *dit = m->impl;
  Block *b = &dit->blocks[i];
  Params *p = &m->params;
  int64_t R = in->B * m->options.length;
  Tensor dbranch = tensor_rows(dit->dbranch, 0, R), dnorm = tensor_rows(dit->dnorm, 0, R);
  Tensor dact = tensor_rows(dit->dact, 0, R), act = tensor_rows(b->act, 0, R);
  ResidualNorm s2 = seam2(m, in, i), s1 = seam1(m, in, i);

  TRY(linear_backward(p, b->down, dact, false, dbranch, act));
  TRY(gelu_backward(m->dev, dact, tensor_rows(b->pre, 0, R)));
  TRY(linear_backward(p, b->up, dnorm, false, dact, s2.h));
  TRY(seam_backward(m, &s2, &b->norm2, dnorm, mod_cols(m, in, b->dmods, GATE1), mod_cols(m, in, b->dmods, SHIFT2),
                    mod_cols(m, in, b->dmods, SCALE2)));
  Attention a = attention_of(m, in, b);
  TRY(linear_backward(p, b->out, dnorm, false, dbranch, a.o));
  a.d_o = dnorm;
  TRY(attention_backward(m->dev, &a));
  TRY(rotary(m->dev, a.dqkv, m->options.heads, m->options.length, true));
  TRY(linear_backward(p, b->qkv, dnorm, false, a.dqkv, s1.h));
  Tensor dgate = i ? mod_cols(m, in, dit->blocks[i - 1].dmods, GATE2) : TENSOR_NONE;
  return seam_backward(m, &s1, &b->norm1, dnorm, dgate, mod_cols(m, in, b->dmods, SHIFT1),
                       mod_cols(m, in, b->dmods, SCALE1));
}

/* Through the modulation Linears into the time MLP. */
static int mods_backward(Model *m, const ModelInput *in) {
  Dit *dit = m->impl;
  Params *p = &m->params;
  int64_t G = m->options.time_conditioning ? in->B : 1;
  Tensor c = tensor_rows(dit->time.c, 0, G), dc = tensor_rows(dit->time.dc, 0, G);
  TRY(tensor_zero(m->dev, dit->time.dc));
  TRY(linear_backward(p, dit->final_mod, dc, true, tensor_rows(dit->final_dmods, 0, G), c));
  for (int64_t i = m->options.blocks - 1; i >= 0; i--)
    TRY(linear_backward(p, dit->blocks[i].mod, dc, true, tensor_rows(dit->blocks[i].dmods, 0, G), c));
  return time_embedding_backward(p, &dit->time);
}

static int dit_backward(Model *m, const ModelInput *in) {
  Dit *dit = m->impl;
  Params *p = &m->params;
  int64_t R = in->B * m->options.length;
  const Block *last = &dit->blocks[m->options.blocks - 1];
  ResidualNorm s = seam_final(m, in);
  TRY(tensor_zero(m->dev, tensor_rows(dit->dx, 0, R)));
  TRY(seam_backward(m, &s, &dit->final, tensor_rows(m->dh, 0, R), mod_cols(m, in, last->dmods, GATE2),
                    mod_cols(m, in, dit->final_dmods, 0), mod_cols(m, in, dit->final_dmods, 1)));
  for (int i = (int)m->options.blocks - 1; i >= 0; i--) TRY(block_backward(m, in, i));
  TRY(mods_backward(m, in));
  return embed_backward(m->dev, p->list[dit->embedding].grad, tensor_rows(dit->dx, 0, R), tensor_rows(m->ids, 0, R));
}

extern const ModelTable model_dit;
const ModelTable model_dit = {"dit", dit_create, dit_forward, dit_backward, dit_destroy};
