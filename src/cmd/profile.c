/* mdlm profile DECK [key=value…] — where the loss of a data set under a checkpoint comes from. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/profile_file.h"

/* Rank 0: what has been written, and the line that programs read. */
static int report(const Evaluation *e, const ProfileOutput *o) {
  char more[PROFILE_LINE];
  H5 *f = NULL;
  TRY(h5_open(&f, e->task.output, false));
  int err = profile_show(f);
  h5_close(&f);
  TRY(err);
  evaluation_report(e, profile_line(more, o));
  return OK;
}

static int open_all(Evaluation *e, const Config *cfg, Comm *comm) {
  TRY(evaluation_open(e, cfg, comm, "mdlm-profile", cfg->profile_output, "profile.h5"));
  CHECK(e->estimator->noise, ERR_USAGE, "mdlm profile looks at masks drawn at random: eval.estimator = %s draws none",
        e->estimator->name);
  return OK;
}

static int run(Evaluation *e, Profile *p, const Config *cfg, Comm *comm, int *exit_code) {
  Task *t = &e->task;
  const Nelbo *r = &e->result;
  const ProfileOutput output = {e, p};
  TRY(task_agree(t, comm, open_all(e, cfg, comm)));
  evaluation_announce(e, "profiling");
  const NelboOptions o = evaluation_options(e, "profiling");
  double start = clock_now();
  TRY(profile_run(p, &e->result, &t->net, e->data, comm, &o));
  e->seconds = clock_now() - start;
  if (r->stop) return task_stopped(t, r->stop, r->done, r->sequences, "sequences", exit_code), OK;
  TRY(evaluation_publish(e, profile_fill, &output));
  log_info("profile: %s", t->output);
  return comm_agree(comm, comm->rank == 0 ? report(e, &output) : OK);
}

static int profile(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Evaluation e;
  static Profile p;
  int err = run(&e, &p, cfg, comm, exit_code);
  profile_destroy(&p);
  evaluation_close(&e);
  return err;
}

extern const Command command_profile;
const Command command_profile = {
    .name = "profile",
    .arguments = "DECK [key=value…]",
    .purpose = "where the loss on a data set comes from; calibration",
    .deck = true,
    .stops = true,
    .run = profile,
    .about =
        "Evaluates as `mdlm eval` does, with the keys of section eval: the same rows, masks and bound. Each predicted "
        "token is put into bins: by the share of masked tokens, by position, by the frequency of the token in these "
        "rows (tenths of all tokens), by the distance to the nearest visible token. A bin has the number of its "
        "tokens, what it adds to the bound (loss; the bins' sum is nll), mean and standard deviation of -log p "
        "without the bound's weights, the entropy of the prediction, its accuracy and its confidence (max p). The "
        "calibration compares the two for each share and tenth of max p; ece is their mean distance. variance_rows "
        "and variance_draws say whether more rows or more draws would make the bound more precise; they need "
        "eval.draws = 2 or more. Probabilities are those that samplers draw from, without the mask token; scores are "
        "normalised to them. Where the next token is predicted there are no masks: the file has positions, "
        "frequencies and one calibration. residual/rms is the size of the residual stream after each branch. It takes "
        "little longer than eval; rank 0 needs up to 28 kB for each of L + 150 bins. A stop (SIGTERM, SIGUSR1, "
        "SIGINT, SIGHUP) ends it after the current pass of the network and keeps what is finished in OUTPUT.part, as "
        "does every minute; the same command goes on from there, on any number of ranks.",
    .reads = "eval.checkpoint (or the best of run.dir) and eval.data (or data.valid)",
    .writes = "profile.output (or profile.h5 in run.dir)",
    .sections = "run data model diffusion eval profile device dist",
    .example = "mdlm profile deck.cfg run.dir=runs/a eval.draws=4"};
