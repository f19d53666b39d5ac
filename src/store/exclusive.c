#include "store/exclusive.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/files.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST = 128, TEXT = 512 };

/* Two lines of the file: who holds it, for people; then what tells this process from all others. */
typedef struct Holder {
  char host[HOST];
  long process;
  unsigned long long start; /* of the process, in clock ticks since the host has started */
  char job[64];             /* of Slurm, "none" without */
  long restarts;            /* of that job */
} Holder;

static const char LINES[] = "host %s, process %ld, since %s\nstart %llu job %s restarts %ld\n";
static const char FIELDS[] = "host %127[^,], process %ld, since %*s start %llu job %63s restarts %ld";
enum { FIELD_COUNT = 5 };

/* 0: unknown. */
static unsigned long long process_start(long process) {
  char name[64], line[1024];
  unsigned long long start = 0;
  snprintf(name, sizeof name, "/proc/%ld/stat", process);
  FILE *f = fopen(name, "r");
  if (!f) return 0;
  if (fgets(line, sizeof line, f)) {
    const char *rest = strrchr(line, ')'); /* the second field is a name in parentheses; the start is the 22nd */
    for (int field = 2; rest && field < 22; field++) rest = strchr(rest + 1, ' ');
    if (rest) start = strtoull(rest, NULL, 10);
  }
  fclose(f);
  return start;
}

static Holder this_process(void) {
  const char *job = getenv("SLURM_JOB_ID"), *restarts = getenv("SLURM_RESTART_COUNT");
  Holder h = {.process = (long)getpid(), .restarts = restarts ? atol(restarts) : 0};
  gethostname(h.host, sizeof h.host - 1);
  h.start = process_start(h.process);
  snprintf(h.job, sizeof h.job, "%s", job && *job ? job : "none");
  return h;
}

/* Whether the holder cannot be running any more. Of a process on another host only Slurm's count of restarts tells. */
static bool ended(const Holder *h, const Holder *me) {
  if (strcmp(h->job, "none") != 0 && strcmp(h->job, me->job) == 0 && h->restarts < me->restarts) return true;
  if (strcmp(h->host, me->host) != 0) return false;
  if (kill((pid_t)h->process, 0) != 0 && errno == ESRCH) return true;
  unsigned long long start = process_start(h->process);
  return start != 0 && h->start != 0 && start != h->start; /* another process with that number */
}

static bool read_text(const char *name, char text[TEXT]) {
  int fd = open(name, O_RDONLY | O_CLOEXEC);
  int64_t n = fd < 0 ? -1 : files_read(fd, text, TEXT - 1, 0);
  if (fd >= 0) close(fd);
  text[n > 0 ? n : 0] = 0;
  return n >= 0;
}

/* Remove what an ended job has left, unless another process has replaced it meanwhile: then that is put back. */
static void clear(const char *name, const char *left) {
  char aside[FILES_PATH + 64], text[TEXT];
  snprintf(aside, sizeof aside, "%s.%ld", name, (long)getpid());
  if (rename(name, aside) != 0) return;
  if (read_text(aside, text) && strcmp(text, left) != 0)
    rename(aside, name);
  else if (unlink(aside) == 0)
    log_warn("%s: replaced: the job that held it has ended (%.*s)", name, (int)strcspn(left, "\n"), left);
}

static LockState create(const char *name, const Holder *me) {
  char text[TEXT];
  int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return errno == EEXIST ? LOCK_BUSY : LOCK_NONE;
  int n = snprintf(text, sizeof text, LINES, me->host, me->process, clock_stamp(), me->start, me->job, me->restarts);
  int failed = files_write(fd, text, (size_t)n, 0) ? errno : 0;
  if (close(fd) != 0 && !failed) failed = errno;
  if (!failed) return LOCK_HELD;
  unlink(name);
  errno = failed;
  return LOCK_NONE;
}

LockState exclusive_take(const char *name, char who[LOCK_WHO]) {
  const Holder me = this_process();
  for (int tries = 0;; tries++) {
    char text[TEXT];
    Holder h = {0};
    LockState state = create(name, &me);
    if (state != LOCK_BUSY) return state;
    bool there = read_text(name, text);
    if (!there && errno == ENOENT && tries < 10) continue; /* released meanwhile */
    bool known = sscanf(text, FIELDS, h.host, &h.process, &h.start, h.job, &h.restarts) == FIELD_COUNT;
    if (known && tries < 10 && ended(&h, &me)) {
      clear(name, text);
      continue;
    }
    text[strcspn(text, "\n")] = 0;
    snprintf(who, LOCK_WHO, "%s; if it has ended, remove %s", known ? text : "unknown", name);
    return LOCK_BUSY;
  }
}

void exclusive_release(const char *name) { unlink(name); }
