/* schedule_geometric — σ = σmin^(1−t) σmax^t. */
#include "diffusion/schedule.h"
#include <math.h>

static double geometric_sigma(const Schedule *s, double t) { return pow(s->sigma_min, 1 - t) * pow(s->sigma_max, t); }
static double geometric_rate(const Schedule *s, double t) {
  return geometric_sigma(s, t) * log(s->sigma_max / s->sigma_min);
}
static double geometric_time(const Schedule *s, double sigma) {
  return log(sigma / s->sigma_min) / log(s->sigma_max / s->sigma_min);
}

extern const ScheduleTable schedule_geometric;
const ScheduleTable schedule_geometric = {
    .name = "geometric", .sigma_max = 1, .sigma = geometric_sigma, .rate = geometric_rate, .time = geometric_time};
