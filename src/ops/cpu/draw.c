/* draw — a token for each row of logits: draws and arg-max. */
#include "base/rng.h"
#include "ops/cpu/cpu.h"
#include <omp.h>
#include <string.h>

/* The smallest v whose cumulative weight exceeds u·total, −1 where the weights are no numbers. Both sums are taken in
 * f64 and in the same order; weights of 0 are never drawn. */
static int32_t inverse_cdf(const real *p, int64_t V, double u) {
  double total = 0;
  for (int64_t v = 0; v < V; v++) total += (double)p[v];
  if (!isfinite(total)) return -1;
  double goal = u * total, below = 0;
  int32_t last = 0;
  for (int64_t v = 0; v < V; v++) {
    if (p[v] <= 0) continue;
    last = (int32_t)v;
    below += (double)p[v];
    if (below > goal) return last;
  }
  return last; /* u·total rounded up to total */
}

/* Weights are not negative, so that their order is that of their bits. */
#if REAL_IS_FLOAT
typedef uint32_t Bits;
#else
typedef uint64_t Bits;
#endif
static real from_bits(Bits b) {
  real x;
  memcpy(&x, &b, sizeof x);
  return x;
}

static double weight_from(const real *p, int64_t V, real least) {
  double sum = 0;
  for (int64_t v = 0; v < V; v++) sum += p[v] >= least ? (double)p[v] : 0;
  return sum;
}

/* The largest weight such that those not below it make up the share: found bit by bit, from the highest. The others
 * become 0. */
static void cut(real *p, int64_t V, double share) {
  double goal = share * weight_from(p, V, 0);
  Bits least = 0;
  for (int bit = (int)(8 * sizeof least) - 2; bit >= 0; bit--)
    if (weight_from(p, V, from_bits(least | (Bits)1 << bit)) >= goal) least |= (Bits)1 << bit;
  for (int64_t v = 0; v < V; v++) p[v] = p[v] < from_bits(least) ? 0 : p[v]; /* what is no number stays none */
}

/* Noise in f32: 4 tokens a Philox block, whose key is the row's own random number. */
static int32_t with_noise(const real *p, int64_t V, double uniform, double stay, double others, int32_t forbid) {
  double total = 0;
  for (int64_t v = 0; v < V; v++) total += (double)p[v];
  if (!isfinite(total) || total <= 0) return -1;
  uint64_t seed;
  memcpy(&seed, &uniform, sizeof seed);
  RngKey key = rng_key(seed, RNG_SAMPLE_NOISE, 0, 0, 0);
  int32_t best = -1;
  float most = -1;
  uint32_t r[4] = {0};
  for (int64_t v = 0; v < V; v++) {
    if (v % 4 == 0) rng_block(r, key, (uint32_t)(v / 4));
    float u = (float)(r[v % 4] >> 8) * 0x1p-24f, noise = 1e-10f - logf(u + 1e-10f);
    float q = (float)(v == forbid ? stay : others * ((double)p[v] / total));
    if (q / noise <= most) continue;
    most = q / noise;
    best = (int32_t)v;
  }
  return best;
}

/* S of Draw */
static double others_sum(const Draw *a, const real *f, int64_t V) {
  double base = a->odds ? (double)f[a->forbid] : 0, S = 0;
  for (int64_t v = 0; v < V; v++) S += v == a->forbid ? 0 : exp((double)f[v] - base);
  return a->odds ? S : S / (double)(V - 1);
}

static int32_t draw_row(const Draw *a, int64_t r, real *p, int64_t V) {
  const real *f = row(a->logits, r);
  double u = ((const double *)a->uniform.data)[r], stay = tensor_none(a->stay) ? 0 : ((double *)a->stay.data)[r];
  double others = 1 - stay;
  real top = -INFINITY, by = (real)(1 / a->temperature);
  for (int64_t v = 0; v < V; v++) top = f[v] > top && v != a->forbid ? f[v] : top;
  if (a->odds || (!tensor_none(a->stay) && !a->f32)) {
    double S = others_sum(a, f, V);
    if (isnan(S)) return -1;
    if (S <= stay && !a->f32) return a->forbid;
    if (a->odds) others /= 1 + 1 / S;
  }
#pragma omp simd
  for (int64_t v = 0; v < V; v++) p[v] = real_exp((f[v] - top) * by);
  if (a->forbid >= 0) p[a->forbid] = 0;
  if (a->nucleus < 1) cut(p, V, a->nucleus);
  return a->f32 ? with_noise(p, V, u, stay, others, a->forbid) : inverse_cdf(p, V, u);
}

int FN(draw)(Device *dev, const Draw *a) {
  int64_t R = rows_of(a->logits), V = cols_of(a->logits);
  real *thread_rows;
  TRY(FN(scratch)(dev, SCRATCH_THREAD, (size_t)(dev->threads * V) * sizeof(real), &thread_rows));
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++)
    ((int32_t *)a->ids.data)[r] = draw_row(a, r, thread_rows + omp_get_thread_num() * V, V);
  return OK;
}

int FN(argmax)(Device *dev, Tensor ids, Tensor logits, int32_t forbid) {
  (void)dev;
  int64_t R = rows_of(logits), V = cols_of(logits);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    const real *f = row(logits, r);
    int64_t best = forbid == 0 ? 1 : 0;
    for (int64_t v = best; v < V && !isnan(f[best]); v++)
      if (!(f[v] <= f[best]) && v != forbid) best = v;
    ((int32_t *)ids.data)[r] = isnan(f[best]) ? -1 : (int32_t)best;
  }
  return OK;
}
