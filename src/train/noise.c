/* noise — what a step adds to its data: times, masks or other tokens, and which classes are hidden. */
#include "diffusion/timestep.h"
#include "train/trainer.h"

/* The class of sequence i of a step, or −1 if it is hidden. */
static int32_t label_of(const Trainer *t, int64_t step, int64_t i, int32_t label) {
  RngKey key = rng_key((uint64_t)t->cfg->run_seed, RNG_LABEL, 0, (uint64_t)step, (uint64_t)i);
  return rng_uniform(key, 0) < t->cfg->train_label_dropout ? -1 : label;
}

/* Sequence b of t->net.noised := draw k of the micro-batch's sequence `at`. The times of all draws of the global batch are
 * one stratified sample. */
static void add_draw(Trainer *t, const Micro *micro, int64_t b, int64_t at, int64_t k) {
  const Config *cfg = t->cfg;
  Network *net = &t->net;
  Noised *n = &net->noised;
  uint64_t seed = (uint64_t)cfg->run_seed;
  int64_t i = micro->first + at, draw = k * cfg->train_global_batch + i,
          all = cfg->train_draws * cfg->train_global_batch;
  int64_t cell = timestep_cell(seed, RNG_TIME, micro->step, draw, all);
  RngKey mask = rng_key(seed, RNG_MASK, 0, (uint64_t)micro->step, (uint64_t)draw);
  n->label[b] = label_of(t, micro->step, i, micro->labels[at]);
  timestep_blocks(n->t, objective_blocks(&net->objective, micro->L), seed, RNG_TIME, micro->step, draw, cell, all,
                  cfg->diffusion_stratified, net->objective.tau);
  noised_train(&net->objective, n, b, micro->tokens + at * micro->L, micro->lengths[at], n->t, mask);
}

void trainer_noise(Trainer *t, const Micro *micro) {
  int64_t draws = t->cfg->train_draws;
  Noised *n = &t->net.noised;
  noised_begin(n, draws * micro->n);
  n->draws = draws;
  if (t->cfg->data_crop) n->end = mixture_vocab(t->train)->eos;
  for (int64_t b = 0; b < draws * micro->n; b++) add_draw(t, micro, b, b / draws, b % draws);
}
