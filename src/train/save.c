/* save — which checkpoints are due, and what happens when one cannot be written. */
#include "base/clock.h"
#include "base/err.h"
#include "train/trainer.h"
#include <math.h>
#include <string.h>

static int check_weights(Trainer *t) {
  Params *p = &t->net.model.params;
  double squares;
  TRY(op_sum_squares(p->dev, t->optimizer.squares, p->value));
  TRY(tensor_download(p->dev, &squares, t->optimizer.squares));
  CHECK(isfinite(squares), ERR_NUMERIC,
        "step %lld: the weights contain NaN or infinity; the last checkpoint is kept. Lower train.lr",
        (long long)t->optimizer.step);
  return OK;
}

/* A file that failed is written again before its copy is replaced, except the one that the new file replaces. If
 * best.h5 or a numbered checkpoint, which cannot be made later, fails again, the run ends; the new state is saved first.
 */
static int save(Trainer *t, const char *name) {
  const Tensor flat[CKPT_GROUPS] = {t->net.model.params.value, t->optimizer.ema, t->optimizer.m, t->optimizer.v};
  int lost = OK;
  if (!saver_holds(t->saver, t->optimizer.step)) {
    CheckpointState state = trainer_state(t);
    TRY(check_weights(t));
    lost = saver_retry(t->saver, name);
    TRY(saver_take(t->saver, &state, flat));
  }
  saver_write(t->saver, name);
  if (lost) saver_wait(t->saver);
  return lost;
}

int trainer_save(Trainer *t, const char *name) {
  if (!t->writes) return OK;
  TRY(comm_agree(t->comm, t->saver ? save(t, name) : OK));
  if (strcmp(name, "last.h5") == 0) t->saved = clock_now();
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
  if (!every(n, cfg->train_save_every) && n < cfg->train_steps && !late) return OK;
  return trainer_save(t, "last.h5");
}

int trainer_saved(Trainer *t) { return comm_agree(t->comm, t->saver ? saver_result(t->saver) : OK); }
