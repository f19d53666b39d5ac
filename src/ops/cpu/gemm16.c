#include "ops/cpu/gemm16.h"
#if REAL_IS_FLOAT
#include "base/mem.h"
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

typedef struct Shape { /* the key of a primitive */
  int64_t M, N, K, lda, ldb, ldc;
  bool ta, tb, add;
} Shape;

typedef struct Primitive { /* one thread's primitive for a shape; its memory objects are rebound on every call */
  dnnl_primitive_t run;
  dnnl_memory_t a, b, c;
} Primitive;

enum { CACHE = 1024, TILE_M = 256, TILE_N = 1024, TILE_K = 4096, MAX_TILES = 4096 };

struct Gemm16 {
  dnnl_engine_t engine;
  int threads, used;
  dnnl_stream_t *stream; /* [threads] */
  Shape shape[CACHE];
  Primitive *primitive[CACHE]; /* [threads] each */
};

#define DNNL(call)                                                                                                     \
  do {                                                                                                                 \
    dnnl_status_t s_ = (call);                                                                                         \
    if (s_ != dnnl_success) return RAISE(ERR_DEVICE, "oneDNN: %s returned status %d", #call, (int)s_);                 \
  } while (0)

static int gemm16_create(Gemm16 **g, int threads) {
  TRY(mem_alloc(g, sizeof **g));
  (*g)->threads = threads;
  TRY(mem_alloc(&(*g)->stream, (size_t)threads * sizeof(dnnl_stream_t)));
  DNNL(dnnl_engine_create(&(*g)->engine, dnnl_cpu, 0));
  for (int i = 0; i < threads; i++) DNNL(dnnl_stream_create(&(*g)->stream[i], (*g)->engine, dnnl_stream_default_flags));
  return OK;
}

void gemm16_destroy(Gemm16 **gp) {
  Gemm16 *g = *gp;
  if (g == NULL) return;
  for (int i = 0; i < g->used; i++) {
    for (int t = 0; t < g->threads; t++) {
      Primitive *p = &g->primitive[i][t];
      if (p->run) dnnl_primitive_destroy(p->run);
      if (p->a) dnnl_memory_destroy(p->a);
      if (p->b) dnnl_memory_destroy(p->b);
      if (p->c) dnnl_memory_destroy(p->c);
    }
    mem_free(&g->primitive[i]);
  }
  for (int i = 0; i < g->threads; i++)
    if (g->stream[i]) dnnl_stream_destroy(g->stream[i]);
  if (g->engine) dnnl_engine_destroy(g->engine);
  mem_free(&g->stream);
  mem_free(gp);
}

static int matrix(dnnl_memory_desc_t *md, int64_t rows, int64_t cols, int64_t ld, bool transposed,
                  dnnl_data_type_t type) {
  dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
  DNNL(dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides));
  return OK;
}

static int primitive_fill(Gemm16 *g, const Shape *s, dnnl_primitive_attr_t attr, dnnl_post_ops_t post, Primitive *p) {
  dnnl_memory_desc_t a, b, c;
  TRY(matrix(&a, s->M, s->K, s->lda, s->ta, dnnl_bf16));
  TRY(matrix(&b, s->K, s->N, s->ldb, s->tb, dnnl_bf16));
  TRY(matrix(&c, s->M, s->N, s->ldc, false, dnnl_f32));
  dnnl_matmul_desc_t desc;
  DNNL(dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c));
  if (s->add) DNNL(dnnl_post_ops_append_sum(post, 1.0f));
  DNNL(dnnl_primitive_attr_set_post_ops(attr, post));
  dnnl_primitive_desc_t pd;
  DNNL(dnnl_primitive_desc_create(&pd, &desc, attr, g->engine, NULL));
  dnnl_status_t made = dnnl_primitive_create(&p->run, pd);
  dnnl_primitive_desc_destroy(pd);
  DNNL(made);
  DNNL(dnnl_memory_create(&p->a, &a, g->engine, NULL));
  DNNL(dnnl_memory_create(&p->b, &b, g->engine, NULL));
  DNNL(dnnl_memory_create(&p->c, &c, g->engine, NULL));
  return OK;
}

static int primitive_create(Gemm16 *g, const Shape *s, Primitive *p) {
  dnnl_primitive_attr_t attr;
  dnnl_post_ops_t post;
  DNNL(dnnl_primitive_attr_create(&attr));
  dnnl_status_t made = dnnl_post_ops_create(&post);
  int err =
      made == dnnl_success ? primitive_fill(g, s, attr, post, p) : RAISE(ERR_DEVICE, "oneDNN: status %d", (int)made);
  if (made == dnnl_success) dnnl_post_ops_destroy(post);
  dnnl_primitive_attr_destroy(attr);
  return err;
}

static bool same_shape(const Shape *x, const Shape *y) {
  return x->M == y->M && x->N == y->N && x->K == y->K && x->lda == y->lda && x->ldb == y->ldb && x->ldc == y->ldc &&
         x->ta == y->ta && x->tb == y->tb && x->add == y->add;
}

/* *index := the cache entry of a shape, created for every thread on first use. Creation must happen in one thread. */
static int shape_find(Gemm16 *g, const Shape *s, int *index) {
  for (int i = 0; i < g->used; i++) {
    if (same_shape(&g->shape[i], s)) return *index = i, OK;
  }
  CHECK(g->used < CACHE, ERR_DEVICE, "more than %d shapes of bf16 matrix products", CACHE);
  *index = g->used;
  g->shape[g->used] = *s;
  TRY(mem_alloc(&g->primitive[g->used], (size_t)g->threads * sizeof(Primitive)));
  g->used++;
  int status = OK;
#pragma omp parallel num_threads(g->threads)
  { /* inside a parallel region oneDNN creates single-threaded primitives */
    int e = primitive_create(g, s, &g->primitive[*index][omp_get_thread_num()]);
    if (e) {
#pragma omp atomic write
      status = e;
    }
  }
  CHECK(status == OK, ERR_DEVICE, "oneDNN cannot multiply bf16 matrices of %lld × %lld × %lld", (long long)s->M,
        (long long)s->N, (long long)s->K);
  return OK;
}

/* Cut n into pieces: whole tiles, then the rest as one piece or, if n changes from call to call, as powers of two. */
static int cut(int64_t n, int64_t tile, bool powers, int64_t piece[MAX_TILES]) {
  int count = 0;
  while (n > 0) {
    while (powers && tile > n) tile /= 2;
    ASSERT(count < MAX_TILES);
    piece[count++] = min64(tile, n);
    n -= min64(tile, n);
  }
  return count;
}

bool gemm16_supported(void) {
  return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

int gemm16_open(Device *dev) {
  Cpu *cpu = dev->impl;
  return gemm16_create(&cpu->gemm16, dev->threads);
}

/* A product of one row, padded to two: oneDNN sums a single row in another order, and a row's bits must not depend on
 * the number of rows. */
static int one_row(Device *dev, bool tb, int64_t N, int64_t K, const uint16_t *A, const uint16_t *B, int64_t ldb,
                   bool add, float *C, const Epilogue *epilogue) {
  float *c;
  TRY(FN(scratch)(dev, SCRATCH_ROWS, (size_t)(2 * N) * sizeof *c + (size_t)(2 * K) * sizeof *A, &c));
  uint16_t *a = (uint16_t *)(c + 2 * N);
  memcpy(a, A, (size_t)K * sizeof *a);
  memset(a + K, 0, (size_t)K * sizeof *a);
  memcpy(c, C, (size_t)N * sizeof *c);
  memset(c + N, 0, (size_t)N * sizeof *c);
  TRY(gemm16(dev, false, tb, 2, N, K, a, K, B, ldb, add, c, N, NULL));
  memcpy(C, c, (size_t)N * sizeof *c);
  if (epilogue) FN(epilogue)(epilogue, C, N, 0, 1, 0, N);
  return OK;
}

/* ---- a product in tiles */

typedef struct Product { /* op(A) op(B), tiles [M] × [N] × [K] */
  bool ta, tb, add;      /* add: C += instead of = */
  const uint16_t *A, *B;
  float *C;
  int64_t lda, ldb, ldc;
  int64_t m[MAX_TILES], n[MAX_TILES], k[MAX_TILES]; /* sizes of the tiles */
  int m_tiles, n_tiles, k_tiles;
} Product;

static Shape tile_shape(const Product *p, int i, int j, int k) {
  return (Shape){p->m[i], p->n[j], p->k[k], p->lda, p->ldb, p->ldc, p->ta, p->tb, k > 0 || p->add};
}

static int64_t start_of(const int64_t *sizes, int tile) {
  int64_t start = 0;
  for (int i = 0; i < tile; i++) start += sizes[i];
  return start;
}

/* Create the primitives of all shapes that occur, before threads look them up. */
static int shapes_create(Gemm16 *g, const Product *p) {
  for (int i = 0; i < p->m_tiles; i++) {
    if (i > 0 && p->m[i] == p->m[i - 1]) continue;
    for (int j = 0; j < p->n_tiles; j++) {
      if (j > 0 && p->n[j] == p->n[j - 1]) continue;
      for (int k = 0; k < p->k_tiles; k++) {
        int at;
        Shape s = tile_shape(p, i, j, k);
        TRY(shape_find(g, &s, &at));
      }
    }
  }
  return OK;
}

/* C[row…, col…] = or += op(A)[row…, inner…] op(B)[inner…, col…] for one tile, by the calling thread. */
static int tile_run(Gemm16 *g, const Product *p, const Shape *s, int64_t row, int64_t col, int64_t inner) {
  int at, thread = omp_get_thread_num();
  TRY(shape_find(g, s, &at));
  const Primitive *x = &g->primitive[at][thread];
  const uint16_t *A = p->A + (p->ta ? inner * p->lda + row : row * p->lda + inner);
  const uint16_t *B = p->B + (p->tb ? col * p->ldb + inner : inner * p->ldb + col);
  dnnl_memory_set_data_handle(x->a, (void *)(uintptr_t)A);
  dnnl_memory_set_data_handle(x->b, (void *)(uintptr_t)B);
  dnnl_memory_set_data_handle(x->c, p->C + row * p->ldc + col);
  dnnl_exec_arg_t args[3] = {{DNNL_ARG_SRC, x->a}, {DNNL_ARG_WEIGHTS, x->b}, {DNNL_ARG_DST, x->c}};
  return dnnl_primitive_execute(x->run, g->stream[thread], 3, args) == dnnl_success ? OK : ERR_DEVICE;
}

static int product_run(Gemm16 *g, const Product *p, const Epilogue *epilogue) {
  int status = OK;
#pragma omp parallel for schedule(dynamic) collapse(2) num_threads(g->threads)
  for (int j = 0; j < p->n_tiles; j++) {
    for (int i = 0; i < p->m_tiles; i++) {
      int64_t row = start_of(p->m, i), col = start_of(p->n, j), inner = 0;
      for (int k = 0; k < p->k_tiles; inner += p->k[k++]) {
        Shape s = tile_shape(p, i, j, k);
        if (tile_run(g, p, &s, row, col, inner)) {
#pragma omp atomic write
          status = ERR_DEVICE;
        }
      }
      if (epilogue) FN(epilogue)(epilogue, p->C, p->ldc, row, p->m[i], col, p->n[j]);
    }
  }
  CHECK(status == OK, ERR_DEVICE, "oneDNN failed to run a bf16 matrix product");
  return OK;
}

int gemm16(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const uint16_t *A, int64_t lda,
           const uint16_t *B, int64_t ldb, bool add, float *C, int64_t ldc, const Epilogue *epilogue) {
  Cpu *cpu = dev->impl;
  if (!ta && M % 2 == 1) { /* the last row separately */
    Epilogue last = epilogue ? *epilogue : (Epilogue){0};
    int64_t m = M - 1;
    if (last.y) last.y += m * last.ldy;
    if (m > 0) TRY(gemm16(dev, ta, tb, m, N, K, A, lda, B, ldb, add, C, ldc, epilogue));
    return one_row(dev, tb, N, K, A + m * lda, B, ldb, add, C + m * ldc, epilogue ? &last : NULL);
  }
  if (cpu->gemm16 == NULL) TRY(gemm16_open(dev));
  Product p; /* large: not zeroed */
  p.ta = ta, p.tb = tb, p.add = add;
  p.A = A, p.B = B, p.C = C;
  p.lda = lda, p.ldb = ldb, p.ldc = ldc;
  p.m_tiles = cut(M, TILE_M, !ta, p.m);
  p.n_tiles = cut(N, TILE_N, false, p.n);
  p.k_tiles = cut(K, TILE_K, ta, p.k);
  TRY(shapes_create(cpu->gemm16, &p));
  return product_run(cpu->gemm16, &p, epilogue);
}
#else
typedef int gemm16_is_for_f32_only;
#endif
