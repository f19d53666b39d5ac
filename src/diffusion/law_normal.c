/* law_normal — a normal distribution cut to [τ,1]: most of a batch is half masked. */
#include "base/special.h"
#include "diffusion/law.h"
#include <math.h>

static double deviate(const Law *law, double t) { return (t - law->options.normal_mean) / law->options.normal_width; }

static double below(const Law *law, double t) { return special_normal(deviate(law, t)); }

static double slope(const Law *law, double t) {
  const double root_2pi = 2.5066282746310002;
  double x = deviate(law, t);
  return exp(-x * x / 2) / (root_2pi * law->options.normal_width);
}

static double normal_time(const Law *law, double t) { return law_invert(law, below, slope, t); }
static double normal_density(const Law *law, double time) { return law_cut(law, below, slope, time); }

static int normal_begin(Law *law) {
  return law_check(law, below, "these diffusion.normal_mean and diffusion.normal_width");
}

extern const LawTable law_normal;
const LawTable law_normal = {.name = "normal", .begin = normal_begin, .time = normal_time, .density = normal_density};
