/* loss — the losses over rows of logits, with their gradients in place. */
#include "ops/cpu/cpu.h"

/* The largest logit of a row except f[forbid], which becomes −∞. */
static real row_max(real *f, int64_t V, int32_t forbid) {
  if (forbid >= 0) f[forbid] = -INFINITY;
  real top = -INFINITY;
#pragma omp simd reduction(max : top)
  for (int64_t v = 0; v < V; v++) top = f[v] > top ? f[v] : top;
  return top;
}

static real sum_exp(const real *f, int64_t V, real shift) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < V; v++) sum += real_exp(f[v] - shift);
  return sum;
}

int FN(cross_entropy)(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                      bool gradient) {
  (void)dev;
  int64_t R = rows_of(logits), V = cols_of(logits);
  const int32_t *x0 = target.data;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    real *f = row(logits, r), w = ((const real *)weight.data)[r];
    real saved = forbid >= 0 ? f[forbid] : 0, top = row_max(f, V, forbid), sum = 0, hit = f[x0[r]];
    if (gradient) {
#pragma omp simd reduction(+ : sum)
      for (int64_t v = 0; v < V; v++) sum += f[v] = real_exp(f[v] - top);
      real c = w / sum;
#pragma omp simd
      for (int64_t v = 0; v < V; v++) f[v] *= c;
      f[x0[r]] -= w;
    } else {
      sum = sum_exp(f, V, top);
      if (forbid >= 0) f[forbid] = saved;
    }
    ((real *)loss.data)[r] = w * ((top - hit) + (real)log((double)sum));
  }
  return OK;
}

/* With c = dloss/dp_m:
 *   dloss/df_j = p_j (w1 − c p_m) − w1 [j = target] + c p_m [j = m] */
int FN(absorbing_bound)(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                        bool gradient) {
  (void)dev;
  int64_t R = rows_of(logits), V = cols_of(logits);
  const int32_t *x0 = target.data;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    const real *terms_r = row(terms, r);
    double w1 = (double)terms_r[0], w2 = (double)terms_r[1], a = (double)terms_r[2], d = (double)terms_r[3];
    real *f = row(logits, r), top = row_max(f, V, -1), sum = sum_exp(f, V, top);
    double hit = (double)(f[x0[r]] - top), at_mask = (double)(f[mask] - top);
    double lse = log((double)sum), p = exp(at_mask - lse), one = 1 + a * p;
    ((real *)loss.data)[r] = (real)(w1 * (log1p(a * p) - (hit - lse)) - w2 * log1p(d * p / one));
    if (!gradient) continue;
    double slope = (w1 * a - w2 * d / (one + d * p)) / one;
    real scale = (real)((w1 - slope * p) / (double)sum);
#pragma omp simd
    for (int64_t v = 0; v < V; v++) f[v] = scale * real_exp(f[v] - top);
    f[x0[r]] -= (real)w1;
    f[mask] += (real)(slope * p);
  }
  return OK;
}

int FN(score_entropy)(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask,
                      bool gradient) {
  (void)dev;
  int64_t R = rows_of(logits), V = cols_of(logits);
  const int32_t *x0 = target.data;
  real shift = (real)log((double)V - 1);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    real *f = row(logits, r), w = ((const real *)weight.data)[r], sum = 0, hit = f[x0[r]] - shift, saved = f[mask];
    f[mask] = -INFINITY;
    if (gradient) {
#pragma omp simd reduction(+ : sum)
      for (int64_t v = 0; v < V; v++) {
        real s = real_exp(f[v] - shift);
        sum += s;
        f[v] = w * s;
      }
      f[x0[r]] -= w;
    } else {
      sum = sum_exp(f, V, shift);
      f[mask] = saved;
    }
    ((real *)loss.data)[r] = w * (sum - hit - 1);
  }
  return OK;
}
