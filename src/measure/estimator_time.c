/* estimator_time — the published estimator: a time t, stratified over the sequences (with diffusion.block over their
 * blocks, each with a time of its own), each token masked with probability
 * 1 − alpha(t), and the objective's weight. */
#include "diffusion/timestep.h"
#include "measure/estimator.h"

static void time_noise(Network *net, int64_t b, const int32_t *x0, int64_t length, const EstimatorDraw *d) {
  RngKey mask = rng_key(d->seed, RNG_EVAL_MASK, 0, (uint64_t)d->draw, (uint64_t)d->row);
  Noised *n = &net->noised;
  timestep_blocks(n->t, objective_blocks(&net->objective, n->L), d->seed, RNG_EVAL_TIME, d->draw, d->row, d->cell, d->n,
                  d->stratified, net->objective.tau);
  noised_draw(&net->objective, n, b, x0, length, n->t, mask);
}

extern const EstimatorTable estimator_time;
const EstimatorTable estimator_time = {.name = "time", .keys = {"eval.draws", "eval.seed"}, .noise = time_noise};
