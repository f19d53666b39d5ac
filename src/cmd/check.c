/* mdlm check DECK [key=value…] — a pre-flight: read everything, allocate everything, run one step, predict, write
 * nothing. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/preflight.h"
#include "cmd/timing.h"
#include "cmd/train_samples.h"
#include "train/trainer.h"

static double mib(double bytes) { return bytes / (1024.0 * 1024.0); }

typedef struct Reading {
  Progress progress;
} Reading;

static void read_some(void *arg, int64_t rows) { progress_show(&((Reading *)arg)->progress, rows); }

/* Rank 0 reads all the data: ids, lengths and digest. */
static int read_data(const char *what, Shards *s) {
  Reading r;
  progress_start(&r.progress, what, "rows", shards_rows(s));
  TRY(shards_verify(s, read_some, &r));
  progress_end(&r.progress, shards_rows(s));
  log_info("%-10s %s: %lld rows of %lld tokens, digest %s: good", what, shards_spec(s), (long long)shards_rows(s),
           (long long)shards_length(s), shards_protocol(s)->digest);
  return OK;
}

static int read_train(const char *spec) {
  Mixture *m = NULL;
  CHECK(*spec, ERR_USAGE, "data.train is empty");
  TRY(mixture_open(&m, spec));
  int n = mixture_sets(m), err = OK;
  for (int i = 0; i < n && err == OK; i++)
    err = read_data(n > 1 ? mixture_name(m, i) : "data.train", mixture_shards(m, i));
  mixture_close(&m);
  return err;
}

static int read_valid(const char *spec) {
  Shards *s = NULL;
  if (!*spec) return OK;
  TRY(shards_open(&s, spec));
  int err = read_data("data.valid", s);
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
  double flat = (double)tensor_bytes(p->value), tree = reduction_memory(&t->reduction, t->comm->size);
  double activations = (double)t->net.model.arena.size, rows = (double)t->net.rows.arena.size;
  double own = (double)tensor_bytes(t->optimizer.m);
  double traces = own * t->optimizer.traces.n;
  double other = (double)t->net.dev.allocated - 2 * flat - 3 * own - traces - (double)tensor_bytes(p->low) - tree -
                 activations - rows;
  log_info("memory of a rank, MiB: program %.0f, weights %.0f, gradients %.0f, AdamW %.0f, EMA %.0f, traces %.0f, bf16 "
           "copy %.0f, reduction tree %.0f, activations %.0f, scored rows %.0f, scratch %.0f",
           mib((double)before), mib(flat), mib(flat), mib(2 * own), mib(own), mib(traces),
           mib((double)tensor_bytes(p->low)), mib(tree), mib(activations), mib(rows), mib(other));
}

/* Memory that a rank of so many would hold less than this one, bytes: of the reduction tree, and of the optimizer's state
 * where ranks share it. */
static double less_memory(const Trainer *t, int64_t ranks) {
  double tree = reduction_memory(&t->reduction, 1) - reduction_memory(&t->reduction, ranks);
  double state = (3 + t->optimizer.traces.n) * (double)tensor_bytes(t->optimizer.m);
  return tree + (t->cfg->dist_shard_optimizer ? state - state / (double)ranks : 0);
}

/* Those of a step, padding and all draws included. */
static double step_tokens(const Trainer *t) {
  return (double)(t->cfg->train_draws * t->cfg->train_global_batch * t->net.model.options.length);
}

/* The step of 1, 2, 4 … ranks, and from where on reductions are felt. */
static void report_plan(Timing *m, const Trainer *t, const Ceilings *ceilings, double resident) {
  const double FELT = 0.02;
  const Config *cfg = t->cfg;
  int64_t felt = 0, most = 1;
  char duration[32];
  timing_plan(m, t, ceilings);
  const Plan *p = &m->plan;
  log_info("plan       predicted: %lld a node by %s (%.3g GB/s), nodes by %s (%.3g GB/s), %.0f MiB of gradients, "
           "reduce %s%s",
           (long long)p->per_node, cfg->plan_node_link, p->node.bytes / 1e9, cfg->plan_network, p->network.bytes / 1e9,
           mib(p->gradient), cfg->dist_reduce, p->divided ? ", optimizer's state divided" : "");
  log_info("           %8s %8s %10s %12s %11s %11s %10s %s", "ranks", "nodes", "step, s", "tokens/s", "efficiency",
           "waiting, s", "MiB/rank", "steps take");
  double one = plan_step(p, 1).seconds, tokens = step_tokens(t);
  for (int64_t n = 1; n <= cfg->plan_ranks; n++) {
    bool shown = n == cfg->plan_ranks || (n & (n - 1)) == 0;
    if (!shown || !plan_ranks(p, n)) continue;
    PlanStep s = plan_step(p, n);
    most = n;
    if (felt == 0 && s.exposed > FELT * s.seconds) felt = n;
    log_info("           %8lld %8lld %10.4g %12.0f %11.2f %11.4g %10.0f %s", (long long)n,
             (long long)((n + p->per_node - 1) / p->per_node), s.seconds, tokens / s.seconds,
             one / s.seconds / (double)n, s.exposed, mib(resident - less_memory(t, n)),
             log_duration(duration, sizeof duration, s.seconds * (double)cfg->train_steps));
  }
  if (!plan_ranks(p, cfg->plan_ranks))
    log_info(
        "           %lld ranks cannot run this deck: they must divide its %lld micro-batches and fill whole nodes%s",
        (long long)cfg->plan_ranks, (long long)p->micros,
        p->leaves ? ", and with dist.reduce = tree divide its leaves, at most dist.tree_leaves" : "");
  if (felt)
    log_info("           from %lld ranks on, more than %.0f %% of a step is waiting for reductions", (long long)felt,
             100 * FELT);
  else if (most > 1)
    log_info("           waiting for reductions stays below %.0f %% of a step", 100 * FELT);
}

/* On a single rank, since its ceilings and times are those of all. */
static int report_speed(Trainer *t, Timing *m, double resident) {
  const Config *cfg = t->cfg;
  Ceilings here = {.flops = t->peak}, other;
  TRY(ceilings_sums(&t->net.dev, &here.bytes));
  roofline_print(&m->work, &here, m->seconds);
  other.flops = cfg->plan_tflops > 0 ? cfg->plan_tflops * 1e12 : here.flops;
  other.bytes = cfg->plan_memory_gb_per_s > 0 ? cfg->plan_memory_gb_per_s * 1e9 : here.bytes;
  if (cfg->plan_tflops > 0 || cfg->plan_memory_gb_per_s > 0)
    log_info("           predicted for a device of %.1f TFLOP/s and %.1f GB/s at the same shares: step %.4f s",
             other.flops / 1e12, other.bytes / 1e9, roofline_other(&m->work, &here, &other, m->seconds));
  if (cfg->plan_ranks > 0) report_plan(m, t, &here, resident);
  return OK;
}

static int predict(Trainer *t, Comm *comm, size_t before, Preflight *pre) {
  double all;
  char duration[32];
  Timing m;
  TRY(timing_measure(&m, t));
  TRY(comm_max(comm, &m.seconds));
  pre->micro = m.micro;
  TRY(comm_max(comm, &pre->micro));
  report_memory(t, before);
  bool host = t->net.dev.ops->host;
  if (!host) TRY(report_device(t));
  double expected = (double)before + (host ? (double)t->net.dev.allocated : 0);
  double copy = trainer_groups(t) * sizeof(float) * (double)t->net.model.params.count;
  if (*t->cfg->train_local_dir) copy *= 2;
  all = m.seconds * (double)t->cfg->train_steps;
  log_info("resident   %.0f MiB expected, %.0f MiB measured after %lld of %lld micro-batches; %.0f MiB free",
           mib(expected), mib((double)mem_resident()), (long long)m.micros, (long long)t->local_micro,
           mib((double)mem_available()));
  log_info("           %.0f MiB on rank 0 of a run, which copies the state that it saves", mib(expected + copy));
  log_info("step       %.3f s, %.0f tokens/s; %lld steps take %s", m.seconds, step_tokens(t) / m.seconds,
           (long long)t->cfg->train_steps, log_duration(duration, sizeof duration, all));
  if (m.whole) log_info("loss       %.4f nat per token, gradient norm %.3f", m.result.loss, m.result.norm);
  if (comm->size == 1)
    TRY(report_speed(t, &m, host ? expected : (double)t->net.dev.allocated));
  else if (t->cfg->plan_ranks > 0)
    log_warn("plan.ranks: predictions are made by mdlm check on one rank, not %d", comm->size);
  pre->trainer = t;
  pre->step = m.seconds;
  pre->resident = expected;
  TRY(preflight_run(pre));
  log_info("check passed: nothing was written");
  return OK;
}

static int check(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv, (void)exit_code;
  static Trainer t;
  TrainSamples samples;
  int err = OK;
  if (comm->rank == 0) {
    err = read_train(cfg->data_train);
    if (err == OK) err = read_valid(cfg->data_valid);
  }
  TRY(comm_agree(comm, err));
  Preflight pre;
  TRY(preflight_begin(&pre, comm));
  size_t before = mem_resident();
  train_samples_init(&samples); /* refuses what train would refuse; draws nothing */
  err = trainer_create(&t, cfg, comm, false, &samples.callbacks);
  if (err == OK) {
    err = predict(&t, comm, before, &pre);
    if (err && comm->size > 1 && !err_agreed()) return err; /* the other ranks are blocked: main aborts them */
    train_samples_destroy(&samples);
    trainer_destroy(&t);
  } else {
    train_samples_destroy(&samples);
  }
  preflight_end(&pre);
  return err;
}

extern const Command command_check;
const Command command_check = {
    .name = "check",
    .arguments = "DECK [key=value…]",
    .purpose = "pre-flight: read all data, run one step, predict memory and time",
    .deck = true,
    .run = check,
    .about =
        "Does what train would do, for one step: reads all data, verifies its digest, allocates everything, and "
        "predicts memory per rank, speed and the time of the whole run. Then a line for each finding on hosts, "
        "cores, device, network, reductions, rows, free disk, memory, locks of run.dir and, under Slurm, the time "
        "limit: a warning where the run would be slow, an error that says what to change where it would stop. On one "
        "rank it also "
        "compares the time of each group of ops with its roofline and, with plan.ranks, predicts the step on many "
        "ranks.",
    .reads = "data.train and data.valid",
    .writes = "nothing",
    .sections = "run data model diffusion train sample device dist plan",
    .example = "mdlm check deck.cfg run.dir=runs/a"};
