/* schedule_loglinear — σ = −log(1 − (1−ε)t), so that 1 − alpha = (1−ε)t and the weight of −log p is exactly 1/t. */
#include "diffusion/schedule.h"
#include <math.h>

static double loglinear_sigma(const Schedule *s, double t) { return -log1p(-(1 - s->eps) * t); }
static double loglinear_rate(const Schedule *s, double t) { return (1 - s->eps) / (1 - (1 - s->eps) * t); }
static double loglinear_time(const Schedule *s, double sigma) { return -expm1(-sigma) / (1 - s->eps); }

extern const ScheduleTable schedule_loglinear;
const ScheduleTable schedule_loglinear = {.name = "loglinear",
                                          .linear_masking = true,
                                          .invertible_weight = true,
                                          .sigma = loglinear_sigma,
                                          .rate = loglinear_rate,
                                          .time = loglinear_time};
