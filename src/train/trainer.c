#include "train/trainer.h"
#include "base/activity.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "measure/nelbo.h"
#include "train/pace.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

double trainer_validation(const Trainer *t) {
  double draws = (double)t->cfg->train_draws;
  return (t->cfg->diffusion_block > 0 ? 2 / (1 + draws) : 1 / draws) / 3;
}

double trainer_flops(const Trainer *t, double tokens, double rows) {
  double body, attention, head;
  model_flops(&t->net.model, &body, &attention, &head);
  return 3 * ((body + attention) * tokens * network_passes(&t->net) + head * rows);
}

int trainer_micro(Trainer *t, StepResult *sum) {
  Micro micro;
  Noised *n = &t->net.noised;
  TRY(loader_next(t->loader, &micro));
  trainer_noise(t, &micro);
  Dropout dropout = {.p = t->cfg->model_dropout,
                     .seed = (uint64_t)t->cfg->run_seed,
                     .step = (uint64_t)micro.step,
                     .first = t->cfg->train_draws * micro.first};
  t->net.ready = reduction_ready(&t->reduction);
  TRY(network_loss(&t->net, &dropout, true, NULL, &sum->rows));
  sum->tokens += n->scored;
  sum->masked += n->masked;
  return reduction_add(&t->reduction);
}

/* All ranks fail if the loss of any rank is not finite; that rank has the message. */
static int check_loss(Trainer *t, double local, double total) {
  if (isfinite(total)) return OK;
  int err = isfinite(local)
                ? OK
                : RAISE(ERR_NUMERIC,
                        "step %lld: the loss is %g on rank %d; the last checkpoint is kept. Lower train.lr, "
                        "or look at the data of this step",
                        (long long)t->optimizer.step, local, t->comm->rank);
  return comm_agree(t->comm, err);
}

/* The weights that other ranks have updated, and the bf16 copy of all. Errors are local. */
static int share_weights(Trainer *t) {
  Params *p = &t->net.model.params;
  if (t->optimizer.shard.parts == 1) return OK;
  TRY(reduction_gather(&t->reduction, p->value));
  return tensor_none(p->low) ? OK : op_to_bf16(p->dev, p->low, p->value);
}

/* The norms of a step that is done. Errors are local. */
static int watch_layers(Trainer *t, double scale) {
  if (t->optimizer.shard.parts > 1) TRY(reduction_gather(&t->reduction, t->net.model.params.grad));
  return layers_after(&t->layers, t->optimizer.step, scale);
}

/* The sums over the ranks and the gradient's squares are queued before anything is read, so that the host waits once a
 * step and draws the next step's masks while the weights are updated; where ranks share the optimizer's state, it waits
 * for the terms of the norm and for the weights, too. */
int trainer_update(Trainer *t, StepResult *sum) {
  double squares;
  device_phase(&t->net.dev, "reduce");
  TRY(reduction_finish(&t->reduction));
  device_phase(&t->net.dev, "update");
  TRY(optimizer_squares(&t->optimizer, &squares));
  activity_begin(ACTIVITY_DEVICE, "its device's results");
  int err = rows_total(&t->net.rows, &sum->loss);
  activity_end();
  TRY(err);
  double local = sum->loss, total[4] = {sum->loss, (double)sum->tokens, (double)sum->masked, (double)sum->rows};
  TRY(comm_all_reduce(t->comm, total, 4, COMM_F64, COMM_SUM)); /* the counts are integers, exact below 2^53 */
  TRY(check_loss(t, local, total[0]));
  if (total[1] == 0)
    return comm_agree(t->comm, t->comm->rank > 0
                                   ? OK
                                   : RAISE(ERR_DATA,
                                           "step %lld: no token of the global batch is scored: its rows have one token "
                                           "each and no next one. Raise train.global_batch, or leave such rows out",
                                           (long long)t->optimizer.step));
  *sum = (StepResult){
      .loss = total[0] / total[1], .tokens = (int64_t)total[1], .masked = (int64_t)total[2], .rows = (int64_t)total[3]};
  bool watched = layers_due(&t->layers, t->optimizer.step + 1);
  if (watched) TRY(layers_before(&t->layers));
  err = optimizer_step(&t->optimizer, squares, 1 / total[1], &sum->norm, &sum->lr);
  device_phase(&t->net.dev, NULL);
  if (err == ERR_NUMERIC)
    err = t->comm->rank > 0
              ? OK
              : RAISE(ERR_NUMERIC, "step %lld: the gradient's norm is %g; the last checkpoint is kept. Lower train.lr",
                      (long long)t->optimizer.step, sum->norm);
  TRY(comm_agree(t->comm, err));
  TRY(share_weights(t));
  if (watched) TRY(watch_layers(t, 1 / total[1]));
  t->sequences += t->cfg->train_global_batch;
  t->tokens += sum->tokens;
  t->masked += sum->masked;
  return OK;
}

/* Whether any rank was asked to stop. Only rank 0 looks for the file, and only between steps: run.dir may be on a slow
 * network file system. */
static int agree_stop(Trainer *t, bool between_steps, int *stop) {
  bool look = between_steps && t->writes && t->comm->rank == 0;
  int64_t request = stop_requested(look ? t->dir.path : NULL);
  TRY(comm_all_reduce(t->comm, &request, 1, COMM_I64, COMM_MAX));
  *stop = (int)request;
  return OK;
}

/* One whole step, or, if a signal asks for a stop between its micro-batches, none: then weights and moments are as
 * before, and *stop is set. Errors of a rank's data or device are not agreed. */
static int step(Trainer *t, StepResult *sum, int *stop) {
  *sum = (StepResult){0};
  activity_step(t->optimizer.step + 1);
  TRY(reduction_begin(&t->reduction));
  for (int64_t i = 0; i < t->local_micro; i++) {
    if (i > 0) TRY(agree_stop(t, false, stop));
    if (*stop) return OK;
    TRY(trainer_micro(t, sum));
  }
  return trainer_update(t, sum);
}

/* Other masks than those of an evaluation: the best of many validations is too good on its own masks. */
static uint64_t valid_seed(uint64_t seed) {
  uint32_t r[4];
  rng_block(r, rng_key(seed, RNG_VALID, 0, 0, 0), 0);
  return (uint64_t)r[1] << 32 | r[0];
}

void trainer_clip(Trainer *t) {
  const MetricsTable *v = &t->history.valid;
  if (!t->cfg->diffusion_clip_search) return;
  for (int64_t i = v->n_rows - 1; i >= 0; i--) { /* the last one that found some */
    const double *row = v->rows + i * v->n_columns;
    if (isnan(row[VALID_CLIP_LOW])) continue;
    law_narrow(&t->net.objective.law, row[VALID_CLIP_LOW], row[VALID_CLIP_HIGH]);
    return;
  }
}

/* What a validation has found about the times, for the history: they are in force from there. */
static void search_clip(const Trainer *t, const Nelbo *r, double *row) {
  ClipChoice best;
  if (!t->cfg->diffusion_clip_search) return;
  row[VALID_CLIP_LOW] = row[VALID_CLIP_HIGH] = row[VALID_VARIANCE] = NAN;
  if (!clip_search_pick(&best, r->clip)) return;
  const ClipChoice all = clip_search_between(r->clip, 0, CLIP_PIECES);
  row[VALID_CLIP_LOW] = best.low, row[VALID_CLIP_HIGH] = best.high, row[VALID_VARIANCE] = best.variance;
  log_info("step %lld  times of training from %.2f to %.2f: variance of a block's mean loss %.4g (%lld blocks), at all "
           "times %.4g",
           (long long)t->optimizer.step, best.low, best.high, best.variance, (long long)best.blocks, all.variance);
}

int trainer_validate(Trainer *t, int *stop) {
  if (t->valid == NULL) return OK;
  Params *p = &t->net.model.params;
  NelboOptions o = {.draws = 1,
                    .estimator = estimators[0],
                    .sequences = t->cfg->train_valid_sequences,
                    .seed = valid_seed((uint64_t)t->cfg->run_seed),
                    .clip = t->cfg->diffusion_clip_search,
                    .stratified = t->cfg->diffusion_stratified};
  Nelbo r;
  Tensor ema;
  double start = clock_now();
  TRY(trainer_flat(t, CKPT_EMA, &ema));
  TRY(params_bind(p, ema));
  TRY(nelbo_run(&r, &t->net, t->valid, t->comm, &o));
  TRY(params_bind(p, p->value));
  *stop = r.stop;
  if (r.stop) return OK;
  double seconds = clock_now() - start, row[VALID_MOST] = {0};
  t->valid_seconds = seconds;
  bool sound = isfinite(r.interval.nll);
  if (!sound) nelbo_destroy(&r);
  int err =
      sound || t->comm->rank > 0
          ? OK
          : RAISE(ERR_NUMERIC, "step %lld: the validation loss is %g; the last checkpoint is kept. Lower train.lr",
                  (long long)t->optimizer.step, r.interval.nll);
  const Interval *v = &r.interval;
  char range[INTERVAL_TEXT];
  TRY(comm_agree(t->comm, err));
  log_info("step %lld  validation nll %.4f  ppl %.3f  ci95 %s  (%lld sequences, %.1f s)", (long long)t->optimizer.step,
           v->nll, exp(v->nll), interval_text(range, exp(v->low), exp(v->high), 3), (long long)r.sequences, seconds);
  row[VALID_STEP] = (double)t->optimizer.step;
  row[VALID_NLL] = v->nll;
  row[VALID_PPL] = exp(v->nll);
  row[VALID_LOW] = exp(v->low);
  row[VALID_HIGH] = exp(v->high);
  row[VALID_SECONDS] = seconds;
  search_clip(t, &r, row);
  nelbo_destroy(&r);
  TRY_ALL(t->comm, metrics_add(&t->history.valid, row));
  trainer_clip(t);
  if (t->best <= v->nll) return OK; /* false for NaN: the first validation is the best */
  t->best = v->nll;
  return trainer_save(t, "best.h5");
}

typedef struct Window { /* since the last line of the log */
  double start, loss;
  int64_t steps, tokens, rows;
  Pace pace;
} Window;

/* The ranks' own times for a step; on a GPU, where a rank's waiting is hidden in its queue, NaN. */
static int compare_ranks(Trainer *t, Window *w, double row[TRAIN_MOST]) {
  PaceResult r;
  row[TRAIN_STEP_MEDIAN] = row[TRAIN_STEP_SLOWEST] = row[TRAIN_SLOWEST_RANK] = NAN;
  if (!t->net.dev.ops->host) return OK;
  TRY(pace_compare(&w->pace, w->steps, t->comm, &r));
  row[TRAIN_STEP_MEDIAN] = r.median;
  row[TRAIN_STEP_SLOWEST] = r.slowest;
  row[TRAIN_SLOWEST_RANK] = r.rank;
  if (pace_uneven(&r, w->steps))
    log_info("step time per rank, without waiting for others: slowest is rank %d on %s with %.3g s, the median is "
             "%.3g s",
             r.rank, r.host, r.slowest, r.median);
  return OK;
}

/* The rows that metrics.h5 does not have yet. */
static int write_metrics(Trainer *t) {
  char path[512];
  rundir_file(&t->dir, "metrics.h5", path);
  return comm_agree(t->comm,
                    t->comm->rank == 0 && t->writes ? metrics_flush(path, t->history.tables, t->history.n) : OK);
}

static int report(Trainer *t, const StepResult *last, Window *w, double begun, int64_t first) {
  char left[32];
  double now = clock_now(), seconds = now - w->start, loss = w->loss / (double)w->steps;
  double rate = (double)w->tokens / seconds, ranks = t->comm->size;
  double mfu = trainer_flops(t, (double)w->tokens, (double)w->rows) / seconds / ranks / t->peak;
  int64_t done = t->optimizer.step, total = t->cfg->train_steps;
  double eta = (now - begun) / (double)(done - first) * (double)(total - done);
  char ppl[32] = "";
  bool bound;
  objective_trains(&t->net.objective, &bound);
  if (bound) snprintf(ppl, sizeof ppl, "  ppl %.2f", exp(loss));
  log_info("step %lld/%lld  loss %.4f%s  lr %.3g  |g| %.3f  %.0f tokens/s  mfu %.0f%%  eta %s", (long long)done,
           (long long)total, loss, ppl, last->lr, last->norm, rate, 100 * mfu, log_duration(left, sizeof left, eta));
  double row[TRAIN_MOST];
  row[TRAIN_STEP] = (double)done;
  row[TRAIN_LOSS] = loss;
  row[TRAIN_PPL] = bound ? exp(loss) : NAN;
  row[TRAIN_GRAD_NORM] = last->norm;
  row[TRAIN_LR] = last->lr;
  row[TRAIN_TOKENS] = (double)t->tokens;
  row[TRAIN_MASKED] = (double)t->masked;
  row[TRAIN_RATE] = rate;
  row[TRAIN_MFU] = mfu;
  row[TRAIN_SECONDS] = now - begun;
  for (int i = 0; i < mixture_sets(t->train); i++)
    row[TRAIN_COLUMNS + i] = (double)mixture_drawn(t->train, i, t->sequences);
  TRY(compare_ranks(t, w, row));
  TRY_ALL(t->comm, metrics_add(&t->history.train, row));
  TRY(write_metrics(t));
  *w = (Window){.start = clock_now()};
  return OK;
}

static bool due(int64_t n, int64_t every, int64_t total) { return n == total || (every > 0 && n % every == 0); }

/* Whether the last validation in the history is of the current step. */
static bool validated(const Trainer *t) {
  const MetricsTable *v = &t->history.valid;
  return v->n_rows > 0 && v->rows[(v->n_rows - 1) * v->n_columns + VALID_STEP] == (double)t->optimizer.step;
}

/* Whether a stop has left the validation of the current step to the resumed run. */
static bool owes_validation(const Trainer *t) {
  const Config *cfg = t->cfg;
  return t->valid && t->optimizer.step > 0 && due(t->optimizer.step, cfg->train_valid_every, cfg->train_steps) &&
         !validated(t);
}

/* Whether samples of the current step are due and not in the history: after a step, or when a stop has left them to the
 * resumed run. */
static bool owes_samples(const Trainer *t) {
  const MetricsTable *s = &t->history.samples;
  int64_t n = t->optimizer.step, every = t->cfg->train_sample_every;
  bool drawn = s->n_rows > 0 && s->rows[(s->n_rows - 1) * SAMPLE_COLUMNS + SAMPLE_STEP] == (double)n;
  return t->sampling && n > 0 && n % every == 0 && !drawn;
}

/* Samples of the moving average, if they are due. */
static int draw_samples(Trainer *t, int *stop) {
  Params *p = &t->net.model.params;
  Tensor ema;
  if (*stop || !owes_samples(t)) return OK;
  TRY(trainer_flat(t, CKPT_EMA, &ema));
  TRY(params_bind(p, ema));
  TRY(t->sampling->draw(t->sampling->arg, stop));
  TRY(params_bind(p, p->value));
  return write_metrics(t);
}

bool trainer_complete(const Trainer *t) {
  return t->optimizer.step >= t->cfg->train_steps && !owes_validation(t) && !owes_samples(t);
}

/* Whether a validation takes longer than the time between two saves, with steps of `seconds` each: by the last one, or
 * as trainer_validation says. The same on all ranks. */
static int long_validation(Trainer *t, double seconds, bool *is) {
  const Config *cfg = t->cfg;
  double expected = t->valid_seconds, between = seconds * (double)cfg->train_steps;
  int64_t n = t->valid ? shards_rows(t->valid) : 0;
  if (cfg->train_valid_sequences > 0 && cfg->train_valid_sequences < n) n = cfg->train_valid_sequences;
  if (expected == 0) expected = (double)n / (double)cfg->train_global_batch * seconds * trainer_validation(t);
  if (cfg->train_save_every > 0) between = seconds * (double)cfg->train_save_every;
  if (cfg->train_save_minutes > 0) between = fmin(between, 60 * cfg->train_save_minutes);
  return comm_any(t->comm, expected > between, is);
}

/* The validation after a step; steps take `seconds` each. A long one finds the state saved. */
static int validate(Trainer *t, double seconds, int *stop) {
  bool is_long;
  TRY(long_validation(t, seconds, &is_long));
  if (is_long) TRY(trainer_save(t, "last.h5"));
  return trainer_validate(t, stop);
}

/* After the last step: a line of the log for the steps since the last one, and the state, unless a save has it. */
static int wind_up(Trainer *t, const StepResult *last, Window *w, double begun, int64_t first, bool unsaved) {
  if (w->steps > 0) TRY(report(t, last, w, begun, first));
  return unsaved ? trainer_save(t, "last.h5") : OK;
}

int trainer_run(Trainer *t, int *stop) {
  const Config *cfg = t->cfg;
  int64_t total = cfg->train_steps, first = t->optimizer.step;
  bool unsaved = first == 0;
  StepResult last = {0};
  Window w = {.start = clock_now()};
  double begun = w.start, stepping = 0; /* seconds of the steps */
  Progress live;
  progress_start(&live, "step", "tokens", total);
  TRY(agree_stop(t, true, stop)); /* while everything was loaded */
  if (owes_validation(t) && !*stop) {
    TRY(trainer_validate(t, stop));
    unsaved = !*stop;
    w.start = clock_now();
  }
  if (owes_samples(t)) {
    TRY(draw_samples(t, stop));
    unsaved = unsaved || !*stop;
    w.start = clock_now();
  }
  while (t->optimizer.step < total && !*stop) {
    int64_t before = t->optimizer.step;
    StepResult r;
    pace_begin(&w.pace);
    TRY(step(t, &r, stop));
    int64_t n = t->optimizer.step;
    if (n == before) break;
    stepping += pace_end(&w.pace);
    last = r;
    unsaved = true;
    w.loss += r.loss;
    w.steps++;
    w.tokens += r.tokens;
    w.rows += r.rows;
    progress_live(&live, n, t->tokens, "loss %.4f", r.loss);
    TRY(agree_stop(t, true, stop));
    if (due(n, cfg->train_log_every, total)) TRY(report(t, &last, &w, begun, first));
    if (due(n, cfg->train_valid_every, total) && !*stop) { /* a stop leaves it to the resumed run */
      double start = clock_now();
      TRY(validate(t, stepping / (double)(n - first), stop));
      w.start += clock_now() - start;
      progress_start(&live, "step", "tokens", total); /* its speed is that of steps alone */
    }
    if (owes_samples(t)) {
      double start = clock_now();
      TRY(draw_samples(t, stop));
      w.start += clock_now() - start;
    }
    if (*stop && w.steps > 0) TRY(report(t, &last, &w, begun, first)); /* before the save, which is the last one */
    TRY(trainer_save_due(t));
  }
  TRY(wind_up(t, &last, &w, begun, first, unsaved));
  if (*stop == STOP_FILE && t->comm->rank == 0) rundir_remove(&t->dir, "STOP"); /* the request has been served */
  TRY(write_metrics(t));
  return trainer_saved(t);
}
