/* tile — the inner loops of f32 matrix products: packing of the factors, and C[MR,NR] = A[MR,K] B[K,NR] in registers.
 *
 * A is packed in panels of MR rows, [k][MR], and B in panels of NR columns, [k][NR], so that the kernel reads both in
 * order. MR × NR accumulators, NR of B and one of A fill the processor's vector registers. Rows and columns beyond the
 * matrix are zeros.
 *
 * A can be read in place instead, HIGH rows at a time, or LOW, or one: MR rows that lie apart have more addresses than
 * there are registers for them. */
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, MR = 12, HIGH = 8 }; /* 32 registers */
#elif defined(__AVX__)
enum { LANES = 8, MR = 6, HIGH = 6 }; /* 16 registers */
#else
enum { LANES = 4, MR = 6, HIGH = 6 };
#endif
enum { NR = 2 * LANES, LOW = 4, FLIP = 8, SPILL = FLIP };

typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef float LanesIn __attribute__((vector_size(LANES * 4), aligned(4))); /* at any address */
typedef float Flip __attribute__((vector_size(FLIP * 4)));
typedef float FlipIn __attribute__((vector_size(FLIP * 4), aligned(4)));

/* ---- packing */

/* r := its transpose, 8 × 8 */
static inline __attribute__((always_inline)) void flip(Flip r[FLIP]) {
  Flip t[FLIP], u[FLIP];
#pragma GCC unroll 4
  for (int i = 0; i < FLIP; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 2
  for (int i = 0; i < FLIP; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
      u[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      u[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < FLIP / 2; i++) {
    r[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/* p[k·ld_p + x] = a[x·ld + k] for k < K and x < n ≤ 8. Rows of p shorter than a vector are stored as whole vectors: the
 * next row overwrites what is too much, and SPILL floats behind the last one are lost. */
static inline __attribute__((always_inline)) void pack_flipped(int64_t K, int n, const float *a, int64_t ld, float *p,
                                                               int64_t ld_p) {
  int64_t k = 0;
  for (; k + FLIP <= K; k += FLIP) {
    Flip r[FLIP];
#pragma GCC unroll 8
    for (int x = 0; x < FLIP; x++) r[x] = x < n ? *(const FlipIn *)(a + x * ld + k) : (Flip){0};
    flip(r);
#pragma GCC unroll 8
    for (int x = 0; x < FLIP; x++) memcpy(p + (k + x) * ld_p, &r[x], (size_t)(ld_p < FLIP ? FLIP : n) * sizeof *p);
  }
  for (; k < K; k++)
    for (int x = 0; x < n; x++) p[k * ld_p + x] = a[x * ld + k];
}

/* One panel of `width` (MR or NR) lines, of which n exist: p[k·width + x] is a[k·ld + x], or a[x·ld + k] if
 * `across`. */
static inline __attribute__((always_inline)) void pack_panel(int64_t width, bool across, int64_t n, int64_t K,
                                                             const float *a, int64_t ld, float *p) {
  if (n < width) memset(p, 0, (size_t)(width * K) * sizeof *p);
  if (!across) {
    if (n == width)
      for (int64_t k = 0; k < K; k++) memcpy(p + k * width, a + k * ld, (size_t)width * sizeof *p);
    else
      for (int64_t k = 0; k < K; k++) memcpy(p + k * width, a + k * ld, (size_t)n * sizeof *p);
    return;
  }
  int64_t x = 0;
  for (; x + FLIP <= n; x += FLIP) pack_flipped(K, FLIP, a + x * ld, ld, p + x, width);
  if (n == width && width % FLIP)
    pack_flipped(K, (int)(width % FLIP), a + x * ld, ld, p + x, width);
  else
    for (; x < n; x++)
      for (int64_t k = 0; k < K; k++) p[k * width + x] = a[x * ld + k];
}

/* ---- the kernel */

/* C[rows, vectors·LANES] = or += A B over K terms. Element (i,k) of A is a[i·ra + k·ca], wherever it lies; b: a panel of B.
 * rows, vectors and one of ra and ca are constants. */
static inline __attribute__((always_inline)) void kernel(const int rows, const int vectors, int64_t K, const float *a,
                                                         int64_t ra, int64_t ca, const float *b, bool add, float *C,
                                                         int64_t ld) {
  Lanes s[MR][2] = {0};
#pragma GCC unroll 16
  for (int i = 0; add && i < rows; i++) __builtin_prefetch(C + i * ld, 1);
#pragma GCC unroll 4
  for (int64_t k = 0; k < K; k++) {
    Lanes b0 = *(const Lanes *)(b + k * NR), b1 = {0};
    if (vectors == 2) b1 = *(const Lanes *)(b + k * NR + LANES);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      float x = a[i * ra + k * ca];
      s[i][0] += x * b0;
      if (vectors == 2) s[i][1] += x * b1;
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      LanesIn *c = (LanesIn *)(C + i * ld + v * LANES);
      *c = add ? *c + s[i][v] : s[i][v];
    }
  }
}
