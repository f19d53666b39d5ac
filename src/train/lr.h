/* lr — the learning rate of each step n = 0, 1, …
 *
 *   constant  peak·min(1, n/warmup): the first step changes nothing
 *   cosine    w = steps/10:  n < w: min + (peak − min)·n/w
 *                            n ≥ w: min + (peak − min)·(1 + cos(π(n − w)/(steps − w)))/2
 * Source: the recipes of arXiv:2406.07524 App. C; the cosine is Loshchilov & Hutter, arXiv:1608.03983, without
 * restarts.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct LrTable LrTable;
typedef struct Lr {
  const LrTable *table;
  double peak, min;
  int64_t warmup, steps; /* steps: of the whole run */
} Lr;
struct LrTable {
  const char *name;
  bool of_steps; /* a function of the number of steps, so that a run with more steps differs from the start */
  double (*at)(const Lr *lr, double n);
};

/** lr_create — the schedule of that name. min and steps are for cosine, warmup is for constant.
 *  Errors  ERR_USAGE: no such name, or cosine with min > peak */
int lr_create(Lr *lr, const char *name, double peak, double min, int64_t warmup, int64_t steps);
/** lr_at — the rate of step n. */
double lr_at(const Lr *lr, int64_t n);
