/* mdlm score DECK [key=value…] — generative perplexity: the likelihood of samples under a checkpoint of another
 * network, which predicts the next token, next to their entropy. */
#include "base/err.h"
#include "base/log.h"
#include "base/menu.h"
#include "cmd/cmd.h"
#include "cmd/task.h"
#include "measure/genppl.h"
#include "network/match.h"
#include <math.h>
#include <string.h>

typedef struct Score {
  Task task;
  char input[FILES_PATH];
  Config trained; /* the deck of the checkpoint */
  Config network; /* its model and objective on the device of cfg; owns no strings */
  Tokens *tokens;
  Genppl result;
} Score;

/* A judge predicts the next token. */
static int check_judge(const Score *s) {
  const ObjectiveTable *objective;
  char fit[MENU_TEXT] = "";
  TRY(objective_find(&objective, s->trained.diffusion_objective));
  for (int i = 0; objectives[i]; i++)
    if (objectives[i]->gives == GIVES_NEXT) menu_add(fit, objectives[i]->name);
  CHECK(objective->gives == GIVES_NEXT, ERR_USAGE,
        "score.checkpoint = %s was trained with diffusion.objective = %s, which does not predict the next token; a "
        "judge is trained with %s",
        s->task.checkpoint, objective->name, fit);
  return OK;
}

static int open_all(Score *s, const Config *cfg, Comm *comm) {
  Task *t = &s->task;
  *t = (Task){.cfg = cfg, .comm = comm, .format = "mdlm-score", .which = cfg->score_weights};
  CHECK(*cfg->score_checkpoint, ERR_USAGE,
        "score.checkpoint is empty: name a checkpoint of a network that predicts the next token");
  TRY(files_path(t->checkpoint, NULL, cfg->score_checkpoint));
  TRY(output_path(cfg, cfg->score_input, "samples.h5", s->input));
  TRY(output_path(cfg, cfg->score_output, "score.h5", t->output));
  TRY(task_claim(t, s->input));
  TRY(checkpoint_open(&t->file, t->checkpoint));
  TRY(checkpoint_state(t->file, &t->state));
  TRY(network_deck(&s->trained, t->state.deck, t->checkpoint));
  TRY(check_judge(s));
  s->network = s->trained; /* the deck is that of the judged samples: of it only the device matters */
  config_borrow(&s->network, cfg, "device");
  TRY(tokens_open(&s->tokens, s->input, &t->state.vocab, t->checkpoint));
  int64_t length = t->state.length, width = tokens_width(s->tokens);
  CHECK(width > 1, ERR_DATA, "%s: rows of one token have no next token to score", s->input);
  t->cfg = &s->network;
  int err = task_open(t, width < length ? width : length, "score.batch", cfg->score_batch);
  t->cfg = cfg;
  TRY(err);
  char stamp[FILES_STAMP];
  files_stamp(s->input, stamp);
  return task_key(t, cfg, "score", NULL, "input = %s (%s)\n", s->input, stamp);
}

static int fill_output(H5 *f, const void *arg) {
  const Score *s = arg;
  const Genppl *r = &s->result;
  TRY(h5_set_str(f, "/", "input", s->input));
  TRY(h5_set_int(f, "/", "window", s->task.state.length));
  TRY(h5_set_real(f, "/", "nll", r->interval.nll));
  TRY(h5_set_real(f, "/", "nll_low", r->interval.low));
  TRY(h5_set_real(f, "/", "nll_high", r->interval.high));
  TRY(h5_set_real(f, "/", "entropy", r->entropy));
  TRY(h5_set_int(f, "/", "tokens", r->interval.tokens));
  TRY(output_series(f, "/loss", H5_F64, r->rows, r->loss, "nat",
                    "negative log-likelihood of each row's scored tokens"));
  TRY(output_series(f, "/tokens", H5_I64, r->rows, r->scored, "token", "scored tokens of each row"));
  return output_series(f, "/entropy", H5_F64, r->rows, r->entropies, "nat", "token entropy of each row");
}

static int run(Score *s, const Config *cfg, Comm *comm, int *exit_code) {
  Task *t = &s->task;
  TRY(task_agree(&s->task, comm, open_all(s, cfg, comm)));
  log_info("scoring %lld rows of %s by %s (%s, %s weights) in windows of %lld tokens",
           (long long)tokens_rows(s->tokens), s->input, t->checkpoint, s->trained.model_name, t->which,
           (long long)t->state.length);
  const GenpplOptions o = {.progress = "scoring", .partial = t->partial, .key = t->key};
  TRY(genppl_run(&s->result, &t->net, s->tokens, t->state.vocab.eos, comm, &o));
  if (s->result.stop)
    return task_stopped(t, s->result.stop, s->result.done, s->result.windows, "windows", exit_code), OK;
  const Interval *r = &s->result.interval;
  char range[INTERVAL_TEXT];
  TRY(task_publish(t, r->nll, fill_output, s));
  log_info("per-row values: %s", t->output);
  log_info("nll=%.5f ppl=%.4f ci95=%s entropy=%.4f rows=%lld tokens=%lld", r->nll, exp(r->nll),
           interval_text(range, exp(r->low), exp(r->high), 4), s->result.entropy, (long long)s->result.rows,
           (long long)r->tokens);
  return OK;
}

static int score(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Score s;
  int err = run(&s, cfg, comm, exit_code);
  genppl_destroy(&s.result);
  tokens_close(&s.tokens);
  config_free(&s.trained);
  task_end(&s.task);
  return err;
}

extern const Command command_score;
const Command command_score = {
    .name = "score",
    .arguments = "DECK [key=value…]",
    .purpose = "generative perplexity of samples under a next-token model",
    .deck = true,
    .stops = true,
    .run = score,
    .about =
        "Scores samples, or any tokenized file, by a network that predicts the next token, and prints their "
        "perplexity next to their token entropy. The file must have the vocabulary of that network. "
        "A stop (SIGTERM, SIGUSR1, SIGINT, SIGHUP) ends it after the current pass of the network and keeps what is "
        "finished in OUTPUT.part, as does every minute; the same command goes on from there, on any number of ranks.",
    .reads = "score.checkpoint and score.input (or samples.h5 in run.dir)",
    .writes = "score.output (or score.h5 in run.dir): the result and the values of each row",
    .sections = "run score device dist",
    .example = "mdlm score deck.cfg run.dir=runs/a score.checkpoint=gpt2.h5"};
