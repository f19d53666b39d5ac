/* estimator_chain — no bound and no draws: the exact likelihood of a row under a decoder of the network (chain.h). The
 * padding of a short row is visible from the start: the likelihood is that of its tokens given its length. */
#include "base/err.h"
#include "measure/chain.h"
#include <stdio.h>

static int chain_check(const Objective *o) {
  CHECK(o->gives != GIVES_NEXT, ERR_USAGE,
        "eval.estimator = chain: diffusion.objective = %s is exact from left to right as it is; use eval.estimator = "
        "%s or auto",
        o->table->name, estimators[0]->name);
  CHECK(o->gives == GIVES_X0, ERR_USAGE,
        "eval.estimator = chain fills in masks one after another, for which the network must give p(x0 | z) of masks, "
        "without the mask; use eval.estimator = %s for diffusion.objective = %s",
        estimators[0]->name, o->table->name);
  return OK;
}

static int chain_options(ChainOptions *c, const Config *cfg) {
  const CommitOptions o = {.section = "eval",
                           .commit = cfg->eval_commit,
                           .order = cfg->eval_order,
                           .threshold = cfg->eval_threshold,
                           .factor = cfg->eval_factor,
                           .entropy_bound = cfg->eval_entropy_bound};
  return chain_create(c, &o, cfg->eval_steps);
}

static int chain_describe(const Config *cfg, char text[ESTIMATOR_TEXT]) {
  ChainOptions c;
  TRY(chain_options(&c, cfg));
  snprintf(text, ESTIMATOR_TEXT, " order=%s commit=%s", cfg->eval_order, cfg->eval_commit);
  return OK;
}

static int64_t chain_passes(const Config *cfg, int64_t length) {
  if (cfg->diffusion_block > 0) length = cfg->diffusion_block; /* blocks advance together */
  return cfg->eval_steps > 0 && cfg->eval_steps < length ? cfg->eval_steps : length;
}

static int chain_exact(Network *net, const Config *cfg, EstimatorRow *rows, int64_t n) {
  ChainOptions c;
  TRY(chain_options(&c, cfg));
  return chain_run(net, &c, rows, n, false);
}

extern const EstimatorTable estimator_chain;
const EstimatorTable estimator_chain = {
    .name = "chain",
    .whole = true,
    .part = true,
    .keys = {"eval.order", "eval.commit", "eval.steps", "eval.threshold", "eval.factor", "eval.entropy_bound"},
    .check = chain_check,
    .describe = chain_describe,
    .passes = chain_passes,
    .exact = chain_exact};
