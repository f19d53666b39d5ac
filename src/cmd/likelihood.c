/* mdlm likelihood DECK [key=value…] — the likelihood of targets given their contexts, and which option of each question is
 * the most likely. */
#include "measure/likelihood.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/menu.h"
#include "cmd/cmd.h"
#include "cmd/task.h"
#include "measure/choices.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Asked {
  Task task;
  char input[FILES_PATH];
  Requests requests;
  LikelihoodOptions options;
  char words[ESTIMATOR_TEXT]; /* options of the estimator */
  Config network;             /* the deck with the network's padding as asked for; owns no strings */
  int64_t cut;                /* contexts that are too long … */
  int64_t *cut_of;            /* [n] … and tokens left out at their beginning */
  Likelihood result;
  Choices choices; /* rank 0 */
} Asked;

static const char *const rests[RESTS] = {[REST_HIDDEN] = "hidden", [REST_MASK] = "mask", [REST_PAD] = "pad"};

/* Whether it is defined for part of a row. */
static bool of_part(const EstimatorTable *e, const Objective *o) {
  return e->part && (o->options.block == 0 || e->exact);
}

/* The estimators for part of a row, for a message. */
static const char *of_parts(const Objective *o, char text[MENU_TEXT]) {
  *text = '\0';
  for (int i = 0; estimators[i]; i++)
    if (of_part(estimators[i], o) && estimators[i]->check(o) == OK) menu_add(text, estimators[i]->name);
  err_clear();
  return *text ? text : "none";
}

static int find_estimator(Asked *a, const Config *cfg) {
  const Objective *o = &a->task.net.objective;
  char fit[MENU_TEXT];
  a->options.draws = 1;
  if (!o->diffusion) return OK;
  int err = estimator_find(&a->options.estimator, cfg->eval_estimator, o);
  if (err) err_clear();
  CHECK(
      err == OK && of_part(a->options.estimator, o), ERR_USAGE,
      "eval.estimator = %s does not estimate the likelihood of a part of a row; for diffusion.objective = %s%s%s that "
      "does: %s",
      err ? cfg->eval_estimator : a->options.estimator->name, o->table->name, o->options.T ? " with diffusion.T" : "",
      o->options.block ? " with diffusion.block" : "", of_parts(o, fit));
  if (a->options.estimator->describe) return a->options.estimator->describe(cfg, a->words);
  a->options.draws = cfg->eval_draws;
  return OK;
}

/* Whether a position sees later ones: those of its block do in block diffusion. */
static bool sees_ahead(const Asked *a, const ModelTable *model) {
  return !model->causal || a->network.diffusion_block > 0;
}

/* What the network sees behind the target. */
static int choose_rest(Asked *a, const Config *cfg) {
  const Vocab *v = &a->task.state.vocab;
  const ModelTable *model;
  LikelihoodOptions *o = &a->options;
  while (o->rest < RESTS && strcmp(rests[o->rest], cfg->likelihood_rest) != 0) o->rest++;
  CHECK(o->rest < RESTS, ERR_USAGE, "likelihood.rest = %s: no such word", cfg->likelihood_rest);
  TRY(model_find(&model, cfg->model_name));
  a->network = *cfg;
  o->pad = v->pad >= 0 ? v->pad : 0;
  if (!sees_ahead(a, model)) return OK;
  CHECK(o->rest != REST_HIDDEN || model->attends, ERR_USAGE,
        "likelihood.rest = hidden hides what follows the target from attention, which model.name = %s has not; use %s",
        model->name, rests[REST_MASK]);
  CHECK(o->rest != REST_PAD || v->pad >= 0, ERR_USAGE, "likelihood.rest = pad: the tokenizer %s has no padding; use %s",
        v->tokenizer, rests[REST_HIDDEN]);
  if (o->rest == REST_HIDDEN) a->network.model_mask_padding = true;
  return OK;
}

/* Tokens of a row: those of the longest request where the network sees nothing more, in whole blocks. */
static int64_t row_length(const Asked *a) {
  const ModelTable *model;
  int64_t block = a->network.diffusion_block > 0 ? a->network.diffusion_block : 1;
  const Requests *r = &a->requests;
  int64_t L = a->task.state.length, longest = 1;
  for (int64_t i = 0; i < r->n; i++)
    if (r->context[i] + r->target[i] > longest) longest = r->context[i] + r->target[i];
  longest = (longest + block - 1) / block * block;
  bool all = model_find(&model, a->network.model_name) || (sees_ahead(a, model) && a->options.rest != REST_HIDDEN);
  return all || longest > L ? L : longest > 1 ? longest : 2;
}

static int find_cuts(Asked *a) {
  const Requests *r = &a->requests;
  TRY(mem_alloc(&a->cut_of, (size_t)r->n * sizeof *a->cut_of));
  for (int64_t i = 0; i < r->n; i++) {
    a->cut_of[i] = likelihood_cut(r, i, a->task.state.length);
    a->cut += a->cut_of[i] > 0;
  }
  if (a->cut > 0)
    log_warn("%lld of %lld contexts do not fit into the %lld tokens of a row: their first tokens are left out",
             (long long)a->cut, (long long)r->n, (long long)a->task.state.length);
  return OK;
}

static int key_of(Asked *a, const Config *cfg) {
  char stamp[FILES_STAMP];
  files_stamp(a->input, stamp);
  return task_key(&a->task, cfg, "eval", a->options.estimator,
                  "requests = %s (%s)\nestimator = %s\nrest = %s\ngreedy = %d\n", a->input, stamp,
                  a->options.estimator ? a->options.estimator->name : "exact", cfg->likelihood_rest,
                  cfg->likelihood_greedy);
}

static int open_all(Asked *a, const Config *cfg, Comm *comm) {
  Task *t = &a->task;
  const TaskOptions o = {.format = "mdlm-likelihood",
                         .checkpoint = cfg->eval_checkpoint,
                         .which = cfg->eval_weights,
                         .output = cfg->likelihood_output,
                         .name = "likelihood.h5",
                         .input = cfg->likelihood_requests};
  CHECK(*cfg->likelihood_requests, ERR_USAGE, "likelihood.requests is empty: name a file that mdlm-tasks has made");
  TRY(files_path(a->input, NULL, cfg->likelihood_requests));
  TRY(task_begin(t, cfg, comm, &o));
  TRY(requests_read(&a->requests, a->input, &t->state.vocab, t->checkpoint));
  TRY(choose_rest(a, cfg));
  t->cfg = &a->network;
  int err = task_open(t, row_length(a), "eval.batch", cfg->eval_batch);
  t->cfg = cfg;
  TRY(err);
  TRY(find_estimator(a, cfg));
  TRY(likelihood_check(&a->requests, a->input, &t->net.objective, t->state.length));
  a->options.cfg = cfg;
  a->options.seed = (uint64_t)cfg->eval_seed;
  a->options.greedy = cfg->likelihood_greedy;
  TRY(find_cuts(a));
  return key_of(a, cfg);
}

/* ---- the output */
static const char *estimator_name(const Asked *a) {
  return a->options.estimator ? a->options.estimator->name : "exact";
}

static int fill_series(H5 *f, const Asked *a) {
  const Likelihood *l = &a->result;
  int64_t n = a->requests.n;
  TRY(h5_group(f, "/results"));
  TRY(output_series(f, "/results/ll", H5_F64, n, l->ll, "nat",
                    l->exact ? "log p(target | context)" : "lower bound on log p(target | context)"));
  TRY(output_series(f, "/results/stderr", H5_F64, n, l->error, "nat", "standard error over draws; 0: exact"));
  TRY(output_series(f, "/results/is_greedy", H5_I32, n, l->greedy, "",
                    "1: decoding without randomness gives the target; 0: it does not; -1: not asked"));
  TRY(output_series(f, "/results/draws", H5_I64, n, l->draws, "", "draws of the masks"));
  TRY(output_series(f, "/results/cut", H5_I64, n, a->cut_of, "token", "left out at the beginning of the context"));
  return output_series(f, "/results/tokens", H5_I64, n, a->requests.target, "token", "tokens of the target");
}

static int fill_output(H5 *f, const void *arg) {
  const Asked *a = arg;
  const Choices *c = &a->choices;
  TRY(h5_set_str(f, "/", "input", a->input));
  TRY(h5_set_str(f, "/", "estimator", estimator_name(a)));
  if (*a->words) TRY(h5_set_str(f, "/", "estimator_options", a->words + 1));
  TRY(h5_set_str(f, "/", "rest", rests[a->options.rest]));
  TRY(h5_set_int(f, "/", "draws", a->result.exact ? 0 : a->options.draws));
  TRY(h5_set_int(f, "/", "seed", a->task.cfg->eval_seed));
  TRY(h5_set_str(f, "/", "tokenizer", a->task.state.vocab.tokenizer));
  TRY(h5_set_int(f, "/", "questions", c->questions));
  if (!isnan(c->acc)) TRY(h5_set_real(f, "/", "acc", c->acc));
  if (!isnan(c->norm)) TRY(h5_set_real(f, "/", "acc_norm", c->norm));
  return fill_series(f, a);
}

static double total_ll(const Asked *a) {
  double sum = 0;
  for (int64_t i = 0; i < a->requests.n; i++) sum += a->result.ll[i];
  return sum;
}

static int64_t total_of(const int64_t *values, int64_t n) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; i++) sum += values[i];
  return sum;
}

/* The line that programs read. Rank 0. */
static void report(const Asked *a) {
  const Requests *r = &a->requests;
  const Choices *c = &a->choices;
  char more[256] = "";
  int64_t tokens = total_of(r->target, r->n), hits = 0;
  double nll = -total_ll(a);
  size_t n = 0;
  for (int64_t i = 0; i < r->n; i++) hits += a->result.greedy[i] == 1;
  if (r->bytes)
    n += (size_t)snprintf(more + n, sizeof more - n, " bits_per_byte=%.5f",
                          nll / log(2.0) / (double)total_of(r->bytes, r->n));
  if (a->result.greedy[0] >= 0)
    n += (size_t)snprintf(more + n, sizeof more - n, " greedy=%.4f", (double)hits / (double)r->n);
  if (c->questions > 0)
    n += (size_t)snprintf(more + n, sizeof more - n, " questions=%lld acc=%.4f acc_stderr=%.4f",
                          (long long)c->questions, c->acc, c->acc_se);
  if (!isnan(c->norm)) snprintf(more + n, sizeof more - n, " acc_norm=%.4f acc_norm_stderr=%.4f", c->norm, c->norm_se);
  log_info("nll=%.5f requests=%lld tokens=%lld estimator=%s draws=%lld%s%s", nll / (double)tokens, (long long)r->n,
           (long long)tokens, estimator_name(a), (long long)(a->result.exact ? 0 : a->options.draws), a->words, more);
}

static int run(Asked *a, const Config *cfg, Comm *comm, int *exit_code) {
  Task *t = &a->task;
  TRY(task_agree(t, comm, open_all(a, cfg, comm)));
  log_info("likelihood of %lld targets of %s under %s (%s weights, step %lld); estimator %s%s",
           (long long)a->requests.n, a->input, t->checkpoint, t->which, (long long)t->state.step, estimator_name(a),
           a->words);
  a->options.progress = "likelihood", a->options.partial = t->partial, a->options.key = t->key;
  TRY(likelihood_run(&a->result, &t->net, &a->requests, comm, &a->options));
  if (a->result.stop) return task_stopped(t, a->result.stop, a->result.done, a->requests.n, "requests", exit_code), OK;
  TRY_ALL(comm, comm->rank == 0 ? choices_of(&a->choices, &a->requests, a->result.ll) : OK);
  TRY(task_publish(t, comm->rank == 0 ? total_ll(a) : 0, fill_output, a));
  log_info("per-request values: %s", t->output);
  if (comm->rank == 0) report(a);
  return OK;
}

static int likelihood(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Asked a;
  int err = run(&a, cfg, comm, exit_code);
  likelihood_destroy(&a.result);
  requests_destroy(&a.requests);
  mem_free(&a.cut_of);
  task_end(&a.task);
  return err;
}

extern const Command command_likelihood;
const Command command_likelihood = {
    .name = "likelihood",
    .arguments = "DECK [key=value…]",
    .purpose = "log p(target | context) of the requests of a benchmark",
    .deck = true,
    .stops = true,
    .run = likelihood,
    .about =
        "Scores targets given their contexts, as of questions with options: mdlm-tasks makes the requests. Checkpoint, "
        "estimator, draws, seed and batch are the keys of section eval. An estimator with draws gives a bound: the "
        "mean "
        "over eval.draws draws, each of which masks a part of the target and never the context; the options of a "
        "question share their random numbers, so that differences between them are more precise than their standard "
        "errors say. One without draws is exact under eval.order and eval.commit, and networks that predict the next "
        "token are exact from left to right. A context that is too long loses its first tokens. The last line reads "
        "nll=… requests=… tokens=… estimator=… draws=… and, where the requests tell, bits_per_byte=…, greedy=…, "
        "questions=… acc=… acc_norm=… with standard errors; nll is per token of the targets, acc the share of "
        "questions "
        "whose most likely option is the right one, acc_norm by log-likelihood per byte. "
        "A stop (SIGTERM, SIGUSR1, SIGINT, SIGHUP) ends it after the current pass of the network and keeps what is "
        "finished in OUTPUT.part, as does every minute; the same command goes on from there, on any number of ranks.",
    .reads = "likelihood.requests and eval.checkpoint (or the best of run.dir)",
    .writes = "likelihood.output (or likelihood.h5 in run.dir): the values of each request",
    .sections = "run model diffusion eval likelihood device dist",
    .example = "mdlm likelihood deck.cfg run.dir=runs/a likelihood.requests=piqa.h5"};
