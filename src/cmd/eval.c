/* mdlm eval DECK [key=value…] — the bound of a data set under a checkpoint, with its interval and per-sequence values.
 */
#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/evaluation.h"

static int run(Evaluation *e, const Config *cfg, Comm *comm, int *exit_code) {
  const Task *t = &e->task;
  const Nelbo *r = &e->result;
  TRY(task_agree(&e->task, comm, evaluation_open(e, cfg, comm, "mdlm-eval", cfg->eval_output, "eval.h5")));
  evaluation_announce(e, "evaluating");
  TRY(evaluation_run(e, "evaluating"));
  if (r->stop) return task_stopped(t, r->stop, r->done, r->sequences, "sequences", exit_code), OK;
  log_info("per-sequence values: %s", t->output);
  if (comm->rank == 0) evaluation_report(e, "");
  return OK;
}

static int eval(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Evaluation e;
  int err = run(&e, cfg, comm, exit_code);
  evaluation_close(&e);
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
        "the next token or eval.estimator draws nothing. The last line reads nll=… bits=… ppl=… ci95=[…,…] sequences=… "
        "tokens=… estimator=… draws=… T=… and, without draws, order=… commit=…, and where the data tell how many bytes "
        "their text has, bits_per_byte=…; nll, bits and ppl are per token, the interval is that of the source, as "
        "above it. "
        "A stop (SIGTERM, SIGUSR1, SIGINT, SIGHUP) ends it after the current pass of the network and keeps what is "
        "finished in OUTPUT.part, as does every minute; the same command goes on from there, on any number of ranks.",
    .reads = "eval.checkpoint (or the best of run.dir) and eval.data (or data.valid)",
    .writes = "eval.output (or eval.h5 in run.dir): the result and the values of each sequence",
    .sections = "run data model diffusion eval device dist",
    .example = "mdlm eval deck.cfg run.dir=runs/a eval.draws=4"};
