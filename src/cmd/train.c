/* mdlm train DECK [key=value…] */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/version.h"
#include "cmd/cmd.h"
#include "cmd/train_samples.h"
#include "train/trainer.h"
#include <math.h>

/* Several sets: what was drawn of each so far. */
static void report_sets(const Trainer *t) {
  const Mixture *m = t->train;
  for (int i = 0; i < mixture_sets(m) && mixture_sets(m) > 1; i++) {
    int64_t rows = shards_rows(mixture_shards(m, i)), drawn = mixture_drawn(m, i, t->sequences);
    log_info("set    %s: %.4g %% of the draws, %lld rows; %lld sequences drawn, %.3g epochs", mixture_name(m, i),
             100 * mixture_share(m, i), (long long)rows, (long long)drawn, (double)drawn / (double)rows);
  }
}

static void introduce(const Trainer *t) {
  const Config *c = t->cfg;
  const Protocol *p = mixture_protocol(t->train);
  const ModelOptions *m = &t->net.model.options;
  char blocks[48] = "", draws[48] = "";
  if (c->diffusion_block > 0) snprintf(blocks, sizeof blocks, ", blocks of %lld tokens", (long long)c->diffusion_block);
  const char *rows = c->data_crop ? "cropped to half" : p->wrap ? "wrapped" : "one document a row";
  log_info("mdlm %s (%s)  %s", MDLM_VERSION, version_git(), clock_stamp());
  log_info("data   %s: %lld rows of %lld tokens, %s, V = %lld (%s)", c->data_train, (long long)mixture_rows(t->train),
           (long long)mixture_length(t->train), rows, (long long)m->vocab, mixture_vocab(t->train)->tokenizer);
  report_sets(t);
  if (mixture_classes(t->train) > 0)
    log_info("labels %lld classes%s", (long long)mixture_classes(t->train),
             c->model_classes > 0 ? "" : ", not used: model.classes = 0");
  log_info("model  %s: %.2f M parameters, width %lld, %lld blocks, %lld heads; %s, %s%s", m->name,
           (double)params_elements(&t->net.model.params) / 1e6, (long long)m->width, (long long)m->blocks,
           (long long)m->heads, c->diffusion_objective, c->diffusion_schedule, blocks);
  bool bound;
  const Law *law = &t->net.objective.law;
  char ends[48] = "";
  if (law->table->partial) snprintf(ends, sizeof ends, "; times %.4g to %.4g", law->low, law->high);
  log_info("loss   %s%s; validations measure the bound", objective_trains(&t->net.objective, &bound), ends);
  if (c->train_draws > 1) snprintf(draws, sizeof draws, ", %lld draws of noise of each", (long long)c->train_draws);
  log_info("run    %s: %lld steps of %lld sequences%s, %d rank%s × %d thread%s, reduce %s, %.0f GFLOP/s a rank",
           c->run_dir, (long long)c->train_steps, (long long)c->train_global_batch, draws, t->comm->size,
           t->comm->size > 1 ? "s" : "", t->net.dev.threads, t->net.dev.threads > 1 ? "s" : "", c->dist_reduce,
           t->peak / 1e9);
  network_warn(&t->net);
}

static int train(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Trainer t;
  TrainSamples samples;
  int stop = 0;
  train_samples_init(&samples);
  int err = trainer_create(&t, cfg, comm, true, &samples.callbacks);
  if (err) train_samples_destroy(&samples);
  TRY(err);
  introduce(&t);
  if (!trainer_complete(&t)) err = trainer_run(&t, &stop);
  if (err && t.saver) saver_end(t.saver);                 /* before main aborts, or another rank does */
  if (err && comm->size > 1 && !err_agreed()) return err; /* the other ranks are blocked: main aborts them */
  if (err == OK) report_sets(&t);
  long long step = t.optimizer.step;
  double best = t.best;
  int64_t validations = t.history.valid.n_rows;
  train_samples_destroy(&samples);
  trainer_destroy(&t);
  if (err) return err;
  if (stop) {
    log_info("stopped by %s at step %lld; the state is saved: run the same command to resume", stop_name(stop), step);
    *exit_code = EXIT_REQUEUE;
  } else if (isnan(best)) {
    log_info("complete at step %lld", step);
  } else {
    log_info("complete at step %lld; best validation nll %.4f, ppl %.3f%s", step, best, exp(best),
             validations > 1 ? ": the lowest of several, so optimistic; mdlm eval measures best.h5 with other masks"
                             : "");
  }
  return OK;
}

extern const Command command_train;
const Command command_train = {
    .name = "train",
    .arguments = "DECK [key=value…]",
    .purpose = "train a model, or resume training it",
    .deck = true,
    .stops = true,
    .logs = true,
    .run = train,
    .about =
        "Trains the network of the deck, validates the moving average of its weights, and saves checkpoints. "
        "Where run.dir holds a checkpoint it resumes, on any number of ranks; a complete run is left alone. "
        "SIGTERM, SIGUSR1, SIGINT (Ctrl-C) or SIGHUP end it after the current pass of the network, a file STOP in "
        "run.dir after the current step, with the state saved. "
        "A thread writes the checkpoints, from a copy of weights, moving average and moments that takes 16 bytes for "
        "each parameter in the host memory of rank 0. A checkpoint that cannot be written is tried again at the next "
        "save; the last one of a run must succeed. train.ema_traces adds two averages to what is copied and saved. "
        "It goes on when its log cannot be written any more.",
    .reads = "data.train, data.valid and the checkpoints of run.dir",
    .writes = "in run.dir: last.h5, previous.h5 and best.h5 (checkpoints), step-NUMBER.h5 (with train.keep_every), "
              "metrics.h5, deck.cfg (all keys with their values)",
    .sections = "run data model diffusion train sample device dist",
    .example = "mpirun -n 2 --bind-to none mdlm train deck.cfg run.dir=runs/a"};
