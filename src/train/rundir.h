/* rundir — the directory of a run: creation, a lock against a second job, paths of its files. */
#pragma once
#include "store/lock.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct RunDir {
  char path[448];
  Lock lock;
} RunDir;

/** rundir_open — creates the directory if it is missing, checks that it is writable, and locks it until rundir_close or
 *  the end of the process. Call on one rank.
 *  Errors  ERR_IO with the system's reason; ERR_BUSY naming host and process of the job that holds it */
int rundir_open(RunDir *d, const char *path);
/** rundir_make — make a directory and those above it. Whether it is there; if not, errno says why. */
bool rundir_make(const char *path);
void rundir_close(RunDir *d);
/** rundir_file — path of a file of the run in buf[512], which is returned. */
const char *rundir_file(const RunDir *d, const char *name, char buf[512]);
/** rundir_has — whether the run has that file. */
bool rundir_has(const RunDir *d, const char *name);
/** rundir_number — name of the numbered checkpoint of a step in name[64], which is returned. */
const char *rundir_number(int64_t step, char name[64]);
/** rundir_has_number — whether the run has a numbered checkpoint. */
bool rundir_has_number(const RunDir *d);
/** rundir_numbers — *steps := those of the *n numbered checkpoints in the directory at path, ascending; the caller frees
 *  them (mem_free). ERR_DATA: the directory cannot be read */
int rundir_numbers(const char *path, int64_t **steps, int *n);
/** rundir_remove — remove a file of the run, if it is there. */
void rundir_remove(const RunDir *d, const char *name);
/** rundir_rotate — before last.h5 is replaced: keeps it as previous.h5, if it exists. */
int rundir_rotate(const RunDir *d);
/** rundir_write — writes text to a file of the run, atomically. ERR_IO. */
int rundir_write(const RunDir *d, const char *name, const char *text);
