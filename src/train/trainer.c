#include "train/trainer.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "diffusion/timestep.h"
#include "measure/nelbo.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static LoaderOrder order_of(const Config *cfg) {
  if (strcmp(cfg->data_order, "sequential") == 0) return ORDER_SEQUENTIAL;
  return strcmp(cfg->data_order, "blocked") == 0 ? ORDER_BLOCKED : ORDER_PERMUTED;
}

/* Open the data of a key, which an error names. */
static int open_shards(Shards **s, const char *key, const char *spec) {
  char message[1024];
  int err = shards_open(s, spec);
  if (err == OK) return OK;
  snprintf(message, sizeof message, "%s", err_message());
  return RAISE(err, "%s: %s", key, message);
}

/* Rows to be cropped: an even length, no padding, a bos to put in front. Halves t->length. */
static int check_crop(Trainer *t) {
  const char *path = t->cfg->data_train;
  CHECK(t->length % 2 == 0 && t->length >= 4, ERR_DATA,
        "data.crop takes half of each row, but data.train = %s has rows of %lld tokens", path, (long long)t->length);
  CHECK(shards_protocol(t->train)->wrap, ERR_DATA,
        "data.crop takes rows without padding, but data.train = %s has one document a row: prepare it with --wrap",
        path);
  CHECK(shards_vocab(t->train)->bos >= 0 && shards_vocab(t->train)->eos >= 0, ERR_DATA,
        "data.crop puts bos and eos at the ends, but the tokenizer of data.train = %s has none", path);
  t->length /= 2;
  return OK;
}

static int open_data(Trainer *t) {
  const Config *cfg = t->cfg;
  CHECK(*cfg->data_train, ERR_USAGE,
        "data.train is empty: name the tokenized training data (input/prepare.py makes it)");
  TRY(open_shards(&t->train, "data.train", cfg->data_train));
  t->length = shards_length(t->train);
  if (cfg->data_crop) TRY(check_crop(t));
  if (*cfg->data_valid == 0) return OK;
  TRY(open_shards(&t->valid, "data.valid", cfg->data_valid));
  CHECK(shards_length(t->valid) == t->length, ERR_DATA,
        "data.valid = %s has rows of %lld tokens, data.train = %s of %lld%s", cfg->data_valid,
        (long long)shards_length(t->valid), cfg->data_train, (long long)t->length,
        cfg->data_crop ? " after data.crop" : "");
  return vocab_same(shards_vocab(t->train), cfg->data_train, shards_vocab(t->valid), cfg->data_valid);
}

static OptimizerOptions optimizer_options(const Config *cfg) {
  return (OptimizerOptions){.lr = cfg->train_lr,
                            .beta1 = cfg->train_beta1,
                            .beta2 = cfg->train_beta2,
                            .eps = cfg->train_adam_eps,
                            .weight_decay = cfg->train_weight_decay,
                            .clip = cfg->train_clip,
                            .ema = cfg->train_ema,
                            .lr_schedule = cfg->train_lr_schedule,
                            .lr_min = cfg->train_lr_min,
                            .warmup = cfg->train_warmup,
                            .steps = cfg->train_steps};
}

static NetworkOptions network_options(const Trainer *t) {
  const Vocab *v = shards_vocab(t->train);
  return (NetworkOptions){.cfg = t->cfg,
                          .place = t->comm->place,
                          .vocab = v->size,
                          .length = t->length,
                          .mask = v->mask,
                          .batch = t->cfg->train_micro_batch,
                          .training = true};
}

/* After ERR_MEMORY: say which micro-batch would do. */
static int too_large(Trainer *t) {
  enum { FLATS = 8 }; /* moments, average, and some of the reduction's tree */
  NetworkOptions network = network_options(t);
  reduction_destroy(&t->reduction);
  optimizer_destroy(&t->optimizer);
  network_destroy(&t->net);
  return network_too_large(&network, "train.micro_batch", t->cfg->train_global_batch / t->comm->size, FLATS);
}

static int open_network(Trainer *t) {
  const Config *cfg = t->cfg;
  int64_t B = cfg->train_global_batch, b = cfg->train_micro_batch, ranks = t->comm->size;
  OptimizerOptions o = optimizer_options(cfg);
  CHECK(B % (ranks * b) == 0, ERR_USAGE,
        "train.global_batch = %lld is not a multiple of %lld ranks × train.micro_batch = %lld: change one of them",
        (long long)B, (long long)ranks, (long long)b);
  t->local_micro = B / ranks / b;
  NetworkOptions network = network_options(t);
  int err = network_create(&t->net, &network);
  if (err == OK) err = optimizer_create(&t->optimizer, &t->net.model.params, &o);
  return err == ERR_MEMORY ? too_large(t) : err;
}

static int open_reduction(Trainer *t) {
  const Config *cfg = t->cfg;
  bool tree = strcmp(cfg->dist_reduce, "tree") == 0;
  int err = reduction_create(&t->reduction, t->comm, &t->net.model.params, tree,
                             cfg->train_global_batch / cfg->train_micro_batch, cfg->dist_tree_leaves);
  if (err != ERR_MEMORY) return err;
  err = too_large(t);
  err_set_agreed(1); /* as what it tells more of was */
  return err;
}

static int time_product(Device *dev, int64_t n, double *seconds) {
  enum { TRIES = 4 };
  Arena a;
  Tensor x, w, y;
  int err = OK;
  arena_measure(&a, dev);
  for (int pass = 0; pass < 2; pass++) {
    x = arena_tensor(&a, dev->act, n, n);
    w = arena_tensor(&a, dev->bf16 ? DT_BF16 : dev->real, n, n);
    y = arena_tensor(&a, dev->act, n, n);
    if (pass == 0) TRY(arena_commit(&a));
  }
  *seconds = INFINITY;
  for (int i = 0; i < TRIES && err == OK; i++) {
    double start = clock_now();
    err = op_dense(dev, y, TENSOR_NONE, x, w, TENSOR_NONE);
    if (err == OK) err = device_sync(dev);
    *seconds = fmin(*seconds, clock_now() - start);
  }
  arena_destroy(&a);
  return err;
}

/* The rate of matrix products of this rank: the best of a few, on squares that grow until one takes its time, or the
 * memory left is too small. */
static int measure_peak(Trainer *t) {
  const double LONG_ENOUGH = 1e-3;
  double seconds = 0;
  for (int64_t n = 256; n <= 8192 && seconds <= LONG_ENOUGH; n *= 2) {
    int err = time_product(&t->net.dev, n, &seconds);
    if (err == ERR_MEMORY && n > 256) return err_clear(), OK; /* the largest that found room counts */
    TRY(err);
    t->peak = 2.0 * (double)(n * n * n) / seconds;
  }
  return OK;
}

static bool has_checkpoint(const RunDir *d) { return rundir_has(d, "last.h5") || rundir_has(d, "previous.h5"); }

/* Rank 0 holds the directory for all; afterwards every rank may look into it. */
static int open_dir(Trainer *t, bool *resume) {
  int err = OK;
  if (t->comm->rank == 0) err = rundir_open(&t->dir, t->cfg->run_dir);
  TRY(comm_agree(t->comm, err));
  if (t->comm->rank != 0) {
    t->dir.lock = -1;
    strncpy(t->dir.path, t->cfg->run_dir, sizeof t->dir.path - 1);
  }
  bool there = has_checkpoint(&t->dir), any = there || rundir_has(&t->dir, "best.h5");
  TRY(comm_broadcast(t->comm, &there, sizeof there, 0));
  TRY(comm_broadcast(t->comm, &any, sizeof any, 0));
  const char *how = t->cfg->run_resume;
  if (any && strcmp(how, "never") == 0)
    err = RAISE(ERR_USAGE, "run.dir = %s holds a checkpoint and run.resume = never: choose another directory",
                t->dir.path);
  if (!there && strcmp(how, "must") == 0)
    err = RAISE(ERR_USAGE, "run.dir = %s holds no checkpoint and run.resume = must", t->dir.path);
  *resume = there;
  return comm_agree(t->comm, err);
}

static int open_history(Trainer *t) {
  char path[512];
  int err = OK;
  if (t->comm->rank == 0) {
    err = rundir_write(&t->dir, "deck.cfg", t->deck);
    if (err == OK) err = metrics_begin(rundir_file(&t->dir, "metrics.h5", path), t->history.tables, 2, t->deck);
  }
  return comm_agree(t->comm, err);
}

static int open_loader(Trainer *t) {
  const Config *cfg = t->cfg;
  const Vocab *vocab = shards_vocab(t->train);
  int64_t part = cfg->train_global_batch / t->comm->size;
  LoaderOptions o = {.shards = t->train,
                     .order = order_of(cfg),
                     .seed = (uint64_t)cfg->run_seed,
                     .step = t->optimizer.step,
                     .global_batch = cfg->train_global_batch,
                     .first = part * t->comm->rank,
                     .count = part,
                     .micro_batch = cfg->train_micro_batch,
                     .crop = cfg->data_crop,
                     .bos = vocab->bos,
                     .eos = t->net.objective.table->diffusion ? -1 : vocab->eos};
  return loader_create(&t->loader, &o);
}

static int create(Trainer *t) {
  bool resume = false;
  TRY_ALL(t->comm, config_resolved(t->cfg, &t->deck));
  TRY_ALL(t->comm, open_data(t));
  TRY_ALL(t->comm, open_network(t));
  TRY(open_reduction(t));
  TRY_ALL(t->comm,
          history_create(&t->history, t->cfg->train_steps, t->cfg->train_log_every, t->cfg->train_valid_every));
  if (t->writes) TRY(open_dir(t, &resume));
  TRY_ALL(t->comm, measure_peak(t));
  if (resume) {
    TRY(trainer_resume(t));
  } else {
    TRY_ALL(t->comm, params_init(&t->net.model.params, (uint64_t)t->cfg->run_seed));
    TRY_ALL(t->comm, optimizer_begin(&t->optimizer));
  }
  if (t->writes) TRY(open_history(t));
  device_profile_reset(&t->net.dev);
  return comm_agree(t->comm, open_loader(t));
}

int trainer_create(Trainer *t, const Config *cfg, Comm *comm, bool writes) {
  *t = (Trainer){.cfg = cfg, .comm = comm, .writes = writes, .best = NAN, .dir = {.lock = -1}};
  int err = create(t);
  if (err) trainer_destroy(t);
  return err;
}

void trainer_destroy(Trainer *t) {
  loader_destroy(&t->loader);
  reduction_destroy(&t->reduction);
  optimizer_destroy(&t->optimizer);
  network_destroy(&t->net);
  history_destroy(&t->history);
  mem_free(&t->deck);
  shards_close(&t->train);
  shards_close(&t->valid);
  rundir_close(&t->dir);
}

double trainer_flops(const Trainer *t, double tokens, double rows) {
  double body, attention, head;
  model_flops(&t->net.model, &body, &attention, &head);
  return 3 * ((body + attention) * tokens * network_passes(&t->net) + head * rows);
}

/* Times and masks of a micro-batch, as functions of each sequence's place in the global batch. */
static void noise(Trainer *t, const Micro *micro) {
  const Config *cfg = t->cfg;
  Network *net = &t->net;
  noised_begin(&net->noised, micro->n);
  for (int64_t b = 0; b < micro->n; b++) {
    int64_t i = micro->first + b;
    const int32_t *x0 = micro->tokens + b * micro->L;
    RngKey mask = rng_key((uint64_t)cfg->run_seed, RNG_MASK, 0, (uint64_t)micro->step, (uint64_t)i);
    double time = timestep_draw((uint64_t)cfg->run_seed, RNG_TIME, micro->step, i, i, cfg->train_global_batch,
                                cfg->diffusion_stratified, net->objective.tau);
    noised_draw(&net->objective, &net->noised, b, x0, micro->lengths[b], time, mask);
  }
}

int trainer_micro(Trainer *t, StepResult *sum) {
  Micro micro;
  Noised *n = &t->net.noised;
  TRY(loader_next(t->loader, &micro));
  noise(t, &micro);
  Dropout dropout = {.p = t->cfg->model_dropout,
                     .seed = (uint64_t)t->cfg->run_seed,
                     .step = (uint64_t)micro.step,
                     .first = micro.first};
  t->net.ready = reduction_ready(&t->reduction);
  TRY(network_loss(&t->net, &dropout, true, NULL, &sum->rows));
  sum->tokens += n->scored;
  sum->masked += n->masked;
  return reduction_add(&t->reduction);
}

/* All ranks learn whether some rank's loss is not finite; that rank says so. */
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

/* The sums over the ranks and the gradient's squares are asked for before anything is read: the host waits once a step,
 * and draws the next step's masks while the weights are updated. */
int trainer_update(Trainer *t, StepResult *sum) {
  double squares;
  device_phase(&t->net.dev, "reduce");
  TRY(reduction_finish(&t->reduction));
  device_phase(&t->net.dev, "update");
  TRY(optimizer_squares(&t->optimizer, &squares));
  TRY(rows_total(&t->net.rows, &sum->loss));
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
  int err = optimizer_step(&t->optimizer, squares, 1 / total[1], &sum->norm, &sum->lr);
  device_phase(&t->net.dev, NULL);
  if (err == ERR_NUMERIC)
    err = t->comm->rank > 0
              ? OK
              : RAISE(ERR_NUMERIC, "step %lld: the gradient's norm is %g; the last checkpoint is kept. Lower train.lr",
                      (long long)t->optimizer.step, sum->norm);
  TRY(comm_agree(t->comm, err));
  t->tokens += sum->tokens;
  t->masked += sum->masked;
  return OK;
}

/* One whole step; not agreed where a rank's data or device fails. */
static int step(Trainer *t, StepResult *sum) {
  *sum = (StepResult){0};
  TRY(reduction_begin(&t->reduction));
  for (int64_t i = 0; i < t->local_micro; i++) TRY(trainer_micro(t, sum));
  return trainer_update(t, sum);
}

int trainer_validate(Trainer *t) {
  if (t->valid == NULL) return OK;
  Params *p = &t->net.model.params;
  NelboOptions o = {.draws = 1,
                    .sequences = t->cfg->train_valid_sequences,
                    .seed = (uint64_t)t->cfg->run_seed,
                    .stratified = t->cfg->diffusion_stratified};
  Nelbo r;
  double start = clock_now();
  TRY(params_bind(p, t->optimizer.ema));
  TRY(nelbo_run(&r, &t->net, t->valid, t->comm, &o));
  TRY(params_bind(p, p->value));
  double seconds = clock_now() - start, row[VALID_COLUMNS] = {0};
  bool sound = isfinite(r.nll);
  if (!sound) nelbo_destroy(&r);
  int err = sound || t->comm->rank > 0
                ? OK
                : RAISE(ERR_NUMERIC,
                        "step %lld: the validation loss is not a number; the last checkpoint is kept. Lower train.lr",
                        (long long)t->optimizer.step);
  TRY(comm_agree(t->comm, err));
  log_info("step %lld  validation nll %.4f  ppl %.3f  [%.3f, %.3f]  (%lld sequences, %.1f s)",
           (long long)t->optimizer.step, r.nll, exp(r.nll), exp(r.low), exp(r.high), (long long)r.sequences, seconds);
  row[VALID_STEP] = (double)t->optimizer.step;
  row[VALID_NLL] = r.nll;
  row[VALID_PPL] = exp(r.nll);
  row[VALID_LOW] = exp(r.low);
  row[VALID_HIGH] = exp(r.high);
  row[VALID_SECONDS] = seconds;
  nelbo_destroy(&r);
  TRY_ALL(t->comm, metrics_add(&t->history.valid, row));
  if (t->best <= r.nll) return OK; /* false for NaN: the first validation is the best */
  t->best = r.nll;
  return trainer_save(t, "best.h5");
}

typedef struct Window { /* since the last line of the log */
  double start, loss;
  int64_t steps, tokens, rows;
} Window;

static int report(Trainer *t, const StepResult *last, Window *w, double begun, int64_t first) {
  char left[32], path[512];
  double now = clock_now(), seconds = now - w->start, loss = w->loss / (double)w->steps;
  double rate = (double)w->tokens / seconds, ranks = t->comm->size;
  double mfu = trainer_flops(t, (double)w->tokens, (double)w->rows) / seconds / ranks / t->peak;
  int64_t done = t->optimizer.step, total = t->cfg->train_steps;
  double eta = (now - begun) / (double)(done - first) * (double)(total - done);
  log_info("step %lld/%lld  loss %.4f  ppl %.2f  lr %.3g  |g| %.3f  %.0f tokens/s  mfu %.0f%%  eta %s", (long long)done,
           (long long)total, loss, exp(loss), last->lr, last->norm, rate, 100 * mfu,
           log_duration(left, sizeof left, eta));
  double row[TRAIN_COLUMNS];
  row[TRAIN_STEP] = (double)done;
  row[TRAIN_LOSS] = loss;
  row[TRAIN_PPL] = exp(loss);
  row[TRAIN_GRAD_NORM] = last->norm;
  row[TRAIN_LR] = last->lr;
  row[TRAIN_TOKENS] = (double)t->tokens;
  row[TRAIN_MASKED] = (double)t->masked;
  row[TRAIN_RATE] = rate;
  row[TRAIN_MFU] = mfu;
  row[TRAIN_SECONDS] = now - begun;
  int err = metrics_add(&t->history.train, row);
  if (err == OK && t->comm->rank == 0 && t->writes)
    err = metrics_flush(rundir_file(&t->dir, "metrics.h5", path), t->history.tables, 2);
  *w = (Window){.start = clock_now()};
  return comm_agree(t->comm, err);
}

static bool due(int64_t n, int64_t every, int64_t total) { return n == total || (every > 0 && n % every == 0); }

/* What asks any rank for an end; only rank 0 looks for the file. */
static int agree_stop(Trainer *t, int *stop) {
  int64_t request = stop_requested(t->writes && t->comm->rank == 0 ? t->dir.path : NULL);
  TRY(comm_all_reduce(t->comm, &request, 1, COMM_I64, COMM_MAX));
  *stop = (int)request;
  return OK;
}

/* Whether the history ends with a validation of the present step. */
static bool validated(const Trainer *t) {
  const MetricsTable *v = &t->history.valid;
  return v->n_rows > 0 && v->rows[(v->n_rows - 1) * VALID_COLUMNS + VALID_STEP] == (double)t->optimizer.step;
}

int trainer_run(Trainer *t, int *stop) {
  const Config *cfg = t->cfg;
  int64_t total = cfg->train_steps, first = t->optimizer.step;
  Window w = {.start = clock_now()};
  double begun = w.start;
  *stop = 0;
  if (t->valid && first > 0 && due(first, cfg->train_valid_every, total) && !validated(t)) TRY(trainer_validate(t));
  while (t->optimizer.step < total && !*stop) {
    StepResult r;
    TRY(step(t, &r));
    int64_t n = t->optimizer.step;
    w.loss += r.loss;
    w.steps++;
    w.tokens += r.tokens;
    w.rows += r.rows;
    TRY(agree_stop(t, stop));
    if (due(n, cfg->train_log_every, total) || *stop) TRY(report(t, &r, &w, begun, first));
    if (due(n, cfg->train_valid_every, total) && (!*stop || n == total)) { /* a stop leaves it to the resumed run */
      TRY(trainer_validate(t));
      w.start = clock_now();
    }
    if (due(n, cfg->train_save_every, total) || *stop) TRY(trainer_save(t, "last.h5"));
    if (*stop == STOP_FILE && t->comm->rank == 0) rundir_remove(&t->dir, "STOP"); /* it has been obeyed */
  }
  char path[512];
  int err = OK;
  if (t->comm->rank == 0 && t->writes)
    err = metrics_flush(rundir_file(&t->dir, "metrics.h5", path), t->history.tables, 2);
  return comm_agree(t->comm, err);
}
