/* mdlm score DECK [key=value…] — generative perplexity: what a gpt2 or ar checkpoint thinks of samples, next to their
 * entropy. */
#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "cmd/weights.h"
#include "measure/genppl.h"
#include <math.h>
#include <string.h>

typedef struct Score {
  const Config *cfg; /* not owned */
  char input[FILES_PATH], output[FILES_PATH];
  CheckpointState state;
  Config trained; /* the deck of the checkpoint */
  Config network; /* its model and objective on the device of cfg; owns nothing */
  Tokens *tokens;
  Network net;
  Genppl result;
} Score;

/* The network that judges is the checkpoint's, and only where it runs is the deck's: the deck is of the run whose
 * samples are judged. */
static void describe(Config *network, const Config *trained, const Config *cfg) {
  *network = *trained;
#define KEY(section, name)                                                                                             \
  if (strcmp(#section, "device") == 0) network->section##_##name = cfg->section##_##name;
#define KEY_INT(section, name, def, min, max, unit, help) KEY(section, name)
#define KEY_REAL(section, name, def, min, max, unit, help) KEY(section, name)
#define KEY_BOOL(section, name, def, help) KEY(section, name)
#define KEY_STR(section, name, def, help) KEY(section, name)
#define KEY_WORD(section, name, def, choices, help) KEY(section, name)
#include "base/keys.def"
#undef KEY
#undef KEY_INT
#undef KEY_REAL
#undef KEY_BOOL
#undef KEY_STR
#undef KEY_WORD
}

static int open_all(Score *s, const Config *cfg, const Comm *comm) {
  const char *checkpoint = cfg->score_checkpoint;
  CHECK(*checkpoint, ERR_USAGE, "score.checkpoint is empty: name a checkpoint of a gpt2 or ar network");
  TRY(output_path(cfg, cfg->score_input, "samples.h5", s->input));
  TRY(output_path(cfg, cfg->score_output, "score.h5", s->output));
  TRY(output_claim(comm, s->output, "mdlm-score", s->input));
  TRY(checkpoint_state(checkpoint, &s->state));
  TRY(config_load_text(&s->trained, s->state.deck, checkpoint));
  CHECK(strcmp(s->trained.diffusion_objective, "ar") == 0, ERR_USAGE,
        "score.checkpoint = %s was trained with diffusion.objective = %s: only a network that predicts the next token "
        "can judge",
        checkpoint, s->trained.diffusion_objective);
  describe(&s->network, &s->trained, cfg);
  TRY(tokens_open(&s->tokens, s->input, &s->state.vocab, checkpoint));
  int64_t length = s->state.length, width = tokens_width(s->tokens);
  CHECK(width > 1, ERR_DATA, "%s: rows of one token have no next token to be scored", s->input);
  return weights_open(&s->net, &s->network, comm, checkpoint, cfg->score_weights, &s->state,
                      width < length ? width : length, "score.batch", cfg->score_batch);
}

static int fill_output(H5 *f, const void *arg) {
  const Score *s = arg;
  const Genppl *r = &s->result;
  TRY(h5_set_str(f, "/", "input", s->input));
  TRY(h5_set_int(f, "/", "window", s->state.length));
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

static int run(Score *s, const Config *cfg, Comm *comm) {
  TRY_ALL(comm, open_all(s, cfg, comm));
  log_info("scoring %lld rows of %s by %s (%s, %s weights) in windows of %lld tokens",
           (long long)tokens_rows(s->tokens), s->input, cfg->score_checkpoint, s->trained.model_name,
           cfg->score_weights, (long long)s->state.length);
  TRY(genppl_run(&s->result, &s->net, s->tokens, s->state.vocab.eos, comm, "scoring"));
  const Interval *r = &s->result.interval;
  int err = OK;
  if (comm->rank == 0 && !isfinite(r->nll))
    err = RAISE(ERR_NUMERIC, "%s: the likelihood is %g: its weights are not sound", cfg->score_checkpoint, r->nll);
  if (comm->rank == 0 && err == OK)
    err = output_write(s->output, "mdlm-score", cfg, cfg->score_checkpoint, &s->state, cfg->score_weights, fill_output,
                       s);
  TRY(comm_agree(comm, err));
  log_info("per-row values: %s", s->output);
  log_info("nll=%.5f ppl=%.4f ci95=[%.4f,%.4f] entropy=%.4f rows=%lld tokens=%lld", r->nll, exp(r->nll), exp(r->low),
           exp(r->high), s->result.entropy, (long long)s->result.rows, (long long)r->tokens);
  return OK;
}

static int score(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv, (void)exit_code;
  static Score s;
  s.cfg = cfg;
  int err = run(&s, cfg, comm);
  genppl_destroy(&s.result);
  network_destroy(&s.net);
  tokens_close(&s.tokens);
  config_free(&s.trained);
  checkpoint_state_destroy(&s.state);
  return err;
}

extern const Command command_score;
const Command command_score = {"score", "DECK [key=value…]",
                               "generative perplexity of samples under a gpt2 or ar checkpoint", true, score};
