/* exclusive — a lock for file systems without locks: a file that only one job can create, and that names it. It outlives a
 * job that is killed; what is left of a job that has certainly ended is replaced. */
#pragma once

typedef enum LockState {
  LOCK_HELD,
  LOCK_BUSY, /* another job holds it */
  LOCK_NONE  /* the system refuses, errno says why */
} LockState;
enum { LOCK_WHO = 1024 };

/** exclusive_take — create the file. LOCK_BUSY: who := the job that holds it, and what to do if that has ended. LOCK_NONE:
 *  it cannot be created, errno says why. A file left by an ended process of this host, or by an earlier start of this
 *  Slurm job, is replaced with a warning. */
LockState exclusive_take(const char *name, char who[LOCK_WHO]);
/** exclusive_release — remove the file. */
void exclusive_release(const char *name);
