#include "base/err.h"
#include "model/transformer.h"

/* Gradients [n,D] of the residual stream behind the attention of block i. Where only the wanted rows are computed there,
 * they lie in the memory of dqkv, which the attention's backward writes after they have been scattered. */
static Tensor late_dx(const Model *m, const ModelInput *in, int64_t i) {
  const Transformer *t = m->impl;
  Tensor late = transformer_late(m, i);
  if (tensor_none(late)) return tensor_rows(t->dx, 0, transformer_rows(m, in, i));
  return tensor_2d(t->dqkv.data, m->dev->real, tensor_count(late), m->options.width);
}

/* t->dx [R,D] from that of the wanted rows, and d_o [R,D] from the gradient of theirs; zero for the others. The gradient
 * d_o of a clean half without queries is not read. */
static int scatter_late(Model *m, const ModelInput *in, Tensor late, Tensor dx, Tensor d_o, Tensor late_d_o) {
  const Transformer *t = m->impl;
  int64_t n = rows_of(dx), R = model_rows(in);
  if (tensor_none(late)) return n < R ? tensor_zero(m->dev, tensor_rows(t->dx, n, R - n)) : OK;
  Tensor real = tensor_rows(late, 0, in->n_rows); /* without padding */
  TRY(op_scatter_rows(m->dev, tensor_rows(t->dx, 0, R), tensor_rows(dx, 0, in->n_rows), real));
  return op_scatter_rows(m->dev, d_o, tensor_rows(late_d_o, 0, in->n_rows), real);
}

/* Behind the attention: from dbranch and dx of its rows to *d_o [R,D], the gradient of the attention's output. */
static int mlp_backward(Model *m, const ModelInput *in, int i, Tensor *d_o) {
  Transformer *t = m->impl;
  Block *b = &t->blocks[i];
  Params *p = &m->params;
  Tensor late = transformer_late(m, i), dx = late_dx(m, in, i);
  int64_t n = rows_of(dx), R = model_rows(in);
  Tensor dbranch = tensor_rows(t->dbranch, 0, n), dnorm = tensor_rows(t->dnorm, 0, n);
  Tensor dact = tensor_rows(t->dact, 0, n), act = tensor_rows(b->act, 0, n), h2 = tensor_rows(b->norm2.h, 0, n);
  TRY(linear_gelu_backward(p, b->down, b->up, dact, dbranch, act, tensor_rows(b->pre, 0, n)));
  TRY(linear_backward(p, linear_without_bias(b->up), dnorm, false, dact, h2));
  TRY(seam_backward(m, in, transformer_join2(m, in, i), dnorm, dx, dbranch));
  Tensor o = tensor_rows(tensor_none(late) ? b->o : t->late_o, 0, n);
  TRY(linear_backward(p, b->out, dnorm, false, dbranch, o));
  *d_o = tensor_rows(tensor_none(late) ? t->dnorm : t->dbranch, 0, R);
  return scatter_late(m, in, late, dx, *d_o, dnorm);
}

/* From dqkv to dnorm[R,D], the gradient of what block i's projection has read. */
static int project_backward(Model *m, const ModelInput *in, int i, Tensor dnorm, Tensor dqkv) {
  const Block *b = &((const Transformer *)m->impl)->blocks[i];
  int64_t R = rows_of(dqkv), D = m->options.width, n = transformer_queries(m, in, i);
  TRY(linear_backward(&m->params, b->qkv, tensor_rows(dnorm, 0, n), false, tensor_rows(dqkv, 0, n),
                      tensor_rows(b->norm1.h, 0, n)));
  if (n == R) return OK;
  Tensor dkv = tensor_cols(tensor_rows(dqkv, n, R - n), D, 2 * D);
  return linear_backward_part(&m->params, b->qkv, D, tensor_rows(dnorm, n, R - n), dkv,
                              tensor_rows(b->norm1.h, n, R - n));
}

static int block_backward(Model *m, const ModelInput *in, int i) {
  Transformer *t = m->impl;
  int64_t R = model_rows(in);
  Tensor dnorm = tensor_rows(t->dnorm, 0, R);
  Attention a = transformer_attention(m, in, i);
  TRY(mlp_backward(m, in, i, &a.d_o));
  TRY(op_attention_backward(m->dev, &a));
  TRY(transformer_rotate(m, in, i, a.dqkv, 0, true));
  TRY(project_backward(m, in, i, dnorm, a.dqkv));
  return seam_backward(m, in, transformer_join1(m, in, i), dnorm, tensor_rows(t->dx, 0, R),
                       tensor_rows(t->dbranch, 0, R));
}

/* From m->dh to dx and dbranch of the rows behind the last block's attention. */
static int final_backward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  int64_t blocks = m->options.blocks;
  Tensor dx = late_dx(m, in, blocks - 1), dh = tensor_rows(m->dh, 0, rows_of(dx));
  if (t->conditioning.grouped) TRY(model_unpick(m, in, t->dnorm, &dh));
  TRY(tensor_zero(m->dev, dx));
  return seam_backward(m, in, transformer_join1(m, in, blocks), dh, dx, tensor_rows(t->dbranch, 0, rows_of(dx)));
}

int transformer_backward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  int64_t R = model_rows(in);
  ASSERT(!t->options.positions); /* learned positions have no backward */
  /* behind the last block's attention there is no clean half */
  for (int64_t i = m->options.blocks - 1; i <= m->options.blocks && in->clean && t->conditioning.grouped; i++)
    TRY(modulation_clear(&m->params, &t->conditioning, i));
  TRY(final_backward(m, in));
  TRY(modulation_backward(&m->params, &t->conditioning, m->options.blocks, in));
  TRY(model_ready(m, in, t->final.weight));
  for (int i = (int)m->options.blocks - 1; i >= 0; i--) {
    TRY(block_backward(m, in, i));
    TRY(modulation_backward(&m->params, &t->conditioning, i, in));
    TRY(model_ready(m, in, t->blocks[i].norm1.weight));
  }
  TRY(conditioning_backward(&m->params, &t->conditioning, in));
  return model_embed_backward(m, in, tensor_rows(t->dx, 0, R), t->embedding);
}
