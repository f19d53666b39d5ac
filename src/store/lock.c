#include "store/lock.h"
#include "base/err.h"
#include "base/log.h"
#include "store/files.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME = FILES_PATH + 8, HELD = NAME + 8 };

/* Whether the file of that name is still the one that was opened: its last holder may have removed it meanwhile. */
static bool current(int fd, const char *name) {
  struct stat opened, named;
  return fstat(fd, &opened) == 0 && stat(name, &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

static void sign(int fd) {
  char who[256], host[128] = "";
  gethostname(host, sizeof host - 1);
  int n = snprintf(who, sizeof who, "host %s, process %ld\n", host, (long)getpid());
  if (ftruncate(fd, 0) == 0) files_write(fd, who, (size_t)n, 0); /* without it a second job is told of an unknown one */
}

static void warn_once(const char *name, int reason) {
  static bool warned;
  if (!warned)
    log_warn("%s: its file system has no locks (%s): the file %s.held is the lock, and stays if the job is killed",
             name, strerror(reason), name);
  warned = true;
}

static LockState hold_exclusive(Lock *l, const char *name, char who[LOCK_WHO]) {
  char held[HELD];
  snprintf(held, sizeof held, "%s.held", name);
  LockState state = exclusive_take(held, who);
  if (state == LOCK_HELD) *l = (Lock){.held = true, .exclusive = true};
  return state;
}

LockState lock_hold(Lock *l, const char *name, char who[LOCK_WHO]) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return LOCK_NONE;
  if (fcntl(fd, F_SETLK, &whole) == 0) {
    sign(fd);
    *l = (Lock){.held = true, .fd = fd};
    return LOCK_HELD;
  }
  int reason = errno;
  if (reason != EACCES && reason != EAGAIN) {
    close(fd);
    warn_once(name, reason);
    return hold_exclusive(l, name, who);
  }
  int64_t n = files_read(fd, who, LOCK_WHO - 1, 0);
  close(fd);
  who[n > 0 ? n : 0] = 0;
  who[strcspn(who, "\n")] = 0;
  if (!*who) snprintf(who, LOCK_WHO, "unknown");
  return LOCK_BUSY;
}

void lock_drop(Lock *l, const char *name) {
  char held[HELD];
  if (!l->held) return;
  snprintf(held, sizeof held, "%s.held", name);
  if (l->exclusive)
    exclusive_release(held);
  else
    close(l->fd);
  *l = (Lock){0};
}

int lock_take(Lock *l, const char *path) {
  char who[LOCK_WHO], name[NAME];
  snprintf(name, sizeof name, "%s.lock", path);
  for (;;) {
    LockState state = lock_hold(l, name, who);
    CHECK(state != LOCK_NONE, ERR_IO, "cannot write %s: %s", name, strerror(errno));
    CHECK(state != LOCK_BUSY, ERR_BUSY, "%s is being written by another job (%s): wait for it, or name another output",
          path, who);
    if (l->exclusive || current(l->fd, name)) return OK;
    lock_drop(l, name);
  }
}

void lock_release(Lock *l, const char *path) {
  char name[NAME];
  if (!l->held) return;
  snprintf(name, sizeof name, "%s.lock", path);
  unlink(name);
  lock_drop(l, name);
}
