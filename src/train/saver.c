#include "train/saver.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "network/flat.h"
#include <stdio.h>
#include <string.h>

enum { FILES = 3 }; /* of one step: last.h5, best.h5, a numbered one */

typedef enum FileState { FILE_WAITING, FILE_WRITTEN, FILE_FAILED } FileState;
typedef struct SaverFile {
  char name[64];
  FileState state;
  bool told; /* of its failure */
  int error;
  char message[2048];
} SaverFile;

struct Saver {
  const RunDir *dir;      /* not owned */
  Params *params;         /* not owned */
  const History *history; /* not owned */
  /* the copy; the main thread changes it while no file is waiting, and the thread reads it while one is */
  bool taken;
  CheckpointState state;
  Flat flat[CKPT_GROUPS];
  CheckpointArray *groups[CKPT_GROUPS];
  MetricsTable tables[HISTORY_TABLES]; /* [history->n] */
  pthread_t thread;
  bool started;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  /* under lock */
  SaverFile files[FILES];
  int n; /* files of the copy */
  bool stop;
};

/* ---- the thread ---- */

static int file_write(Saver *s, const char *name) {
  char path[512];
  MetricsTable *tables[HISTORY_TABLES];
  for (int i = 0; i < s->history->n; i++) tables[i] = &s->tables[i];
  if (strcmp(name, "last.h5") == 0) TRY(rundir_rotate(s->dir));
  return checkpoint_save(rundir_file(s->dir, name, path), &s->state, s->groups, s->params->n, tables, s->history->n);
}

static SaverFile *first_in(Saver *s, FileState state) {
  for (int i = 0; i < s->n; i++)
    if (s->files[i].state == state) return &s->files[i];
  return NULL;
}

static void *saver_run(void *arg) {
  Saver *s = arg;
  SaverFile *file;
  pthread_mutex_lock(&s->lock);
  while ((file = first_in(s, FILE_WAITING)) || !s->stop) {
    if (!file) {
      pthread_cond_wait(&s->changed, &s->lock);
      continue;
    }
    pthread_mutex_unlock(&s->lock);
    int err = file_write(s, file->name); /* no lock: the name of a waiting file does not change */
    pthread_mutex_lock(&s->lock);
    file->error = err;
    file->state = err == OK ? FILE_WRITTEN : FILE_FAILED;
    if (err != OK) snprintf(file->message, sizeof file->message, "%s", err_message()); /* err_message is thread-local */
    pthread_cond_broadcast(&s->changed);
  }
  pthread_mutex_unlock(&s->lock);
  return NULL;
}

/* ---- the caller ---- */

int saver_create(Saver **out, const RunDir *dir, Params *p, const History *history, CheckpointGroup n) {
  Saver *s;
  int err;
  *out = NULL;
  TRY(mem_alloc(&s, sizeof *s));
  *s = (Saver){.dir = dir, .params = p, .history = history};
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->changed, NULL);
  for (CheckpointGroup g = 0; g < n; g++) {
    TRY_TO(failed, flat_create(&s->flat[g], p, p->value, true));
    s->groups[g] = s->flat[g].arrays;
  }
  for (int i = 0; i < history->n; i++) TRY_TO(failed, metrics_table_copy(&s->tables[i], history->tables[i]));
  TRY_TO(failed, thread_start(&s->thread, saver_run, s, "checkpoint"));
  s->started = true;
  *out = s;
  return OK;
failed:
  saver_destroy(&s);
  return err;
}

void saver_destroy(Saver **out) {
  Saver *s = *out;
  if (!s) return;
  pthread_mutex_lock(&s->lock);
  s->stop = true;
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
  if (s->started) pthread_join(s->thread, NULL);
  for (int g = 0; g < CKPT_GROUPS; g++) flat_destroy(&s->flat[g]);
  for (int i = 0; i < HISTORY_TABLES; i++) metrics_table_destroy(&s->tables[i]);
  pthread_cond_destroy(&s->changed);
  pthread_mutex_destroy(&s->lock);
  mem_free(out);
}

bool saver_holds(const Saver *s, int64_t step) {
  bool same = s->taken && s->state.step == step;
  for (int i = 0; i < s->history->n; i++) same = same && s->tables[i].n_rows == s->history->tables[i]->n_rows;
  return same;
}

static void wait_locked(Saver *s) {
  if (!first_in(s, FILE_WAITING)) return;
  activity_begin(ACTIVITY_IO, "its checkpoint's file");
  while (first_in(s, FILE_WAITING)) {
    pthread_cond_wait(&s->changed, &s->lock);
    activity_tick(); /* a file is done, and the next one has its own time */
  }
  activity_end();
}

void saver_wait(Saver *s) {
  pthread_mutex_lock(&s->lock);
  wait_locked(s);
  pthread_mutex_unlock(&s->lock);
}

void saver_begin(Saver *s) {
  saver_wait(s);
  s->n = 0;
  s->taken = false;
}

int saver_copy(Saver *s, CheckpointGroup group, Tensor flat) { return flat_fill(&s->flat[group], s->params, flat); }

int saver_take(Saver *s, const CheckpointState *state) {
  for (int i = 0; i < s->history->n; i++) TRY(metrics_table_copy(&s->tables[i], s->history->tables[i]));
  s->state = *state;
  s->taken = true;
  return OK;
}

void saver_write(Saver *s, const char *name) {
  pthread_mutex_lock(&s->lock);
  int i = 0;
  while (i < s->n && strcmp(s->files[i].name, name) != 0) i++;
  ASSERT(s->taken && i < FILES);
  if (i == s->n) {
    s->files[s->n++] = (SaverFile){.state = FILE_WAITING};
    snprintf(s->files[i].name, sizeof s->files[i].name, "%s", name);
  } else if (s->files[i].state == FILE_FAILED) {
    s->files[i].state = FILE_WAITING;
  }
  pthread_cond_broadcast(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

static void warn_locked(Saver *s, const char *outlook) {
  for (int i = 0; i < s->n; i++) {
    SaverFile *f = &s->files[i];
    if (f->state != FILE_FAILED || f->told) continue;
    log_warn("step %lld is not saved in %s: %s%s", (long long)s->state.step, f->name, f->message, outlook);
    f->told = true;
  }
}

static const char AGAIN[] = "; it is tried again at the next save";

void saver_warn(Saver *s) {
  pthread_mutex_lock(&s->lock);
  warn_locked(s, AGAIN);
  pthread_mutex_unlock(&s->lock);
}

void saver_end(Saver *s) {
  pthread_mutex_lock(&s->lock);
  wait_locked(s);
  warn_locked(s, "");
  pthread_mutex_unlock(&s->lock);
}

/* Lets the thread write again what failed, except `name`, and waits. */
static void retry_locked(Saver *s, const char *name) {
  for (int i = 0; i < s->n; i++) {
    SaverFile *f = &s->files[i];
    if (f->state != FILE_FAILED || strcmp(f->name, name) == 0) continue;
    f->state = FILE_WAITING;
    f->told = false;
  }
  pthread_cond_broadcast(&s->changed);
  wait_locked(s);
}

int saver_retry(Saver *s, const char *name) {
  int err = OK;
  pthread_mutex_lock(&s->lock);
  wait_locked(s);
  warn_locked(s, AGAIN);
  retry_locked(s, name);
  for (int i = 0; i < s->n && err == OK; i++) {
    SaverFile *f = &s->files[i];
    if (f->state != FILE_FAILED || strcmp(f->name, name) == 0 || strcmp(f->name, "last.h5") == 0) continue;
    err = RAISE(f->error, "step %lld: %s", (long long)s->state.step, f->message);
    f->told = true;
  }
  warn_locked(s, AGAIN);
  pthread_mutex_unlock(&s->lock);
  return err;
}

int saver_result(Saver *s) {
  saver_wait(s);
  SaverFile *failed = first_in(s, FILE_FAILED); /* no lock: the thread has nothing to do */
  if (!failed) return OK;
  failed->told = true;
  return RAISE(failed->error, "%s", failed->message);
}
