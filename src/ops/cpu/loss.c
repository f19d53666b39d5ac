/* loss — the losses over rows of logits, with their gradients in place, and what a row predicts. */
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

typedef struct LossRow { /* one row of an op's arguments */
  real *f;               /* [V] logits */
  int64_t V;
  int32_t x0, forbid; /* target; the mask, or −1 */
  const real *terms;  /* weight, or the factors of the bound */
  bool gradient;      /* f ← dloss/df */
} LossRow;

static real cross_entropy_row(LossRow a) {
  real *f = a.f, w = *a.terms;
  real saved = a.forbid >= 0 ? f[a.forbid] : 0, top = row_max(f, a.V, a.forbid), sum = 0, hit = f[a.x0];
  if (a.gradient) {
#pragma omp simd reduction(+ : sum)
    for (int64_t v = 0; v < a.V; v++) sum += f[v] = real_exp(f[v] - top);
    real c = w / sum;
#pragma omp simd
    for (int64_t v = 0; v < a.V; v++) f[v] *= c;
    f[a.x0] -= w;
  } else {
    sum = sum_exp(f, a.V, top);
    if (a.forbid >= 0) f[a.forbid] = saved;
  }
  return w * ((top - hit) + (real)log((double)sum));
}

/* With c = dloss/dp_m:
 *   dloss/df_j = p_j (w1 − c p_m) − w1 [j = target] + c p_m [j = m] */
static real absorbing_bound_row(LossRow a) {
  double w1 = (double)a.terms[0], w2 = (double)a.terms[1], k = (double)a.terms[2], d = (double)a.terms[3];
  real *f = a.f, top = row_max(f, a.V, -1), sum = sum_exp(f, a.V, top);
  double hit = (double)(f[a.x0] - top), at_mask = (double)(f[a.forbid] - top);
  double lse = log((double)sum), p = exp(at_mask - lse), one = 1 + k * p;
  real loss = (real)(w1 * (log1p(k * p) - (hit - lse)) - w2 * log1p(d * p / one));
  if (!a.gradient) return loss;
  double slope = (w1 * k - w2 * d / (one + d * p)) / one;
  real scale = (real)((w1 - slope * p) / (double)sum);
#pragma omp simd
  for (int64_t v = 0; v < a.V; v++) f[v] = scale * real_exp(f[v] - top);
  f[a.x0] -= (real)w1;
  f[a.forbid] += (real)(slope * p);
  return loss;
}

static real score_entropy_row(LossRow a) {
  real *f = a.f, w = *a.terms, shift = (real)log((double)a.V - 1), sum = 0, hit = f[a.x0] - shift, saved = f[a.forbid];
  f[a.forbid] = -INFINITY;
  if (a.gradient) {
#pragma omp simd reduction(+ : sum)
    for (int64_t v = 0; v < a.V; v++) {
      real s = real_exp(f[v] - shift);
      sum += s;
      f[v] = w * s;
    }
    f[a.x0] -= w;
  } else {
    sum = sum_exp(f, a.V, shift);
    f[a.forbid] = saved;
  }
  return w * (sum - hit - 1);
}

/* loss[r] of each row, by the row's own function. */
static int each_row(real (*row_loss)(LossRow), Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t forbid,
                    bool gradient) {
  int64_t R = rows_of(logits), V = cols_of(logits), factors = terms.rank > 1 ? cols_of(terms) : 1;
  const int32_t *x0 = target.data;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++)
    ((real *)loss.data)[r] = row_loss((LossRow){.f = row(logits, r),
                                                .V = V,
                                                .x0 = x0[r],
                                                .forbid = forbid,
                                                .terms = (const real *)terms.data + r * factors,
                                                .gradient = gradient});
  return OK;
}

int FN(cross_entropy)(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                      bool gradient) {
  (void)dev;
  return each_row(cross_entropy_row, loss, logits, target, weight, forbid, gradient);
}

int FN(absorbing_bound)(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                        bool gradient) {
  (void)dev;
  return each_row(absorbing_bound_row, loss, logits, target, terms, mask, gradient);
}

int FN(score_entropy)(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask,
                      bool gradient) {
  (void)dev;
  return each_row(score_entropy_row, loss, logits, target, weight, mask, gradient);
}

/* With t = f − top and Z = Σ e^t:  −Σ p log p = log Z − Σ t e^t / Z. */
static void prediction_row(real out[3], real *f, int64_t V, int32_t x0, int32_t forbid) {
  real saved = forbid >= 0 ? f[forbid] : 0, top = row_max(f, V, forbid), hit = f[x0], sum = 0, moment = 0;
#pragma omp simd reduction(+ : sum, moment)
  for (int64_t v = 0; v < V; v++) {
    real t = f[v] - top, e = real_exp(t);
    sum += e;
    moment += e > 0 ? e * t : 0; /* not 0·∞ */
  }
  if (forbid >= 0) f[forbid] = saved;
  real lse = (real)log((double)sum);
  out[0] = (top - hit) + lse;
  out[1] = 1 / sum;
  out[2] = lse - moment / sum;
}

int FN(prediction)(Device *dev, Tensor out, Tensor logits, Tensor target, int32_t forbid) {
  (void)dev;
  int64_t R = rows_of(logits), V = cols_of(logits);
  const int32_t *x0 = target.data;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) prediction_row((real *)out.data + 3 * r, row(logits, r), V, x0[r], forbid);
  return OK;
}
