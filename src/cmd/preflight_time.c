/* What fits into the allocation: SLURM_JOB_END_TIME is its end in seconds since 1970, MDLM_SIGNAL_SECONDS how long before
 * it the signal comes that lets a run save (slurm/job.sh sets both). */
#include "base/err.h"
#include "base/log.h"
#include "cmd/preflight.h"
#include "store/shards.h"
#include <math.h>
#include <stdlib.h>
#include <time.h>

/* A positive number in the environment, 0 without. */
static double number(const char *name) {
  const char *text = getenv(name);
  double x = text ? strtod(text, NULL) : 0;
  return isfinite(x) && x > 0 ? x : 0;
}

static double validation_seconds(const Preflight *p) {
  const Trainer *t = p->trainer;
  if (!t->valid) return 0;
  double rows = (double)shards_rows(t->valid), most = (double)t->cfg->train_valid_sequences;
  if (most > 0 && most < rows) rows = most;
  return p->micro * trainer_validation(t) * ceil(rows / (double)(t->cfg->train_micro_batch * p->comm->size));
}

/* The signal ends the pass of the network under way; then the checkpoint under way and that of the state are written. */
static void compare_signal(Preflight *p, double signal, double validation) {
  double needed = p->micro + 2 * p->save;
  if (needed > signal)
    preflight_stop(p, ERR_USAGE,
                   "time: saving takes up to %.3g s, the signal comes %.3g s before the end: ask for "
                   "--signal=B:USR1@%.0f",
                   needed, signal, 60 * ceil(2 * needed / 60));
  if (validation > signal)
    log_warn(
        "time: a validation takes about %.3g s, the signal comes %.3g s before the end: a validation under way then is "
        "given up, and done again in the next allocation; lower train.valid_sequences",
        validation, signal);
}

/* A run whose allocation ends before the first checkpoint, or before a validation, never gets further. */
static void compare_left(Preflight *p, double left, double validation) {
  const Config *cfg = p->trainer->cfg;
  double regular = cfg->train_save_every > 0 ? (double)cfg->train_save_every * p->step : INFINITY;
  if (cfg->train_save_minutes > 0) regular = fmin(regular, 60 * cfg->train_save_minutes + p->step);
  if (validation + p->save > left)
    preflight_stop(
        p, ERR_USAGE,
        "time: a validation takes about %.3g s, %.3g s of the allocation are left: ask for more time, or lower "
        "train.valid_sequences",
        validation, left);
  if (fmin(regular, (double)cfg->train_steps * p->step) + p->save > left && number("MDLM_SIGNAL_SECONDS") == 0)
    preflight_stop(p, ERR_USAGE,
                   "time: the first checkpoint comes after %.3g s, %.3g s of the allocation are left: lower "
                   "train.save_every, or set train.save_minutes",
                   regular + p->save, left);
}

void find_time(Preflight *p) {
  double end = number("SLURM_JOB_END_TIME"), signal = number("MDLM_SIGNAL_SECONDS");
  double validation = validation_seconds(p), run = p->step * (double)p->trainer->cfg->train_steps;
  double left = end - (double)time(NULL), usable = left - (signal > 0 ? signal : 0);
  char all[32], rest[32];
  log_duration(all, sizeof all, run);
  log_info("time       the steps take %s, a validation about %.3g s, a save %.3g s", all, validation, p->save);
  if (end == 0) {
    log_info("           no time limit is known (SLURM_JOB_END_TIME)");
    return;
  }
  log_duration(rest, sizeof rest, fmax(left, 0));
  if (usable > 0)
    log_info("           %s of the allocation are left, the signal comes %.3g s before its end: the steps take %.0f "
             "allocations",
             rest, signal, ceil(run / usable));
  if (signal > 0) compare_signal(p, signal, validation);
  compare_left(p, left, validation);
}
