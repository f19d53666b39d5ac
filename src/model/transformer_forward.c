#include "base/err.h"
#include "model/transformer.h"

/* The modulation of block i, or of the final norm for i = blocks; NULL without conditioning. */
static const Modulation *modulation(const Transformer *t, int64_t i) {
  return t->options.conditioned ? &t->conditioning.list[i] : NULL;
}

Tensor transformer_late(const Model *m, int64_t i) {
  const Transformer *t = m->impl;
  return i + 1 < m->options.blocks || t->conditioning.grouped ? TENSOR_NONE : m->rows;
}

int64_t transformer_rows(const Model *m, const ModelInput *in, int64_t i) {
  Tensor late = transformer_late(m, i);
  if (!tensor_none(late)) return tensor_count(late);
  return i + 1 < m->options.blocks ? model_rows(in) : in->B * in->L;
}

Join transformer_join1(const Model *m, const ModelInput *in, int64_t i) {
  const Transformer *t = m->impl;
  const Block *last = i ? &t->blocks[i - 1] : NULL;
  Join j = {.n = last ? transformer_rows(m, in, i - 1) : model_rows(in),
            .seam = i < m->options.blocks ? &t->blocks[i].norm1 : &t->final,
            .conditioning = &t->conditioning,
            .rows = last ? transformer_late(m, i - 1) : TENSOR_NONE,
            .x = last ? last->norm2.x : t->x0,
            .layer = (uint32_t)(2 * i),
            .modulated = modulation(t, i),
            .shift = SHIFT1};
  if (last) j.branch = last->branch2, j.gated = modulation(t, i - 1), j.gate = GATE2;
  return j;
}

Join transformer_join2(const Model *m, const ModelInput *in, int64_t i) {
  const Transformer *t = m->impl;
  const Block *b = &t->blocks[i];
  Tensor late = transformer_late(m, i);
  return (Join){.n = transformer_rows(m, in, i),
                .seam = &b->norm2,
                .conditioning = &t->conditioning,
                .rows = late,
                .x = !tensor_none(late) ? b->norm2.x
                     : i                ? b->norm1.x
                                        : t->x0, /* gathered in place */
                .branch = b->branch1,
                .layer = (uint32_t)(2 * i + 1),
                .gated = modulation(t, i),
                .gate = GATE1,
                .modulated = modulation(t, i),
                .shift = SHIFT2};
}

int64_t transformer_queries(const Model *m, const ModelInput *in, int64_t i) {
  return in->clean && i + 1 == m->options.blocks ? in->B * in->L : model_rows(in);
}

int transformer_rotate(Model *m, const ModelInput *in, int64_t i, Tensor qkv, int64_t first, bool inverse) {
  int64_t R = rows_of(qkv), D = m->options.width, heads = m->options.heads, n = transformer_queries(m, in, i);
  TRY(op_rotary(m->dev, tensor_cols(tensor_rows(qkv, 0, n), 0, 2 * D), 2 * heads, in->L, first, inverse));
  if (n == R) return OK;
  return op_rotary(m->dev, tensor_cols(tensor_rows(qkv, n, R - n), D, D), heads, in->L, first, inverse);
}

Attention transformer_attention(const Model *m, const ModelInput *in, int64_t i) {
  const Transformer *t = m->impl;
  const Block *b = &t->blocks[i];
  int64_t R = model_rows(in);
  Attention a = {.heads = m->options.heads, .L = in->L, .block = m->options.block};
  a.causal = t->options.causal && a.block == 0;
  if (a.block) a.draws = in->draws;
  a.keys_only = transformer_queries(m, in, i) < R;
  if (!tensor_none(t->lengths)) a.lengths = tensor_rows(t->lengths, 0, in->B);
  a.qkv = tensor_rows(b->qkv_out, 0, R);
  a.o = tensor_rows(b->o, 0, R);
  a.lse = tensor_rows(b->lse, 0, R);
  if (m->options.training) a.dqkv = tensor_rows(t->dqkv, 0, R);
  return a;
}

/* Queries, keys and values of block i, as far as they are needed. */
static int project(Model *m, const ModelInput *in, int64_t i) {
  const Block *b = &((const Transformer *)m->impl)->blocks[i];
  int64_t R = model_rows(in), D = m->options.width, n = transformer_queries(m, in, i);
  TRY(linear_forward(&m->params, b->qkv, tensor_rows(b->qkv_out, 0, n), TENSOR_NONE, tensor_rows(b->norm1.h, 0, n)));
  if (n == R) return OK;
  Tensor kv = tensor_cols(tensor_rows(b->qkv_out, n, R - n), D, 2 * D);
  return linear_forward_part(&m->params, b->qkv, D, kv, tensor_rows(b->norm1.h, n, R - n));
}

/* ---- attention over whole sequences, and for some positions with a cache */
enum { WHOLE = -1 };

static int attend(Model *m, const ModelInput *in, int64_t i) {
  const Transformer *t = m->impl;
  Attention a = transformer_attention(m, in, i);
  if (!t->options.positions) TRY(transformer_rotate(m, in, i, a.qkv, 0, false));
  return op_attention(m->dev, &a);
}

static int attend_step(Model *m, const ModelInput *in, int64_t i, int64_t position) {
  const Transformer *t = m->impl;
  const Block *b = &t->blocks[i];
  int64_t R = model_rows(in);
  AttentionStep a = {.heads = m->options.heads, .position = position, .count = in->L, .block = m->options.block};
  a.L = b->cache.dims[0] / m->options.batch;
  a.cache = tensor_rows(b->cache, 0, in->B * a.L);
  a.qkv = tensor_rows(b->qkv_out, 0, R);
  a.o = tensor_rows(b->o, 0, R);
  if (!t->options.positions) TRY(transformer_rotate(m, in, i, a.qkv, position, false));
  return op_attention_step(m->dev, &a);
}

/* The wanted rows of block i's attention and of its residual stream, where only those are computed from here on.
 * *o: the rows [*n,D] that the output projection takes. */
static int gather_late(Model *m, const ModelInput *in, int i, int64_t *n, Tensor *o) {
  Transformer *t = m->impl;
  const Block *b = &t->blocks[i];
  Tensor late = transformer_late(m, i), x = tensor_rows(i ? b->norm1.x : t->x0, 0, model_rows(in));
  *n = transformer_rows(m, in, i);
  *o = tensor_rows(b->o, 0, *n);
  if (tensor_none(late)) return OK;
  TRY(op_gather_rows(m->dev, tensor_rows(t->late_o, 0, *n), tensor_rows(b->o, 0, model_rows(in)), late));
  *o = tensor_rows(t->late_o, 0, *n);
  return op_gather_rows(m->dev, tensor_rows(b->norm2.x, 0, *n), x, late);
}

static int block_forward(Model *m, const ModelInput *in, int i, int64_t position) {
  Transformer *t = m->impl;
  Block *b = &t->blocks[i];
  Params *p = &m->params;
  int64_t n;
  Tensor o;
  TRY(seam_forward(m, in, transformer_join1(m, in, i)));
  TRY(project(m, in, i));
  TRY(position == WHOLE ? attend(m, in, i) : attend_step(m, in, i, position));
  TRY(gather_late(m, in, i, &n, &o));
  Tensor pre = tensor_rows(b->pre, 0, n), act = tensor_rows(b->act, 0, n);
  TRY(linear_forward(p, b->out, tensor_rows(b->branch1, 0, n), TENSOR_NONE, o));
  TRY(seam_forward(m, in, transformer_join2(m, in, i)));
  TRY(linear_forward(p, b->up, act, pre, tensor_rows(b->norm2.h, 0, n)));
  return linear_forward(p, b->down, tensor_rows(b->branch2, 0, n), TENSOR_NONE, act);
}

/* The final norm, of the wanted rows if only those are left, else of all. */
static int final_forward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  TRY(seam_forward(m, in, transformer_join1(m, in, m->options.blocks)));
  m->h = t->final.h;
  return t->conditioning.grouped ? model_pick(m, in, t->final.h) : OK;
}

/* Embed the tokens; the rows of each sequence start at position `first`. */
static int embed_forward(Model *m, const ModelInput *in, int64_t first) {
  Transformer *t = m->impl;
  const Param *list = m->params.list;
  int64_t L = in->L, R = model_rows(in);
  TRY(model_embed(m, in, tensor_rows(t->x0, 0, R), t->embedding));
  for (int64_t b = 0; b < in->B && t->options.positions; b++)
    TRY(op_add(m->dev, tensor_rows(t->x0, b * L, L), tensor_rows(list[t->positions].value, first, L)));
  return OK;
}

static int lengths_upload(Model *m, const ModelInput *in) {
  enum { PIECE = 64 };
  int32_t length[PIECE];
  Transformer *t = m->impl;
  for (int64_t i = 0; i < in->B; i += PIECE) {
    int64_t n = in->B - i < PIECE ? in->B - i : PIECE;
    for (int64_t k = 0; k < n; k++) {
      length[k] = in->lengths ? in->lengths[i + k] : (int32_t)in->L;
      ASSERT(length[k] > 0 && length[k] <= in->L);
    }
    TRY(tensor_upload(m->dev, tensor_rows(t->lengths, i, n), length));
  }
  return OK;
}

int transformer_forward(Model *m, const ModelInput *in) {
  Transformer *t = m->impl;
  if (m->options.mask_padding) TRY(lengths_upload(m, in));
  TRY(embed_forward(m, in, 0));
  if (t->options.conditioned) TRY(conditioning_forward(&m->params, &t->conditioning, in));
  for (int i = 0; i < m->options.blocks; i++) TRY(block_forward(m, in, i, WHOLE));
  return final_forward(m, in);
}

static int caches_create(Model *m) {
  Transformer *t = m->impl;
  const ModelOptions *o = &m->options;
  arena_measure(&t->caches, m->dev);
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < o->blocks; i++)
      t->blocks[i].cache = arena_tensor(&t->caches, m->dev->act, o->batch * o->length, 2 * o->width);
    if (pass == 0) TRY(arena_commit(&t->caches));
  }
  return OK;
}

/* Some positions of B sequences pass through the network as B short sequences; only attention differs. */
int transformer_step(Model *m, const ModelInput *in, int64_t position) {
  Transformer *t = m->impl;
  ASSERT(!t->conditioning.timed);
  if (t->caches.base == NULL) TRY(caches_create(m));
  TRY(embed_forward(m, in, position));
  if (t->options.conditioned) TRY(conditioning_forward(&m->params, &t->conditioning, in));
  for (int i = 0; i < m->options.blocks; i++) TRY(block_forward(m, in, i, position));
  return final_forward(m, in);
}
