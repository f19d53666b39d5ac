/* attention — softmax(q kᵀ/√K) v in blocks of query rows: each thread holds one [BLOCK, L] piece of scores, and [L,L]
 * is never materialised.
 *
 * Backward recomputes the scores from q, k and the saved log-sum-exp:
 *   S = q kᵀ/√K,  P = exp(S − lse)
 *   dV += Pᵀ dO
 *   dP = dO Vᵀ
 *   dS = P ⊙ (dP − δ)/√K  with δ_i = Σ_k dO_ik O_ik
 *   dQ = dS K
 *   dK += dSᵀ Q */
#include "ops/cpu/cpu.h"
#include <omp.h>
#include <string.h>

enum { BLOCK = 128 };

typedef struct Head { /* one head of one sequence: views into the packed tensors */
  const real *q, *k, *v, *o, *d_o;
  real *dq, *dk, *dv, *out, *lse;
  int64_t ld, ld_o, ld_do, ld_d, length; /* length: real rows of the sequence */
} Head;

static Head head_of(const Attention *a, int64_t index) {
  int64_t H = a->heads, D = cols_of(a->o), K = D / H, b = index / H, h = index % H, r = b * a->L;
  const real *qkv = row(a->qkv, r) + h * K;
  Head x = {.q = qkv, .k = qkv + D, .v = qkv + 2 * D, .ld = a->qkv.ld};
  x.length = tensor_none(a->lengths) ? a->L : ((const int32_t *)a->lengths.data)[b];
  x.out = row(a->o, r) + h * K;
  x.o = x.out;
  x.ld_o = a->o.ld;
  x.lse = (real *)a->lse.data + index * a->L;
  if (!tensor_none(a->dqkv)) {
    x.dq = row(a->dqkv, r) + h * K;
    x.dk = x.dq + D;
    x.dv = x.dq + 2 * D;
    x.ld_d = a->dqkv.ld;
    x.d_o = row(a->d_o, r) + h * K;
    x.ld_do = a->d_o.ld;
  }
  return x;
}

/* s[n,cols] ← exp(scale·(s − max)) row by row; inverse[n] := 1/(sum of the row), which later scales the output. Not
 * inlined: a clone specialised for one row would sum in another order. */
static __attribute__((noinline, noclone)) void softmax_rows(real *s, int64_t n, int64_t cols, int64_t ld, real scale,
                                                            int64_t first, bool causal, real *inverse, real *lse) {
  for (int64_t i = 0; i < n; i++) {
    real *p = s + i * ld;
    int64_t seen = causal ? min64(cols, first + i + 1) : cols;
    real top = p[0];
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < seen; j++) top = p[j] > top ? p[j] : top;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < seen; j++) {
      p[j] = real_exp(scale * (p[j] - top));
      sum += p[j];
    }
    for (int64_t j = seen; j < cols; j++) p[j] = 0;
    inverse[i] = 1 / sum;
    lse[i] = scale * top + (real)log((double)sum);
  }
}

static void zero_rows(real *p, int64_t first, int64_t last, int64_t n, int64_t ld) {
  for (int64_t r = first; r < last; r++)
    for (int64_t k = 0; k < n; k++) p[r * ld + k] = 0;
}

/* Scratch, in reals, of forward for n queries over `keys` keys: the scores, and padded queries and outputs. */
static size_t room(int64_t n, int64_t keys, int64_t K) { return (size_t)(n * keys + 2 * FEW_ROWS * K); }

/* Queries i … i+n−1. The sum over keys is taken in pieces of BLOCK keys: masked keys add zeros, and the number of keys
 * does not change the order of the sum. Scores are scaled afterwards: the point where oneDNN applies alpha depends on
 * the number of keys. */
static void block_forward(const Head *x, int64_t K, bool causal, int64_t i, int64_t n, real *scratch) {
  real inverse[BLOCK], scale = 1 / real_sqrt((real)K);
  int64_t cols = causal ? i + n : x->length, rows = n < FEW_ROWS ? FEW_ROWS : n, ld = x->ld, ld_o = x->ld_o;
  real *few = scratch, *s = scratch + 2 * FEW_ROWS * K, *out = x->out + i * ld_o;
  const real *q = x->q + i * ld;
  if (n < rows) {
    for (int64_t r = 0; r < n; r++) memcpy(few + r * K, q + r * ld, (size_t)K * sizeof *few);
    memset(few + n * K, 0, (size_t)((rows - n) * K) * sizeof *few);
    q = few, out = few + rows * K;
    ld = ld_o = K;
  }
  FN(gemm_serial)(false, true, rows, cols, K, q, ld, x->k, x->ld, 0, s, cols);
  softmax_rows(s, n, cols, cols, scale, i, causal, inverse, x->lse + i);
  for (int64_t j = 0; j < cols; j += BLOCK) {
    const real *v = x->v + j * x->ld;
    FN(gemm_serial)(false, false, rows, K, min64(BLOCK, cols - j), s + j, cols, v, x->ld, j > 0, out, ld_o);
  }
  for (int64_t r = 0; r < n; r++) {
    real *o = x->out + (i + r) * x->ld_o;
#pragma omp simd
    for (int64_t k = 0; k < K; k++) o[k] = out[r * ld_o + k] * inverse[r];
  }
}

static void head_forward(const Head *x, int64_t K, bool causal, real *scratch) {
  for (int64_t i = 0; i < x->length; i += BLOCK) block_forward(x, K, causal, i, min64(BLOCK, x->length - i), scratch);
}

int FN(attention)(Device *dev, const Attention *a) {
  int64_t L = a->L, D = cols_of(a->o), K = D / a->heads, n = rows_of(a->o) / L * a->heads;
  real *scratch;
  size_t each = room(BLOCK, L, K);
  TRY(FN(scratch)(dev, SCRATCH_THREAD, each * sizeof(real) * (size_t)dev->threads, &scratch));
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < n; i++) {
    Head x = head_of(a, i);
    head_forward(&x, K, a->causal, scratch + each * (size_t)omp_get_thread_num());
    zero_rows(x.out, x.length, L, K, x.ld_o);
    zero_rows(x.lse, x.length, L, 1, 1);
  }
  return OK;
}

/* Append the key and value of one query to the cache, and attend to all keys in it. */
static void step_forward(const AttentionStep *a, int64_t index, real *scratch) {
  int64_t H = a->heads, D = cols_of(a->o), K = D / H, b = index / H, h = index % H, seen = a->position + 1;
  real *cache = row(a->cache, b * a->L) + h * K, *mine = cache + a->position * a->cache.ld, lse;
  const real *qkv = row(a->qkv, b) + h * K;
  for (int64_t k = 0; k < K; k++) mine[k] = qkv[D + k], mine[D + k] = qkv[2 * D + k];
  Head x = {.q = qkv, .k = cache, .v = cache + D, .ld = a->cache.ld, .length = seen, .lse = &lse};
  x.out = row(a->o, b) + h * K;
  x.ld_o = a->o.ld;
  block_forward(&x, K, false, 0, 1, scratch);
}

int FN(attention_step)(Device *dev, const AttentionStep *a) {
  int64_t n = rows_of(a->o) * a->heads;
  real *scratch;
  size_t each = room(FEW_ROWS, a->L, cols_of(a->o) / a->heads);
  TRY(FN(scratch)(dev, SCRATCH_THREAD, each * sizeof(real) * (size_t)dev->threads, &scratch));
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; i++) step_forward(a, i, scratch + each * (size_t)omp_get_thread_num());
  return OK;
}

/* p ← exp(scale·p − lse);  dp ← p ⊙ (dp − δ)·scale */
static void score_gradient(real *p, real *dp, const Head *x, int64_t i0, int64_t n, int64_t cols, int64_t K, real scale,
                           bool causal) {
  for (int64_t i = 0; i < n; i++) {
    const real *o = x->o + (i0 + i) * x->ld_o, *d_o = x->d_o + (i0 + i) * x->ld_do;
    real lse = x->lse[i0 + i], delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t k = 0; k < K; k++) delta += o[k] * d_o[k];
    real *pi = p + i * cols, *di = dp + i * cols;
    int64_t seen = causal ? min64(cols, i0 + i + 1) : cols;
#pragma omp simd
    for (int64_t j = 0; j < seen; j++) {
      pi[j] = real_exp(scale * pi[j] - lse);
      di[j] = pi[j] * (di[j] - delta) * scale;
    }
    for (int64_t j = seen; j < cols; j++) pi[j] = di[j] = 0;
  }
}

static void head_backward(const Head *x, int64_t K, bool causal, real *p, real *dp) {
  real scale = 1 / real_sqrt((real)K);
  /* The last block comes first: it covers all columns even with a causal mask, so it sets dK and dV and the others
   * add. */
  int64_t L = x->length, blocks = (L + BLOCK - 1) / BLOCK;
  for (int64_t b = blocks - 1; b >= 0; b--) {
    int64_t i = b * BLOCK, n = min64(BLOCK, L - i), cols = causal ? i + n : L;
    real more = b == blocks - 1 ? 0 : 1;
    const real *q = x->q + i * x->ld, *d_o = x->d_o + i * x->ld_do;
    FN(gemm_serial)(false, true, n, cols, K, q, x->ld, x->k, x->ld, 0, p, cols);
    FN(gemm_serial)(false, true, n, cols, K, d_o, x->ld_do, x->v, x->ld, 0, dp, cols);
    score_gradient(p, dp, x, i, n, cols, K, scale, causal);
    FN(gemm_serial)(true, false, cols, K, n, p, cols, d_o, x->ld_do, more, x->dv, x->ld_d);
    FN(gemm_serial)(false, false, n, K, cols, dp, cols, x->k, x->ld, 0, x->dq + i * x->ld_d, x->ld_d);
    FN(gemm_serial)(true, false, cols, K, n, dp, cols, q, x->ld, more, x->dk, x->ld_d);
  }
}

int FN(attention_backward)(Device *dev, const Attention *a) {
  int64_t L = a->L, D = cols_of(a->o), K = D / a->heads, n = rows_of(a->o) / L * a->heads;
  real *scratch;
  size_t each = (size_t)(BLOCK * L);
  TRY(FN(scratch)(dev, SCRATCH_THREAD, 2 * each * sizeof(real) * (size_t)dev->threads, &scratch));
#pragma omp parallel for schedule(dynamic)
  for (int64_t i = 0; i < n; i++) {
    Head x = head_of(a, i);
    real *p = scratch + 2 * each * (size_t)omp_get_thread_num();
    head_backward(&x, K, a->causal, p, p + each);
    real *out[] = {x.dq, x.dk, x.dv};
    for (int j = 0; j < 3; j++) zero_rows(out[j], x.length, L, K, x.ld_d);
  }
  return OK;
}
