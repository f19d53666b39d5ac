/* The run directory: room for what the run writes, how fast it is written, locks. Only a file without a name is written,
 * or one that is removed at once. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/preflight.h"
#include "store/files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

typedef char Size[32];

static const char *size_text(double bytes, Size text) {
  const double mib = 1024.0 * 1024.0;
  bool large = bytes >= 1024 * mib;
  snprintf(text, sizeof(Size), large ? "%.3g GiB" : "%.3g MiB", bytes / (large ? 1024 * mib : mib));
  return text;
}

/* The run directory, or the nearest directory above it that exists. */
static const char *existing(const char *path, char found[FILES_PATH]) {
  snprintf(found, FILES_PATH, "%s", path);
  while (access(found, F_OK) != 0) {
    char *slash = strrchr(found, '/');
    if (!slash) return strcpy(found, ".");
    if (slash == found) return strcpy(found, "/");
    *slash = 0;
  }
  return found;
}

/* A file in that directory without a name; −1 with errno set. */
static int nameless(const char *folder) {
  char name[FILES_PATH + 32];
  int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || errno == EACCES || errno == EROFS || errno == ENOENT) return fd;
  snprintf(name, sizeof name, "%s/.mdlm-check-XXXXXX", folder); /* a file system without such files */
  fd = mkstemp(name);
  if (fd >= 0) unlink(name);
  return fd;
}

/* Seconds to write and flush one checkpoint, from that of a part of it; 0 with errno set if that fails. */
static double time_save(int fd, double bytes) {
  enum { PART = 1 << 22, PARTS = 16 };
  char *block = NULL;
  double start = clock_now(), written = 0;
  if (mem_alloc(&block, PART) != OK) return errno = ENOMEM, 0;
  memset(block, 'm', PART);
  bool good = true;
  for (int i = 0; i < PARTS && good && (i == 0 || written < bytes); i++, written += PART)
    good = files_write(fd, block, PART, (int64_t)i * PART) == 0;
  good = good && fsync(fd) == 0;
  mem_free(&block);
  double seconds = clock_now() - start;
  if (!good) return 0;
  return bytes > written ? seconds * bytes / written : seconds;
}

/* Bytes of the checkpoints that are there and will be replaced. */
static double replaced(const char *run) {
  static const char *const names[] = {"last.h5", "previous.h5", "best.h5"};
  double bytes = 0;
  for (int i = 0; i < 3; i++) {
    char path[FILES_PATH + 16];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", run, names[i]);
    if (stat(path, &st) == 0 && st.st_nlink == 1) bytes += (double)st.st_size;
  }
  return bytes;
}

static void compare_room(Preflight *p, const char *folder) {
  const Config *cfg = p->trainer->cfg;
  double kept = cfg->train_keep_every ? (double)(cfg->train_steps / cfg->train_keep_every) : 0;
  double files = 3 + (p->trainer->valid != NULL) + kept; /* last, previous, the one under way, best, numbered ones */
  double needed = files * p->state - replaced(cfg->run_dir);
  struct statvfs fs;
  struct rlimit limit;
  if (statvfs(folder, &fs) != 0) return;
  double room = (double)fs.f_bavail * (double)fs.f_frsize;
  Size free_text, needed_text, state_text, limit_text;
  size_text(room, free_text), size_text(needed, needed_text), size_text(p->state, state_text);
  log_info("disk       %s free in %s, the run writes %s: up to %.0f checkpoints of %s, each in %.3g s", free_text,
           folder, needed_text, files, state_text, p->save);
  if (room < needed)
    preflight_stop(p, ERR_IO, "disk: run.dir = %s has %s free, the run writes %s: choose another directory%s",
                   cfg->run_dir, free_text, needed_text, kept > 0 ? ", or raise train.keep_every" : "");
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && (double)limit.rlim_cur < p->state)
    preflight_stop(p, ERR_IO, "disk: a file may have %s (ulimit -f), a checkpoint has %s: raise the limit",
                   size_text((double)limit.rlim_cur, limit_text), state_text);
}

void find_disk(Preflight *p) {
  const char *run = p->trainer->cfg->run_dir;
  char folder[FILES_PATH];
  if (!*run || strlen(run) >= FILES_PATH) {
    preflight_stop(p, ERR_USAGE, "run.dir = \"%.40s\": say where the run's files go, as in run.dir=runs/first", run);
    return;
  }
  int fd = nameless(existing(run, folder));
  if (fd >= 0) p->save = time_save(fd, p->state);
  int reason = errno;
  if (fd >= 0) close(fd);
  if (p->save > 0)
    compare_room(p, folder);
  else
    preflight_stop(p, ERR_IO, "disk: run.dir = %s: cannot write in %s: %s", run, folder, strerror(reason));
}

void find_locks(Preflight *p) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  const char *run = p->trainer->cfg->run_dir;
  char folder[FILES_PATH];
  if (p->save == 0) return;
  int fd = nameless(existing(run, folder));
  if (fd < 0) return;
  if (fcntl(fd, F_SETLK, &whole) == 0)
    log_info("locks      the file system of %s has them", folder);
  else
    log_warn(
        "locks: run.dir = %s: its file system has none (%s): %s/lock.held will be the lock, and must be removed by "
        "hand after a crash on another host; mount it with locks, and set HDF5_USE_FILE_LOCKING=FALSE for other "
        "programs",
        run, strerror(errno), run);
  close(fd);
}
