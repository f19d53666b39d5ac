/* schedule_cosinesqr — alpha = ε + (1−ε) cos²(πt/2), that is 1 − alpha = (1−ε) sin²(πt/2). */
#include "diffusion/schedule.h"
#include <math.h>

static const double PI = 3.14159265358979323846;

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

extern const ScheduleTable schedule_cosinesqr;
const ScheduleTable schedule_cosinesqr = {
    .name = "cosinesqr", .sigma = cosinesqr_sigma, .rate = cosinesqr_rate, .time = cosinesqr_time};
