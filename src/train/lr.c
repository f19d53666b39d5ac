#include "train/lr.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

static double linear(double x) { return x; }
static double half_wave(double x) { return (1 - cos(pi * x)) / 2; }

static const struct {
  const char *name;
  double (*shape)(double x);
} shapes[] = {{"linear", linear}, {"cosine", half_wave}, {"sqrt", sqrt}};

static double constant_at(const Lr *lr, double n) {
  const LrOptions *o = &lr->options;
  return n < (double)o->warmup ? o->peak * n / (double)o->warmup : o->peak;
}

static double cosine_at(const Lr *lr, double n) {
  const LrOptions *o = &lr->options;
  double steps = (double)o->steps, warm = 0.1 * steps;
  if (n < warm) return o->min + (o->peak - o->min) * n / warm;
  return o->min + (o->peak - o->min) * (1 + cos(pi * (n - warm) / (steps - warm))) / 2;
}

static double wsd_at(const Lr *lr, double n) {
  const LrOptions *o = &lr->options;
  double decay = o->decay_share * (double)o->steps, into = n - ((double)o->steps - decay);
  double before = constant_at(lr, n);
  return into <= 0 ? before : fmin(before, o->min + (o->peak - o->min) * (1 - lr->shape(into / decay)));
}

static const LrTable lrs[] = {
    {"constant", false, constant_at}, {"cosine", true, cosine_at}, {"wsd", true, wsd_at}, {0}};

int lr_create(Lr *lr, const LrOptions *o) {
  const char *name = o->name ? o->name : lrs[0].name, *shape = o->decay_shape ? o->decay_shape : shapes[0].name;
  *lr = (Lr){.options = *o};
  for (const LrTable *t = lrs; t->name; t++)
    if (strcmp(t->name, name) == 0) lr->table = t;
  CHECK(lr->table, ERR_USAGE, "train.lr_schedule = %s: no such schedule", name);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    if (strcmp(shapes[i].name, shape) == 0) lr->shape = shapes[i].shape;
  CHECK(lr->shape, ERR_USAGE, "train.decay_shape = %s: no such shape", shape);
  CHECK(!lr->table->falls || o->min <= o->peak, ERR_USAGE,
        "train.lr_schedule = %s falls from train.lr = %g to train.lr_min = %g, which must not be larger", name, o->peak,
        o->min);
  return OK;
}

double lr_at(const Lr *lr, int64_t n) { return lr->table->at(lr, (double)n); }

bool lr_same(const Lr *lr, int64_t steps, int64_t n) {
  Lr other = *lr;
  other.options.steps = steps;
  for (int64_t i = 0; i < n; i++)
    if (lr_at(lr, i) != lr_at(&other, i)) return false;
  return true;
}
