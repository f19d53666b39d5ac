/* mdlm eval DECK [key=value…] — the bound of a data set under a checkpoint, with its interval and per-sequence values.
 */
#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/evaluation.h"
#include "cmd/results.h"
#include <math.h>

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
  return evaluation_estimate(e);
}

/* Rank 0: both intervals, and the line that programs read. */
static void report(const Evaluation *e, const Config *cfg) {
  const Losses l = evaluation_losses(e);
  int64_t block = interval_block(l.n, shards_protocol(e->data)->wrap);
  const Spread s = evaluation_source(e);
  char range[INTERVAL_TEXT], bytes[40] = "";
  results_show(&l, block, &e->text);
  if (!isnan(e->text.bytes))
    snprintf(bytes, sizeof bytes, " bits_per_byte=%.5f", results_bits_per_byte(&e->text, s.value));
  log_info("nll=%.5f bits=%.5f ppl=%.4f ci95=%s sequences=%lld tokens=%lld estimator=%s draws=%lld T=%lld%s", s.value,
           s.value / log(2.0), exp(s.value), interval_text(range, exp(s.low), exp(s.high), 4), (long long)l.n,
           (long long)e->result.interval.tokens, l.draws ? e->estimator->name : "exact", (long long)e->draws,
           (long long)cfg->diffusion_T, bytes);
}

static int run(Evaluation *e, const Config *cfg, Comm *comm, int *exit_code) {
  const Task *t = &e->task;
  const Nelbo *r = &e->result;
  TRY(task_agree(&e->task, comm, open_all(e, cfg, comm)));
  log_info("evaluating %s (%s weights, step %lld) on %s; estimator %s, %lld draw%s a sequence", t->checkpoint, t->which,
           (long long)t->state.step, shards_spec(e->data), e->estimator->name, (long long)e->draws,
           e->draws > 1 ? "s" : "");
  evaluation_warn(&t->state, t->checkpoint, e->data);
  if (!e->estimator->whole) network_warn(&t->net);
  TRY(evaluation_run(e, "evaluating"));
  if (r->stop) return task_stopped(t, r->stop, r->done, r->sequences, "sequences", exit_code), OK;
  log_info("per-sequence values: %s", t->output);
  if (comm->rank == 0) report(e, cfg);
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
    .about =
        "Estimates the bound on the negative log-likelihood, or computes its exact value where the model predicts "
        "the next token. The last line reads nll=… bits=… ppl=… ci95=[…,…] sequences=… tokens=… estimator=… draws=… "
        "T=… and, where the data tell how many bytes their text has, bits_per_byte=…; nll, bits and ppl are per token, "
        "the "
        "interval is that of the source, as above it. "
        "A stop (SIGTERM, SIGUSR1, SIGINT, SIGHUP) ends it after the current pass of the network and keeps what is "
        "finished in OUTPUT.part, as does every minute; the same command goes on from there, on any number of ranks.",
    .reads = "eval.checkpoint (or the best of run.dir) and eval.data (or data.valid)",
    .writes = "eval.output (or eval.h5 in run.dir): the result and the values of each sequence",
    .sections = "run data model diffusion eval device dist",
    .example = "mdlm eval deck.cfg run.dir=runs/a eval.draws=4"};
