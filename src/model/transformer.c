#include "model/transformer.h"
#include "base/err.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>

/* ---- parameters with the reference's names */
static int block_add(Params *p, Transformer *t, int i, const ModelOptions *o) {
  Block *b = &t->blocks[i];
  int64_t D = o->width, M = o->mlp_ratio * D;
  char name[64];
#define NAME(part) (snprintf(name, sizeof name, "blocks.%d." part, i), name)
  TRY(seam_add(p, &b->norm1, NAME("norm1"), NORM_LAYER, D, false));
  TRY(linear_add(p, &b->qkv, NAME("attn_qkv"), D, 3 * D, false, false, true));
  TRY(linear_add(p, &b->out, NAME("attn_out"), D, D, false, false, true));
  TRY(seam_add(p, &b->norm2, NAME("norm2"), NORM_LAYER, D, false));
  TRY(linear_add(p, &b->up, NAME("mlp.0"), D, M, true, false, true));
  TRY(linear_add(p, &b->down, NAME("mlp.2"), M, D, true, false, true));
  if (!t->options.conditioned) return OK;
  return modulation_add(p, &t->conditioning, i, NAME("adaLN_modulation"), o, MODS);
#undef NAME
}

int transformer_parameters(Model *m, Transformer *t) {
  const ModelOptions *o = &m->options;
  Params *p = &m->params;
  int64_t table[2] = {o->vocab, o->width};
  Linear head;
  TRY(params_add(p, &t->embedding, INIT_UNIFORM, 1 / sqrt((double)o->width), false, 2, table, "vocab_embed.embedding"));
  if (t->options.conditioned) TRY(embeddings_add(p, &t->conditioning, o->cond_dim));
  for (int i = 0; i < o->blocks; i++) TRY(block_add(p, t, i, o));
  TRY(seam_add(p, &t->final, "output_layer.norm_final", NORM_LAYER, o->width, false));
  TRY(linear_add(p, &head, "output_layer.linear", o->width, o->vocab, true, true, true));
  model_head(m, head);
  p->list[t->embedding].tokens = p->list[head.weight].tokens = p->list[head.bias].tokens = true;
  if (!t->options.conditioned) return OK;
  return modulation_add(p, &t->conditioning, o->blocks, "output_layer.adaLN_modulation", o, FINAL_COLUMNS);
}

/* ---- memory */
/* late: only wanted rows are computed behind its attention. */
static void block_plan(Arena *a, Block *b, const Model *m, bool late) {
  const ModelOptions *o = &m->options;
  DType act = a->dev->act;
  int64_t R = m->most, D = o->width, after = late ? m->capacity : R;
  seam_plan(a, &b->norm1, R, D);
  b->qkv_out = arena_tensor(a, act, R, 3 * D);
  b->lse = arena_tensor(a, a->dev->real, R, o->heads);
  b->o = arena_tensor(a, act, R, D);
  b->branch1 = arena_tensor(a, act, after, D);
  seam_plan(a, &b->norm2, after, D);
  b->act = arena_tensor(a, act, after, o->mlp_ratio * D);
  b->pre = o->training ? arena_tensor(a, act, after, o->mlp_ratio * D) : b->act; /* read by backward only */
  b->branch2 = arena_tensor(a, act, after, D);
}

/* Without training all blocks share the activations of one: nothing is read after the next block's first norm. */
static void block_share(Block *b, const Block *first) {
  seam_share(&b->norm1, &first->norm1);
  seam_share(&b->norm2, &first->norm2);
  b->qkv_out = first->qkv_out, b->lse = first->lse, b->o = first->o, b->branch1 = first->branch1;
  b->pre = first->pre, b->act = first->act, b->branch2 = first->branch2;
}

static void plan(Arena *a, Model *m, Transformer *t) {
  const ModelOptions *o = &m->options;
  DType real = m->dev->real, act = m->dev->act;
  int64_t R = m->most, D = o->width;
  model_plan(a, m, t->conditioning.grouped);
  if (!t->conditioning.grouped) t->late_o = arena_tensor(a, act, m->capacity, D);
  if (o->mask_padding) t->lengths = arena_tensor(a, DT_I32, o->batch, 0);
  t->x0 = arena_tensor(a, real, R, D);
  if (t->options.conditioned) conditioning_plan(a, &t->conditioning, real, o, MODS);
  for (int i = 0; i < o->blocks; i++) {
    if (i == 0 || o->training)
      block_plan(a, &t->blocks[i], m, i + 1 == o->blocks);
    else
      block_share(&t->blocks[i], &t->blocks[0]);
  }
  seam_plan(a, &t->final, m->capacity, D);
  m->h = t->final.h;
  if (!o->training) return;
  t->dx = arena_tensor(a, real, R, D);
  t->dbranch = arena_tensor(a, act, R, D);
  t->dnorm = arena_tensor(a, act, R, D);
  t->dqkv = arena_tensor(a, act, R, 3 * D);
  t->dact = arena_tensor(a, act, R, o->mlp_ratio * D);
}

int transformer_create(Model *m, TransformerOptions options, int (*parameters)(Model *, Transformer *)) {
  const ModelOptions *o = &m->options;
  Transformer *t = NULL;
  TRY(heads_check(o));
  TRY(mem_alloc(&t, sizeof *t));
  m->impl = t;
  t->options = options;
  if (options.conditioned) TRY(conditioning_create(&t->conditioning, o));
  TRY(mem_alloc(&t->blocks, (size_t)o->blocks * sizeof(Block)));
  TRY(parameters(m, t));
  TRY(params_commit(&m->params, m->dev, o->training));
  if (!t->conditioning.grouped)
    m->late_flops = 2 * (double)o->width * (double)o->width * (1 + 2 * (double)o->mlp_ratio);
  double seen = (double)o->length / (options.causal ? 2 : 1), layers = (double)o->blocks;
  if (o->block) { /* both halves; in the last block without the clean queries */
    seen = (double)(o->length + o->block) / 2, layers += (layers - 1) / (double)o->draws;
    m->spared_flops = 2 * (double)o->width * (double)o->width;
  }
  m->attention_flops = 4 * (double)o->width * seen * layers;
  arena_measure(&m->arena, m->dev);
  plan(&m->arena, m, t);
  TRY(arena_commit(&m->arena));
  plan(&m->arena, m, t);
  return OK;
}

void transformer_destroy(Model *m) {
  Transformer *t = m->impl;
  if (t) conditioning_destroy(&t->conditioning);
  if (t) mem_free(&t->blocks);
  if (t) arena_destroy(&t->caches);
  mem_free(&m->impl);
}
