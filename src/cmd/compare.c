/* mdlm compare A.h5 B.h5 — which of two evaluations of the same rows with the same masks is better. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/results.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SIDES = 2, FORMAT_VERSION = 1 };

typedef struct Side {
  const char *path; /* not owned */
  H5 *f;
  Results results;
} Side;

static int side_open(Side *s, const char *path) {
  s->path = path;
  TRY(h5_open(&s->f, path, false));
  TRY(h5_check_format(s->f, "an evaluation by mdlm eval", "mdlm-eval", FORMAT_VERSION));
  return results_read(&s->results, s->f);
}

static void side_close(Side *s) {
  results_destroy(&s->results);
  h5_close(&s->f);
}

/* ---- whether they are comparable */

static int refuse(const Side *s, const char *name, const char *a, const char *b, const char *hint) {
  return RAISE(ERR_DATA, "%s and %s are not comparable: %s is %s and %s%s%s", s[0].path, s[1].path, name, a, b,
               *hint ? "; evaluate both with the same " : "", hint);
}

static int same_whole(const Side *s, const char *name, int64_t a, int64_t b, const char *hint) {
  char text[SIDES][24];
  snprintf(text[0], sizeof text[0], "%lld", (long long)a);
  snprintf(text[1], sizeof text[1], "%lld", (long long)b);
  return a == b ? OK : refuse(s, name, text[0], text[1], hint);
}

static int same_whole_attribute(const Side *s, const char *name, const char *hint) {
  int64_t value[SIDES];
  for (int i = 0; i < SIDES; i++) TRY(h5_get_int(s[i].f, "/", name, &value[i]));
  return same_whole(s, name, value[0], value[1], hint);
}

static int same_word_attribute(const Side *s, const char *name, const char *hint) {
  char *word[SIDES] = {NULL, NULL};
  int err = h5_get_str(s[0].f, "/", name, &word[0]);
  if (err == OK) err = h5_get_str(s[1].f, "/", name, &word[1]);
  if (err == OK && strcmp(word[0], word[1]) != 0) err = refuse(s, name, word[0], word[1], hint);
  for (int i = 0; i < SIDES; i++) mem_free(&word[i]);
  return err;
}

static int same_rows(const Side *s) {
  const Losses *a = &s[0].results.losses, *b = &s[1].results.losses;
  char name[64];
  TRY(same_whole_attribute(s, "wrap", ""));
  TRY(same_word_attribute(s, "detokenizer", ""));
  TRY(same_word_attribute(s, "split", ""));
  TRY(same_word_attribute(s, "data_digest", "eval.data"));
  TRY(same_whole(s, "the number of sequences", a->n, b->n, "eval.sequences"));
  for (int64_t i = 0; i < a->n; i++) {
    snprintf(name, sizeof name, "the number of scored tokens of sequence %lld", (long long)i);
    TRY(same_whole(s, name, a->tokens[i], b->tokens[i], ""));
  }
  return OK;
}

static int same_masks(const Side *s) {
  const char *const words[] = {"false", "true"};
  bool a = s[0].results.deck.diffusion_stratified, b = s[1].results.deck.diffusion_stratified;
  if (s[0].results.losses.draws == 0 && s[1].results.losses.draws == 0) return OK; /* nothing is drawn */
  TRY(same_word_attribute(s, "estimator", "eval.estimator"));
  TRY(same_whole_attribute(s, "draws", "eval.draws"));
  TRY(same_whole_attribute(s, "seed", "eval.seed"));
  TRY(same_whole(s, "diffusion.T", s[0].results.deck.diffusion_T, s[1].results.deck.diffusion_T, "diffusion.T"));
  return a == b ? OK : refuse(s, "diffusion.stratified", words[a], words[b], "diffusion.stratified");
}

/* Bounds of which the schedules leave out different parts differ for that reason, too. */
static int warn_shares(const Side *s) {
  double share[SIDES];
  for (int i = 0; i < SIDES; i++) TRY(h5_get_real(s[i].f, "/", "share", &share[i]));
  if (fabs(share[0] - share[1]) > 0.01)
    log_warn("the evaluations cover different shares of the bound: %.3g and %.3g", share[0], share[1]);
  return OK;
}

/* ---- the result */

static int show_side(const Side *s, char letter) {
  char *checkpoint = NULL, *weights = NULL;
  int64_t step = 0;
  int err = h5_get_str(s->f, "/", "checkpoint", &checkpoint);
  if (err == OK) err = h5_get_str(s->f, "/", "weights", &weights);
  if (err == OK) err = h5_get_int(s->f, "/", "step", &step);
  if (err == OK) {
    double nll = interval_sequences(&s->results.losses, s->results.block).value;
    log_info("%c      nll %.5f  ppl %.4f   %s: %s, step %lld, %s weights", letter, nll, exp(nll), s->path, checkpoint,
             (long long)step, weights);
  }
  mem_free(&checkpoint);
  mem_free(&weights);
  return err;
}

static void show_difference(const Difference *d, int64_t tokens) {
  const Spread *s = &d->spread;
  char origin[64], range[INTERVAL_TEXT], p[32] = "unknown";
  const char *better = d->p < 0.05 ? s->value < 0 ? "B" : "A" : "none";
  if (!isnan(d->p)) snprintf(p, sizeof p, "%.3g", d->p);
  log_info("B - A  nll %+.5f  95 %% interval %s, from %s; p = %s", s->value, interval_text(range, s->low, s->high, 5),
           results_origin(s, origin), p);
  log_info("B / A  ppl %.5f   95 %% interval %s", exp(s->value), interval_text(range, exp(s->low), exp(s->high), 5));
  if (isnan(d->p))
    log_info("too few rows for an interval");
  else if (d->p < 0.05)
    log_info("%s is better: its nll is lower", better);
  else
    log_info("no difference at 95 %%");
  log_info("difference=%.5f ci95=%s p=%s ratio=%.5f better=%s blocks=%lld tokens=%lld", s->value,
           interval_text(range, s->low, s->high, 5), p, exp(s->value), isnan(d->p) ? "unknown" : better,
           (long long)s->blocks, (long long)tokens);
}

static int compare_files(Side *s, char **paths) {
  for (int i = 0; i < SIDES; i++) TRY(side_open(&s[i], paths[i]));
  TRY(same_rows(s));
  TRY(same_masks(s));
  TRY(warn_shares(s));
  const Results *a = &s[0].results;
  int64_t tokens = 0;
  for (int64_t i = 0; i < a->losses.n; i++) tokens += a->losses.tokens[i];
  for (int i = 0; i < SIDES; i++) TRY(show_side(&s[i], (char)('A' + i)));
  Difference d = interval_difference(&a->losses, &s[1].results.losses, a->block);
  show_difference(&d, tokens);
  return OK;
}

static int compare(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)cfg, (void)exit_code;
  static Side sides[SIDES];
  int err = argc == SIDES ? OK : RAISE(ERR_USAGE, "usage: mdlm compare A.h5 B.h5");
  if (err == OK && comm->rank == 0) err = compare_files(sides, argv);
  for (int i = 0; i < SIDES; i++) side_close(&sides[i]);
  return comm_agree(comm, err);
}

extern const Command command_compare;
const Command command_compare = {
    .name = "compare",
    .arguments = "A.h5 B.h5",
    .purpose = "which of two evaluations of the same rows is better",
    .run = compare,
    .about =
        "Takes two files of mdlm eval with the same rows and the same masks (data, sequences, estimator, draws and "
        "eval.seed; others are refused), and tells the difference of their nll with its 95 % interval and p value. "
        "What makes a row easy or hard for both cancels, so that differences count that are far smaller than the "
        "intervals of either. Rows of running text are taken in blocks. The last line reads difference=… "
        "ci95=[…,…] p=… ratio=… better=… blocks=… tokens=…; ratio is that of the perplexities, B to A.",
    .reads = "the files",
    .writes = "nothing",
    .example = "mdlm compare runs/a/eval.h5 runs/b/eval.h5"};
