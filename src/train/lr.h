/* lr — the learning rate of each step n = 0, 1, …
 *
 *   constant  peak·min(1, n/warmup): the first step changes nothing
 *   cosine    w = steps/10:  n < w: min + (peak − min)·n/w
 *                            n ≥ w: min + (peak − min)·(1 + cos(π(n − w)/(steps − w)))/2
 *   wsd       warm-up, stable, decay: constant, and over the last d = share·steps from peak to min, with
 *             x = (n − (steps − d))/d:  min + (peak − min)·(1 − s(x)),  s = x (linear), (1 − cos πx)/2 (cosine) or √x (sqrt)
 * Source: the recipes of arXiv:2406.07524 App. C; the cosine is Loshchilov & Hutter, arXiv:1608.03983, without
 * restarts; wsd is arXiv:2404.06395 §4, its square root arXiv:2405.18392.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct LrTable LrTable;
typedef struct LrOptions {
  const char *name; /* NULL: constant */
  double peak, min;
  int64_t warmup, steps; /* steps: of the whole run */
  double decay_share;
  const char *decay_shape; /* NULL: linear */
} LrOptions;
typedef struct Lr {
  const LrTable *table;
  LrOptions options;
  double (*shape)(double x);
} Lr;
struct LrTable {
  const char *name;
  bool falls; /* to min */
  double (*at)(const Lr *lr, double n);
};

/** lr_create — the schedule of those options. min and steps are for cosine and wsd, warmup is for constant and wsd.
 *  Errors  ERR_USAGE: no such name or shape, or a schedule that falls with min > peak */
int lr_create(Lr *lr, const LrOptions *options);
/** lr_same — whether the rates of the first n steps would be the same in a run of so many steps. */
bool lr_same(const Lr *lr, int64_t steps, int64_t n);
/** lr_at — the rate of step n. */
double lr_at(const Lr *lr, int64_t n);
