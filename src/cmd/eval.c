/* mdlm eval DECK [key=value…] — the bound of a data set under a checkpoint, with its interval and per-sequence values.
 */
#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/task.h"
#include "measure/nelbo.h"
#include <math.h>

typedef struct Evaluation {
  Task task;
  Shards *data;
  const EstimatorTable *estimator;
  Nelbo result;
} Evaluation;

static int open_all(Evaluation *e, const Config *cfg, Comm *comm) {
  Task *t = &e->task;
  const char *data = *cfg->eval_data ? cfg->eval_data : cfg->data_valid;
  TaskOptions o = {.format = "mdlm-eval",
                   .checkpoint = cfg->eval_checkpoint,
                   .which = cfg->eval_weights,
                   .output = cfg->eval_output,
                   .name = "eval.h5",
                   .input = ""};
  CHECK(*data, ERR_USAGE, "no data to evaluate: set eval.data or data.valid");
  TRY(shards_open(&e->data, data));
  TRY(task_begin(t, cfg, comm, &o));
  TRY(vocab_same(&t->state.vocab, t->checkpoint, shards_vocab(e->data), data));
  TRY(task_open(t, shards_length(e->data), "eval.batch", cfg->eval_batch));
  TRY(estimator_find(&e->estimator, cfg->eval_estimator, &t->net.objective));
  return task_key(t, cfg, "eval", "data = %s\n", shards_protocol(e->data)->digest);
}

static int fill_output(H5 *f, const void *arg) {
  const Evaluation *e = arg;
  const Protocol *p = shards_protocol(e->data);
  const Interval *r = &e->result.interval;
  int64_t n = e->result.sequences;
  TRY(h5_set_str(f, "/", "estimator", e->estimator->name));
  TRY(h5_set_int(f, "/", "draws", e->task.cfg->eval_draws));
  TRY(h5_set_real(f, "/", "share", e->estimator->whole ? 1 : objective_share(&e->task.net.objective)));
  TRY(h5_set_str(f, "/", "data", shards_spec(e->data)));
  TRY(h5_set_str(f, "/", "data_digest", p->digest));
  TRY(protocol_store(p, f));
  TRY(h5_set_real(f, "/", "nll", r->nll));
  TRY(h5_set_real(f, "/", "nll_low", r->low));
  TRY(h5_set_real(f, "/", "nll_high", r->high));
  TRY(h5_set_int(f, "/", "tokens", r->tokens));
  TRY(output_series(f, "/loss", H5_F64, n, e->result.loss, "nat",
                    "bound on the negative log-likelihood of each sequence"));
  TRY(output_series(f, "/square", H5_F64, n, e->result.square, "nat2",
                    "sum over the draws of the squared distance from their mean"));
  return output_series(f, "/tokens", H5_I64, n, e->result.length, "token", "scored tokens of each sequence");
}

static int run(Evaluation *e, const Config *cfg, Comm *comm, int *exit_code) {
  const Task *t = &e->task;
  TRY_ALL(comm, open_all(e, cfg, comm));
  NelboOptions o = {.estimator = e->estimator,
                    .draws = t->net.objective.diffusion ? cfg->eval_draws : 1, /* else all draws are the same */
                    .sequences = cfg->eval_sequences,
                    .seed = (uint64_t)cfg->run_seed,
                    .stratified = cfg->diffusion_stratified,
                    .progress = "evaluating",
                    .partial = t->partial,
                    .key = t->key};
  log_info("evaluating %s (%s weights, step %lld) on %s; estimator %s, %lld draw%s a sequence", t->checkpoint, t->which,
           (long long)t->state.step, shards_spec(e->data), e->estimator->name, (long long)o.draws,
           o.draws > 1 ? "s" : "");
  if (!e->estimator->whole) network_warn(&t->net);
  TRY(nelbo_run(&e->result, &e->task.net, e->data, comm, &o));
  const Interval *r = &e->result.interval;
  if (e->result.stop)
    return task_stopped(t, e->result.stop, e->result.done, e->result.sequences, "sequences", exit_code), OK;
  TRY(task_publish(&e->task, r->nll, fill_output, e));
  log_info("per-sequence values: %s", t->output);
  log_info("nll=%.5f bits=%.5f ppl=%.4f ci95=[%.4f,%.4f] sequences=%lld tokens=%lld", r->nll, r->nll / log(2.0),
           exp(r->nll), exp(r->low), exp(r->high), (long long)e->result.sequences, (long long)r->tokens);
  return OK;
}

static int eval(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Evaluation e;
  int err = run(&e, cfg, comm, exit_code);
  nelbo_destroy(&e.result);
  shards_close(&e.data);
  task_end(&e.task);
  return err;
}

extern const Command command_eval;
const Command command_eval = {
    .name = "eval",
    .arguments = "DECK [key=value…]",
    .purpose = "perplexity of a checkpoint on a data set, with its 95 % interval",
    .deck = true,
    .stops = true,
    .run = eval,
    .about = "Estimates the bound on the negative log-likelihood, or computes its exact value where the model predicts "
             "the next token. The last line reads nll=… bits=… ppl=… ci95=[…,…] sequences=… tokens=…, per token.",
    .reads = "eval.checkpoint (or the best of run.dir) and eval.data (or data.valid)",
    .writes = "eval.output (or eval.h5 in run.dir): the result and the values of each sequence",
    .sections = "run data model diffusion eval device",
    .example = "mdlm eval deck.cfg run.dir=runs/a eval.draws=4"};
