/* save — which checkpoints are due, and what happens when one cannot be written. */
#include "base/clock.h"
#include "base/err.h"
#include "train/trainer.h"
#include <math.h>
#include <string.h>

static int check_weights(Trainer *t) {
  double squares;
  TRY(optimizer_weights(&t->optimizer, &squares));
  CHECK(isfinite(squares), ERR_NUMERIC,
        "step %lld: the weights contain NaN or infinity; the last checkpoint is kept. Lower train.lr",
        (long long)t->optimizer.step);
  return OK;
}

/* A saver's copy := the state, on the ranks that have one. The ranks meet here for what they share; a saver's errors are
 * agreed, others are local. */
static int copy(Trainer *t, Saver *saver) {
  int err = OK;
  if (saver) saver_begin(saver);
  for (CheckpointGroup g = 0; g < trainer_groups(t); g++) {
    Tensor flat;
    TRY(trainer_flat(t, g, &flat));
    if (saver && err == OK) err = saver_copy(saver, g, flat);
  }
  CheckpointState state = trainer_state(t);
  if (saver && err == OK) err = saver_take(saver, &state);
  return comm_agree(t->comm, err);
}

/* A file that failed is written again before its copy is replaced, except the one that the new file replaces. If
 * best.h5 or a numbered checkpoint, which cannot be made later, fails again, the run ends; the new state is saved first.
 */
int trainer_save(Trainer *t, const char *name) {
  int err = OK, lost = OK;
  if (!t->writes) return OK;
  bool fresh = t->saver && !saver_holds(t->saver, t->optimizer.step);
  if (fresh) err = check_weights(t);
  if (fresh && err == OK) lost = saver_retry(t->saver, name);
  TRY(comm_agree(t->comm, err)); /* before the ranks share the state: rank 0 may have waited for its files */
  TRY(comm_any(t->comm, fresh, &fresh));
  if (fresh) TRY(copy(t, t->saver));
  if (t->saver) saver_write(t->saver, name);
  if (lost) saver_wait(t->saver);
  TRY(comm_agree(t->comm, lost));
  if (strcmp(name, "last.h5") == 0) t->saved = clock_now();
  return OK;
}

/* Each node's own checkpoint. Its history is that of rank 0, since another node may be the first one when the run is
 * resumed. It tells of best.h5 and numbered checkpoints, which therefore must be there before. A file of its own that
 * cannot be written is a warning. */
static int save_local(Trainer *t) {
  Saver *saver = t->local.saver;
  TRY_ALL(t->comm, t->saver ? saver_retry(t->saver, "last.h5") : OK);
  TRY(local_warn(&t->local));
  TRY_ALL(t->comm, saver ? check_weights(t) : OK);
  for (int i = 0; i < t->history.n; i++) TRY(metrics_table_share(t->history.tables[i], t->comm));
  TRY(copy(t, saver));
  if (saver) saver_write(saver, LOCAL_NAME);
  return OK;
}

static bool every(int64_t step, int64_t steps) { return steps > 0 && step % steps == 0; }

/* *late := whether train.save_minutes have passed, by the clock of rank 0. */
static int check_clock(Trainer *t, bool *late) {
  double seconds = 60 * t->cfg->train_save_minutes;
  *late = false;
  if (seconds == 0) return OK;
  return comm_any(t->comm, t->comm->rank == 0 && clock_now() - t->saved >= seconds, late);
}

int trainer_save_due(Trainer *t) {
  const Config *cfg = t->cfg;
  int64_t n = t->optimizer.step;
  char name[64];
  bool late;
  if (t->saver) saver_warn(t->saver);
  TRY(check_clock(t, &late));
  if (every(n, cfg->train_keep_every)) TRY(trainer_save(t, rundir_number(n, name)));
  if (every(n, cfg->train_save_every) || n == cfg->train_steps || late) return trainer_save(t, "last.h5");
  return every(n, cfg->train_local_every) && t->local.used ? save_local(t) : OK;
}

int trainer_saved(Trainer *t) {
  TRY_ALL(t->comm, t->saver ? saver_result(t->saver) : OK);
  TRY(local_warn(&t->local));
  if (trainer_complete(t)) local_remove(&t->local);
  return OK;
}
