/* gpt2 — GPT-2, for scoring text with the published weights, under the names in their public files. Forward only.
 *
 *   x = wte[z] + wpe[l]
 *   block:  x ← x + c_proj(attention(c_attn(ln_1(x))))                 position l attends to 0 … l
 *           x ← x + c_proj(gelu(c_fc(ln_2(x))))
 *   final:  h = ln_f(x), logits = wte h, for the token at l + 1
 *
 * Every Linear and norm has a bias. Weights are [out,in] as everywhere in this program; the public files store those of
 * c_attn, c_fc and c_proj as [in,out].
 * Source: Radford et al., Language Models are Unsupervised Multitask Learners (2019) */
#include "base/err.h"
#include "model/transformer.h"
#include <math.h>
#include <stdio.h>

static int block_add(Params *p, Block *b, int i, const ModelOptions *o) {
  int64_t D = o->width, M = o->mlp_ratio * D;
  char name[64];
#define NAME(part) (snprintf(name, sizeof name, "h.%d." part, i), name)
  TRY(seam_add(p, &b->norm1, NAME("ln_1"), NORM_LAYER, D, true));
  TRY(linear_add(p, &b->qkv, NAME("attn.c_attn"), D, 3 * D, true, false, true));
  TRY(linear_add(p, &b->out, NAME("attn.c_proj"), D, D, true, false, true));
  TRY(seam_add(p, &b->norm2, NAME("ln_2"), NORM_LAYER, D, true));
  TRY(linear_add(p, &b->up, NAME("mlp.c_fc"), D, M, true, false, true));
  return linear_add(p, &b->down, NAME("mlp.c_proj"), M, D, true, false, true);
#undef NAME
}

static int parameters(Model *m, Transformer *t) {
  const ModelOptions *o = &m->options;
  Params *p = &m->params;
  int64_t tokens[2] = {o->vocab, o->width}, places[2] = {o->positions ? o->positions : o->length, o->width};
  double bound = 1 / sqrt((double)o->width);
  TRY(params_add(p, &t->embedding, INIT_UNIFORM, bound, true, 2, tokens, "wte.weight"));
  TRY(params_add(p, &t->positions, INIT_UNIFORM, bound, false, 2, places, "wpe.weight"));
  for (int i = 0; i < o->blocks; i++) TRY(block_add(p, &t->blocks[i], i, o));
  model_head(m, (Linear){t->embedding, -1});
  return seam_add(p, &t->final, "ln_f", NORM_LAYER, o->width, true);
}

static int gpt2_create(Model *m) {
  CHECK(!m->options.training, ERR_USAGE,
        "model.name = gpt2 has no backward pass: it scores text, it cannot be trained");
  CHECK(!m->options.positions || m->options.length <= m->options.positions, ERR_USAGE,
        "this gpt2 has %lld positions, too few for rows of %lld tokens", (long long)m->options.positions,
        (long long)m->options.length);
  return transformer_create(m, (TransformerOptions){.causal = true, .positions = true}, parameters);
}

extern const ModelTable model_gpt2;
const ModelTable model_gpt2 = {.name = "gpt2",
                               .causal = true,
                               .attends = true,
                               .create = gpt2_create,
                               .forward = transformer_forward,
                               .destroy = transformer_destroy,
                               .step = transformer_step};
