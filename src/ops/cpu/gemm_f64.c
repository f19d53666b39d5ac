/* gemm_f64 — matrix products of the oracle. Each element is the sum of its terms in order, each of them rounded before it
 * is added, as in plain loops; tiles of C stay in registers. */
#include "ops/cpu/cpu.h"
#if !REAL_IS_FLOAT
#include "ops/cpu/gelu.h"
#include <string.h>

/* A tile of C is [ROWS,COLS]; TERMS of them are added before it is stored; BLOCK rows of C are for one thread. */
enum { ROWS = 4, COLS = 8, TERMS = 256, BLOCK = 64 };
typedef real Row __attribute__((vector_size(COLS * sizeof(real)), aligned(sizeof(real)), may_alias));

size_t FN(gemm_room)(int64_t N, int64_t K) { return (void)N, (void)K, 0; }

/* b[K,COLS] := `cols` columns of op(B), then zeros. */
static void pack(real b[][COLS], bool tb, int64_t cols, int64_t K, const real *B, int64_t ldb) {
  if (cols < COLS) memset(b, 0, (size_t)K * sizeof *b);
  if (tb) {
    for (int64_t j = 0; j < cols; j++)
      for (int64_t k = 0; k < K; k++) b[k][j] = B[j * ldb + k];
  } else {
    for (int64_t k = 0; k < K; k++)
      for (int64_t j = 0; j < cols; j++) b[k][j] = B[k * ldb + j];
  }
}

/* By pointers, since how a Row is passed by value depends on the processor. */
static void load(Row *row, const real *c, int64_t cols) {
  if (cols == COLS)
    memcpy(row, c, sizeof *row);
  else
    for (int64_t j = 0; j < COLS; j++) (*row)[j] = j < cols ? c[j] : 0;
}

static void store(real *c, const Row *row, int64_t cols) {
  if (cols == COLS)
    memcpy(c, row, sizeof *row);
  else
    for (int64_t j = 0; j < COLS; j++)
      if (j < cols) c[j] = (*row)[j];
}

/* Rows of C, at most ROWS, and `cols` columns += K terms; b has rows of ldb. Rows that are not there are computed as the
 * last one. */
static void tile(int64_t rows, int64_t cols, int64_t K, const real *A, int64_t by_row, int64_t by_term, const real *b,
                 int64_t ldb, real *C, int64_t ldc) {
  const real *a[ROWS];
  Row sum[ROWS];
  for (int64_t i = 0; i < ROWS; i++) a[i] = A + min64(i, rows - 1) * by_row;
  for (int64_t i = 0; i < ROWS; i++) load(&sum[i], C + min64(i, rows - 1) * ldc, cols);
  for (int64_t k = 0; k < K; k++) {
    Row terms = *(const Row *)(b + k * ldb);
    for (int64_t i = 0; i < ROWS; i++) sum[i] += a[i][k * by_term] * terms;
  }
  for (int64_t i = 0; i < rows; i++) store(C + i * ldc, &sum[i], cols);
}

void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
                     int64_t ldb, bool add, real *C, int64_t ldc, real *room) {
  real packed[TERMS][COLS];
  (void)room;
  int64_t by_row = ta ? 1 : lda, by_term = ta ? lda : 1;
  for (int64_t i = 0; i < M && !add; i++) memset(C + i * ldc, 0, (size_t)N * sizeof *C);
  for (int64_t j = 0; j < N; j += COLS) {
    int64_t cols = min64(COLS, N - j);
    for (int64_t k = 0; k < K; k += TERMS) {
      int64_t terms = min64(TERMS, K - k), ld = ldb;
      const real *b = tb ? B + j * ldb + k : B + k * ldb + j;
      if (tb || cols < COLS) {
        pack(packed, tb, cols, terms, b, ldb);
        b = &packed[0][0], ld = COLS;
      }
      for (int64_t i = 0; i < M; i += ROWS)
        tile(min64(ROWS, M - i), cols, terms, A + i * by_row + k * by_term, by_row, by_term, b, ld, C + i * ldc + j,
             ldc);
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
  for (int64_t i0 = 0; i0 < M; i0 += BLOCK) {
    int64_t rows = min64(BLOCK, M - i0);
    FN(gemm_serial)(ta, tb, rows, N, K, ta ? A + i0 : A + i0 * lda, lda, B, ldb, add, C + i0 * ldc, ldc, NULL);
    for (int64_t i = i0; i < i0 + rows; i++) {
      real *c = C + i * ldc;
      for (int64_t j = 0; e && e->bias && j < N; j++) c[j] += e->bias[j];
      for (int64_t j = 0; e && e->y && j < N; j++) e->y[i * e->ldy + j] = gelu(c[j]);
    }
  }
  return OK;
}
#else
typedef int gemm_f64_is_for_f64_only;
#endif
