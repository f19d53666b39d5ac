#include "diffusion/schedule.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

/* loglinear: 1 − alpha = (1−ε)t, so that the weight is exactly 1/t */
static double loglinear_sigma(const Schedule *s, double t) { return -log1p(-(1 - s->eps) * t); }
static double loglinear_rate(const Schedule *s, double t) { return (1 - s->eps) / (1 - (1 - s->eps) * t); }
static const ScheduleTable schedule_loglinear = {"loglinear", loglinear_sigma, loglinear_rate};

static const ScheduleTable *const schedules[] = {&schedule_loglinear, NULL};

int schedule_create(Schedule *s, const char *name, double eps) {
  for (int i = 0; schedules[i]; i++) {
    if (strcmp(schedules[i]->name, name) != 0) continue;
    *s = (Schedule){schedules[i], eps};
    return OK;
  }
  return RAISE(ERR_USAGE, "diffusion.schedule = %s: no such noise schedule", name);
}

double schedule_sigma(const Schedule *s, double t) { return s->table->sigma(s, t); }
double schedule_rate(const Schedule *s, double t) { return s->table->rate(s, t); }
double schedule_masked(const Schedule *s, double t) { return -expm1(-schedule_sigma(s, t)); }
double schedule_weight(const Schedule *s, double t) { return schedule_rate(s, t) / expm1(schedule_sigma(s, t)); }
