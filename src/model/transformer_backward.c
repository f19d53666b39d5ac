#include "base/err.h"
#include "model/transformer.h"

/* Backward through a seam: gradient of its h in, gradient of its branch (if any) out; dx is carried along. */
static int seam_backward(Model *m, ResidualNorm *a, const Seam *s, Tensor dh, Tensor dgate, Tensor dshift,
                         Tensor dscale) {
  Transformer *t = m->impl;
  int64_t R = a->x.dims[0];
  a->dh = dh;
  a->dx = tensor_rows(t->dx, 0, R);
  a->dweight = m->params.list[s->weight].grad;
  a->dshift = dshift;
  a->dscale = dscale;
  if (!tensor_none(a->branch)) {
    a->dbranch = tensor_rows(t->dbranch, 0, R);
    a->dgate = dgate;
  }
  return residual_norm_backward(m->dev, a);
}

static int block_backward(Model *m, const ModelInput *in, int i) {
  Transformer *t = m->impl;
  Block *b = &t->blocks[i];
  Params *p = &m->params;
  int64_t R = in->B * m->options.length;
  Tensor dbranch = tensor_rows(t->dbranch, 0, R), dnorm = tensor_rows(t->dnorm, 0, R);
  Tensor dact = tensor_rows(t->dact, 0, R), act = tensor_rows(b->act, 0, R);
  ResidualNorm s2 = transformer_seam2(m, in, i), s1 = transformer_seam1(m, in, i);

  TRY(linear_backward(p, b->down, dact, false, dbranch, act));
  TRY(gelu_backward(m->dev, dact, tensor_rows(b->pre, 0, R)));
  TRY(linear_backward(p, b->up, dnorm, false, dact, s2.h));
  TRY(seam_backward(m, &s2, &b->norm2, dnorm, transformer_mod(m, in, b->dmods, GATE1),
                    transformer_mod(m, in, b->dmods, SHIFT2), transformer_mod(m, in, b->dmods, SCALE2)));
  Attention a = transformer_attention(m, in, b);
  TRY(linear_backward(p, b->out, dnorm, false, dbranch, a.o));
  a.d_o = dnorm;
  TRY(attention_backward(m->dev, &a));
  TRY(rotary(m->dev, a.dqkv, m->options.heads, m->options.length, true));
  TRY(linear_backward(p, b->qkv, dnorm, false, a.dqkv, s1.h));
  Tensor dgate = i ? transformer_mod(m, in, t->blocks[i - 1].dmods, GATE2) : TENSOR_NONE;
  return seam_backward(m, &s1, &b->norm1, dnorm, dgate, transformer_mod(m, in, b->dmods, SHIFT1),
                       transformer_mod(m, in, b->dmods, SCALE1));
}

/* Through the modulation Linears into the time MLP. */
static int conditioning_backward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  Params *p = &m->params;
  int64_t G = t->timed ? in->B : 1;
  Tensor c = tensor_rows(t->time.c, 0, G), dc = tensor_rows(t->time.dc, 0, G);
  TRY(tensor_zero(m->dev, t->time.dc));
  TRY(linear_backward(p, t->final_mod, dc, true, tensor_rows(t->final_dmods, 0, G), c));
  for (int64_t i = m->options.blocks - 1; i >= 0; i--)
    TRY(linear_backward(p, t->blocks[i].mod, dc, true, tensor_rows(t->blocks[i].dmods, 0, G), c));
  return time_embedding_backward(p, &t->time);
}

int transformer_backward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  int64_t R = in->B * m->options.length;
  const Block *last = &t->blocks[m->options.blocks - 1];
  Tensor dx = tensor_rows(t->dx, 0, R);
  ResidualNorm s = transformer_seam_final(m, in);
  ASSERT(!t->options.positions); /* and no bias in a norm: these have no gradient here */
  TRY(tensor_zero(m->dev, dx));
  TRY(seam_backward(m, &s, &t->final, tensor_rows(m->dh, 0, R), transformer_mod(m, in, last->dmods, GATE2),
                    transformer_mod(m, in, t->final_dmods, SHIFT1), transformer_mod(m, in, t->final_dmods, SCALE1)));
  for (int i = (int)m->options.blocks - 1; i >= 0; i--) TRY(block_backward(m, in, i));
  if (t->options.conditioned) TRY(conditioning_backward(m, in));
  return embed_backward(m->dev, m->params.list[t->embedding].grad, dx, tensor_rows(m->ids, 0, R));
}
