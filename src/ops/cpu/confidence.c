/* confidence — how sure a row of logits is of its token, and a token that no row may have. */
#include "ops/cpu/cpu.h"

/* Sums are in f64. A logit of −∞ has no weight; its product with it must not be NaN. */
static void confidence_row(double out[3], real *f, int64_t V, int32_t id, int32_t forbid) {
  real first = -INFINITY, second = -INFINITY, saved = forbid >= 0 ? f[forbid] : 0;
  double sum = 0, moment = 0;
  if (forbid >= 0) f[forbid] = -INFINITY;
  for (int64_t v = 0; v < V; v++) {
    if (f[v] <= second) continue;
    second = f[v] > first ? first : f[v];
    first = f[v] > first ? f[v] : first;
  }
#pragma omp simd reduction(+ : sum, moment)
  for (int64_t v = 0; v < V; v++) {
    real below = f[v] - first, e = real_exp(below);
    sum += (double)e;
    moment += (double)e * (double)(below < -1000 ? -1000 : below);
  }
  out[0] = id < 0 ? NAN : (double)real_exp(f[id] - first) / sum;
  out[1] = (1 - (double)real_exp(second - first)) / sum;
  out[2] = log(sum) - moment / sum;
  if (forbid >= 0) f[forbid] = saved;
}

int FN(confidence)(Device *dev, Tensor out, Tensor logits, Tensor ids, int32_t forbid) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  const int32_t *id = ids.data;
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t r = 0; r < R; r++) confidence_row((double *)out.data + 3 * r, row(logits, r), V, id[r], forbid);
  return OK;
}

int FN(exclude)(Device *dev, Tensor logits, int32_t id) {
  (void)dev;
  for (int64_t r = 0; r < rows_of(logits); r++) ((real *)row(logits, r))[id] = -INFINITY;
  return OK;
}
