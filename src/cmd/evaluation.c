#include "cmd/evaluation.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include <math.h>
#include <string.h>

int evaluation_estimate(Evaluation *e) {
  const Config *cfg = e->task.cfg;
  const Objective *o = &e->task.net.objective;
  TRY(estimator_find(&e->estimator, cfg->eval_estimator, o));
  e->draws = o->diffusion ? cfg->eval_draws : 1;
  return task_key(&e->task, cfg, "eval", "data = %s\nestimator = %s\n", shards_protocol(e->data)->digest,
                  e->estimator->name);
}

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

Losses evaluation_losses(const Evaluation *e) {
  const Nelbo *r = &e->result;
  return (Losses){.n = r->sequences,
                  .loss = r->loss,
                  .square = r->square,
                  .tokens = r->length,
                  .draws = e->task.net.objective.diffusion ? e->draws : 0};
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
  TRY(output_series(f, "/loss", H5_F64, n, r->loss, "nat", "bound on the negative log-likelihood of each sequence"));
  TRY(output_series(f, "/square", H5_F64, n, r->square, "nat2",
                    "sum over the draws of the squared distance from their mean"));
  return output_series(f, "/tokens", H5_I64, n, r->length, "token", "scored tokens of each sequence");
}

static int fill_output(H5 *f, const void *arg) {
  const Evaluation *e = arg;
  const Protocol *p = shards_protocol(e->data);
  TRY(h5_set_str(f, "/", "estimator", e->estimator->name));
  TRY(h5_set_int(f, "/", "draws", e->task.cfg->eval_draws));
  TRY(h5_set_int(f, "/", "seed", e->task.cfg->eval_seed));
  TRY(h5_set_real(f, "/", "share", e->estimator->whole ? 1 : objective_share(&e->task.net.objective)));
  TRY(h5_set_str(f, "/", "data", shards_spec(e->data)));
  TRY(h5_set_str(f, "/", "data_digest", p->digest));
  TRY(h5_set_int(f, "/", "length", shards_length(e->data)));
  TRY(h5_set_str(f, "/", "tokenizer", e->task.state.vocab.tokenizer));
  TRY(h5_set_real(f, "/", "seconds", e->seconds));
  TRY(protocol_store(p, f));
  return fill_results(f, e);
}

int evaluation_run(Evaluation *e, const char *progress) {
  const Config *cfg = e->task.cfg;
  NelboOptions o = {.estimator = e->estimator,
                    .draws = e->draws,
                    .sequences = cfg->eval_sequences,
                    .seed = (uint64_t)cfg->eval_seed,
                    .stratified = cfg->diffusion_stratified,
                    .progress = progress,
                    .partial = e->task.partial,
                    .key = e->task.key};
  double start = clock_now();
  TRY(nelbo_run(&e->result, &e->task.net, e->data, e->task.comm, &o));
  e->seconds = clock_now() - start;
  if (e->result.stop) return OK;
  TRY_ALL(e->task.comm, e->task.comm->rank == 0 ? text_rate(e) : OK);
  return task_publish(&e->task, e->result.interval.nll, fill_output, e);
}
