/* lock — a file that tells a second job that the first one writes an output: OUTPUT.lock, removed at the end. */
#pragma once
#include <stdbool.h>

typedef struct Lock { /* zeros: none */
  bool held;
  int fd;
} Lock;

typedef enum LockState {
  LOCK_HELD,
  LOCK_BUSY, /* another job holds it */
  LOCK_NONE  /* the file system has no locks */
} LockState;
enum { LOCK_WHO = 256 };

/** lock_take — lock path.lock until lock_release or the end of the process. Where the file system has no locks, nothing
 *  is held and nothing guards the output, and the first call in the process warns.
 *  Errors  ERR_BUSY naming host and process of the job that holds it; ERR_IO */
int lock_take(Lock *l, const char *path);
/** lock_release — remove path.lock and give up the lock, if one is held. */
void lock_release(Lock *l, const char *path);
/** lock_file — lock an open file until a descriptor of it is closed; its text then names this job. LOCK_BUSY: who := host
 *  and process of the job that holds it. LOCK_NONE: a warning that names the file, once in the process. */
LockState lock_file(int fd, const char *name, char who[LOCK_WHO]);
