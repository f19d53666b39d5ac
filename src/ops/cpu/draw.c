/* draw — a token for each row of logits: draws and arg-max. */
#include "base/rng.h"
#include "ops/cpu/cpu.h"
#include <omp.h>
#include <string.h>

/* The smallest v whose cumulative weight exceeds u·total, −1 where a weight is NaN. Both sums are taken in f64
 * and in the same order; weights of 0 are never drawn. */
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

/* Weights are not negative: they compare like their bit patterns. */
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

/* Zero all weights below the largest threshold that keeps at least this share of the total. The threshold is found bit
 * by bit, from the highest bit down. within: at most this share, unless it has a single weight. */
static void cut(real *p, int64_t V, double share, bool within) {
  double goal = share * weight_from(p, V, 0);
  Bits least = 0;
  for (int bit = (int)(8 * sizeof least) - 2; bit >= 0; bit--)
    if (weight_from(p, V, from_bits(least | (Bits)1 << bit)) >= goal) least |= (Bits)1 << bit;
  if (within && weight_from(p, V, from_bits(least)) > goal && weight_from(p, V, from_bits(least + 1)) > 0) least++;
  for (int64_t v = 0; v < V; v++) p[v] = p[v] < from_bits(least) ? 0 : p[v]; /* NaN stays NaN */
}

/* f32 noise: one Philox block for 4 tokens; its key is the row's own random number. */
static int32_t with_noise(const real *p, int64_t V, double uniform, double keep, double others, int32_t forbid) {
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
    float q = (float)(v == forbid ? keep : others * ((double)p[v] / total));
    if (q / noise <= most) continue;
    most = q / noise;
    best = (int32_t)v;
  }
  return best;
}

/* S of KeepRule. */
static double odds_or_score(const DrawRule *rule, const real *f, int64_t V) {
  bool odds = rule->keep == KEEP_ODDS;
  double base = odds ? (double)f[rule->forbid] : 0, S = 0;
  for (int64_t v = 0; v < V; v++) S += v == rule->forbid ? 0 : exp((double)f[v] - base);
  return odds ? S : S / (double)(V - 1);
}

static int32_t draw_row(const DrawRule *rule, const real *f, int64_t V, double uniform, double keep, real *p) {
  double others = 1 - keep;
  real top = -INFINITY, by = (real)(1 / rule->temperature);
  for (int64_t v = 0; v < V; v++) top = f[v] > top && v != rule->forbid ? f[v] : top;
  if (rule->keep == KEEP_SCORE || rule->keep == KEEP_ODDS) {
    double S = odds_or_score(rule, f, V);
    if (isnan(S)) return -1;
    if (S <= keep && !rule->f32) return rule->forbid;
    if (rule->keep == KEEP_ODDS) others /= 1 + 1 / S;
  }
#pragma omp simd
  for (int64_t v = 0; v < V; v++) p[v] = real_exp((f[v] - top) * by);
  if (rule->forbid >= 0) p[rule->forbid] = 0;
  if (rule->nucleus < 1) cut(p, V, rule->nucleus, rule->within);
  return rule->f32 ? with_noise(p, V, uniform, keep, others, rule->forbid) : inverse_cdf(p, V, uniform);
}

int FN(draw)(Device *dev, Tensor ids, Tensor logits, Tensor uniform, Tensor keep, const DrawRule *rule) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  const double *u = uniform.data, *k = tensor_none(keep) ? NULL : keep.data;
  real *thread_rows;
  TRY(FN(scratch)(dev, SCRATCH_THREAD, (size_t)(dev->threads * V) * sizeof(real), &thread_rows));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t r = 0; r < R; r++)
    ((int32_t *)ids.data)[r] =
        draw_row(rule, row(logits, r), V, u[r], k ? k[r] : 0, thread_rows + omp_get_thread_num() * V);
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
