#include "store/lock.h"
#include "base/err.h"
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

/* Who holds the lock, from the file's text. */
static int busy(int fd, const char *path) {
  char who[256] = "";
  ssize_t n = pread(fd, who, sizeof who - 1, 0);
  who[strcspn(who, "\n")] = 0;
  return RAISE(ERR_BUSY, "%s is being written by another job (%s): wait for it, or name another output", path,
               n > 0 ? who : "unknown");
}

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

int lock_take(Lock *l, const char *path) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  Name name;
  for (;;) {
    int fd = open(name_of(name, path), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    CHECK(fd >= 0, ERR_IO, "cannot write %s: %s", name, strerror(errno));
    int refused = fcntl(fd, F_SETLK, &whole) ? errno : 0;
    if (!refused && current(fd, name)) {
      sign(fd);
      *l = (Lock){true, fd};
      return OK;
    }
    int err = refused == EACCES || refused == EAGAIN ? busy(fd, path) : OK;
    if (refused && !err) unlink(name);
    close(fd);
    if (refused) return err;
  }
}

void lock_release(Lock *l, const char *path) {
  Name name;
  if (!l->held) return;
  unlink(name_of(name, path));
  close(l->fd);
  *l = (Lock){0};
}
