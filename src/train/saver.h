/* saver — checkpoints that a thread writes from a copy of the state, while training goes on.
 *
 * The copy, 4 bytes a parameter for each group, is allocated once. It is of one step: the files of that step are written from it,
 * one after the other, and the next step to be saved waits for them. For one rank; not collective. */
#pragma once
#include "model/params.h"
#include "store/checkpoint.h"
#include "train/history.h"
#include "train/rundir.h"

typedef struct Saver Saver;

/** saver_create — allocates the copy of the first n groups and starts the thread; the arguments must outlive the saver.
 *  ERR_MEMORY. */
int saver_create(Saver **s, const RunDir *dir, Params *p, const History *history, CheckpointGroup n);
/** saver_destroy — waits for the files that are being written. NULL-safe. */
void saver_destroy(Saver **s);
/** saver_holds — whether the copy is of this step with this history. */
bool saver_holds(const Saver *s, int64_t step);
/** saver_begin — wait for the files that are being written; the copy is none from here to saver_take. */
void saver_begin(Saver *s);
/** saver_copy — the copy of a group := flat [params->count]. Errors  ERR_DEVICE, ERR_MEMORY */
int saver_copy(Saver *s, CheckpointGroup group, Tensor flat);
/** saver_take — after all groups: copy the history and `state`, which completes the copy. The strings, the vocabulary and
 *  so on that `state` points to are not copied.
 *  Errors  ERR_MEMORY */
int saver_take(Saver *s, const CheckpointState *state);
/** saver_write — let the thread write the copy as `name` in the run directory, and return; a file of this copy that is
 *  there already is not written again. */
void saver_write(Saver *s, const char *name);
/** saver_wait — until no file is being written. */
void saver_wait(Saver *s);
/** saver_warn — a warning for each file that could not be written since the last call. */
void saver_warn(Saver *s);
/** saver_end — saver_wait, then saver_warn: for a run that ends by an error and saves no more. */
void saver_end(Saver *s);
/** saver_retry — before another step is saved as `name`: write again what failed, and wait; not `name`, which is
 *  replaced. Warns of what saver_warn has not.
 *  Errors  ERR_IO of the first file that failed again. Not of last.h5, which a later save can make: it is warned of */
int saver_retry(Saver *s, const char *name);
/** saver_result — wait; OK if all files of the copy were written, else the error of the first one that was not. */
int saver_result(Saver *s);
