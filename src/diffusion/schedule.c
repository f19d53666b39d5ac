#include "diffusion/schedule.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

static double loglinear_sigma(const Schedule *s, double t) { return -log1p(-(1 - s->eps) * t); }
static double loglinear_rate(const Schedule *s, double t) { return (1 - s->eps) / (1 - (1 - s->eps) * t); }
static double loglinear_time(const Schedule *s, double sigma) { return -expm1(-sigma) / (1 - s->eps); }

static double linear_sigma(const Schedule *s, double t) { return s->sigma_min + t * (s->sigma_max - s->sigma_min); }
static double linear_rate(const Schedule *s, double t) { return (void)t, s->sigma_max - s->sigma_min; }
static double linear_time(const Schedule *s, double sigma) {
  return (sigma - s->sigma_min) / (s->sigma_max - s->sigma_min);
}

static double geometric_sigma(const Schedule *s, double t) { return pow(s->sigma_min, 1 - t) * pow(s->sigma_max, t); }
static double geometric_rate(const Schedule *s, double t) {
  return geometric_sigma(s, t) * log(s->sigma_max / s->sigma_min);
}
static double geometric_time(const Schedule *s, double sigma) {
  return log(sigma / s->sigma_min) / log(s->sigma_max / s->sigma_min);
}

/* 1 − alpha by the sine of half the angle: near t = 0 it is the difference of nearly equal numbers otherwise. */
static double cosine_masked(const Schedule *s, double t) {
  double half = sin(PI * t / 4);
  return (1 - s->eps) * 2 * half * half;
}
static double cosine_sigma(const Schedule *s, double t) { return -log1p(-cosine_masked(s, t)); }
static double cosine_rate(const Schedule *s, double t) {
  return (1 - s->eps) * PI / 2 * sin(PI * t / 2) / (1 - cosine_masked(s, t));
}
static double cosine_time(const Schedule *s, double sigma) {
  return 4 / PI * asin(sqrt(-expm1(-sigma) / (2 * (1 - s->eps))));
}

static double cosinesqr_masked(const Schedule *s, double t) {
  double sine = sin(PI * t / 2);
  return (1 - s->eps) * sine * sine;
}
static double cosinesqr_sigma(const Schedule *s, double t) { return -log1p(-cosinesqr_masked(s, t)); }
static double cosinesqr_rate(const Schedule *s, double t) {
  return (1 - s->eps) * PI / 2 * sin(PI * t) / (1 - cosinesqr_masked(s, t));
}
static double cosinesqr_time(const Schedule *s, double sigma) {
  return 2 / PI * asin(sqrt(fmin(1, -expm1(-sigma) / (1 - s->eps))));
}

static const ScheduleTable schedules[] = {
    {"loglinear", 0, loglinear_sigma, loglinear_rate, loglinear_time},
    {"linear", 7, linear_sigma, linear_rate, linear_time},
    {"geometric", 1, geometric_sigma, geometric_rate, geometric_time},
    {"cosine", 0, cosine_sigma, cosine_rate, cosine_time},
    {"cosinesqr", 0, cosinesqr_sigma, cosinesqr_rate, cosinesqr_time},
};

int schedule_create(Schedule *s, const char *name, double eps, double sigma_min, double sigma_max) {
  for (size_t i = 0; i < sizeof schedules / sizeof *schedules; i++) {
    const ScheduleTable *table = &schedules[i];
    if (strcmp(table->name, name) != 0) continue;
    *s = (Schedule){table, eps, sigma_min, sigma_max > 0 ? sigma_max : table->sigma_max};
    CHECK(table->sigma_max == 0 || s->sigma_min < s->sigma_max, ERR_USAGE,
          "diffusion.sigma_min = %g is not below diffusion.sigma_max = %g", s->sigma_min, s->sigma_max);
    return OK;
  }
  return RAISE(ERR_USAGE, "diffusion.schedule = %s: no such noise schedule", name);
}

double schedule_sigma(const Schedule *s, double t) { return s->table->sigma(s, t); }
double schedule_rate(const Schedule *s, double t) { return s->table->rate(s, t); }
double schedule_time(const Schedule *s, double sigma) { return s->table->time(s, sigma); }
double schedule_masked(const Schedule *s, double t) { return -expm1(-schedule_sigma(s, t)); }
double schedule_weight(const Schedule *s, double t) { return schedule_rate(s, t) / expm1(schedule_sigma(s, t)); }

void schedule_ends(const Schedule *s, double *least, double *most) {
  *least = schedule_sigma(s, 0) > 0 ? schedule_sigma(s, 0) : s->eps; /* log(1 − e^−σ) has no value at σ = 0 */
  *most = schedule_sigma(s, 1);
}
