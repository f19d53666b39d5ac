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

typedef char Name[FILES_PATH + 8];

static const char *name_of(Name name, const char *path) {
  snprintf(name, sizeof(Name), "%s.lock", path);
  return name;
}

/* Whether the file of that name is still the one that was opened: its last holder may have removed it meanwhile. */
static bool current(int fd, const char *name) {
  struct stat opened, named;
  return fstat(fd, &opened) == 0 && stat(name, &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

static void sign(int fd) {
  char who[LOCK_WHO], host[128] = "";
  gethostname(host, sizeof host - 1);
  int n = snprintf(who, sizeof who, "host %s, process %ld\n", host, (long)getpid());
  if (ftruncate(fd, 0) == 0) files_write(fd, who, (size_t)n, 0); /* without it a second job is told of an unknown one */
}

static void warn_once(const char *name, int reason) {
  static bool warned;
  if (!warned)
    log_warn("%s: its file system has no locks (%s): nothing keeps a second job from the same output", name,
             strerror(reason));
  warned = true;
}

LockState lock_file(int fd, const char *name, char who[LOCK_WHO]) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(fd, F_SETLK, &whole) == 0) {
    sign(fd);
    return LOCK_HELD;
  }
  if (errno != EACCES && errno != EAGAIN) {
    warn_once(name, errno);
    return LOCK_NONE;
  }
  int64_t n = files_read(fd, who, LOCK_WHO - 1, 0);
  who[n > 0 ? n : 0] = 0;
  who[strcspn(who, "\n")] = 0;
  if (!*who) snprintf(who, LOCK_WHO, "unknown");
  return LOCK_BUSY;
}

int lock_take(Lock *l, const char *path) {
  char who[LOCK_WHO];
  Name name;
  for (;;) {
    int fd = open(name_of(name, path), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    CHECK(fd >= 0, ERR_IO, "cannot write %s: %s", name, strerror(errno));
    LockState state = lock_file(fd, name, who);
    if (state == LOCK_HELD && current(fd, name)) {
      *l = (Lock){true, fd};
      return OK;
    }
    if (state == LOCK_NONE) unlink(name);
    close(fd);
    CHECK(state != LOCK_BUSY, ERR_BUSY, "%s is being written by another job (%s): wait for it, or name another output",
          path, who);
    if (state == LOCK_NONE) return OK;
  }
}

void lock_release(Lock *l, const char *path) {
  Name name;
  if (!l->held) return;
  unlink(name_of(name, path));
  close(l->fd);
  *l = (Lock){0};
}
