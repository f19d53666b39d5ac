/* gemm — matrix products in the device's real type.
 *
 * The result is cut into pieces, each computed by one thread. The pieces, and so the order in which an element is
 * summed, depend only on the shapes: weights do not depend on the number of threads. In f32 a piece is one call of
 * oneDNN's sgemm. */
#include "ops/cpu/cpu.h"
#include "ops/cpu/gelu.h"
#include <string.h>
#if REAL_IS_FLOAT
#include <oneapi/dnnl/dnnl.h>
#endif

#if REAL_IS_FLOAT
void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
                     int64_t ldb, real beta, real *C, int64_t ldc) {
  dnnl_status_t s = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', M, N, K, 1, A, lda, B, ldb, beta, C, ldc);
  ASSERT(s == dnnl_success);
}
#else
void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
                     int64_t ldb, real beta, real *C, int64_t ldc) {
  for (int64_t i = 0; i < M; i++) {
    real *c = C + i * ldc;
    for (int64_t j = 0; j < N; j++) c[j] = beta == 0 ? 0 : beta * c[j];
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

/* The number of pieces to cut n into: a power of two up to 8, with pieces of at least `least` — except that n is halved
 * if each half is worth a thread. sgemm packs its factors on every call, so fewer pieces waste less. */
static int64_t pieces_of(int64_t n, int64_t least) {
  enum { MOST = 8, WORTH_A_THREAD = 64 };
  int64_t p = n >= 2 * WORTH_A_THREAD ? 2 : 1;
  while (p < MOST && n / (2 * p) >= least) p *= 2;
  return p;
}

static int64_t piece_size(int64_t n, int64_t pieces) { return ((n + pieces - 1) / pieces + 15) / 16 * 16; }

static void pieces(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
                   int64_t ldb, real beta, real *C, int64_t ldc, const Epilogue *epilogue) {
  int64_t pm = pieces_of(M, ta ? 1024 : 512), pn = 1;
  while (pm * pn < 8 && N / (2 * pn) >= 2048) pn *= 2;
  int64_t tm = piece_size(M, pm), tn = piece_size(N, pn), nm = (M + tm - 1) / tm, nn = (N + tn - 1) / tn;
#pragma omp parallel for schedule(dynamic) collapse(2)
  for (int64_t bj = 0; bj < nn; bj++) {
    for (int64_t bi = 0; bi < nm; bi++) {
      int64_t i = bi * tm, j = bj * tn, rows = min64(tm, M - i), cols = min64(tn, N - j);
      const real *a = A + (ta ? i : i * lda), *b = B + (tb ? j * ldb : j);
      FN(gemm_serial)(ta, tb, rows, cols, K, a, lda, b, ldb, beta, C + i * ldc + j, ldc);
      if (epilogue) FN(epilogue)(epilogue, C, ldc, i, rows, j, cols);
    }
  }
}

/* to[n,cols] ← from; the row strides are ld and ld_from */
static void copy(real *to, int64_t ld, const real *from, int64_t ld_from, int64_t n, int64_t cols) {
  for (int64_t i = 0; i < n; i++) memcpy(to + i * ld, from + i * ld_from, (size_t)cols * sizeof *to);
}

int FN(gemm)(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
             int64_t ldb, real beta, real *C, int64_t ldc, const Epilogue *epilogue) {
  if (ta || M >= FEW_ROWS) {
    pieces(ta, tb, M, N, K, A, lda, B, ldb, beta, C, ldc, epilogue);
    return OK;
  }
  real *a, *c;
  TRY(FN(scratch)(dev, SCRATCH_ROWS, (size_t)(FEW_ROWS * (K + N)) * sizeof *a, &a));
  c = a + FEW_ROWS * K;
  copy(a, K, A, lda, M, K);
  memset(a + M * K, 0, (size_t)((FEW_ROWS - M) * K) * sizeof *a);
  if (beta != 0) {
    memset(c, 0, (size_t)(FEW_ROWS * N) * sizeof *c);
    copy(c, N, C, ldc, M, N);
  }
  pieces(false, tb, FEW_ROWS, N, K, a, K, B, ldb, beta, c, N, NULL);
  copy(C, ldc, c, N, M, N);
  if (epilogue) FN(epilogue)(epilogue, C, ldc, 0, M, 0, N);
  return OK;
}
