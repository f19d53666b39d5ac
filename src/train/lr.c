#include "train/lr.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

static double constant_at(const Lr *lr, double n) {
  return n < (double)lr->warmup ? lr->peak * n / (double)lr->warmup : lr->peak;
}

static double cosine_at(const Lr *lr, double n) {
  const double pi = 3.14159265358979323846;
  double steps = (double)lr->steps, warm = 0.1 * steps;
  if (n < warm) return lr->min + (lr->peak - lr->min) * n / warm;
  return lr->min + (lr->peak - lr->min) * (1 + cos(pi * (n - warm) / (steps - warm))) / 2;
}

static const LrTable lrs[] = {{"constant", false, constant_at}, {"cosine", true, cosine_at}, {0}};

int lr_create(Lr *lr, const char *name, double peak, double min, int64_t warmup, int64_t steps) {
  *lr = (Lr){.peak = peak, .min = min, .warmup = warmup, .steps = steps};
  for (const LrTable *t = lrs; t->name; t++)
    if (strcmp(t->name, name) == 0) lr->table = t;
  CHECK(lr->table, ERR_USAGE, "train.lr_schedule = %s: no such schedule", name);
  CHECK(!lr->table->of_steps || min <= peak, ERR_USAGE,
        "train.lr_schedule = %s falls from train.lr = %g to train.lr_min = %g, which must not be larger", name, peak,
        min);
  return OK;
}

double lr_at(const Lr *lr, int64_t n) { return lr->table->at(lr, (double)n); }
