/* mdlm check DECK [key=value…] — a pre-flight: read everything, allocate everything, run one step, predict, write
 * nothing. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "train/trainer.h"

/* A longer step is extrapolated from its first micro-batches. */
static const double MOST_SECONDS = 20;

static double mib(double bytes) { return bytes / (1024.0 * 1024.0); }

typedef struct Reading {
  Progress progress;
} Reading;

static void read_some(void *arg, int64_t rows) { progress_show(&((Reading *)arg)->progress, rows); }

/* Rank 0 reads all the data: ids, lengths and digest. */
static int read_data(const char *what, const char *spec) {
  Shards *s = NULL;
  Reading r;
  TRY(shards_open(&s, spec));
  progress_start(&r.progress, what, "rows", shards_rows(s));
  int err = shards_verify(s, read_some, &r);
  progress_end(&r.progress, shards_rows(s));
  if (err == OK)
    log_info("%-10s %s: %lld rows of %lld tokens, digest %s: good", what, spec, (long long)shards_rows(s),
             (long long)shards_length(s), shards_protocol(s)->digest);
  shards_close(&s);
  return err;
}

/* Device memory is not part of the resident set. */
static int report_device(Trainer *t) {
  size_t free = 0, total = 0;
  TRY(device_memory(&t->net.dev, &free, &total));
  log_info("device     %s: %.0f MiB held by this rank after a step, %.0f of %.0f MiB free", t->net.dev.ops->library(),
           mib((double)t->net.dev.allocated), mib((double)free), mib((double)total));
  return OK;
}

static void report_memory(const Trainer *t, size_t before) {
  const Params *p = &t->net.model.params;
  double flat = (double)tensor_bytes(p->value),
         tree = t->reduction.levels * flat + (double)tensor_bytes(t->reduction.exchange);
  double activations = (double)t->net.model.arena.size, rows = (double)t->net.rows.arena.size;
  double other = (double)t->net.dev.allocated - 5 * flat - (double)tensor_bytes(p->low) - tree - activations - rows;
  log_info("memory of a rank, MiB: program %.0f, weights %.0f, gradients %.0f, AdamW %.0f, EMA %.0f, bf16 copy %.0f, "
           "reduction tree %.0f, activations %.0f, scored rows %.0f, scratch %.0f",
           mib((double)before), mib(flat), mib(flat), mib(2 * flat), mib(flat), mib((double)tensor_bytes(p->low)),
           mib(tree), mib(activations), mib(rows), mib(other));
}

/* Device work is asynchronous: the time is taken after a sync. */
static int timed_micro(Trainer *t, StepResult *r, double *seconds) {
  double start = clock_now();
  TRY(trainer_micro(t, r));
  TRY(device_sync(&t->net.dev));
  *seconds = clock_now() - start;
  return OK;
}

/* Forward and backward of as many micro-batches of the step as fit the time, then the update. */
static int time_step(Trainer *t, double *seconds, int64_t *micros, bool *whole, StepResult *r) {
  double one = 0, start = clock_now();
  TRY(reduction_begin(&t->reduction));
  TRY(timed_micro(t, r, &one)); /* the first one pays for page faults too */
  for (*micros = 1; *micros < t->local_micro; ++*micros) {
    bool late = clock_now() - start + one >= MOST_SECONDS;
    TRY(comm_any(t->comm, late, &late)); /* clocks differ, and the last micro-batch is collective */
    if (late) break;
    TRY(timed_micro(t, r, &one));
  }
  *whole = *micros == t->local_micro;
  start = clock_now();
  if (*whole) TRY(trainer_update(t, r));
  TRY(device_sync(&t->net.dev));
  *seconds = one * (double)t->local_micro + (clock_now() - start);
  return OK;
}

static int predict(Trainer *t, Comm *comm, size_t before) {
  double seconds = 0, all;
  int64_t micros = 0;
  char duration[32];
  StepResult r = {0};
  bool whole = false;
  TRY(time_step(t, &seconds, &micros, &whole, &r));
  if (whole && !t->net.dev.ops->host) { /* the first step on a GPU includes planning */
    StepResult again = {0};
    TRY(time_step(t, &seconds, &micros, &whole, &again));
  }
  TRY(comm_max(comm, &seconds));
  report_memory(t, before);
  if (!t->net.dev.ops->host) TRY(report_device(t));
  double expected = (double)before + (t->net.dev.ops->host ? (double)t->net.dev.allocated : 0);
  all = seconds * (double)t->cfg->train_steps;
  log_info("resident   %.0f MiB expected, %.0f MiB measured after %lld of %lld micro-batches; %.0f MiB free",
           mib(expected), mib((double)mem_resident()), (long long)micros, (long long)t->local_micro,
           mib((double)mem_available()));
  log_info("step       %.3f s, %.0f tokens/s; %lld steps take %s", seconds,
           (double)(t->cfg->train_global_batch * t->net.model.options.length) / seconds, (long long)t->cfg->train_steps,
           log_duration(duration, sizeof duration, all));
  if (whole) log_info("loss       %.4f nat per token, gradient norm %.3f", r.loss, r.norm);
  log_info("check passed: nothing was written");
  return OK;
}

static int check(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv, (void)exit_code;
  static Trainer t;
  int err = OK;
  if (comm->rank == 0) {
    err = *cfg->data_train ? read_data("data.train", cfg->data_train) : RAISE(ERR_USAGE, "data.train is empty");
    if (err == OK && *cfg->data_valid) err = read_data("data.valid", cfg->data_valid);
  }
  TRY(comm_agree(comm, err));
  size_t before = mem_resident();
  TRY(trainer_create(&t, cfg, comm, false));
  err = predict(&t, comm, before);
  if (err && comm->size > 1 && !err_agreed()) return err; /* the other ranks are blocked: main aborts them */
  trainer_destroy(&t);
  return err;
}

extern const Command command_check;
const Command command_check = {
    .name = "check",
    .arguments = "DECK [key=value…]",
    .purpose = "pre-flight: read all data, run one step, predict memory and time",
    .deck = true,
    .run = check,
    .about = "Does what train would do, for one step: reads all data, verifies its digest, allocates everything, and "
             "predicts memory per rank, speed and the time of the whole run.",
    .reads = "data.train and data.valid",
    .writes = "nothing",
    .sections = "run data model diffusion train device dist",
    .example = "mdlm check deck.cfg run.dir=runs/a"};
