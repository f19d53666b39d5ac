#include "base/err.h"
#include "model/transformer.h"

static int block_backward(Model *m, const ModelInput *in, int i) {
  Transformer *t = m->impl;
  Block *b = &t->blocks[i];
  Params *p = &m->params;
  int64_t R = model_rows(in);
  Tensor dx = tensor_rows(t->dx, 0, R), dbranch = tensor_rows(t->dbranch, 0, R), dnorm = tensor_rows(t->dnorm, 0, R);
  Tensor dact = tensor_rows(t->dact, 0, R), act = tensor_rows(b->act, 0, R);
  Tensor h1 = tensor_rows(b->norm1.h, 0, R), h2 = tensor_rows(b->norm2.h, 0, R);

  TRY(linear_backward(p, b->down, dact, false, dbranch, act));
  TRY(linear_gelu_backward(p, b->up, dnorm, dact, tensor_rows(b->pre, 0, R), h2));
  TRY(seam_backward(m, in, transformer_join2(m, i), dnorm, dx, dbranch));
  Attention a = transformer_attention(m, in, b);
  TRY(linear_backward(p, b->out, dnorm, false, dbranch, a.o));
  a.d_o = dnorm;
  TRY(op_attention_backward(m->dev, &a));
  TRY(op_rotary(m->dev, a.dqkv, m->options.heads, in->L, 0, true));
  TRY(linear_backward(p, b->qkv, dnorm, false, a.dqkv, h1));
  return seam_backward(m, in, transformer_join1(m, i), dnorm, dx, dbranch);
}

int transformer_backward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  int64_t R = model_rows(in);
  Tensor dx = tensor_rows(t->dx, 0, R), dbranch = tensor_rows(t->dbranch, 0, R);
  ASSERT(!t->options.positions); /* learned positions have no backward */
  TRY(tensor_zero(m->dev, dx));
  TRY(seam_backward(m, in, transformer_join1(m, m->options.blocks), tensor_rows(m->dh, 0, R), dx, dbranch));
  TRY(modulation_backward(&m->params, &t->conditioning, m->options.blocks, in->B));
  TRY(model_ready(m, in, t->final.weight));
  for (int i = (int)m->options.blocks - 1; i >= 0; i--) {
    TRY(block_backward(m, in, i));
    TRY(modulation_backward(&m->params, &t->conditioning, i, in->B));
    TRY(model_ready(m, in, t->blocks[i].norm1.weight));
  }
  TRY(conditioning_backward(&m->params, &t->conditioning));
  return op_embed_backward(m->dev, m->params.list[t->embedding].grad, dx, tensor_rows(m->ids, 0, R));
}
