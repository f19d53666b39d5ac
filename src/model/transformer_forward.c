#include "base/err.h"
#include "model/transformer.h"

/* The seam after `branch` has been computed: which gate closes it, and where its modulation stands. */
static ResidualNorm seam(const Model *m, const ModelInput *in, const Seam *s, Tensor x, Tensor branch, Tensor gate,
                         Tensor shift, Tensor scale, uint32_t layer) {
  const ModelOptions *o = &m->options;
  const Transformer *t = m->impl;
  const Param *list = m->params.list;
  int64_t R = in->B * o->length;
  ResidualNorm a = {.kind = NORM_LAYER, .rows_per_group = t->timed ? o->length : R, .dropout = in->dropout};
  a.dropout.layer = in->dropout.layer + layer;
  a.dropout.L = o->length;
  a.x = tensor_rows(x, 0, R);
  if (!tensor_none(branch)) {
    a.branch = tensor_rows(branch, 0, R);
    a.gate = gate;
  } else {
    a.dropout.p = 0;
  }
  a.shift = s->bias < 0 ? shift : tensor_2d(list[s->bias].value.data, m->dev->real, 1, o->width);
  a.scale = scale;
  a.weight = list[s->weight].value;
  a.x_out = tensor_rows(s->x, 0, R);
  a.h = tensor_rows(s->h, 0, R);
  a.mean = tensor_rows(s->mean, 0, R);
  a.rstd = tensor_rows(s->rstd, 0, R);
  return a;
}

Tensor transformer_mod(const Model *m, const ModelInput *in, Tensor mods, int which) {
  const Transformer *t = m->impl;
  int64_t D = m->options.width;
  if (tensor_none(mods)) return mods;
  return tensor_cols(t->timed ? tensor_rows(mods, 0, in->B) : mods, which * D, D);
}

ResidualNorm transformer_seam1(const Model *m, const ModelInput *in, int i) {
  const Transformer *t = m->impl;
  const Block *b = &t->blocks[i], *last = i ? b - 1 : NULL;
  return seam(m, in, &b->norm1, last ? last->norm2.x : t->x0, last ? last->branch2 : TENSOR_NONE,
              last ? transformer_mod(m, in, last->mods, GATE2) : TENSOR_NONE, transformer_mod(m, in, b->mods, SHIFT1),
              transformer_mod(m, in, b->mods, SCALE1), (uint32_t)(2 * i));
}

ResidualNorm transformer_seam2(const Model *m, const ModelInput *in, int i) {
  const Transformer *t = m->impl;
  const Block *b = &t->blocks[i];
  return seam(m, in, &b->norm2, i ? b->norm1.x : t->x0, b->branch1, transformer_mod(m, in, b->mods, GATE1),
              transformer_mod(m, in, b->mods, SHIFT2), transformer_mod(m, in, b->mods, SCALE2), (uint32_t)(2 * i + 1));
}

ResidualNorm transformer_seam_final(const Model *m, const ModelInput *in) {
  const Transformer *t = m->impl;
  const Block *last = &t->blocks[m->options.blocks - 1];
  return seam(m, in, &t->final, last->norm2.x, last->branch2, transformer_mod(m, in, last->mods, GATE2),
              transformer_mod(m, in, t->final_mods, SHIFT1), transformer_mod(m, in, t->final_mods, SCALE1),
              (uint32_t)(2 * m->options.blocks));
}

Attention transformer_attention(const Model *m, const ModelInput *in, const Block *b) {
  const Transformer *t = m->impl;
  int64_t R = in->B * m->options.length;
  Attention a = {.heads = m->options.heads, .L = m->options.length, .causal = t->options.causal};
  if (!tensor_none(t->lengths)) a.lengths = tensor_rows(t->lengths, 0, in->B);
  a.qkv = tensor_rows(b->qkv_out, 0, R);
  a.o = tensor_rows(b->o, 0, R);
  a.lse = tensor_rows(b->lse, 0, R);
  if (m->options.training) a.dqkv = tensor_rows(t->dqkv, 0, R);
  return a;
}

static int block_forward(Model *m, const ModelInput *in, int i) {
  Transformer *t = m->impl;
  Block *b = &t->blocks[i];
  Params *p = &m->params;
  int64_t R = in->B * m->options.length;
  ResidualNorm s = transformer_seam1(m, in, i);
  TRY(residual_norm(m->dev, &s));
  Attention a = transformer_attention(m, in, b);
  TRY(linear_forward(p, b->qkv, a.qkv, TENSOR_NONE, s.h));
  if (!t->options.positions) TRY(rotary(m->dev, a.qkv, m->options.heads, m->options.length, false));
  TRY(attention(m->dev, &a));
  TRY(linear_forward(p, b->out, tensor_rows(b->branch1, 0, R), TENSOR_NONE, a.o));
  s = transformer_seam2(m, in, i);
  TRY(residual_norm(m->dev, &s));
  TRY(linear_forward(p, b->up, tensor_rows(b->act, 0, R), tensor_rows(b->pre, 0, R), s.h));
  return linear_forward(p, b->down, tensor_rows(b->branch2, 0, R), TENSOR_NONE, tensor_rows(b->act, 0, R));
}

static int embed_forward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  const Param *list = m->params.list;
  int64_t L = m->options.length, R = in->B * L;
  TRY(embed(m->dev, tensor_rows(t->x0, 0, R), tensor_rows(m->ids, 0, R), list[t->embedding].value));
  for (int64_t b = 0; b < in->B && t->options.positions; b++)
    TRY(add(m->dev, tensor_rows(t->x0, b * L, L), list[t->positions].value));
  return OK;
}

static int conditioning_forward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  Params *p = &m->params;
  TRY(time_embedding_forward(p, &t->time, t->timed ? in->sigma : NULL, in->B));
  for (int i = 0; i < m->options.blocks; i++)
    TRY(linear_forward(p, t->blocks[i].mod, t->blocks[i].mods, TENSOR_NONE, t->time.c));
  return linear_forward(p, t->final_mod, t->final_mods, TENSOR_NONE, t->time.c);
}

static int lengths_upload(Model *m, const ModelInput *in) {
  enum { PIECE = 64 };
  int32_t length[PIECE];
  Transformer *t = m->impl;
  for (int64_t i = 0; i < in->B; i += PIECE) {
    int64_t n = in->B - i < PIECE ? in->B - i : PIECE;
    for (int64_t k = 0; k < n; k++) {
      length[k] = in->lengths ? in->lengths[i + k] : (int32_t)m->options.length;
      ASSERT(length[k] > 0 && length[k] <= m->options.length);
    }
    TRY(tensor_upload(m->dev, tensor_rows(t->lengths, i, n), length));
  }
  return OK;
}

int transformer_forward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  if (m->options.mask_padding) TRY(lengths_upload(m, in));
  TRY(embed_forward(m, in));
  if (t->options.conditioned) TRY(conditioning_forward(m, in));
  for (int i = 0; i < m->options.blocks; i++) TRY(block_forward(m, in, i));
  ResidualNorm s = transformer_seam_final(m, in);
  return residual_norm(m->dev, &s);
}
