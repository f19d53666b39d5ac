#include "cmd/task.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "base/version.h"
#include "store/partial.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int task_claim(Task *t, const char *input) {
  TRY(output_claim(t->comm, t->cfg->run_dir, t->output, t->format, input));
  return t->comm->rank == 0 ? lock_take(&t->lock, t->output) : OK;
}

int task_begin(Task *t, const Config *cfg, Comm *comm, const TaskOptions *o) {
  *t = (Task){.cfg = cfg, .comm = comm, .format = o->format, .which = o->which};
  TRY(weights_path(cfg, o->checkpoint, t->checkpoint));
  TRY(checkpoint_open(&t->file, t->checkpoint));
  TRY(weights_state(cfg, t->file, &t->state));
  TRY(output_path(cfg, o->output, o->name, t->output));
  return task_claim(t, o->input);
}

int task_open(Task *t, int64_t length, const char *key, int64_t batch) {
  int err = weights_open(&t->net, t->cfg, t->comm, t->file, t->which, &t->state, length, key, batch);
  h5_close(&t->file);
  return err;
}

int task_agree(Task *t, Comm *comm, int err) {
  char first[sizeof t->state.weights_digest];
  TRY(comm_agree(comm, err));
  memcpy(first, t->state.weights_digest, sizeof first);
  TRY(comm_broadcast(comm, first, sizeof first, 0));
  if (strcmp(first, t->state.weights_digest) != 0)
    err = RAISE(ERR_DATA, "%s was replaced while ranks were reading it: run the command again", t->checkpoint);
  return comm_agree(comm, err);
}

/* Keys of any section that results do not depend on, beyond rounding at most. */
static bool indifferent(const char *key) {
  static const char *const names[] = {"device.threads",    "device.pin",       "eval.output",   "eval.checkpoint",
                                      "eval.weights",      "eval.batch",       "eval.data",     "sample.checkpoint",
                                      "sample.weights",    "sample.batch",     "logits.output", "logits.input",
                                      "logits.checkpoint", "logits.weights",   "logits.batch",  "score.output",
                                      "score.input",       "score.checkpoint", "score.weights", "sample.output"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(key, names[i]) == 0) return true;
  return false;
}

typedef struct Keys {
  const char *section;
  const EstimatorTable *estimator;
  FILE *to;
} Keys;

static void add_key(void *arg, const char *key, const char *now, const char *before) {
  const Keys *k = arg;
  const char *const always[] = {"model", "diffusion", "device", k->section};
  (void)before;
  if (indifferent(key) || !estimator_reads(k->estimator, key)) return;
  for (size_t i = 0; i < sizeof always / sizeof *always; i++) {
    size_t n = strlen(always[i]);
    if (strncmp(key, always[i], n) == 0 && key[n] == '.') fprintf(k->to, "%s = %s\n", key, now);
  }
}

/* The keys that differ from their defaults. */
static int add_keys(const Config *cfg, Keys *keys) {
  Config defaults;
  TRY(config_load(&defaults, NULL, 0, NULL));
  int err = config_compare(cfg, &defaults, add_key, keys);
  config_free(&defaults);
  return err;
}

int task_key(Task *t, const Config *cfg, const char *section, const EstimatorTable *e, const char *more, ...) {
  char *text = NULL;
  size_t size = 0;
  va_list list;
  CHECK(snprintf(t->partial, sizeof t->partial, "%s" PARTIAL_SUFFIX, t->output) < (int)sizeof t->partial, ERR_USAGE,
        "%s: the path is too long", t->output);
  ASSERT(*t->state.weights_digest);
  mem_free(&t->key);
  FILE *to = open_memstream(&text, &size);
  CHECK(to, ERR_MEMORY, "out of memory");
  fprintf(to, "program = %s\nformat = %s\ncheckpoint = %s\nweights = %s\n", MDLM_VERSION, t->format,
          t->state.weights_digest, t->which);
  va_start(list, more);
  vfprintf(to, more, list);
  va_end(list);
  int err = add_keys(cfg, &(Keys){section, e, to});
  fclose(to);
  if (err == OK) err = mem_strdup(&t->key, text);
  free(text);
  return err;
}

void task_stopped(const Task *t, int stop, int64_t done, int64_t n, const char *units, int *exit_code) {
  if (done == 0) log_info("stopped by %s: none of %lld %s is finished", stop_name(stop), (long long)n, units);
  if (done > 0)
    log_info("stopped by %s: %lld of %lld %s are kept in %s; run the same command to go on", stop_name(stop),
             (long long)done, (long long)n, units, t->partial);
  *exit_code = EXIT_REQUEUE;
}

void task_done(const Task *t) {
  if (*t->partial) unlink(t->partial);
}

int task_publish(Task *t, double nll, int (*fill)(H5 *f, const void *arg), const void *arg) {
  int err = OK;
  if (t->comm->rank == 0 && !isfinite(nll))
    err = RAISE(ERR_NUMERIC, "%s: the nll is %g: its weights are damaged", t->checkpoint, nll);
  if (t->comm->rank == 0 && err == OK)
    err = output_write(t->output, t->format, t->cfg, t->checkpoint, &t->state, t->which, fill, arg);
  if (t->comm->rank == 0 && err == OK) task_done(t);
  return comm_agree(t->comm, err);
}

void task_end(Task *t) {
  if (t == NULL) return;
  network_destroy(&t->net);
  h5_close(&t->file);
  mem_free(&t->key);
  lock_release(&t->lock, t->output);
  checkpoint_state_destroy(&t->state);
  *t = (Task){0};
}
