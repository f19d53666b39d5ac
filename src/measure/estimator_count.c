/* estimator_count — exactly k of the L positions masked, k uniform on 1 … L and stratified over the sequences, weight
 * L/k: the bound for ε = τ = 0, because ∫₀¹ Bin(k; L, t)/t dt = 1/k. It has less variance than drawing a time. With
 * diffusion.block the same in every block, L its length: of blocks of one token all are masked, and the value is exact. */
#include "base/err.h"
#include "diffusion/timestep.h"
#include "measure/estimator.h"

static int count_check(const Objective *o) {
  CHECK(o->gives == GIVES_X0 && o->options.T == 0, ERR_USAGE,
        "eval.estimator = count needs an objective whose network gives p(x0 | z) of masks, without the mask, in "
        "continuous time; use eval.estimator = %s for diffusion.objective = %s%s",
        estimators[0]->name, o->table->name, o->options.T ? " with diffusion.T" : "");
  return OK;
}

static void count_noise(Network *net, int64_t b, const int32_t *x0, int64_t length, const EstimatorDraw *d) {
  RngKey mask = rng_key(d->seed, RNG_EVAL_MASK, 0, (uint64_t)d->draw, (uint64_t)d->row);
  Noised *n = &net->noised;
  timestep_blocks(n->t, objective_blocks(&net->objective, n->L), d->seed, RNG_EVAL_TIME, d->draw, d->row, d->cell, d->n,
                  d->stratified, 0);
  noised_count(&net->objective, n, b, x0, length, n->t, mask);
}

extern const EstimatorTable estimator_count;
const EstimatorTable estimator_count = {.name = "count",
                                        .whole = true,
                                        .part = true,
                                        .keys = {"eval.draws", "eval.seed"},
                                        .check = count_check,
                                        .noise = count_noise};
