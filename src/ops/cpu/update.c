/* update — flat buffers of gradients and weights: sums, norms, and AdamW with moving average and bf16 copy in one
 * pass. */
#include "ops/cpu/bf16.h"
#include "ops/cpu/cpu.h"

enum { CHUNK = UPDATE_CHUNK };

int FN(add)(Device *dev, Tensor y, Tensor x) {
  (void)dev;
  int64_t n = tensor_count(x);
  real *to = y.data;
  const real *from = x.data;
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < n; i++) to[i] += from[i];
  return OK;
}

int FN(blend)(Device *dev, Tensor y, double a, double b, Tensor x) {
  (void)dev;
  int64_t n = tensor_count(x);
  real *to = y.data;
  const real *from = x.data;
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < n; i++) to[i] = (real)(a * (double)to[i] + b * (double)from[i]);
  return OK;
}

/* term[c] := Σ x or Σ x² of chunk c. */
static void sum_chunks(double *term, Tensor x, bool squares) {
  int64_t n = tensor_count(x), chunks = (n + CHUNK - 1) / CHUNK;
  const real *v = x.data;
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < chunks; c++) {
    int64_t last = min64(n, (c + 1) * CHUNK);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = c * CHUNK; i < last; i++) sum += (double)v[i] * (squares ? (double)v[i] : 1);
    term[c] = sum;
  }
}

static void add_terms(double *total, const double *term, int64_t n) {
  for (int64_t i = 0; i < n; i++) *total += term[i];
}

int FN(sum)(Device *dev, Tensor total, Tensor x) {
  int64_t chunks = (tensor_count(x) + CHUNK - 1) / CHUNK;
  double *term;
  TRY(FN(scratch)(dev, SCRATCH_PARTIAL, (size_t)chunks * sizeof *term, &term));
  sum_chunks(term, x, false);
  add_terms(total.data, term, chunks);
  return OK;
}

int FN(squares)(Device *dev, Tensor terms, Tensor x) {
  (void)dev;
  sum_chunks(terms.data, x, true);
  return OK;
}

int FN(sum_terms)(Device *dev, Tensor sum, Tensor terms) {
  (void)dev;
  *(double *)sum.data = 0;
  add_terms(sum.data, terms.data, tensor_count(terms));
  return OK;
}

int FN(adamw)(Device *dev, const AdamW *a) {
  (void)dev;
  int64_t n = tensor_count(a->p);
  double squares = *(const double *)a->squares.data, norm = a->scale * sqrt(squares);
  double clip = a->clip > 0 ? a->clip / (norm + 1e-6) : 1;
  if (!isfinite(squares)) return OK;
  real *restrict p = a->p.data, *restrict m = a->m.data, *restrict v = a->v.data, *restrict ema = a->ema.data;
  const real *restrict g = a->g.data;
  uint16_t *restrict low = a->low.data;
  real factor = (real)(a->scale * (clip < 1 ? clip : 1)), b1 = (real)a->beta1, b2 = (real)a->beta2, eps = (real)a->eps;
  real shrink = (real)(1 - a->lr * a->weight_decay), rate = (real)(a->lr / a->correct1);
  real root = (real)(1 / sqrt(a->correct2)), keep = (real)a->ema_decay;
  real new1 = (real)(1 - a->beta1), new2 = (real)(1 - a->beta2), new_ema = (real)(1 - a->ema_decay);
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < n; c += CHUNK) {
    int64_t last = min64(n, c + CHUNK);
#pragma omp simd
    for (int64_t i = c; i < last; i++) {
      real gi = factor * g[i];
      m[i] = b1 * m[i] + new1 * gi;
      v[i] = b2 * v[i] + new2 * gi * gi;
      p[i] = shrink * p[i] - rate * m[i] / (real_sqrt(v[i]) * root + eps);
      ema[i] = keep * ema[i] + new_ema * p[i];
    }
    if (low)
      for (int64_t i = c; i < last; i++) low[i] = bf16_from((float)p[i]);
  }
  return OK;
}

int FN(to_bf16)(Device *dev, Tensor y, Tensor x) {
  (void)dev;
  int64_t n = tensor_count(x);
  uint16_t *to = y.data;
  const real *from = x.data;
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < n; i++) to[i] = bf16_from((float)from[i]);
  return OK;
}
