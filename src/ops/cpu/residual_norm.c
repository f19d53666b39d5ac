/* residual_norm — gated residual addition with dropout, norm and modulation in one pass; and backward.
 *
 * Forward, with y = x_out:
 *   ŷ = (y − mean)·rstd                               (RMS: mean = 0)
 *   h = ŷ·w·(1 + scale) + shift
 * Backward:
 *   g  = dh·w·(1 + scale)
 *   dy += rstd·(g − mean(g) − ŷ·mean(g ŷ))            (RMS: without mean(g))
 *   dbranch = dy·gate·keep
 *   dx = dy
 * The sums over rows (dgate, dshift, dscale, dweight) are taken in chunks of CHUNK rows, and the chunks in order. */
#include "ops/cpu/cpu.h"
#include "ops/cpu/dropout.h"
#include <omp.h>

enum { CHUNK = 32, SUMS = 4 };
#define EPSILON ((real)1e-5)

/* keep[D] of row r. */
static void kept(real *keep, const ResidualNorm *a, int64_t r, int64_t D) {
  if (a->dropout.p > 0) {
    dropout_row(keep, &a->dropout, tensor_none(a->index) ? r : ((const int32_t *)a->index.data)[r], D);
  } else {
    for (int64_t d = 0; d < D; d++) keep[d] = 1;
  }
}

int FN(residual_norm)(Device *dev, const ResidualNorm *a) {
  int64_t R = rows_of(a->x), D = cols_of(a->x);
  real *thread_rows;
  TRY(FN(scratch)(dev, SCRATCH_THREAD, (size_t)(dev->threads * D) * sizeof(real), &thread_rows));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t r = 0; r < R; r++) {
    int64_t g = r / a->rows_per_group;
    const real *x = row(a->x, r), *w = a->weight.data;
    if (!tensor_none(a->branch)) {
      real *keep = thread_rows + omp_get_thread_num() * D, *y = row(a->x_out, r);
      const real *b = row(a->branch, r), *gate = tensor_none(a->gate) ? NULL : row(a->gate, g);
      kept(keep, a, r, D);
      if (gate) {
#pragma omp simd
        for (int64_t d = 0; d < D; d++) y[d] = x[d] + gate[d] * keep[d] * b[d];
      } else {
#pragma omp simd
        for (int64_t d = 0; d < D; d++) y[d] = x[d] + keep[d] * b[d];
      }
      x = y;
    }
    real mean = 0, square = 0;
    if (a->kind == NORM_LAYER) {
#pragma omp simd reduction(+ : mean)
      for (int64_t d = 0; d < D; d++) mean += x[d];
      mean /= (real)D;
      ((real *)a->mean.data)[r] = mean;
    }
#pragma omp simd reduction(+ : square)
    for (int64_t d = 0; d < D; d++) square += (x[d] - mean) * (x[d] - mean);
    real rstd = 1 / real_sqrt(square / (real)D + EPSILON), *h = row(a->h, r);
    ((real *)a->rstd.data)[r] = rstd;
    if (tensor_none(a->shift)) {
#pragma omp simd
      for (int64_t d = 0; d < D; d++) h[d] = (x[d] - mean) * rstd * w[d];
    } else if (tensor_none(a->scale)) {
      const real *shift = row(a->shift, g);
#pragma omp simd
      for (int64_t d = 0; d < D; d++) h[d] = (x[d] - mean) * rstd * w[d] + shift[d];
    } else {
      const real *scale = row(a->scale, g), *shift = row(a->shift, g);
#pragma omp simd
      for (int64_t d = 0; d < D; d++) h[d] = (x[d] - mean) * rstd * w[d] * (1 + scale[d]) + shift[d];
    }
  }
  return OK;
}

/* Backward of one row. Adds to the chunk's sums [SUMS][D]: dshift, dscale, dweight, dgate. */
static void row_backward(const ResidualNorm *a, int64_t r, int64_t D, real *sum, real *keep, real *gbuf) {
  int64_t g = r / a->rows_per_group;
  bool scaled = !tensor_none(a->scale), branched = !tensor_none(a->branch);
  const real *y = row(branched ? a->x_out : a->x, r), *w = a->weight.data, *dh = row(a->dh, r);
  const real *scale = scaled ? row(a->scale, g) : NULL;
  real mean = a->kind == NORM_LAYER ? ((real *)a->mean.data)[r] : 0, rstd = ((real *)a->rstd.data)[r],
       *dx = row(a->dx, r);
  real *dshift = sum, *dscale = sum + D, *dweight = sum + 2 * D, *dgate = sum + 3 * D, g_mean = 0, g_dot = 0;
#pragma omp simd reduction(+ : g_mean, g_dot)
  for (int64_t d = 0; d < D; d++) {
    real n = (y[d] - mean) * rstd, one = scaled ? 1 + scale[d] : 1;
    real gd = dh[d] * w[d] * one;
    gbuf[d] = gd;
    g_mean += gd;
    g_dot += gd * n;
    dshift[d] += dh[d];
    dscale[d] += dh[d] * n * w[d];
    dweight[d] += dh[d] * n * one;
  }
  g_mean = a->kind == NORM_LAYER ? g_mean / (real)D : 0;
  g_dot /= (real)D;
#pragma omp simd
  for (int64_t d = 0; d < D; d++) dx[d] += rstd * (gbuf[d] - g_mean - (y[d] - mean) * rstd * g_dot);
  if (!branched) return;
  const real *b = row(a->branch, r), *gate = tensor_none(a->gate) ? NULL : row(a->gate, g);
  real *db = row(a->dbranch, r);
  kept(keep, a, r, D);
#pragma omp simd
  for (int64_t d = 0; d < D; d++) {
    real kept = dx[d] * keep[d], one = gate ? gate[d] : 1;
    dgate[d] += kept * b[d];
    db[d] = kept * one;
  }
}

/* Add the chunks' sums in order: per group for shift, scale and gate, over all groups for the weight. */
static void reduce_sums(const ResidualNorm *a, const real *partial, int64_t G, int64_t chunks, int64_t D) {
  enum { COLS = 64 };
  const Tensor out[SUMS] = {a->dshift, a->dscale, a->dweight, a->dgate};
#pragma omp parallel for schedule(static) collapse(2)
  for (int s = 0; s < SUMS; s++) {
    for (int64_t d0 = 0; d0 < D; d0 += COLS) {
      bool weight = s == 2;
      if (tensor_none(out[s])) continue;
      int64_t n = min64(COLS, D - d0);
      real total[COLS] = {0};
      for (int64_t g = 0; g < G; g++) {
        if (!weight)
          for (int64_t d = 0; d < n; d++) total[d] = 0;
        for (int64_t c = 0; c < chunks; c++) {
          const real *p = partial + ((g * chunks + c) * SUMS + s) * D + d0;
#pragma omp simd
          for (int64_t d = 0; d < n; d++) total[d] += p[d];
        }
        if (!weight)
          for (int64_t d = 0; d < n; d++) row(out[s], g)[d0 + d] = total[d];
      }
      if (weight)
        for (int64_t d = 0; d < n; d++) ((real *)out[s].data)[d0 + d] += total[d];
    }
  }
}

int FN(residual_norm_backward)(Device *dev, const ResidualNorm *a) {
  int64_t R = rows_of(a->x), D = cols_of(a->x), per = a->rows_per_group, G = R / per,
          chunks = (per + CHUNK - 1) / CHUNK;
  real *partial, *thread_rows;
  TRY(FN(scratch)(dev, SCRATCH_PARTIAL, (size_t)(G * chunks * SUMS * D) * sizeof(real), &partial));
  TRY(FN(scratch)(dev, SCRATCH_THREAD, (size_t)(2 * dev->threads * D) * sizeof(real), &thread_rows));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t i = 0; i < G * chunks; i++) {
    int64_t first = i / chunks * per + i % chunks * CHUNK, last = min64(first + CHUNK, (i / chunks + 1) * per);
    real *sum = partial + i * SUMS * D, *mine = thread_rows + 2 * omp_get_thread_num() * D;
    for (int64_t d = 0; d < SUMS * D; d++) sum[d] = 0;
    for (int64_t r = first; r < last; r++) row_backward(a, r, D, sum, mine, mine + D);
  }
  reduce_sums(a, partial, G, chunks, D);
  return OK;
}
