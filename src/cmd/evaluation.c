#include "cmd/evaluation.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

int evaluation_estimate(Evaluation *e) {
  const Config *cfg = e->task.cfg;
  const Objective *o = &e->task.net.objective;
  const CheckpointState *state = &e->task.state;
  if (cfg->model_classes > 0)
    TRY(shards_suit(e->data, cfg->model_classes, state->class_names ? state->class_names : "", e->task.checkpoint));
  TRY(estimator_find(&e->estimator, cfg->eval_estimator, o));
  e->exact = !o->diffusion || e->estimator->exact;
  e->draws = e->exact ? 1 : cfg->eval_draws;
  *e->words = '\0';
  if (e->estimator->describe) TRY(e->estimator->describe(cfg, e->words));
  return task_key(&e->task, cfg, "eval", o->diffusion ? e->estimator : NULL, "data = %s\nestimator = %s\n",
                  shards_protocol(e->data)->digest, e->estimator->name);
}

static bool hides_labels(const Config *cfg) { return strcmp(cfg->eval_labels, "none") == 0; }

static const char *cut(const Protocol *p) { return p->wrap ? "rows cut from running text" : "one document a row"; }

void evaluation_warn(const CheckpointState *state, const char *checkpoint, const Shards *data) {
  const Protocol *p = shards_protocol(data);
  bool known = strcmp(state->data_digest, "none") != 0; /* imported weights do not say what they were trained on */
  if (shards_length(data) == state->length && (!known || p->wrap == state->protocol.wrap)) return;
  log_warn("%s was trained on %lld tokens a row%s%s, %s has %lld%s%s: the perplexity is not comparable with that of "
           "data like those of training",
           checkpoint, (long long)state->length, known ? ", " : "", known ? cut(&state->protocol) : "",
           shards_spec(data), (long long)shards_length(data), known ? ", " : "", known ? cut(p) : "");
}

int evaluation_open(Evaluation *e, const Config *cfg, Comm *comm, const char *format, const char *output,
                    const char *name) {
  Task *t = &e->task;
  const char *data = *cfg->eval_data ? cfg->eval_data : cfg->data_valid;
  TaskOptions o = {.format = format,
                   .checkpoint = cfg->eval_checkpoint,
                   .which = cfg->eval_weights,
                   .output = output,
                   .name = name,
                   .input = ""};
  CHECK(*data, ERR_USAGE, "no data to evaluate: set eval.data or data.valid");
  TRY(shards_open(&e->data, data));
  if (comm->rank == 0) TRY(shards_trust(e->data));
  TRY(task_begin(t, cfg, comm, &o));
  TRY(vocab_same(&t->state.vocab, t->checkpoint, shards_vocab(e->data), data));
  TRY(task_open(t, shards_length(e->data), "eval.batch", cfg->eval_batch));
  return evaluation_estimate(e);
}

/* The estimator as results name it; autoregressive likelihoods need none. */
static const char *estimator_word(const Evaluation *e) {
  return e->task.net.objective.diffusion ? e->estimator->name : "exact";
}

void evaluation_announce(const Evaluation *e, const char *doing) {
  const Task *t = &e->task;
  char how[ESTIMATOR_TEXT + 32] = "";
  snprintf(how, sizeof how, "%s", e->words);
  if (!e->estimator->exact && t->net.objective.diffusion)
    snprintf(how, sizeof how, ", %lld draw%s a sequence", (long long)e->draws, e->draws > 1 ? "s" : "");
  log_info("%s %s (%s weights, step %lld) on %s; estimator %s%s", doing, t->checkpoint, t->which,
           (long long)t->state.step, shards_spec(e->data), estimator_word(e), how);
  evaluation_warn(&t->state, t->checkpoint, e->data);
  if (t->cfg->model_classes > 0 && !hides_labels(t->cfg) && shards_classes(e->data) == 0)
    log_warn("%s has no labels: the bound is that without a class", shards_spec(e->data));
  if (!e->estimator->whole) network_warn(&t->net);
}

void evaluation_close(Evaluation *e) {
  nelbo_destroy(&e->result);
  shards_close(&e->data);
  task_end(&e->task);
}

Losses evaluation_losses(const Evaluation *e) {
  const Nelbo *r = &e->result;
  return (Losses){
      .n = r->sequences, .loss = r->loss, .square = r->square, .tokens = r->length, .draws = e->exact ? 0 : e->draws};
}

Spread evaluation_source(const Evaluation *e) {
  const Losses l = evaluation_losses(e);
  return interval_sequences(&l, interval_block(l.n, shards_protocol(e->data)->wrap));
}

/* Of all rows, also where a part of them is evaluated. */
static int text_rate(Evaluation *e) {
  ShardsText text;
  TRY(shards_text(e->data, &text));
  double scored = (double)text.tokens - (e->task.net.objective.diffusion ? 0 : (double)shards_rows(e->data));
  e->text.bytes = text.bytes > 0 ? (double)text.bytes / scored : NAN;
  e->text.words = text.words > 0 ? (double)text.words / scored : NAN;
  return OK;
}

static int fill_results(H5 *f, const Evaluation *e) {
  const Nelbo *r = &e->result;
  const Spread source = evaluation_source(e);
  int64_t n = r->sequences;
  TRY(h5_set_real(f, "/", "nll", r->interval.nll));
  TRY(h5_set_real(f, "/", "nll_low", source.low));
  TRY(h5_set_real(f, "/", "nll_high", source.high));
  TRY(h5_set_int(f, "/", "tokens", r->interval.tokens));
  if (!isnan(e->text.bytes)) TRY(h5_set_real(f, "/", "bytes_per_token", e->text.bytes));
  if (!isnan(e->text.words)) TRY(h5_set_real(f, "/", "words_per_token", e->text.words));
  TRY(output_series(f, "/loss", H5_F64, n, r->loss, "nat",
                    e->exact ? "negative log-likelihood of each sequence"
                             : "bound on the negative log-likelihood of each sequence"));
  TRY(output_series(f, "/square", H5_F64, n, r->square, "nat2",
                    "sum over the draws of the squared distance from their mean"));
  return output_series(f, "/tokens", H5_I64, n, r->length, "token", "scored tokens of each sequence");
}

int evaluation_fill(H5 *f, const void *arg) {
  const Evaluation *e = arg;
  const Protocol *p = shards_protocol(e->data);
  TRY(h5_set_str(f, "/", "estimator", e->estimator->name));
  if (*e->words) TRY(h5_set_str(f, "/", "estimator_options", e->words + 1));
  TRY(h5_set_int(f, "/", "draws", e->estimator->exact ? 0 : e->task.cfg->eval_draws));
  TRY(h5_set_int(f, "/", "seed", e->task.cfg->eval_seed));
  TRY(h5_set_int(f, "/", "block", e->task.cfg->diffusion_block));
  TRY(h5_set_real(f, "/", "share", e->estimator->whole ? 1 : objective_share(&e->task.net.objective)));
  TRY(h5_set_str(f, "/", "data", shards_spec(e->data)));
  TRY(h5_set_str(f, "/", "data_digest", p->digest));
  TRY(h5_set_int(f, "/", "length", shards_length(e->data)));
  if (e->task.cfg->model_classes > 0) TRY(h5_set_str(f, "/", "labels", e->task.cfg->eval_labels));
  TRY(h5_set_str(f, "/", "tokenizer", e->task.state.vocab.tokenizer));
  TRY(h5_set_real(f, "/", "seconds", e->seconds));
  TRY(protocol_store(p, f));
  return fill_results(f, e);
}

NelboOptions evaluation_options(const Evaluation *e, const char *progress) {
  const Config *cfg = e->task.cfg;
  return (NelboOptions){.estimator = e->estimator,
                        .cfg = cfg,
                        .draws = e->draws,
                        .sequences = cfg->eval_sequences,
                        .seed = (uint64_t)cfg->eval_seed,
                        .stratified = cfg->diffusion_stratified,
                        .hide_labels = hides_labels(cfg),
                        .progress = progress,
                        .partial = e->task.partial,
                        .key = e->task.key};
}

int evaluation_publish(Evaluation *e, int (*fill)(H5 *f, const void *arg), const void *arg) {
  TRY_ALL(e->task.comm, e->task.comm->rank == 0 ? text_rate(e) : OK);
  return task_publish(&e->task, e->result.interval.nll, fill, arg);
}

int evaluation_run(Evaluation *e, const char *progress) {
  const NelboOptions o = evaluation_options(e, progress);
  double start = clock_now();
  TRY(nelbo_run(&e->result, &e->task.net, e->data, e->task.comm, &o));
  e->seconds = clock_now() - start;
  return e->result.stop ? OK : evaluation_publish(e, evaluation_fill, e);
}

void evaluation_report(const Evaluation *e, const char *more) {
  const Losses l = evaluation_losses(e);
  int64_t block = interval_block(l.n, shards_protocol(e->data)->wrap);
  const Spread s = evaluation_source(e);
  char range[INTERVAL_TEXT], bytes[40] = "", block_of[32] = "";
  int64_t size = e->task.cfg->diffusion_block;
  results_show(&l, block, &e->text);
  if (!isnan(e->text.bytes))
    snprintf(bytes, sizeof bytes, " bits_per_byte=%.5f", results_bits_per_byte(&e->text, s.value));
  if (size > 0) snprintf(block_of, sizeof block_of, " block=%lld", (long long)size);
  log_info("nll=%.5f bits=%.5f ppl=%.4f ci95=%s sequences=%lld tokens=%lld estimator=%s draws=%lld T=%lld%s%s%s%s",
           s.value, s.value / log(2.0), exp(s.value), interval_text(range, exp(s.low), exp(s.high), 4), (long long)l.n,
           (long long)e->result.interval.tokens, estimator_word(e), (long long)(e->estimator->exact ? 0 : e->draws),
           (long long)e->task.cfg->diffusion_T, block_of, e->words, bytes, more);
}
