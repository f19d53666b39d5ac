#include "diffusion/timestep.h"
#include <math.h>

/* t from u uniform in [0,1), in cell i of n. */
static double time_of(double u, int64_t i, int64_t n, bool stratified, double tau) {
  if (stratified) {
    u = (u + (double)i) / (double)n;
    u -= floor(u);
  }
  return (1 - tau) * u + tau;
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
  while (b > 0) {
    uint64_t rest = a % b;
    a = b, b = rest;
  }
  return a;
}

/* Multiples of a number near n divided by the golden ratio are spread evenly modulo n, however many they are. */
int64_t timestep_cell(uint64_t seed, RngPurpose purpose, int64_t step, int64_t i, int64_t n) {
  enum { TURN = 2 }; /* layer of its random number */
  const double GOLDEN = 0.6180339887498949;
  uint64_t N = (uint64_t)n, apart = (uint64_t)(GOLDEN * (double)n);
  uint64_t turn = (uint64_t)(rng_uniform(rng_key(seed, purpose, TURN, (uint64_t)step, 0), 0) * (double)n);
  while (common_divisor(apart, N) != 1) apart++;
  return (int64_t)(((uint64_t)i * apart + turn) % N);
}

double timestep_draw(uint64_t seed, RngPurpose purpose, int64_t step, int64_t sequence, int64_t i, int64_t n,
                     bool stratified, double tau) {
  double u = rng_uniform(rng_key(seed, purpose, 0, (uint64_t)step, (uint64_t)sequence), 0);
  return time_of(u, i, n, stratified, tau);
}

void timestep_blocks(double *t, int64_t blocks, uint64_t seed, RngPurpose purpose, int64_t step, int64_t sequence,
                     int64_t i, int64_t n, bool stratified, double tau) {
  enum { CELLS = 1 }; /* layer of the permutation */
  RngKey key = rng_key(seed, purpose, 0, (uint64_t)step, (uint64_t)sequence);
  RngKey order = rng_key(seed, purpose, CELLS, (uint64_t)step, 0);
  for (int64_t b = 0; b < blocks; b++) {
    int64_t cell = i * blocks + b;
    if (stratified && blocks > 1) cell = (int64_t)rng_permute(order, (uint64_t)(n * blocks), (uint64_t)cell);
    t[b] = time_of(rng_uniform(key, (uint64_t)b), cell, n * blocks, stratified, tau);
  }
}

int64_t timestep_mask(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int32_t m, double chance, RngKey key) {
  int64_t masked = 0;
  for (int64_t l = from; l < to; l++) {
    bool hit = rng_uniform(key, (uint64_t)l) < chance;
    z[l] = hit ? m : x0[l];
    masked += hit;
  }
  return masked;
}

int32_t timestep_token(double u, int64_t V, int32_t m) {
  int64_t K = V - 1, i = (int64_t)(u * (double)K);
  if (i > K - 1) i = K - 1; /* u rounded up to 1 */
  return (int32_t)(i + (i >= m));
}

void timestep_replace(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int64_t V, int32_t m, double chance,
                      RngKey key) {
  for (int64_t l = from; l < to; l++) {
    double u = rng_uniform(key, (uint64_t)l);
    z[l] = u < chance ? timestep_token(u / chance, V, m) : x0[l];
  }
}

/* Selection sampling: position l is taken with probability (still to take)/(positions left). */
void timestep_mask_count(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int32_t m, int64_t k, RngKey key) {
  for (int64_t l = from; l < to; l++) {
    bool hit = rng_uniform(key, (uint64_t)l) * (double)(to - l) < (double)k;
    z[l] = hit ? m : x0[l];
    k -= hit;
  }
}

/* How many of n positions are masked, each with that chance, given that it is least … most: by the inverse of the
 * distribution function. It is summed from its mode outwards, where the terms get smaller. */
static int64_t count_between(int64_t n, double chance, int64_t least, int64_t most, double u) {
  double odds = chance / (1 - chance), goal = INFINITY, sum;
  int64_t mode = (int64_t)((double)(n + 1) * chance);
  mode = mode < least ? least : mode > most ? most : mode;
  for (int turn = 0; turn < 2; turn++, goal = u * sum) {
    double p = sum = 1;
    if (sum > goal) return mode;
    for (int64_t k = mode; k > least; k--) {
      sum += p *= (double)k / ((double)(n - k + 1) * odds);
      if (sum > goal) return k - 1;
    }
    p = 1;
    for (int64_t k = mode; k < most; k++) {
      sum += p *= (double)(n - k) * odds / (double)(k + 1);
      if (sum > goal) return k + 1;
    }
  }
  return mode; /* u·sum rounded up to the sum */
}

void timestep_mask_between(int32_t *z, const int32_t *x0, int64_t from, int64_t to, int32_t m, double chance,
                           int64_t least, int64_t most, RngKey key) {
  const uint64_t COUNTS = (uint64_t)1 << 32; /* numbers of the stream behind those of positions */
  double u = rng_uniform(key, COUNTS + (uint64_t)from);
  timestep_mask_count(z, x0, from, to, m, count_between(to - from, chance, least, most, u), key);
}
