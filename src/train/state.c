/* state — a trainer's state to and from a checkpoint. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "network/flat.h"
#include "network/match.h"
#include "train/trainer.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

CheckpointState trainer_state(const Trainer *t) {
  CheckpointState state = {.step = t->optimizer.step,
                           .sequences = t->sequences,
                           .tokens = t->tokens,
                           .masked_tokens = t->masked,
                           .seed = t->cfg->run_seed,
                           .length = t->length,
                           .valid_nll = t->best,
                           .deck = t->deck,
                           .class_names = (char *)(uintptr_t)mixture_class_names(t->train),
                           .protocol = *mixture_protocol(t->train),
                           .mixture = mixture_state(t->train, t->sequences),
                           .vocab = *mixture_vocab(t->train)};
  memcpy(state.init_digest, t->init_digest, sizeof state.init_digest);
  memcpy(state.trace_sigma, t->optimizer.traces.sigma, sizeof state.trace_sigma);
  snprintf(state.git, sizeof state.git, "%s", version_git());
  snprintf(state.data_digest, sizeof state.data_digest, "%s", state.protocol.digest);
  return state;
}

/* This rank's buffer of a group, or its parts of it. */
static Tensor own(const Trainer *t, CheckpointGroup group) {
  const Optimizer *o = &t->optimizer;
  if (group >= CKPT_TRACE) return o->traces.value[group - CKPT_TRACE];
  return group == CKPT_EMA ? o->ema : group == CKPT_ADAM_M ? o->m : o->v;
}

CheckpointGroup trainer_groups(const Trainer *t) { return CKPT_TRACE + (CheckpointGroup)t->optimizer.traces.n; }

int trainer_flat(Trainer *t, CheckpointGroup group, Tensor *flat) {
  Params *p = &t->net.model.params;
  const Shard *s = &t->optimizer.shard;
  *flat = group == CKPT_PARAMS ? p->value : own(t, group);
  if (s->parts == 1 || group == CKPT_PARAMS) return OK;
  TRY(shard_put(s, p->dev, p->grad, *flat));
  *flat = p->grad;
  return reduction_gather(&t->reduction, *flat);
}

/* A rank that keeps parts takes them from the memory of the gradients. */
static int load_group(Trainer *t, H5 *f, CheckpointGroup group, Comm *node) {
  Params *p = &t->net.model.params;
  const Shard *s = &t->optimizer.shard;
  if (s->parts == 1) return flat_load(f, group, p, own(t, group), node);
  TRY(flat_load(f, group, p, p->grad, node));
  return comm_agree(node, shard_take(s, p->dev, own(t, group), p->grad));
}

/* How much of the set of the run was drawn, -1: none of the checkpoint's. */
static int64_t drawn_before(const Mixture *m, int set, const MixtureState *was) {
  const MixtureSet *s = mixture_find(was, shards_protocol(mixture_shards(m, set))->digest);
  return s ? s->drawn : -1;
}

static bool in_common(const Mixture *m, const MixtureState *was) {
  for (int i = 0; i < mixture_sets(m); i++)
    if (drawn_before(m, i, was) >= 0) return true;
  return false;
}

/* Traces weigh all steps of a run: they cannot begin in its middle. */
static int check_traces(const Traces *t, const CheckpointState *s, const char *path) {
  for (int i = 0; i < t->n; i++)
    CHECK(t->sigma[i] == s->trace_sigma[i], ERR_USAGE,
          "%s holds no trace of width %g as number %d of train.ema_traces: traces begin with the run; leave the key as "
          "it was, or empty, or start in a new run.dir",
          path, t->sigma[i], i + 1);
  return OK;
}

/* What must not change between a checkpoint and the run that resumes from it. */
static int check_state(const Trainer *t, const CheckpointState *s, const Config *trained, const char *path) {
  char train[64];
  snprintf(train, sizeof train, "data.train = %.48s", t->cfg->data_train);
  int differs = vocab_same(&s->vocab, path, mixture_vocab(t->train), train);
  if (differs) return err_trace(ERR_USAGE, __FILE__, __LINE__, "vocab_same");
  TRY(network_match(t->cfg, trained, path));
  CHECK(in_common(t->train, &s->mixture), ERR_USAGE,
        "%s was trained on other data (digest %s) than data.train = %s (%s): give the same data, or start in a new "
        "run.dir",
        path, s->data_digest, t->cfg->data_train, mixture_protocol(t->train)->digest);
  CHECK(s->seed == t->cfg->run_seed, ERR_USAGE,
        "%s was trained with run.seed = %lld, the deck says %lld: masks and data order would repeat or skip", path,
        (long long)s->seed, (long long)t->cfg->run_seed);
  TRY(check_traces(&t->optimizer.traces, s, path));
  CHECK(s->step <= t->cfg->train_steps, ERR_USAGE, "%s is at step %lld, beyond train.steps = %lld", path,
        (long long)s->step, (long long)t->cfg->train_steps);
  return OK;
}

/* Tells of changed keys that change the weights or the validation: all keys of these sections, except those that are
 * checked above or promised to change no bit. A changed number of steps is expected, unless the learning rates so far
 * depend on it. */
#define QUIET                                                                                                          \
  "data.train train.log_every train.save_every train.save_minutes train.keep_every train.local_every train.local_dir " \
  "train.sample_every train.sample_count train.layers_every device.threads device.pin "                                \
  "dist.timeout dist.heartbeat"
static int report_changes(const Trainer *t, const Config *trained, int64_t step) {
  char quiet[512];
  bool same = lr_same(&t->optimizer.lr, trained->train_steps, step);
  snprintf(quiet, sizeof quiet, QUIET "%s%s", same ? " train.steps" : "",
           t->reduction.tree ? " dist.shard_optimizer" : "");
  if (*t->cfg->run_init && strcmp(t->cfg->run_init, trained->run_init) != 0)
    log_warn(
        "run.init = %s is ignored: the run in %s goes on from its own checkpoint; choose another run.dir for a new run",
        t->cfg->run_init, t->dir.path);
  return network_changes(t->cfg, trained, step, "data model diffusion train device dist", quiet);
}

/* What becomes of each set where data.train has other sets or weights than the checkpoint. */
static void report_mixture(const Trainer *t, const CheckpointState *s) {
  const Mixture *m = t->train;
  char text[1024] = "";
  size_t used = 0;
  if (mixture_same(m, &s->mixture)) return;
  for (int i = 0; i < mixture_sets(m) && used < sizeof text; i++) {
    int64_t drawn = drawn_before(m, i, &s->mixture);
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%s, now %.4g %%, ", i ? "; " : "", mixture_name(m, i),
                             100 * mixture_share(m, i));
    if (used >= sizeof text) break;
    used += (size_t)(drawn < 0
                         ? snprintf(text + used, sizeof text - used, "begins")
                         : snprintf(text + used, sizeof text - used, "goes on after %lld sequences", (long long)drawn));
  }
  for (int i = 0; i < s->mixture.n && used < sizeof text; i++) {
    const MixtureSet *set = &s->mixture.sets[i];
    bool kept = false;
    for (int k = 0; k < mixture_sets(m); k++)
      kept = kept || strcmp(shards_protocol(mixture_shards(m, k))->digest, set->digest) == 0;
    if (!kept)
      used += (size_t)snprintf(text + used, sizeof text - used, "; %s is left after %lld", set->name,
                               (long long)set->drawn);
  }
  log_info("data.train has changed since step %lld: %s", (long long)s->step, text);
}

/* Rank 0 of the node: all that is no array. */
static int read_head(Trainer *t, H5 *f, CheckpointState *s, Config *trained) {
  TRY(checkpoint_state(f, s));
  TRY(network_deck(trained, s->deck, h5_path(f)));
  if (s->sequences < 0) s->sequences = s->step * trained->train_global_batch; /* a file of an older version */
  if (s->mixture.n == 0) s->mixture = mixture_single(s->data_digest, s->sequences);
  TRY(check_state(t, s, trained, h5_path(f)));
  return checkpoint_metrics(f, t->history.tables, t->history.n);
}

/* What rank 0 of the node has read to its other ranks, which get no deck and no vocabulary: those were compared. */
static int share_head(Trainer *t, CheckpointState *s, Comm *node) {
  char *deck = s->deck, *names = s->class_names;
  Vocab vocab = s->vocab;
  TRY(comm_broadcast(node, s, sizeof *s, 0));
  s->deck = deck;
  s->class_names = names;
  s->vocab = vocab;
  for (int i = 0; i < t->history.n; i++) TRY(metrics_table_share(t->history.tables[i], node));
  return OK;
}

/* One rank of each node reads the file, and its error is that of all. */
static int load(Trainer *t, const char *path, Comm *node) {
  CheckpointState s = {0};
  Config trained = {0};
  Params *p = &t->net.model.params;
  H5 *f = NULL;
  int err = node->rank == 0 ? checkpoint_open(&f, path) : OK;
  if (node->rank == 0 && err == OK) err = read_head(t, f, &s, &trained);
  TRY_TO(done, comm_agree(node, err));
  TRY_TO(done, share_head(t, &s, node));
  TRY_TO(done, flat_load(f, CKPT_PARAMS, p, p->value, node));
  for (CheckpointGroup g = CKPT_EMA; g < trainer_groups(t); g++) TRY_TO(done, load_group(t, f, g, node));
  TRY_TO(done, params_bind(p, p->value));
  if (node->rank == 0) TRY_TO(done, report_changes(t, &trained, s.step));
  report_mixture(t, &s);
  mixture_resume(t->train, &s.mixture, s.sequences);
  t->optimizer.step = s.step;
  t->sequences = s.sequences;
  t->tokens = s.tokens;
  t->masked = s.masked_tokens;
  t->best = s.valid_nll;
  memcpy(t->init_digest, s.init_digest, sizeof t->init_digest);
  trainer_clip(t);
done:
  h5_close(&f);
  config_free(&trained);
  checkpoint_state_destroy(&s);
  return err;
}

/* A damaged last.h5 must not be kept as previous.h5 at the next save. */
static int set_aside(const RunDir *dir, const char *name) {
  char path[512], aside[520];
  snprintf(aside, sizeof aside, "%s.damaged", rundir_file(dir, name, path));
  if (!rundir_has(dir, name)) return OK;
  CHECK(rename(path, aside) == 0, ERR_IO, "%s: cannot rename it to %s", path, aside);
  log_warn("%s is kept as %s", path, aside);
  return OK;
}

/* The outcome of loading a checkpoint, the worst of all ranks. */
enum { LOAD_GOOD, LOAD_DAMAGED, LOAD_FAILED };

static int load_agreed(Trainer *t, const char *name, Comm *node, int64_t *outcome) {
  char path[512];
  bool there = node->rank > 0 || rundir_has(&t->dir, name);
  int err = comm_agree(node, there ? OK
                                   : RAISE(ERR_IO,
                                           "run.dir = %s: rank %d does not see %s there: the directory must be on a "
                                           "file system that all nodes share",
                                           t->dir.path, t->comm->rank, name));
  if (err == OK) err = load(t, rundir_file(&t->dir, name, path), node);
  *outcome = err == OK || err == ERR_ELSEWHERE ? LOAD_GOOD : err == ERR_DATA ? LOAD_DAMAGED : LOAD_FAILED;
  TRY(comm_all_reduce(t->comm, outcome, 1, COMM_I64, COMM_MAX));
  return comm_agree(t->comm, err);
}

/* From last.h5 or, if that is damaged, previous.h5; rank 0 checks which exist. *done := whether one does. */
static int resume(Trainer *t, Comm *node, bool *done) {
  static const char *const names[] = {"last.h5", "previous.h5"};
  int64_t there[2] = {rundir_has(&t->dir, names[0]), rundir_has(&t->dir, names[1])}, outcome;
  TRY(comm_broadcast(t->comm, there, sizeof there, 0));
  *done = there[0] || there[1];
  for (int i = 0; i < 2; i++) {
    if (!there[i]) continue;
    int err = load_agreed(t, names[i], node, &outcome);
    if (err == OK && i == 1) err = comm_agree(t->comm, t->comm->rank == 0 ? set_aside(&t->dir, names[0]) : OK);
    if (err == OK) {
      log_info("resuming from %s/%s at step %lld", t->dir.path, names[i], (long long)t->optimizer.step);
      return OK;
    }
    if (outcome != LOAD_DAMAGED || i == 1 || !there[1]) return err;
    log_warn("%s", err_message());
    log_warn("trying %s/%s instead", t->dir.path, names[1]);
    err_clear();
  }
  return OK;
}

/* Rank 0: the step of a whole checkpoint of the run, −1 if it is missing or damaged. */
static int64_t whole_step(const Trainer *t, const char *name) {
  char path[512];
  CheckpointState s = {0};
  int64_t step = -1;
  if (!rundir_has(&t->dir, name)) return -1;
  rundir_file(&t->dir, name, path);
  if (checkpoint_verify(path) == OK && checkpoint_read(path, &s) == OK) {
    step = s.step;
  } else {
    log_warn("%s", err_message());
    err_clear();
  }
  checkpoint_state_destroy(&s);
  return step;
}

/* *done := whether the nodes' own checkpoints are newer than last.h5 and have been loaded. */
static int resume_local(Trainer *t, Comm *node, bool *done) {
  int64_t step, last = -1, other = -1;
  char path[512];
  *done = false;
  TRY(local_newest(&t->local, &step, path));
  if (step < 0) return OK;
  if (t->comm->rank == 0) last = whole_step(t, "last.h5");
  if (t->comm->rank == 0) other = last < 0 ? whole_step(t, "previous.h5") : last;
  TRY(comm_broadcast(t->comm, &other, sizeof other, 0));
  if (step <= other) return OK;
  TRY_ALL(t->comm, load(t, path, node));
  TRY_ALL(t->comm, t->comm->rank == 0 && last < 0 ? set_aside(&t->dir, "last.h5") : OK);
  log_info("resuming from %s at step %lld, which every node has and %s/last.h5 has not", path, (long long)step,
           t->dir.path);
  *done = true;
  return OK;
}

int trainer_resume(Trainer *t, bool *done) {
  Comm node;
  TRY_ALL(t->comm, comm_node(t->comm, &node));
  int err = resume_local(t, &node, done);
  if (err == OK && !*done) err = resume(t, &node, done);
  comm_destroy(&node);
  return err;
}
