/* trainer_create — opens and allocates all that a run needs, and takes its directory. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "network/fit.h"
#include "train/freeze.h"
#include "train/init.h"
#include "train/peak.h"
#include "train/trainer.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static LoaderOrder order_of(const Config *cfg) {
  if (strcmp(cfg->data_order, "sequential") == 0) return ORDER_SEQUENTIAL;
  return strcmp(cfg->data_order, "blocked") == 0 ? ORDER_BLOCKED : ORDER_PERMUTED;
}

/* The error of opening the data of a key, with its name. */
static int name_key(int err, const char *key) {
  char message[1024];
  if (err == OK) return OK;
  snprintf(message, sizeof message, "%s", err_message());
  return RAISE(err, "%s: %s", key, message);
}

/* data.crop needs rows of even length without padding and a tokenizer with bos and eos. Halves t->length. */
static int check_crop(Trainer *t) {
  const char *path = t->cfg->data_train;
  CHECK(t->length % 2 == 0 && t->length >= 4, ERR_DATA,
        "data.crop takes half of each row, but data.train = %s has rows of %lld tokens", path, (long long)t->length);
  CHECK(mixture_protocol(t->train)->wrap, ERR_DATA,
        "data.crop takes rows without padding, but data.train = %s has one document a row: prepare it with --wrap",
        path);
  CHECK(mixture_vocab(t->train)->bos >= 0 && mixture_vocab(t->train)->eos >= 0, ERR_DATA,
        "data.crop puts bos and eos at the ends, but the tokenizer of data.train = %s has none", path);
  t->length /= 2;
  return OK;
}

/* Data without labels may be mixed with others; a validation without any measures the bound without a class. */
static int check_classes(const Trainer *t) {
  const Config *cfg = t->cfg;
  const char *names = mixture_class_names(t->train);
  int64_t classes = cfg->model_classes;
  if (classes == 0) return OK;
  CHECK(mixture_classes(t->train) > 0, ERR_DATA,
        "model.classes = %lld: data.train = %s has no labels, which mdlm-prepare --label-field makes",
        (long long)classes, cfg->data_train);
  for (int i = 0; i < mixture_sets(t->train); i++)
    TRY(shards_suit(mixture_shards(t->train, i), classes, names, "the deck"));
  if (t->valid == NULL) return OK;
  if (shards_classes(t->valid) == 0)
    log_warn("data.valid = %s has no labels: validations measure the bound without a class", cfg->data_valid);
  return shards_suit(t->valid, classes, names, cfg->data_train);
}

/* Validations of training rows would choose an overfitted checkpoint. */
static void warn_same_rows(const Trainer *t) {
  for (int i = 0; i < mixture_sets(t->train); i++)
    if (strcmp(shards_protocol(mixture_shards(t->train, i))->digest, shards_protocol(t->valid)->digest) == 0)
      log_warn("data.valid = %s holds rows that data.train has, too: validations measure text that is trained on",
               t->cfg->data_valid);
}

static int open_data(Trainer *t) {
  const Config *cfg = t->cfg;
  CHECK(cfg->train_local_every == 0 || *cfg->train_local_dir, ERR_USAGE,
        "train.local_every = %lld needs train.local_dir, a directory on each node's own disk",
        (long long)cfg->train_local_every);
  CHECK(*cfg->data_train, ERR_USAGE, "data.train is empty: name the tokenized training data (mdlm-prepare makes it)");
  TRY(name_key(mixture_open(&t->train, cfg->data_train), "data.train"));
  t->length = mixture_length(t->train);
  if (cfg->data_crop) TRY(check_crop(t));
  CHECK(*cfg->data_valid || !cfg->diffusion_clip_search, ERR_USAGE,
        "diffusion.clip_search compares losses of validations: set data.valid");
  if (*cfg->data_valid == 0) return check_classes(t);
  TRY(name_key(shards_open(&t->valid, cfg->data_valid), "data.valid"));
  CHECK(shards_length(t->valid) == t->length, ERR_DATA,
        "data.valid = %s has rows of %lld tokens, data.train = %s of %lld%s", cfg->data_valid,
        (long long)shards_length(t->valid), cfg->data_train, (long long)t->length,
        cfg->data_crop ? " after data.crop" : "");
  warn_same_rows(t);
  TRY(check_classes(t));
  return vocab_same(mixture_vocab(t->train), cfg->data_train, shards_vocab(t->valid), cfg->data_valid);
}

static int trust_data(const Trainer *t) {
  for (int i = 0; i < mixture_sets(t->train); i++) TRY(shards_trust(mixture_shards(t->train, i)));
  return t->valid ? shards_trust(t->valid) : OK;
}

static OptimizerOptions optimizer_options(const Config *cfg) {
  return (OptimizerOptions){.lr = {.name = cfg->train_lr_schedule,
                                   .peak = cfg->train_lr,
                                   .min = cfg->train_lr_min,
                                   .warmup = cfg->train_warmup,
                                   .steps = cfg->train_steps,
                                   .decay_share = cfg->train_decay_share,
                                   .decay_shape = cfg->train_decay_shape},
                            .beta1 = cfg->train_beta1,
                            .beta2 = cfg->train_beta2,
                            .eps = cfg->train_adam_eps,
                            .weight_decay = cfg->train_weight_decay,
                            .clip = cfg->train_clip,
                            .ema = cfg->train_ema,
                            .traces = cfg->train_ema_traces};
}

static NetworkOptions network_options(const Trainer *t) {
  const Vocab *v = mixture_vocab(t->train);
  return (NetworkOptions){.cfg = t->cfg,
                          .place = t->comm->place,
                          .vocab = v->size,
                          .length = t->length,
                          .mask = v->mask,
                          .batch = t->cfg->train_micro_batch,
                          .draws = t->cfg->train_draws,
                          .training = true,
                          .parts = t->cfg->dist_shard_optimizer ? t->comm->size : 0};
}

/* After ERR_MEMORY: suggest a micro-batch that fits. */
static int too_large(Trainer *t) {
  enum { STATE = 3, TREE = 5 }; /* buffers: moments and average; part of the reduction tree */
  int64_t state = STATE + t->optimizer.traces.n;
  NetworkOptions network = network_options(t);
  reduction_destroy(&t->reduction);
  optimizer_destroy(&t->optimizer);
  network_destroy(&t->net);
  int64_t parts = network.parts > 0 ? network.parts : 1, flats = TREE + (state + parts - 1) / parts;
  return network_too_large(&network, "train.micro_batch", t->cfg->train_global_batch / t->comm->size, flats);
}

static bool tree_of(const Config *cfg) { return strcmp(cfg->dist_reduce, "tree") == 0; }

static int open_optimizer(Trainer *t) {
  Params *p = &t->net.model.params;
  OptimizerOptions o = optimizer_options(t->cfg);
  Shard shard = shard_whole(p->count);
  if (t->cfg->dist_shard_optimizer) shard = shard_ranks(p->dev, t->comm, p->count, tree_of(t->cfg));
  o.shard = &shard;
  o.comm = t->comm;
  return optimizer_create(&t->optimizer, p, &o);
}

/* Several draws of noise need noise that differs: random numbers tell 2^32 sequences of a step apart. */
static int check_draws(const Trainer *t) {
  const Objective *o = &t->net.objective;
  const long long draws = t->cfg->train_draws, most = 1LL << 32;
  CHECK(draws == 1 || o->diffusion, ERR_USAGE,
        "train.draws = %lld: diffusion.objective = %s draws no noise; set train.draws to 1", draws, o->table->name);
  CHECK(draws == 1 || o->options.block != 1, ERR_USAGE,
        "train.draws = %lld: blocks of one token (diffusion.block = 1) are always masked, so that all draws are the "
        "same; set train.draws to 1",
        draws);
  CHECK(draws * t->cfg->train_global_batch <= most, ERR_USAGE,
        "train.draws = %lld of train.global_batch = %lld sequences: only %lld have noise of their own in a step; "
        "lower one of them",
        draws, (long long)t->cfg->train_global_batch, most);
  return OK;
}

static int open_network(Trainer *t) {
  const Config *cfg = t->cfg;
  int64_t B = cfg->train_global_batch, b = cfg->train_micro_batch, ranks = t->comm->size;
  CHECK(B % (ranks * b) == 0, ERR_USAGE,
        "train.global_batch = %lld is not a multiple of %lld ranks × train.micro_batch = %lld: change one of them",
        (long long)B, (long long)ranks, (long long)b);
  t->local_micro = B / ranks / b;
  NetworkOptions network = network_options(t);
  int err = network_create(&t->net, &network);
  if (err == OK) err = check_draws(t);
  if (err == OK) err = freeze_params(&t->net.model.params, cfg->train_freeze);
  if (err == OK) err = open_optimizer(t);
  return err == ERR_MEMORY ? too_large(t) : err;
}

static int open_reduction(Trainer *t) {
  const Config *cfg = t->cfg;
  int err = reduction_create(&t->reduction, t->comm, &t->net.model.params, tree_of(cfg),
                             cfg->train_global_batch / cfg->train_micro_batch, cfg->dist_tree_leaves);
  t->reduction.shard = t->optimizer.shard;
  if (err != ERR_MEMORY) return err;
  err = too_large(t);
  err_set_agreed(1); /* as the error that it explains was */
  return err;
}

static bool never(const Config *cfg) { return strcmp(cfg->run_resume, "never") == 0; }

static int must_resume(const Trainer *t, bool resumed) {
  CHECK(!t->writes || resumed || strcmp(t->cfg->run_resume, "must") != 0, ERR_USAGE,
        "run.dir = %s holds no checkpoint and run.resume = must", t->dir.path);
  return OK;
}

static bool has_checkpoint(const RunDir *d) { return rundir_has(d, "last.h5") || rundir_has(d, "previous.h5"); }

/* Rank 0 locks the directory for all; afterwards every rank may read in it. */
static int open_dir(Trainer *t, bool *resume) {
  int err = OK;
  if (t->comm->rank == 0) err = rundir_open(&t->dir, t->cfg->run_dir);
  TRY(comm_agree(t->comm, err));
  if (t->comm->rank != 0) strncpy(t->dir.path, t->cfg->run_dir, sizeof t->dir.path - 1);
  bool there = has_checkpoint(&t->dir), any = there || rundir_has(&t->dir, "best.h5") || rundir_has_number(&t->dir);
  TRY(comm_broadcast(t->comm, &there, sizeof there, 0));
  TRY(comm_broadcast(t->comm, &any, sizeof any, 0));
  const char *how = t->cfg->run_resume;
  if (any && never(t->cfg))
    err = RAISE(ERR_USAGE, "run.dir = %s holds a checkpoint and run.resume = never: choose another directory",
                t->dir.path);
  if (any && !there && strcmp(how, "auto") == 0 && !rundir_has(&t->dir, "metrics.h5") && err == OK &&
      t->comm->rank == 0)
    err = RAISE(
        ERR_USAGE,
        "run.dir = %s holds a checkpoint but no last.h5: a new run would replace it. Choose another directory; to "
        "begin with its weights name it in run.init",
        t->dir.path);
  if (any && !there && strcmp(how, "auto") == 0 && err == OK)
    log_warn(
        "run.dir = %s holds checkpoints, but neither last.h5 nor previous.h5: the run begins anew and replaces them",
        t->dir.path);
  *resume = there;
  return comm_agree(t->comm, err);
}

/* Whether nothing of an earlier job is in the run's directory. Rank 0 decides. */
static bool is_new(const Trainer *t, bool resume) {
  return never(t->cfg) || (!resume && !rundir_has(&t->dir, "metrics.h5"));
}

static bool records(const History *h, const char *group) {
  bool found = strcmp(group, "vocab") == 0;
  for (int i = 0; i < h->n; i++) found = found || strcmp(h->tables[i]->group, group) == 0;
  return found;
}

/* The first group of metrics.h5 that this job does not record, or "". */
static void find_unrecorded(const Trainer *t, const char *path, char group[64]) {
  H5 *f = NULL;
  char **names = NULL;
  *group = 0;
  if (access(path, F_OK)) return;
  if (h5_open(&f, path, false) == OK && h5_list(f, "/", &names) == OK)
    for (char **it = names; *it && *group == 0; it++)
      if (!records(&t->history, *it)) snprintf(group, 64, "%s", *it);
  err_clear(); /* a damaged file is replaced */
  h5_list_free(&names);
  h5_close(&f);
}

/* A resumed run that records less than before leaves what there was in a file of its own. */
static void keep_metrics(const Trainer *t, const char *path) {
  char group[64], name[64], kept[512];
  find_unrecorded(t, path, group);
  if (*group == 0) return;
  snprintf(name, sizeof name, "metrics-%07lld.h5", (long long)t->optimizer.step);
  if (rename(path, rundir_file(&t->dir, name, kept))) return;
  log_warn("%s has /%s, which the deck no longer asks for: it is kept as %s", path, group, kept);
}

static int open_history(Trainer *t) {
  char path[512];
  int err = OK;
  if (t->comm->rank == 0) {
    keep_metrics(t, rundir_file(&t->dir, "metrics.h5", path));
    err = rundir_write(&t->dir, "deck.cfg", t->deck);
    const Vocab *vocab = t->sampling ? mixture_vocab(t->train) : NULL; /* of the samples' tokens */
    rundir_file(&t->dir, "metrics.h5", path);
    if (err == OK) err = metrics_begin(path, t->history.tables, t->history.n, t->deck, vocab);
  }
  return comm_agree(t->comm, err);
}

static int open_saver(Trainer *t) {
  t->saved = clock_now();
  return comm_agree(
      t->comm,
      t->comm->rank > 0 ? OK : saver_create(&t->saver, &t->dir, &t->net.model.params, &t->history, trainer_groups(t)));
}

static int open_loader(Trainer *t) {
  const Config *cfg = t->cfg;
  const Vocab *vocab = mixture_vocab(t->train);
  int64_t part = cfg->train_global_batch / t->comm->size;
  LoaderOptions o = {.data = t->train,
                     .order = order_of(cfg),
                     .seed = (uint64_t)cfg->run_seed,
                     .step = t->optimizer.step,
                     .sequences = t->sequences,
                     .global_batch = cfg->train_global_batch,
                     .first = part * t->comm->rank,
                     .count = part,
                     .micro_batch = cfg->train_micro_batch,
                     .crop = cfg->data_crop,
                     .bos = vocab->bos};
  return loader_create(&t->loader, &o);
}

static int open_sampling(Trainer *t) {
  TRY(t->sampling->open(t->sampling->arg, t));
  return history_add_samples(&t->history, t->cfg->train_sample_count * t->length);
}

static int create(Trainer *t) {
  bool resume = false;
  TRY_ALL(t->comm, config_resolved(t->cfg, &t->deck));
  TRY_ALL(t->comm, open_data(t));
  TRY_ALL(t->comm, t->writes && t->comm->rank == 0 ? trust_data(t) : OK); /* mdlm check has read all */
  TRY_ALL(t->comm, open_network(t));
  TRY(open_reduction(t));
  TRY_ALL(t->comm, history_create(&t->history, t->train, t->cfg));
  TRY_ALL(t->comm, layers_create(&t->layers, &t->net.model.params, &t->history, t->cfg->train_layers_every,
                                 t->cfg->train_steps));
  if (t->sampling) TRY_ALL(t->comm, open_sampling(t));
  if (t->writes) TRY(open_dir(t, &resume));
  if (t->writes) TRY(local_open(&t->local, t->cfg->train_local_dir, &t->dir, is_new(t, resume), t->comm));
  TRY_ALL(t->comm, peak_measure(&t->net.dev, &t->peak));
  if (resume || t->local.used) TRY(trainer_resume(t, &resume));
  TRY_ALL(t->comm, t->comm->rank == 0 ? must_resume(t, resume) : OK);
  if (!resume) {
    TRY_ALL(t->comm, params_init(&t->net.model.params, (uint64_t)t->cfg->run_seed));
    if (*t->cfg->run_init)
      TRY(init_weights(&t->net.model.params, t->cfg, mixture_vocab(t->train), t->comm, t->init_digest));
    TRY_ALL(t->comm, optimizer_begin(&t->optimizer));
  }
  if (t->writes) TRY(open_history(t));
  if (t->writes) TRY(open_saver(t));
  if (t->writes && t->cfg->train_local_every > 0)
    TRY(local_begin(&t->local, &t->net.model.params, &t->history, trainer_groups(t)));
  device_profile_reset(&t->net.dev);
  return comm_agree(t->comm, open_loader(t));
}

int trainer_create(Trainer *t, const Config *cfg, Comm *comm, bool writes, const TrainerSampling *sampling) {
  *t = (Trainer){.cfg = cfg, .comm = comm, .writes = writes, .best = NAN};
  if (cfg->train_sample_every > 0) t->sampling = sampling;
  int err = create(t);
  if (err) trainer_destroy(t);
  return err;
}

void trainer_destroy(Trainer *t) {
  saver_destroy(&t->saver);
  local_close(&t->local);
  loader_destroy(&t->loader);
  reduction_destroy(&t->reduction);
  optimizer_destroy(&t->optimizer);
  layers_destroy(&t->layers);
  network_destroy(&t->net);
  history_destroy(&t->history);
  mem_free(&t->deck);
  mixture_close(&t->train);
  shards_close(&t->valid);
  rundir_close(&t->dir);
}
