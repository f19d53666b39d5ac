#include "model/transformer.h"
#include "base/err.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>

/* ---- parameters of dit and ar */
static int norm_add(Params *p, Seam *s, int64_t D, const char *name) {
  s->bias = -1;
  return params_add(p, &s->weight, INIT_ONE, 0, false, 1, &D, "%s", name);
}

static int block_add(Params *p, const Transformer *t, Block *b, int i, const ModelOptions *o) {
  int64_t D = o->width, M = o->mlp_ratio * D;
  char name[64];
#define NAME(part) (snprintf(name, sizeof name, "blocks.%d." part, i), name)
  TRY(norm_add(p, &b->norm1, D, NAME("norm1.weight")));
  TRY(linear_add(p, &b->qkv, NAME("attn_qkv"), D, 3 * D, false, false, true));
  TRY(linear_add(p, &b->out, NAME("attn_out"), D, D, false, false, true));
  TRY(norm_add(p, &b->norm2, D, NAME("norm2.weight")));
  TRY(linear_add(p, &b->up, NAME("mlp.0"), D, M, true, false, true));
  TRY(linear_add(p, &b->down, NAME("mlp.2"), M, D, true, false, true));
  if (!t->options.conditioned) return OK;
  return linear_add(p, &b->mod, NAME("adaLN_modulation"), o->cond_dim, MODS * D, true, true, false);
#undef NAME
}

int transformer_parameters(Model *m, Transformer *t) {
  const ModelOptions *o = &m->options;
  Params *p = &m->params;
  int64_t table[2] = {o->vocab, o->width};
  Linear head;
  TRY(params_add(p, &t->embedding, INIT_UNIFORM, 1 / sqrt((double)o->width), false, 2, table, "vocab_embed.embedding"));
  if (t->options.conditioned) TRY(time_embedding_add(p, &t->time, o->cond_dim));
  for (int i = 0; i < o->blocks; i++) TRY(block_add(p, t, &t->blocks[i], i, o));
  TRY(norm_add(p, &t->final, o->width, "output_layer.norm_final.weight"));
  TRY(linear_add(p, &head, "output_layer.linear", o->width, o->vocab, true, true, true));
  m->head_weight = head.weight;
  m->head_bias = head.bias;
  if (!t->options.conditioned) return OK;
  return linear_add(p, &t->final_mod, "output_layer.adaLN_modulation", o->cond_dim, 2 * o->width, true, true, false);
}

/* ---- memory */
static void seam_plan(Arena *a, Seam *s, DType real, int64_t R, int64_t D) {
  s->x = arena_tensor(a, real, R, D);
  s->h = arena_tensor(a, real, R, D);
  s->mean = arena_tensor(a, real, R, 0);
  s->rstd = arena_tensor(a, real, R, 0);
}

static void seam_share(Seam *s, const Seam *first) {
  s->x = first->x, s->h = first->h;
  s->mean = first->mean, s->rstd = first->rstd;
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
static void block_share(Block *b, const Block *first) {
  seam_share(&b->norm1, &first->norm1);
  seam_share(&b->norm2, &first->norm2);
  b->qkv_out = first->qkv_out, b->lse = first->lse, b->o = first->o, b->branch1 = first->branch1;
  b->pre = first->pre, b->act = first->act, b->branch2 = first->branch2;
}

static void conditioning_plan(Arena *a, Model *m, Transformer *t) {
  const ModelOptions *o = &m->options;
  DType real = m->dev->real;
  int64_t D = o->width, G = t->timed ? o->batch : 1;
  time_embedding_plan(a, &t->time, real, G, o->cond_dim, o->training);
  t->final_mods = arena_tensor(a, real, G, 2 * D);
  if (o->training) t->final_dmods = arena_tensor(a, real, G, 2 * D);
  for (int i = 0; i < o->blocks; i++) {
    t->blocks[i].mods = arena_tensor(a, real, G, MODS * D);
    if (o->training) t->blocks[i].dmods = arena_tensor(a, real, G, MODS * D);
  }
}

static void plan(Arena *a, Model *m, Transformer *t) {
  const ModelOptions *o = &m->options;
  DType real = m->dev->real;
  int64_t R = o->batch * o->length, D = o->width;
  m->ids = arena_tensor(a, DT_I32, R, 0);
  if (o->mask_padding) t->lengths = arena_tensor(a, DT_I32, o->batch, 0);
  t->x0 = arena_tensor(a, real, R, D);
  if (t->options.conditioned) conditioning_plan(a, m, t);
  for (int i = 0; i < o->blocks; i++) {
    if (i == 0 || o->training)
      block_plan(a, &t->blocks[i], o, real);
    else
      block_share(&t->blocks[i], &t->blocks[0]);
  }
  seam_plan(a, &t->final, real, R, D);
  m->h = t->final.h;
  if (!o->training) return;
  m->dh = arena_tensor(a, real, R, D);
  t->dx = arena_tensor(a, real, R, D);
  t->dbranch = arena_tensor(a, real, R, D);
  t->dnorm = arena_tensor(a, real, R, D);
  t->dqkv = arena_tensor(a, real, R, 3 * D);
  t->dact = arena_tensor(a, real, R, o->mlp_ratio * D);
}

int transformer_create(Model *m, TransformerOptions options, int (*parameters)(Model *, Transformer *)) {
  const ModelOptions *o = &m->options;
  Transformer *t = NULL;
  TRY(heads_check(o));
  TRY(mem_alloc(&t, sizeof *t));
  m->impl = t;
  t->options = options;
  t->timed = options.conditioned && o->time_conditioning;
  TRY(mem_alloc(&t->blocks, (size_t)o->blocks * sizeof(Block)));
  TRY(parameters(m, t));
  TRY(params_commit(&m->params, m->dev, o->training));
  m->attention_flops = 4 * (double)o->width * (double)o->length * (double)o->blocks / (options.causal ? 2 : 1);
  arena_measure(&m->arena, m->dev);
  plan(&m->arena, m, t);
  TRY(arena_commit(&m->arena));
  plan(&m->arena, m, t);
  return OK;
}

void transformer_destroy(Model *m) {
  Transformer *t = m->impl;
  if (t) mem_free(&t->blocks);
  mem_free(&m->impl);
}
