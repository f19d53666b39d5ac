/* loss — the losses over rows of logits, with their gradients in place, and what a row predicts. */
#include "ops/cpu/cpu.h"
#include "ops/uniform_bound.h"

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

typedef struct UniformSums { /* over the tokens besides m, z and x: Σ φ(q), Σ e·a p/y */
  real phi, share;
} UniformSums;

/* With e = exp(f − top), p = e/sum. */
static UniformSums uniform_sums(LossRow a, int32_t z, const UniformBound *u, real top, real sum) {
  real slope = (real)(u->q_slope / (double)sum), shift = (real)u->q_shift;
  real scale = (real)(u->a / (double)sum), b = (real)u->b, phi = 0, share = 0;
#pragma omp simd reduction(+ : phi, share)
  for (int32_t v = 0; v < (int32_t)a.V; v++) {
    real e = real_exp(a.f[v] - top), q = slope * e + shift, ap = scale * e;
    bool other = v != a.forbid && v != z && v != a.x0;
    phi += other ? q - 1 - real_log(q) : 0;
    share += other ? e * (ap / (ap + b)) : 0;
  }
  return (UniformSums){phi, share};
}

static void uniform_gradient(LossRow a, int32_t z, const UniformBound *u, UniformSlopes s, real top, real sum) {
  real each = 1 / sum, scale = (real)(u->a / (double)sum), b = (real)u->b, rest = (real)s.rest, mean = (real)s.mean;
#pragma omp simd
  for (int64_t v = 0; v < a.V; v++) {
    real e = real_exp(a.f[v] - top), ap = scale * e;
    a.f[v] = each * e * (rest * (ap / (ap + b)) - mean);
  }
  a.f[a.forbid] = 0;
  a.f[a.x0] = (real)s.at_x;
  a.f[z] = (real)s.at_z;
}

/* The normaliser must be known before the sum of logarithms: the row is read three times, and a fourth time for the
 * gradient, from the cache. */
static real uniform_bound_row(LossRow a) {
  double w = (double)a.terms[0], K = (double)a.V - 1;
  int32_t z = (int32_t)a.terms[2];
  for (int64_t v = 0; v < a.V && w == 0 && a.gradient; v++) a.f[v] = 0;
  if (w == 0) return 0;
  real saved = a.f[a.forbid], top = row_max(a.f, a.V, a.forbid), sum = sum_exp(a.f, a.V, top);
  double at_z = (double)real_exp(a.f[z] - top), at_x = (double)real_exp(a.f[a.x0] - top), all = (double)sum;
  UniformBound u = uniform_bound(w, (double)a.terms[1], K, z == a.x0, at_z / all, at_x / all);
  UniformSums sums = uniform_sums(a, z, &u, top, sum);
  if (a.gradient)
    uniform_gradient(a, z, &u, uniform_bound_slopes(&u, (double)sums.share / all), top, sum);
  else
    a.f[a.forbid] = saved;
  return (real)uniform_bound_loss(&u, (double)sums.phi);
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

int FN(uniform_bound)(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                      bool gradient) {
  (void)dev;
  return each_row(uniform_bound_row, loss, logits, target, terms, mask, gradient);
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
