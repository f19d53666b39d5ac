#include "ops/cpu/gemm16.h"
#if REAL_IS_FLOAT
#include "base/mem.h"
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

typedef struct Shape { /* what a primitive is made for */
  int64_t M, N, K, lda, ldb, ldc;
  bool ta, tb, add;
} Shape;

typedef struct Primitive { /* one thread's primitive for a shape, its memory objects rebound at every call */
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
    if (s_ != dnnl_success) return RAISE(ERR_DEVICE, "oneDNN: %s gives status %d", #call, (int)s_);                    \
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

/* The row of the cache for a shape; made, for every thread, the first time it is asked. Called by one thread. */
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
  { /* inside a parallel region oneDNN makes and runs a primitive for one thread */
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

/* Cut n into pieces: whole tiles, then the rest as one piece or, where n changes from call to call, as powers of two.
 */
static int cut(int64_t n, int64_t tile, bool powers, int64_t *piece, int most) {
  int count = 0;
  while (n > 0) {
    while (powers && tile > n) tile /= 2;
    ASSERT(count < most);
    piece[count++] = min64(tile, n);
    n -= min64(tile, n);
  }
  return count;
}

int gemm16_open(Device *dev) {
  Cpu *cpu = dev->impl;
  const Shape one = {1, 16, 16, 16, 16, 16, false, true, false};
  int at;
  TRY(gemm16_create(&cpu->gemm16, dev->threads));
  CHECK(shape_find(cpu->gemm16, &one, &at) == OK, ERR_DEVICE,
        "device.matmul = bf16: oneDNN has no bf16 products for this processor; use device.matmul = f32");
  return OK;
}

/* A product of one row, made up to two: oneDNN sums that of one in another order, and a row is to be the same bits
 * however many there are. */
static int one_row(Device *dev, bool tb, int64_t N, int64_t K, const uint16_t *A, const uint16_t *B, int64_t ldb,
                   float beta, float *C, const Epilogue *epilogue) {
  float *c;
  TRY(FN(scratch)(dev, SCRATCH_ROWS, (size_t)(2 * N) * sizeof *c + (size_t)(2 * K) * sizeof *A, &c));
  uint16_t *a = (uint16_t *)(c + 2 * N);
  memcpy(a, A, (size_t)K * sizeof *a);
  memset(a + K, 0, (size_t)K * sizeof *a);
  memcpy(c, C, (size_t)N * sizeof *c);
  memset(c + N, 0, (size_t)N * sizeof *c);
  TRY(gemm16(dev, false, tb, 2, N, K, a, K, B, ldb, beta, c, N, NULL));
  memcpy(C, c, (size_t)N * sizeof *c);
  if (epilogue) FN(epilogue)(epilogue, C, N, 0, 1, 0, N);
  return OK;
}

int gemm16(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const uint16_t *A, int64_t lda,
           const uint16_t *B, int64_t ldb, float beta, float *C, int64_t ldc, const Epilogue *epilogue) {
  Cpu *cpu = dev->impl;
  if (!ta && M % 2 == 1) { /* the last row by itself */
    Epilogue last = epilogue ? *epilogue : (Epilogue){0};
    int64_t m = M - 1;
    if (last.y) last.y += m * last.ldy;
    if (m > 0) TRY(gemm16(dev, ta, tb, m, N, K, A, lda, B, ldb, beta, C, ldc, epilogue));
    return one_row(dev, tb, N, K, A + m * lda, B, ldb, beta, C + m * ldc, epilogue ? &last : NULL);
  }
  if (cpu->gemm16 == NULL) TRY(gemm16_open(dev));
  Gemm16 *g = cpu->gemm16;
  int64_t pm[MAX_TILES], pn[64 * 16], pk[MAX_TILES];
  int nm = cut(M, TILE_M, !ta, pm, MAX_TILES), nn = cut(N, TILE_N, false, pn, 64 * 16),
      nk = cut(K, TILE_K, ta, pk, MAX_TILES);
  int64_t i = 0;
  for (int bi = 0; bi < nm; i += pm[bi++]) { /* all primitives first, by one thread */
    if (bi > 0 && pm[bi] == pm[bi - 1]) continue;
    for (int bj = 0; bj < nn; bj++) {
      if (bj > 0 && pn[bj] == pn[bj - 1]) continue;
      for (int bk = 0; bk < nk; bk++) {
        int at;
        Shape s = {pm[bi], pn[bj], pk[bk], lda, ldb, ldc, ta, tb, bk > 0 || beta != 0};
        TRY(shape_find(g, &s, &at));
      }
    }
  }
  int status = OK;
#pragma omp parallel for schedule(dynamic) collapse(2) num_threads(g->threads)
  for (int bj = 0; bj < nn; bj++) {
    for (int bi = 0; bi < nm; bi++) {
      int64_t row0 = 0, col0 = 0, k0 = 0;
      for (int q = 0; q < bi; q++) row0 += pm[q];
      for (int q = 0; q < bj; q++) col0 += pn[q];
      for (int bk = 0; bk < nk; k0 += pk[bk++]) {
        int at, thread = omp_get_thread_num();
        Shape s = {pm[bi], pn[bj], pk[bk], lda, ldb, ldc, ta, tb, bk > 0 || beta != 0};
        int e = shape_find(g, &s, &at);
        Primitive *p = &g->primitive[at][thread];
        dnnl_memory_set_data_handle(p->a, (void *)(uintptr_t)(A + (ta ? k0 * lda + row0 : row0 * lda + k0)));
        dnnl_memory_set_data_handle(p->b, (void *)(uintptr_t)(B + (tb ? col0 * ldb + k0 : k0 * ldb + col0)));
        dnnl_memory_set_data_handle(p->c, C + row0 * ldc + col0);
        dnnl_exec_arg_t args[3] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};
        if (e == OK && dnnl_primitive_execute(p->run, g->stream[thread], 3, args) != dnnl_success) e = ERR_DEVICE;
        if (e) {
#pragma omp atomic write
          status = e;
        }
      }
      if (epilogue) FN(epilogue)(epilogue, C, ldc, row0, pm[bi], col0, pn[bj]);
    }
  }
  CHECK(status == OK, ERR_DEVICE, "oneDNN failed to run a bf16 matrix product");
  return OK;
}
#else
typedef int gemm16_is_for_f32_only;
#endif
