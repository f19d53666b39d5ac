/* mdlm eval DECK [key=value…] — the bound of a data set under a checkpoint, with its interval and per-sequence values.
 */
#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "cmd/weights.h"
#include "measure/nelbo.h"
#include <math.h>
#include <string.h>

typedef struct Evaluation {
  const Config *cfg; /* not owned */
  char checkpoint[FILES_PATH], output[FILES_PATH];
  CheckpointState state;
  Shards *data;
  Network net;
  Nelbo result;
} Evaluation;

static bool count_of(const Config *cfg) { return strcmp(cfg->eval_estimator, "count") == 0; }

static int open_all(Evaluation *e, const Config *cfg, const Comm *comm) {
  const char *data = *cfg->eval_data ? cfg->eval_data : cfg->data_valid;
  CHECK(*data, ERR_USAGE, "no data to evaluate: set eval.data or data.valid");
  CHECK(!count_of(cfg) || (strcmp(cfg->diffusion_objective, "subs") == 0 && cfg->diffusion_T == 0), ERR_USAGE,
        "eval.estimator = count is the bound of diffusion.objective = subs in continuous time; use time for %s%s",
        cfg->diffusion_objective, cfg->diffusion_T ? " with diffusion.T" : "");
  TRY(weights_path(cfg, cfg->eval_checkpoint, e->checkpoint));
  TRY(weights_state(cfg, e->checkpoint, &e->state));
  TRY(shards_open(&e->data, data));
  TRY(vocab_same(&e->state.vocab, e->checkpoint, shards_vocab(e->data), data));
  TRY(output_path(cfg, cfg->eval_output, "eval.h5", e->output));
  TRY(output_claim(comm, e->output, "mdlm-eval", ""));
  return weights_open(&e->net, cfg, comm, e->checkpoint, cfg->eval_weights, &e->state, shards_length(e->data),
                      "eval.batch", cfg->eval_batch);
}

static int fill_output(H5 *f, const void *arg) {
  const Evaluation *e = arg;
  const Protocol *p = shards_protocol(e->data);
  const Nelbo *r = &e->result;
  int64_t n = r->sequences;
  TRY(h5_set_str(f, "/", "estimator", e->cfg->eval_estimator));
  TRY(h5_set_int(f, "/", "draws", e->cfg->eval_draws));
  TRY(h5_set_real(f, "/", "share", count_of(e->cfg) ? 1 : objective_share(&e->net.objective)));
  TRY(h5_set_str(f, "/", "data", shards_spec(e->data)));
  TRY(h5_set_str(f, "/", "data_digest", p->digest));
  TRY(protocol_store(p, f));
  TRY(h5_set_real(f, "/", "nll", r->nll));
  TRY(h5_set_real(f, "/", "nll_low", r->low));
  TRY(h5_set_real(f, "/", "nll_high", r->high));
  TRY(h5_set_int(f, "/", "tokens", r->tokens));
  TRY(output_series(f, "/loss", H5_F64, n, r->loss, "nat", "bound on the negative log-likelihood of each sequence"));
  return output_series(f, "/tokens", H5_I64, n, r->length, "token", "scored tokens of each sequence");
}

static int run(Evaluation *e, const Config *cfg, Comm *comm) {
  TRY_ALL(comm, open_all(e, cfg, comm));
  bool draws = e->net.objective.table->diffusion; /* else every draw is the same */
  NelboOptions o = {.count = count_of(cfg),
                    .draws = draws ? cfg->eval_draws : 1,
                    .sequences = cfg->eval_sequences,
                    .seed = (uint64_t)cfg->run_seed,
                    .stratified = cfg->diffusion_stratified,
                    .progress = "evaluating"};
  log_info("evaluating %s (%s weights, step %lld) on %s; estimator %s, %lld draw%s a sequence", e->checkpoint,
           cfg->eval_weights, (long long)e->state.step, shards_spec(e->data), cfg->eval_estimator, (long long)o.draws,
           o.draws > 1 ? "s" : "");
  if (!o.count) network_warn(&e->net);
  TRY(nelbo_run(&e->result, &e->net, e->data, comm, &o));
  const Nelbo *r = &e->result;
  int err = OK;
  if (comm->rank == 0 && !isfinite(r->nll)) err = RAISE(ERR_NUMERIC, "%s: the bound is %g", e->checkpoint, r->nll);
  if (comm->rank == 0 && err == OK)
    err = output_write(e->output, "mdlm-eval", cfg, e->checkpoint, &e->state, cfg->eval_weights, fill_output, e);
  TRY(comm_agree(comm, err));
  log_info("per-sequence values: %s", e->output);
  log_info("nll=%.5f bits=%.5f ppl=%.4f ci95=[%.4f,%.4f] sequences=%lld tokens=%lld", r->nll, r->nll / log(2.0),
           exp(r->nll), exp(r->low), exp(r->high), (long long)r->sequences, (long long)r->tokens);
  return OK;
}

static int eval(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv, (void)exit_code;
  static Evaluation e;
  e.cfg = cfg;
  int err = run(&e, cfg, comm);
  nelbo_destroy(&e.result);
  network_destroy(&e.net);
  shards_close(&e.data);
  checkpoint_state_destroy(&e.state);
  return err;
}

extern const Command command_eval;
const Command command_eval = {"eval", "DECK [key=value…]",
                              "perplexity of a checkpoint on a data set, with its interval", true, eval};
