/* gemm_f64 — matrix products of the oracle, in plain loops. Each element is the sum of its terms in order. */
#include "ops/cpu/cpu.h"
#if !REAL_IS_FLOAT
#include "ops/cpu/gelu.h"

size_t FN(gemm_room)(int64_t N, int64_t K) { return (void)N, (void)K, 0; }

void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
                     int64_t ldb, bool add, real *C, int64_t ldc, real *room) {
  (void)room;
  for (int64_t i = 0; i < M; i++) {
    real *c = C + i * ldc;
    for (int64_t j = 0; j < N; j++) c[j] = add ? c[j] : 0;
    for (int64_t k = 0; k < K; k++) {
      real a = ta ? A[k * lda + i] : A[i * lda + k];
      if (tb) {
        for (int64_t j = 0; j < N; j++) c[j] += a * B[j * ldb + k];
      } else {
        for (int64_t j = 0; j < N; j++) c[j] += a * B[k * ldb + j];
      }
    }
  }
}

size_t FN(gemm_pack_room)(int64_t N, int64_t K) { return (size_t)(N * K); }

void FN(gemm_pack)(bool tb, int64_t N, int64_t K, const real *B, int64_t ldb, real *to) {
  for (int64_t j = 0; j < N; j++)
    for (int64_t k = 0; k < K; k++) to[j * K + k] = tb ? B[j * ldb + k] : B[k * ldb + j];
}

void FN(gemm_packed)(bool ta, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *packed,
                     int64_t height, int64_t first, bool add, real *C, int64_t ldc) {
  FN(gemm_serial)(ta, true, M, N, K, A, lda, packed + first, height, add, C, ldc, NULL);
}

int FN(gemm)(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
             int64_t ldb, bool add, real *C, int64_t ldc, const Epilogue *e) {
  (void)dev;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < M; i++) {
    real *c = C + i * ldc;
    FN(gemm_serial)(ta, tb, 1, N, K, ta ? A + i : A + i * lda, lda, B, ldb, add, c, ldc, NULL);
    for (int64_t j = 0; e && e->bias && j < N; j++) c[j] += e->bias[j];
    for (int64_t j = 0; e && e->y && j < N; j++) e->y[i * e->ldy + j] = gelu(c[j]);
  }
  return OK;
}
#else
typedef int gemm_f64_is_for_f64_only;
#endif
