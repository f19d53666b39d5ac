#include "diffusion/timestep.h"
#include <math.h>

double timestep_draw(uint64_t seed, RngPurpose purpose, int64_t step, int64_t sequence, int64_t i, int64_t n,
                     bool stratified, double tau) {
  double u = rng_uniform(rng_key(seed, purpose, 0, (uint64_t)step, (uint64_t)sequence), 0);
  if (stratified) {
    u = (u + (double)i) / (double)n;
    u -= floor(u);
  }
  return (1 - tau) * u + tau;
}

int64_t timestep_mask(int32_t *z, const int32_t *x0, int64_t L, int32_t m, double chance, RngKey key) {
  int64_t masked = 0;
  for (int64_t l = 0; l < L; l++) {
    bool hit = rng_uniform(key, (uint64_t)l) < chance;
    z[l] = hit ? m : x0[l];
    masked += hit;
  }
  return masked;
}

/* Selection sampling: position l is taken with probability (still to take)/(positions left). */
void timestep_mask_count(int32_t *z, const int32_t *x0, int64_t L, int32_t m, int64_t k, RngKey key) {
  for (int64_t l = 0; l < L; l++) {
    bool hit = rng_uniform(key, (uint64_t)l) * (double)(L - l) < (double)k;
    z[l] = hit ? m : x0[l];
    k -= hit;
  }
}
