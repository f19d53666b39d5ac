/* law_uniform — all times in [τ,1] are equally likely, as published. */
#include "diffusion/law.h"

static double uniform_time(const Law *law, double t) {
  (void)law;
  return t;
}

static double uniform_density(const Law *law, double time) {
  (void)law, (void)time;
  return 1;
}

extern const LawTable law_uniform;
const LawTable law_uniform = {.name = "uniform", .uniform = true, .time = uniform_time, .density = uniform_density};
