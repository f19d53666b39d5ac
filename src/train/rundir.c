#include "train/rundir.h"
#include "base/err.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_path(const char *path) {
  char part[448];
  snprintf(part, sizeof part, "%s", path);
  for (char *p = part + 1; *p; p++) {
    if (*p != '/') continue;
    *p = 0;
    if (mkdir(part, 0777) && errno != EEXIST) break;
    *p = '/';
  }
  CHECK(mkdir(path, 0777) == 0 || errno == EEXIST, ERR_IO, "run.dir = %s: cannot make the directory: %s", path,
        strerror(errno));
  return OK;
}

/* Who holds the lock, from the file's text. */
static int busy(const RunDir *d, int fd) {
  char who[256] = "";
  ssize_t n = pread(fd, who, sizeof who - 1, 0);
  if (n > 0) who[strcspn(who, "\n")] = 0;
  return RAISE(ERR_BUSY, "run.dir = %s is in use by another job (%s): wait for it, or choose another directory",
               d->path, n > 0 ? who : "unknown");
}

static int take_lock(RunDir *d) {
  char path[512], who[256], host[128] = "";
  int fd = open(rundir_file(d, "lock", path), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  CHECK(fd >= 0, ERR_IO, "run.dir = %s: cannot write there: %s", d->path, strerror(errno));
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(fd, F_SETLK, &whole)) {
    int code = errno == EACCES || errno == EAGAIN ? busy(d, fd)
                                                  : RAISE(ERR_IO, "%s: cannot lock it: %s", path, strerror(errno));
    close(fd);
    return code;
  }
  gethostname(host, sizeof host - 1);
  int n = snprintf(who, sizeof who, "host %s, process %ld\n", host, (long)getpid());
  d->lock = fd;
  CHECK(ftruncate(fd, 0) == 0 && pwrite(fd, who, (size_t)n, 0) == n, ERR_IO, "%s: cannot write: %s", path,
        strerror(errno));
  return OK;
}

int rundir_open(RunDir *d, const char *path) {
  d->lock = -1;
  CHECK(*path, ERR_USAGE, "run.dir is empty: say where the run's files go, as in run.dir=runs/first");
  CHECK(strlen(path) < sizeof d->path, ERR_USAGE, "run.dir: a path of %zu characters is too long", strlen(path));
  snprintf(d->path, sizeof d->path, "%s", path);
  TRY(make_path(path));
  int err = take_lock(d);
  if (err) rundir_close(d);
  return err;
}

void rundir_close(RunDir *d) {
  if (d->lock >= 0) close(d->lock);
  d->lock = -1;
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

bool rundir_has_number(const RunDir *d) {
  bool found = false;
  DIR *folder = opendir(d->path);
  if (!folder) return false;
  for (struct dirent *e; !found && (e = readdir(folder));) {
    char name[64];
    long long step;
    found = sscanf(e->d_name, "step-%lld", &step) == 1 && strcmp(rundir_number(step, name), e->d_name) == 0;
  }
  closedir(folder);
  return found;
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
