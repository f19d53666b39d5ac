/* lock — a file that tells a second job that the first one writes an output: OUTPUT.lock, removed at the end. */
#pragma once
#include "store/exclusive.h"
#include <stdbool.h>

typedef struct Lock { /* zeros: none */
  bool held, exclusive;
  int fd; /* unless exclusive */
} Lock;

/** lock_hold — lock the file of that name, which is made if it is missing, until lock_drop or the end of the process; its
 *  text then names this job. Where the file system has no locks, the lock is a file NAME.held that only one job can
 *  create (exclusive.h), and the first such call in the process warns. LOCK_BUSY: who := the job that holds it. */
LockState lock_hold(Lock *l, const char *name, char who[LOCK_WHO]);
/** lock_drop — give up the lock, if it is held; the file stays. */
void lock_drop(Lock *l, const char *name);
/** lock_take — hold path.lock until lock_release or the end of the process.
 *  Errors  ERR_BUSY naming the job that holds it; ERR_IO */
int lock_take(Lock *l, const char *path);
/** lock_release — remove path.lock and give up the lock, if it is held. */
void lock_release(Lock *l, const char *path);
