/* estimator_time — the published estimator: a time t, stratified over the sequences, each token masked with probability
 * 1 − alpha(t), and the objective's weight. */
#include "diffusion/timestep.h"
#include "measure/estimator.h"

static void time_noise(Network *net, int64_t b, const int32_t *x0, int64_t length, const EstimatorDraw *d) {
  RngKey mask = rng_key(d->seed, RNG_EVAL_MASK, 0, (uint64_t)d->draw, (uint64_t)d->row);
  double t = timestep_draw(d->seed, RNG_EVAL_TIME, d->draw, d->row, d->cell, d->n, d->stratified, net->objective.tau);
  noised_draw(&net->objective, &net->noised, b, x0, length, t, mask);
}

extern const EstimatorTable estimator_time;
const EstimatorTable estimator_time = {.name = "time", .noise = time_noise};
