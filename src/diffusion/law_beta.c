/* law_beta — a beta distribution cut to [τ,1], of density proportional to t^(a−1) (1 − t)^(b−1). */
#include "base/special.h"
#include "diffusion/law.h"
#include <math.h>

static double below(const Law *law, double t) {
  return special_beta(law->options.beta_a, law->options.beta_b, t, 1 - t);
}

static double slope(const Law *law, double t) {
  double a = law->options.beta_a, b = law->options.beta_b;
  int sign;
  double scale = lgamma_r(a + b, &sign) - lgamma_r(a, &sign) - lgamma_r(b, &sign);
  return exp(scale) * pow(t, a - 1) * pow(1 - t, b - 1);
}

static double beta_time(const Law *law, double t) { return law_invert(law, below, slope, t); }
static double beta_density(const Law *law, double time) { return law_cut(law, below, slope, time); }

static int beta_begin(Law *law) { return law_check(law, below, "these diffusion.beta_a and diffusion.beta_b"); }

extern const LawTable law_beta;
const LawTable law_beta = {.name = "beta", .begin = beta_begin, .time = beta_time, .density = beta_density};
