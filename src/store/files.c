#include "store/files.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/nearest.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES = 1024, PATH = 4096 };

/* The directory of path in dir, "." if it names none; returns what follows it. */
static const char *split(const char *path, char dir[PATH]) {
  const char *slash = strrchr(path, '/');
  snprintf(dir, PATH, "%.*s", slash == path ? 1 : slash ? (int)(slash - path) : 1, slash ? path : ".");
  return slash ? slash + 1 : path;
}

/* A hint for a missing path: the directory is missing, or the nearest existing name. */
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
  CHECK(n < FILES_PATH, ERR_USAGE, "%s…: the path has %d bytes, at most %d are allowed", path, n, FILES_PATH - 1);
  return OK;
}

/* Replace a link by its target. */
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
  char draft[FILES_PATH + sizeof FILES_DRAFT];
  TRY(follow(path));
  if (stat(path, &st) == 0) {
    CHECK(!S_ISDIR(st.st_mode), ERR_IO, "cannot write %s: it is a directory, name a file", path);
    CHECK(S_ISREG(st.st_mode), ERR_IO, "cannot write %s: it is not a regular file, name another", path);
  }
  snprintf(draft, sizeof draft, "%s" FILES_DRAFT, path);
  int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool made = fd >= 0;
  if (!made && errno == EEXIST) fd = open(draft, O_WRONLY | O_CLOEXEC);
  CHECK(fd >= 0, ERR_IO, "cannot write %s: %s", path, strerror(errno));
  close(fd);
  if (made) unlink(draft);
  return OK;
}

int files_matching(const char *pattern, int (*add)(void *arg, const char *path), void *arg) {
  glob_t g = {0};
  if (!strpbrk(pattern, "*?[") || access(pattern, F_OK) == 0) return add(arg, pattern);
  int found = glob(pattern, 0, NULL, &g), err = OK;
  if (found == GLOB_NOMATCH)
    err = RAISE(ERR_DATA, "no file matches %s", pattern);
  else if (found != 0)
    err = RAISE(ERR_DATA, "cannot look for %s: %s", pattern,
                found == GLOB_NOSPACE ? "out of memory" : "a directory cannot be read");
  for (size_t i = 0; err == OK && i < g.gl_pathc; i++) err = add(arg, g.gl_pathv[i]);
  globfree(&g);
  return err;
}

char *files_next(char **list, const char *separator) {
  for (char *p; (p = strsep(list, separator));) {
    p += strspn(p, " \t\n");
    size_t n = strlen(p);
    while (n > 0 && strchr(" \t\n", p[n - 1])) p[--n] = '\0';
    if (n > 0) return p;
  }
  return NULL;
}

void files_stamp(const char *path, char text[FILES_STAMP]) {
  struct stat st;
  *text = 0;
  if (stat(path, &st) == 0)
    snprintf(text, FILES_STAMP, "%lld bytes, changed at %lld.%09ld", (long long)st.st_size,
             (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

bool files_same(const char *a, const char *b) {
  struct stat of_a, of_b;
  return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

int64_t files_read(int fd, void *to, size_t n, int64_t at) {
  size_t done = 0;
  while (done < n) {
    activity_begin(ACTIVITY_IO, "a file read");
    ssize_t got = pread(fd, (char *)to + done, n - done, (off_t)at + (off_t)done);
    activity_end();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += (size_t)got;
  }
  return (int64_t)done;
}

int files_write(int fd, const void *from, size_t n, int64_t at) {
  for (size_t done = 0; done < n;) {
    activity_begin(ACTIVITY_IO, "a file write");
    ssize_t put = pwrite(fd, (const char *)from + done, n - done, (off_t)at + (off_t)done);
    activity_end();
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -1;
    done += (size_t)put;
  }
  return 0;
}

static int sync_path(const char *path, int flags) {
  int fd = open(path, flags | O_CLOEXEC);
  CHECK(fd >= 0, ERR_IO, "cannot open %s to flush it: %s", path, strerror(errno));
  activity_begin(ACTIVITY_IO, "a flush to disk");
  /* some file systems cannot flush a directory and return EINVAL */
  int reason = fsync(fd) != 0 && !(flags & O_DIRECTORY && errno == EINVAL) ? errno : 0;
  activity_end();
  close(fd);
  CHECK(reason == 0, ERR_IO, "cannot flush %s to disk: %s", path, strerror(reason));
  return OK;
}

int files_flush(const char *path) { return sync_path(path, O_RDONLY); }

int files_flush_folder(const char *path) {
  char dir[PATH];
  split(path, dir);
  return sync_path(dir, O_RDONLY | O_DIRECTORY);
}
