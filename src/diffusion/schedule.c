#include "diffusion/schedule.h"
#include "base/err.h"
#include "base/menu.h"
#include <math.h>

int schedule_create(Schedule *s, const char *name, double eps, double sigma_min, double sigma_max) {
  const ScheduleTable *table;
  MENU_FIND(table, schedules, name);
  CHECK(table, ERR_USAGE, "diffusion.schedule = %s: no such noise schedule", name);
  *s = (Schedule){table, eps, sigma_min, sigma_max > 0 ? sigma_max : table->sigma_max};
  CHECK(table->sigma_max == 0 || s->sigma_min < s->sigma_max, ERR_USAGE,
        "diffusion.sigma_min = %g is not below diffusion.sigma_max = %g", s->sigma_min, s->sigma_max);
  return OK;
}

double schedule_sigma(const Schedule *s, double t) { return s->table->sigma(s, t); }
double schedule_rate(const Schedule *s, double t) { return s->table->rate(s, t); }
double schedule_time(const Schedule *s, double sigma) { return s->table->time(s, sigma); }
double schedule_masked(const Schedule *s, double t) { return -expm1(-schedule_sigma(s, t)); }
double schedule_weight(const Schedule *s, double t) { return schedule_rate(s, t) / expm1(schedule_sigma(s, t)); }

void schedule_ends(const Schedule *s, double *least, double *most) {
  *least = schedule_sigma(s, 0) > 0 ? schedule_sigma(s, 0) : s->eps; /* log(1 − e^−σ) diverges at σ = 0 */
  *most = schedule_sigma(s, 1);
}

void schedule_span(const Schedule *s, double *low, double *slope) {
  double least, most;
  schedule_ends(s, &least, &most);
  *low = log(-expm1(-least));
  *slope = log(-expm1(-most)) - *low;
}
