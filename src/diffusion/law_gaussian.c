/* law_gaussian — the times at which uniform noise is the largest entry of Gaussian noise whose γ is uniform between two
 * ends (latent.h): fewer of them are nearly clean or nearly noise. Source: arXiv:2506.10892 §4.1. */
#include "base/err.h"
#include "diffusion/law.h"
#include <math.h>

static double gaussian_time(const Law *law, double t) {
  double alpha = latent_alpha(&law->latent, (t - law->tau) / (1 - law->tau), NULL);
  return schedule_time(law->schedule, -log(alpha));
}

double law_place(const Law *law, double time) {
  return latent_place(&law->latent, exp(-schedule_sigma(law->schedule, time)));
}

/* |dplace/dtime|: alpha(place) = e^−σ(time) */
static double gaussian_density(const Law *law, double time) {
  double slope, alpha = latent_alpha(&law->latent, law_place(law, time), &slope);
  return (1 - law->tau) * schedule_rate(law->schedule, time) * alpha / -slope;
}

static int gaussian_begin(Law *law) {
  const LawOptions *o = &law->options;
  CHECK(o->gamma_low < o->gamma_high, ERR_USAGE,
        "diffusion.time = gaussian: diffusion.gamma_low = %g is not below diffusion.gamma_high = %g", o->gamma_low,
        o->gamma_high);
  Latent *g = &law->latent;
  latent_create(g, o->tokens, o->gamma_low, o->gamma_high);
  double least = exp(-schedule_sigma(law->schedule, 1)), most = exp(-schedule_sigma(law->schedule, law->tau));
  CHECK(
      g->alpha[0] < most && g->alpha[LATENT_NODES - 1] > least, ERR_USAGE,
      "diffusion.time = gaussian: with %lld tokens diffusion.gamma_low = %g and gamma_high = %g leave %.6g and %.6g of "
      "the tokens as they are, more or less than the schedule does at any time (%.6g to %.6g): choose others",
      (long long)o->tokens, o->gamma_low, o->gamma_high, g->alpha[0], g->alpha[LATENT_NODES - 1], most, least);
  law->low = gaussian_time(law, law->tau), law->high = gaussian_time(law, 1);
  return OK;
}

extern const LawTable law_gaussian;
const LawTable law_gaussian = {.name = "gaussian",
                               .partial = true,
                               .replaces = true,
                               .begin = gaussian_begin,
                               .time = gaussian_time,
                               .density = gaussian_density};
