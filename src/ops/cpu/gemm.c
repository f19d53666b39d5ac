/* gemm — f32 matrix products, blocked for the caches as in Goto and van de Geijn, "Anatomy of high-performance matrix
 * multiplication" (2008).
 *
 * Each element of C is computed from chunks of at most KC of the K terms: the terms of a chunk are added in order by
 * fused multiply-adds, and the chunks in order. How long the chunks are depends on K alone. Neither the number of threads
 * nor the position of a row, nor the number of rows, nor the vector width changes a bit of it. */
#include "ops/cpu/cpu.h"
#if REAL_IS_FLOAT
#include "ops/cpu/gelu.h"
#include "ops/cpu/tile.h"
#include <omp.h>

/* A block of A, [MC,KC], is for the second-level cache; NC columns of B, [KC,NC], are for the third. */
enum { MC = 72, KC = 768, NC = 1024, SLAB = 64, ALIGN = 16 };
_Static_assert(MC % MR == 0 && NC % NR == 0 && SLAB % NR == 0, "blocks are whole panels");

typedef struct Product { /* C = or += op(A) op(B) */
  bool ta, tb, add;
  int64_t M, N, K, chunk; /* chunk: terms added before they are added to C */
  const float *A, *B;
  float *C;
  int64_t lda, ldb, ldc;
  const Epilogue *epilogue;
} Product;

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t chunk_of(int64_t K) {
  int64_t chunks = (K + KC - 1) / KC;
  return chunks ? round_up((K + chunks - 1) / chunks, FLIP) : 0;
}

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

/* ---- blocks */

static void pack_a(const Product *p, int64_t i0, int64_t rows, int64_t k0, int64_t k, float *to) {
  for (int64_t i = i0; i < i0 + rows; i += MR, to += MR * k) {
    const float *a = p->ta ? p->A + k0 * p->lda + i : p->A + i * p->lda + k0;
    pack_panel(MR, !p->ta, min64(MR, i0 + rows - i), k, a, p->lda, to);
  }
}

static void pack_b(const Product *p, int64_t j, int64_t cols, int64_t k0, int64_t k, float *to) {
  const float *b = p->tb ? p->B + j * p->ldb + k0 : p->B + k0 * p->ldb + j;
  pack_panel(NR, p->tb, cols, k, b, p->ldb, to);
}

static __attribute__((noinline)) void whole_tile(int64_t k, const float *a, const float *b, bool add, float *c,
                                                 int64_t ldc) {
  if (add)
    kernel(MR, 2, k, a, 1, MR, b, true, c, ldc);
  else
    kernel(MR, 2, k, a, 1, MR, b, false, c, ldc);
}

static __attribute__((noinline)) void part_tile(int64_t k, const float *a, const float *b, bool add, float *c,
                                                int64_t ldc, int64_t rows, int64_t cols) {
  _Alignas(64) float t[MR * NR];
  kernel(MR, 2, k, a, 1, MR, b, false, t, NR);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) c[i * ldc + j] = add ? c[i * ldc + j] + t[i * NR + j] : t[i * NR + j];
}

/* Rows i0 … and columns j0 … of C, plus terms k0 …; a and b are the packed factors. */
static void block(const Product *p, int64_t i0, int64_t rows, int64_t j0, int64_t cols, int64_t k0, int64_t k,
                  const float *a, const float *b) {
  bool add = p->add || k0 > 0;
  for (int64_t j = 0; j < cols; j += NR) {
    for (int64_t i = 0; i < rows; i += MR) {
      float *c = p->C + (i0 + i) * p->ldc + j0 + j;
      int64_t m = min64(MR, rows - i), n = min64(NR, cols - j);
      if (m == MR && n == NR)
        whole_tile(k, a + i * k, b + j * k, add, c, p->ldc);
      else
        part_tile(k, a + i * k, b + j * k, add, c, p->ldc, m, n);
    }
  }
}

/* ---- A read in place */

typedef struct Strip { /* HIGH rows of C, or LOW, or one, and the columns of a panel */
  bool ta, add;
  int64_t K, lda, ldc;
  const float *a, *b;
  float *c;
} Strip;

static inline __attribute__((always_inline)) void strip(const Strip *s, const int rows, const int vectors) {
  if (s->ta)
    kernel(rows, vectors, s->K, s->a, 1, s->lda, s->b, s->add, s->c, s->ldc);
  else
    kernel(rows, vectors, s->K, s->a, s->lda, 1, s->b, s->add, s->c, s->ldc);
}
static __attribute__((noinline)) void strip_high(const Strip *s) { strip(s, HIGH, 2); }
static __attribute__((noinline)) void strip_low(const Strip *s) { strip(s, LOW, 2); }
static __attribute__((noinline)) void strip_one(const Strip *s) { strip(s, 1, 2); }
static __attribute__((noinline)) void strip_high_narrow(const Strip *s) { strip(s, HIGH, 1); }
static __attribute__((noinline)) void strip_low_narrow(const Strip *s) { strip(s, LOW, 1); }
static __attribute__((noinline)) void strip_one_narrow(const Strip *s) { strip(s, 1, 1); }

static void strip_whole(const Strip *s, int64_t rows, int64_t cols) {
  if (cols > LANES)
    rows == HIGH ? strip_high(s) : rows == LOW ? strip_low(s) : strip_one(s);
  else
    rows == HIGH ? strip_high_narrow(s) : rows == LOW ? strip_low_narrow(s) : strip_one_narrow(s);
}

/* The same where the columns are no whole vectors. */
static void strip_part(const Strip *s, int64_t rows, int64_t cols) {
  _Alignas(64) float t[HIGH * NR];
  Strip to = *s;
  to.add = false, to.c = t, to.ldc = NR;
  strip_whole(&to, rows, cols);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++)
      s->c[i * s->ldc + j] = s->add ? s->c[i * s->ldc + j] + t[i * NR + j] : t[i * NR + j];
}

static int64_t strip_rows(int64_t left) {
  if (left % HIGH == 0 || left > 2 * LOW) return HIGH;
  return left >= LOW ? LOW : 1;
}

/* Rows i0 … and columns j0 … of C, plus terms k0 …; b: the packed columns of B, in panels of `height` terms. */
static void strips(const Product *p, int64_t i0, int64_t rows, int64_t j0, int64_t cols, int64_t k0, int64_t k,
                   const float *b, int64_t height) {
  Strip s = {.ta = p->ta, .K = k, .lda = p->lda, .ldc = p->ldc, .add = p->add || k0 > 0};
  for (int64_t j = 0; j < cols; j += NR) {
    int64_t n = min64(NR, cols - j);
    s.b = b + j * height;
    for (int64_t i = i0, m; i < i0 + rows; i += m) {
      m = strip_rows(i0 + rows - i);
      s.a = p->ta ? p->A + k0 * p->lda + i : p->A + i * p->lda + k0;
      s.c = p->C + i * p->ldc + j0 + j;
      n % LANES ? strip_part(&s, m, n) : strip_whole(&s, m, n);
    }
  }
}

size_t FN(gemm_room)(int64_t N, int64_t K) {
  return (size_t)round_up(min64(KC, round_up(K, FLIP)) * round_up(min64(NC, N), NR), ALIGN);
}

void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
                     int64_t ldb, bool add, real *C, int64_t ldc, real *room) {
  Product p = {ta, tb, add, M, N, K, chunk_of(K), A, B, C, lda, ldb, ldc, NULL};
  for (int64_t j = 0; j < N; j += NC) {
    int64_t n = min64(NC, N - j);
    for (int64_t k0 = 0; k0 < K; k0 += p.chunk) {
      int64_t k = min64(p.chunk, K - k0);
      for (int64_t x = 0; x < n; x += NR) pack_b(&p, j + x, min64(NR, n - x), k0, k, room + x * k);
      strips(&p, 0, M, j, n, k0, k, room, k);
    }
  }
}

size_t FN(gemm_pack_room)(int64_t N, int64_t K) { return (size_t)round_up(K * round_up(N, NR), ALIGN); }

void FN(gemm_pack)(bool tb, int64_t N, int64_t K, const real *B, int64_t ldb, real *to) {
  Product p = {.tb = tb, .B = B, .ldb = ldb};
  for (int64_t j = 0; j < N; j += NR) pack_b(&p, j, min64(NR, N - j), 0, K, to + j * K);
}

void FN(gemm_packed)(bool ta, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *packed,
                     int64_t height, int64_t first, bool add, real *C, int64_t ldc) {
  Product p = {ta, false, add, M, N, K, chunk_of(K), A, NULL, C, lda, 0, ldc, NULL};
  for (int64_t k0 = 0; k0 < K; k0 += p.chunk)
    strips(&p, 0, M, 0, N, k0, min64(p.chunk, K - k0), packed + (first + k0) * NR, height);
}

/* ---- who computes what */

/* The block with its factor A not yet packed; a: room for that. A is read in place where packing takes longer: if its rows
 * are contiguous and few columns share them, or if the kernel for that is as fast as the other. */
static void whole_block(const Product *p, int64_t i0, int64_t rows, int64_t j0, int64_t cols, int64_t k0, int64_t k,
                        float *a, const float *b) {
  if (p->ta || (HIGH == MR && p->M > MC)) {
    pack_a(p, i0, rows, k0, k, a);
    block(p, i0, rows, j0, cols, k0, k, a, b);
  } else {
    strips(p, i0, rows, j0, cols, k0, k, b, k);
  }
  if (p->epilogue && k0 + k == p->K) FN(epilogue)(p->epilogue, p->C, p->ldc, i0, rows, j0, cols);
}

/* Floats for a packed block of A. */
static int64_t a_room(int64_t chunk) { return round_up(MC * chunk + SPILL, ALIGN); }

/* Columns j0 … of C in the calling thread. */
static void columns(const Product *p, int64_t j0, int64_t cols, float *room) {
  float *a = room, *b = room + a_room(p->chunk);
  for (int64_t k0 = 0; k0 < p->K; k0 += p->chunk) {
    int64_t k = min64(p->chunk, p->K - k0);
    for (int64_t x = 0; x < cols; x += NR) pack_b(p, j0 + x, min64(NR, cols - x), k0, k, b + x * k);
    for (int64_t i = 0; i < p->M; i += MC) {
      int64_t m = min64(MC, p->M - i);
      whole_block(p, i, m, j0, cols, k0, k, a, b);
    }
  }
}

/* Scratch memory is for chunks of any length: K, as the number of scored rows, changes from step to step, and a step must
 * not allocate. */

/* Few rows: threads take columns of C, and each packs A for itself. */
static int by_columns(Device *dev, const Product *p) {
  size_t each = (size_t)(a_room(KC) + round_up(KC * SLAB, ALIGN));
  real *room;
  TRY(FN(scratch)(dev, SCRATCH_A, each * sizeof *room * (size_t)dev->threads, &room));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t j = 0; j < p->N; j += SLAB)
    columns(p, j, min64(SLAB, p->N - j), room + each * (size_t)omp_get_thread_num());
  return OK;
}

/* Many rows: threads pack B together, then each takes blocks of rows. */
static int by_rows(Device *dev, const Product *p) {
  enum { BLOCKS = 4 }; /* of a thread, at least, as long as they have two panels */
  int64_t rows = MC, each = a_room(KC);
  float *room_a, *b;
  TRY(FN(scratch)(dev, SCRATCH_A, (size_t)(each * dev->threads) * sizeof *room_a, &room_a));
  TRY(FN(scratch)(dev, SCRATCH_B, (size_t)(KC * round_up(min64(NC, p->N), NR)) * sizeof *b, &b));
  while (rows > 2 * MR && p->M / rows < BLOCKS * dev->threads) rows = round_up(rows / 2, MR);
#pragma omp parallel num_threads(dev->threads)
  {
    float *a = room_a + each * omp_get_thread_num();
    for (int64_t j0 = 0; j0 < p->N; j0 += NC) {
      int64_t n = min64(NC, p->N - j0);
      for (int64_t k0 = 0; k0 < p->K; k0 += p->chunk) {
        int64_t k = min64(p->chunk, p->K - k0);
#pragma omp for schedule(static)
        for (int64_t j = 0; j < n; j += NR) pack_b(p, j0 + j, min64(NR, n - j), k0, k, b + j * k);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < p->M; i += rows) {
          int64_t m = min64(rows, p->M - i);
          whole_block(p, i, m, j0, n, k0, k, a, b);
        }
      }
    }
  }
  return OK;
}

int FN(gemm)(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
             int64_t ldb, bool add, real *C, int64_t ldc, const Epilogue *epilogue) {
  Product p = {ta, tb, add, M, N, K, chunk_of(K), A, B, C, lda, ldb, ldc, epilogue};
  return M <= MC ? by_columns(dev, &p) : by_rows(dev, &p);
}
#else
typedef int gemm_is_for_f32_only;
#endif
