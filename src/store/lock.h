/* lock — a file that tells a second job that the first one writes an output: OUTPUT.lock, removed at the end. */
#pragma once
#include <stdbool.h>

typedef struct Lock { /* zeros: none */
  bool held;
  int fd;
} Lock;

/** lock_take — lock path.lock until lock_release or the end of the process. Where the file system has no locks, nothing
 *  is held and nothing guards the output.
 *  Errors  ERR_BUSY naming host and process of the job that holds it; ERR_IO */
int lock_take(Lock *l, const char *path);
/** lock_release — remove path.lock and give up the lock, if one is held. */
void lock_release(Lock *l, const char *path);
