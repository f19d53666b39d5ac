#include "store/files.h"
#include "base/config.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/seal.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES = 1024, PATH = 4096 };
#define DRAFT ".tmp" /* behind the name of a file that is not finished */

/* The directory of path in dir, "." if it names none; returns what follows it. */
static const char *split(const char *path, char dir[PATH]) {
  const char *slash = strrchr(path, '/');
  snprintf(dir, PATH, "%.*s", slash == path ? 1 : slash ? (int)(slash - path) : 1, slash ? path : ".");
  return slash ? slash + 1 : path;
}

/* Words that help where path is missing: the directory that is not there, or the file with nearly that name. */
static void suggest(const char *path, char *text, size_t size) {
  char dir[PATH], *names[NAMES + 1] = {0};
  const char *base = split(path, dir), *near;
  int n = 0;
  text[0] = '\0';
  DIR *d = opendir(dir);
  if (!d) {
    snprintf(text, size, " (there is no directory %s)", dir);
    return;
  }
  for (struct dirent *e; n < NAMES && (e = readdir(d));)
    if (e->d_name[0] != '.' && (names[n] = strdup(e->d_name))) n++;
  near = nearest_word(base, (const char *const *)names);
  if (near) snprintf(text, size, "; did you mean %.*s%s?", (int)(base - path), path, near);
  closedir(d);
  while (n > 0) free(names[--n]);
}

int files_check(const char *path, int64_t *bytes) {
  char hint[PATH + 300];
  struct stat st;
  if (stat(path, &st) != 0) {
    int reason = errno;
    if (reason != ENOENT) return RAISE(ERR_DATA, "cannot open %s: %s", path, strerror(reason));
    suggest(path, hint, sizeof hint);
    return RAISE(ERR_DATA, "%s: no such file%s", path, hint);
  }
  CHECK(!S_ISDIR(st.st_mode), ERR_DATA, "%s is a directory, a file was expected", path);
  CHECK(S_ISREG(st.st_mode), ERR_DATA, "%s is not a regular file", path);
  CHECK(st.st_size > 0, ERR_DATA, "%s is empty (0 bytes)", path);
  *bytes = (int64_t)st.st_size;
  return OK;
}

int files_path(char path[FILES_PATH], const char *folder, const char *name) {
  int n = snprintf(path, FILES_PATH, "%s%s%s", folder ? folder : "", folder ? "/" : "", name);
  CHECK(n < FILES_PATH, ERR_USAGE, "%s…: a path of %d bytes, it may have %d", path, n, FILES_PATH - 1);
  return OK;
}

/* path := what it links to. */
static int follow(char path[FILES_PATH]) {
  struct stat st;
  if (lstat(path, &st) != 0 || !S_ISLNK(st.st_mode)) return OK;
  char *real = realpath(path, NULL);
  CHECK(real, ERR_IO, "cannot write %s, a link: %s; remove it or name another file", path, strerror(errno));
  int err = files_path(path, NULL, real);
  free(real);
  return err;
}

int files_claim(char path[FILES_PATH]) {
  struct stat st;
  char draft[FILES_PATH + sizeof DRAFT];
  TRY(follow(path));
  if (stat(path, &st) == 0) {
    CHECK(!S_ISDIR(st.st_mode), ERR_IO, "cannot write %s: it is a directory, name a file", path);
    CHECK(S_ISREG(st.st_mode), ERR_IO, "cannot write %s: it is not a regular file, name another", path);
  }
  snprintf(draft, sizeof draft, "%s" DRAFT, path);
  int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool made = fd >= 0;
  if (!made && errno == EEXIST) fd = open(draft, O_WRONLY | O_CLOEXEC);
  CHECK(fd >= 0, ERR_IO, "cannot write %s: %s", path, strerror(errno));
  close(fd);
  if (made) unlink(draft);
  return OK;
}

bool files_same(const char *a, const char *b) {
  struct stat of_a, of_b;
  return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

int64_t files_read(int fd, void *to, size_t n, int64_t at) {
  size_t done = 0;
  while (done < n) {
    ssize_t got = pread(fd, (char *)to + done, n - done, (off_t)at + (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += (size_t)got;
  }
  return (int64_t)done;
}

int files_write(int fd, const void *from, size_t n, int64_t at) {
  for (size_t done = 0; done < n;) {
    ssize_t put = pwrite(fd, (const char *)from + done, n - done, (off_t)at + (off_t)done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -1;
    done += (size_t)put;
  }
  return 0;
}

int files_draft(H5 **f, const char *path) {
  char *name;
  size_t size = strlen(path) + sizeof DRAFT;
  *f = NULL;
  TRY(mem_alloc(&name, size));
  snprintf(name, size, "%s" DRAFT, path);
  int err = h5_create(f, name);
  mem_free(&name);
  return err;
}

static int sync_path(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  CHECK(fd >= 0, ERR_IO, "cannot open %s to flush it: %s", path, strerror(errno));
  /* some file systems cannot flush a directory and say so by EINVAL */
  int reason = fsync(fd) != 0 && !(flags & O_DIRECTORY && errno == EINVAL) ? errno : 0;
  close(fd);
  CHECK(reason == 0, ERR_IO, "cannot flush %s to disk: %s", path, strerror(reason));
  return OK;
}

static int put(const char *temporary, const char *path) {
  char dir[PATH];
  split(path, dir);
  TRY(seal_append(temporary));
  TRY(sync_path(temporary, O_RDONLY));
  CHECK(rename(temporary, path) == 0, ERR_IO, "cannot rename %s to %s: %s", temporary, path, strerror(errno));
  return sync_path(dir, O_RDONLY | O_DIRECTORY);
}

int files_publish(H5 **f, int err, const char *path) {
  char *name = NULL;
  if (!*f) return err;
  int copied = mem_strdup(&name, h5_path(*f)), closed = h5_close(f);
  if (err == OK) err = copied != OK ? copied : closed;
  if (err == OK) err = put(name, path);
  if (err != OK && name) unlink(name); /* after the rename there is nothing of that name */
  mem_free(&name);
  return err;
}
