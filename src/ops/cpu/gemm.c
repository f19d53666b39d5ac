/* gemm — matrix products in the device's own type.
 *
 * The result is cut into tiles of fixed size, each computed by one thread: every element is summed in an order that
 * depends on the shapes alone, so weights do not depend on the number of threads. f32 tiles are oneDNN's sgemm. */
#include "ops/cpu/cpu.h"
#include "ops/cpu/gelu.h"
#if REAL_IS_FLOAT
#include <oneapi/dnnl/dnnl.h>
#endif

enum { TILE_M = 256, TILE_N = 1024 };

#if REAL_IS_FLOAT
void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, real alpha, const real *A, int64_t lda,
                     const real *B, int64_t ldb, real beta, real *C, int64_t ldc) {
  dnnl_status_t s = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
  ASSERT(s == dnnl_success);
}
#else
void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, real alpha, const real *A, int64_t lda,
                     const real *B, int64_t ldb, real beta, real *C, int64_t ldc) {
  for (int64_t i = 0; i < M; i++) {
    real *c = C + i * ldc;
    for (int64_t j = 0; j < N; j++) c[j] = beta == 0 ? 0 : beta * c[j];
    for (int64_t k = 0; k < K; k++) {
      real a = alpha * (ta ? A[k * lda + i] : A[i * lda + k]);
      if (tb) {
        for (int64_t j = 0; j < N; j++) c[j] += a * B[j * ldb + k];
      } else {
        for (int64_t j = 0; j < N; j++) c[j] += a * B[k * ldb + j];
      }
    }
  }
}
#endif

void FN(epilogue)(const Epilogue *e, real *C, int64_t ldc, int64_t i0, int64_t rows, int64_t j0, int64_t cols) {
  const real *b = e->bias ? e->bias + j0 : NULL;
  for (int64_t i = i0; i < i0 + rows; i++) {
    real *c = C + i * ldc + j0;
    if (b) {
#pragma omp simd
      for (int64_t j = 0; j < cols; j++) c[j] += b[j];
    }
    if (e->y) {
      real *y = e->y + i * e->ldy + j0;
#pragma omp simd
      for (int64_t j = 0; j < cols; j++) y[j] = gelu(c[j]);
    }
  }
}

int FN(gemm)(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
             int64_t ldb, real beta, real *C, int64_t ldc, const Epilogue *epilogue) {
  (void)dev;
  int64_t nm = (M + TILE_M - 1) / TILE_M, nn = (N + TILE_N - 1) / TILE_N;
#pragma omp parallel for schedule(dynamic) collapse(2)
  for (int64_t bj = 0; bj < nn; bj++) {
    for (int64_t bi = 0; bi < nm; bi++) {
      int64_t i = bi * TILE_M, j = bj * TILE_N, rows = min64(TILE_M, M - i), cols = min64(TILE_N, N - j);
      const real *a = A + (ta ? i : i * lda), *b = B + (tb ? j * ldb : j);
      FN(gemm_serial)(ta, tb, rows, cols, K, 1, a, lda, b, ldb, beta, C + i * ldc + j, ldc);
      if (epilogue) FN(epilogue)(epilogue, C, ldc, i, rows, j, cols);
    }
  }
  return OK;
}
