/* schedule_linear — σ = σmin + t(σmax − σmin). */
#include "diffusion/schedule.h"

static double linear_sigma(const Schedule *s, double t) { return s->sigma_min + t * (s->sigma_max - s->sigma_min); }
static double linear_rate(const Schedule *s, double t) { return (void)t, s->sigma_max - s->sigma_min; }
static double linear_time(const Schedule *s, double sigma) {
  return (sigma - s->sigma_min) / (s->sigma_max - s->sigma_min);
}

extern const ScheduleTable schedule_linear;
const ScheduleTable schedule_linear = {.name = "linear",
                                       .sigma_max = 7,
                                       .invertible_weight = true,
                                       .sigma = linear_sigma,
                                       .rate = linear_rate,
                                       .time = linear_time};
