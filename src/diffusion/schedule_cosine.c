/* schedule_cosine — alpha = ε + (1−ε) cos(πt/2).
 *
 * 1 − alpha is computed by the sine of the half angle: near t = 0 the direct form is a difference of nearly equal
 * numbers. */
#include "diffusion/schedule.h"
#include <math.h>

static const double PI = 3.14159265358979323846;

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

extern const ScheduleTable schedule_cosine;
const ScheduleTable schedule_cosine = {
    .name = "cosine", .sigma = cosine_sigma, .rate = cosine_rate, .time = cosine_time};
