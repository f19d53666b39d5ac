#include "train/rundir.h"
#include "base/err.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool rundir_make(const char *path) {
  char part[448];
  snprintf(part, sizeof part, "%s", path);
  for (char *p = part + 1; *p; p++) {
    if (*p != '/') continue;
    *p = 0;
    if (mkdir(part, 0777) && errno != EEXIST) break;
    *p = '/';
  }
  return mkdir(path, 0777) == 0 || errno == EEXIST;
}

static int take_lock(RunDir *d) {
  char path[512], who[LOCK_WHO];
  LockState state = lock_hold(&d->lock, rundir_file(d, "lock", path), who);
  CHECK(state != LOCK_NONE, ERR_IO, "run.dir = %s: cannot write there: %s", d->path, strerror(errno));
  CHECK(state != LOCK_BUSY, ERR_BUSY,
        "run.dir = %s is in use by another job (%s): wait for it, or choose another directory", d->path, who);
  return OK;
}

int rundir_open(RunDir *d, const char *path) {
  d->lock = (Lock){0};
  CHECK(*path, ERR_USAGE, "run.dir is empty: say where the run's files go, as in run.dir=runs/first");
  CHECK(strlen(path) < sizeof d->path, ERR_USAGE, "run.dir: a path of %zu characters is too long", strlen(path));
  snprintf(d->path, sizeof d->path, "%s", path);
  CHECK(rundir_make(path), ERR_IO, "run.dir = %s: cannot make the directory: %s", path, strerror(errno));
  return take_lock(d);
}

void rundir_close(RunDir *d) {
  char path[512];
  lock_drop(&d->lock, rundir_file(d, "lock", path));
}

const char *rundir_file(const RunDir *d, const char *name, char buf[512]) {
  snprintf(buf, 512, "%s/%s", d->path, name);
  return buf;
}

bool rundir_has(const RunDir *d, const char *name) {
  char path[512];
  return access(rundir_file(d, name, path), F_OK) == 0;
}

const char *rundir_number(int64_t step, char name[64]) {
  snprintf(name, 64, "step-%07lld.h5", (long long)step);
  return name;
}

static bool is_number(const char *file, int64_t *step) {
  char name[64];
  long long n;
  *step = 0;
  if (sscanf(file, "step-%lld", &n) != 1 || strcmp(rundir_number(n, name), file) != 0) return false;
  *step = n;
  return true;
}

bool rundir_has_number(const RunDir *d) {
  bool found = false;
  int64_t step;
  DIR *folder = opendir(d->path);
  if (!folder) return false;
  for (struct dirent *e; !found && (e = readdir(folder));) found = is_number(e->d_name, &step);
  closedir(folder);
  return found;
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

int rundir_numbers(const char *path, int64_t **steps, int *n) {
  int room = 0, err = OK;
  int64_t step;
  *steps = NULL;
  *n = 0;
  DIR *folder = opendir(path);
  CHECK(folder, ERR_DATA, "%s: cannot read the directory: %s", path, strerror(errno));
  for (struct dirent *e; err == OK && (e = readdir(folder));) {
    if (!is_number(e->d_name, &step)) continue;
    if (*n == room) {
      int more = 2 * room + 16;
      err = mem_realloc(steps, (size_t)room * sizeof **steps, (size_t)more * sizeof **steps);
      if (err == OK) room = more;
    }
    if (err == OK) (*steps)[(*n)++] = step;
  }
  closedir(folder);
  if (err != OK) mem_free(steps);
  if (*n > 0 && err == OK) qsort(*steps, (size_t)*n, sizeof **steps, ascending);
  return err;
}

void rundir_remove(const RunDir *d, const char *name) {
  char path[512];
  unlink(rundir_file(d, name, path));
}

int rundir_rotate(const RunDir *d) {
  char last[512], previous[512], fresh[512];
  rundir_file(d, "last.h5", last);
  rundir_file(d, "previous.h5", previous);
  rundir_file(d, "previous.h5.tmp", fresh);
  if (access(last, F_OK)) return OK;
  unlink(fresh);
  /* a hard link; where the file system has none, the file is renamed */
  int failed = link(last, fresh) ? rename(last, previous) : rename(fresh, previous), reason = errno;
  unlink(fresh); /* still there if previous.h5 already was the same file: rename then does nothing */
  CHECK(!failed, ERR_IO, "%s: cannot keep it as %s: %s", last, previous, strerror(reason));
  return OK;
}

int rundir_write(const RunDir *d, const char *name, const char *text) {
  char path[512], fresh[520];
  rundir_file(d, name, path);
  snprintf(fresh, sizeof fresh, "%s.tmp", path);
  FILE *f = fopen(fresh, "w");
  CHECK(f, ERR_IO, "%s: cannot write: %s", fresh, strerror(errno));
  bool ok = fputs(text, f) >= 0 && fflush(f) == 0 && fsync(fileno(f)) == 0;
  ok = fclose(f) == 0 && ok;
  if (!ok || rename(fresh, path)) {
    int reason = errno;
    unlink(fresh);
    return RAISE(ERR_IO, "%s: cannot write: %s", path, strerror(reason));
  }
  return OK;
}
