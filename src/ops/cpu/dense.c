/* dense — y = x wᵀ + b, forward and backward; products take bf16 factors if w is bf16. On a processor without
 * AVX512_BF16 the same factors are multiplied as floats. */
#include "ops/cpu/bf16.h"
#include "ops/cpu/gelu.h"
#include "ops/cpu/gemm16.h"

#if REAL_IS_FLOAT
/* *p := t as bf16: its own memory if it is bf16, else a copy in a scratch slot. */
static int factor16(Device *dev, ScratchSlot slot, Tensor t, const uint16_t **p, int64_t *ld) {
  int64_t R = rows_of(t), K = cols_of(t);
  *ld = t.ld;
  *p = t.data;
  if (t.type == DT_BF16) return OK;
  uint16_t *packed;
  TRY(FN(scratch)(dev, slot, (size_t)(R * K) * sizeof *packed, &packed));
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    const real *x = row(t, r);
    uint16_t *y = packed + r * K;
#pragma omp simd
    for (int64_t k = 0; k < K; k++) y[k] = bf16_from(x[k]);
  }
  *p = packed;
  *ld = K;
  return OK;
}

/* *p := t, contiguous and rounded to bf16, as floats, in a scratch slot. */
static int rounded(Device *dev, ScratchSlot slot, Tensor t, const float **p) {
  int64_t R = rows_of(t), K = cols_of(t);
  float *copy;
  TRY(FN(scratch)(dev, slot, (size_t)(R * K) * sizeof *copy, &copy));
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    const uint16_t *low = (const uint16_t *)t.data + r * t.ld;
    const float *x = (const float *)t.data + r * t.ld;
    float *y = copy + r * K;
    if (t.type == DT_BF16) {
#pragma omp simd
      for (int64_t k = 0; k < K; k++) y[k] = bf16_to(low[k]);
    } else {
#pragma omp simd
      for (int64_t k = 0; k < K; k++) y[k] = bf16_to(bf16_from(x[k]));
    }
  }
  *p = copy;
  return OK;
}

static int product_low(Device *dev, bool ta, bool tb, int64_t K, Tensor a, Tensor b, bool add, Tensor c,
                       const Epilogue *epilogue) {
  int64_t M = rows_of(c), N = cols_of(c), lda, ldb;
  if (!gemm16_supported()) {
    const float *A, *B;
    TRY(rounded(dev, SCRATCH_LOW_A, a, &A));
    TRY(rounded(dev, SCRATCH_LOW_B, b, &B));
    return FN(gemm)(dev, ta, tb, M, N, K, A, cols_of(a), B, cols_of(b), add, c.data, c.ld, epilogue);
  }
  const uint16_t *A, *B;
  TRY(factor16(dev, SCRATCH_LOW_A, a, &A, &lda));
  TRY(factor16(dev, SCRATCH_LOW_B, b, &B, &ldb));
  return gemm16(dev, ta, tb, M, N, K, A, lda, B, ldb, add, c.data, c.ld, epilogue);
}
#endif

static int product(Device *dev, bool low, bool ta, bool tb, int64_t K, Tensor a, Tensor b, bool add, Tensor c,
                   const Epilogue *epilogue) {
#if REAL_IS_FLOAT
  if (low) return product_low(dev, ta, tb, K, a, b, add, c, epilogue);
#endif
  CHECK(!low, ERR_SHAPE, "dense: the %s backend has no bf16 weights", dev->ops->name);
  return FN(gemm)(dev, ta, tb, rows_of(c), cols_of(c), K, a.data, a.ld, b.data, b.ld, add, c.data, c.ld, epilogue);
}

int FN(dense)(Device *dev, Tensor y, Tensor pre, Tensor x, Tensor w, Tensor b) {
  bool activate = !tensor_none(pre);
  Epilogue e = {.bias = b.data, .y = activate ? y.data : NULL, .ldy = y.ld};
  bool plain = e.bias == NULL && !activate;
  return product(dev, w.type == DT_BF16, false, true, cols_of(x), x, w, false, activate ? pre : y, plain ? NULL : &e);
}

/* db += column sums of dy. One thread sums each column, rows in order. */
static void bias_gradient(Tensor db, Tensor dy) {
  enum { COLS = 64 };
  int64_t R = rows_of(dy), N = cols_of(dy);
#pragma omp parallel for schedule(static)
  for (int64_t j0 = 0; j0 < N; j0 += COLS) {
    int64_t n = min64(COLS, N - j0);
    real sum[COLS] = {0};
    for (int64_t r = 0; r < R; r++) {
      const real *d = row(dy, r) + j0;
#pragma omp simd
      for (int64_t j = 0; j < n; j++) sum[j] += d[j];
    }
    for (int64_t j = 0; j < n; j++) ((real *)db.data)[j0 + j] += sum[j];
  }
}

int FN(dense_backward)(Device *dev, Tensor dx, bool dx_add, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w) {
  bool low = w.type == DT_BF16;
  if (!tensor_none(dx)) TRY(product(dev, low, false, false, cols_of(dy), dy, w, dx_add, dx, NULL));
  if (!tensor_none(dw)) TRY(product(dev, low, true, false, rows_of(dy), dy, x, true, dw, NULL));
  if (!tensor_none(db)) bias_gradient(db, dy);
  return OK;
}

int FN(gelu_backward)(Device *dev, Tensor dy, Tensor pre, Tensor db) {
  (void)dev;
  int64_t R = rows_of(pre), N = cols_of(pre);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    real *d = row(dy, r);
    const real *x = row(pre, r);
#pragma omp simd
    for (int64_t j = 0; j < N; j++) d[j] *= gelu_slope(x[j]);
  }
  if (!tensor_none(db)) bias_gradient(db, dy);
  return OK;
}
