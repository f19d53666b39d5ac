#include "bench/alone.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/median.h"
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>

static void must(dnnl_status_t s) {
  if (s == dnnl_success) return;
  fprintf(stderr, "bench: oneDNN status %d\n", (int)s);
  exit(1);
}

typedef struct Case {
  int64_t M, N, K;
  bool ta, tb, bf16;
  void *A, *B, *C;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
} Case;

static dnnl_memory_t matrix(const Case *c, int64_t rows, int64_t cols, bool transposed, dnnl_data_type_t type,
                            void *data, dnnl_memory_desc_t *md) {
  dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : cols, transposed ? rows : 1};
  dnnl_memory_t m;
  must(dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides));
  must(dnnl_memory_create(&m, md, c->engine, data));
  return m;
}

static double primitive_seconds(Case *c, int tries) {
  dnnl_data_type_t type = c->bf16 ? dnnl_bf16 : dnnl_f32;
  dnnl_memory_desc_t da, db, dc;
  dnnl_memory_t a = matrix(c, c->M, c->K, c->ta, type, c->A, &da), b = matrix(c, c->K, c->N, c->tb, type, c->B, &db),
                out = matrix(c, c->M, c->N, false, dnnl_f32, c->C, &dc);
  dnnl_matmul_desc_t desc;
  dnnl_primitive_desc_t pd;
  dnnl_primitive_t p;
  must(dnnl_matmul_desc_init(&desc, &da, &db, NULL, &dc));
  must(dnnl_primitive_desc_create(&pd, &desc, NULL, c->engine, NULL));
  must(dnnl_primitive_create(&p, pd));
  dnnl_exec_arg_t args[3] = {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, out}};
  double t[32];
  for (int i = -1; i < tries; i++) {
    double start = clock_now();
    must(dnnl_primitive_execute(p, c->stream, 3, args));
    must(dnnl_stream_wait(c->stream));
    if (i >= 0) t[i] = clock_now() - start;
  }
  dnnl_primitive_destroy(p);
  dnnl_primitive_desc_destroy(pd);
  dnnl_memory_destroy(a);
  dnnl_memory_destroy(b);
  dnnl_memory_destroy(out);
  return median(t, tries);
}

static double sgemm_seconds(Case *c, int tries) {
  double t[32];
  for (int i = -1; i < tries; i++) {
    double start = clock_now();
    must(dnnl_sgemm(c->ta ? 'T' : 'N', c->tb ? 'T' : 'N', c->M, c->N, c->K, 1, c->A, c->ta ? c->M : c->K, c->B,
                    c->tb ? c->K : c->N, 0, c->C, c->N));
    if (i >= 0) t[i] = clock_now() - start;
  }
  return median(t, tries);
}

double alone_seconds(bool bf16, bool ta, bool tb, int64_t M, int64_t N, int64_t K, int tries) {
  Case c = {.M = M, .N = N, .K = K, .ta = ta, .tb = tb, .bf16 = bf16};
  size_t each = bf16 ? 2 : 4;
  if (mem_alloc(&c.A, (size_t)(M * K) * each) || mem_alloc(&c.B, (size_t)(N * K) * each) ||
      mem_alloc(&c.C, (size_t)(M * N) * 4)) {
    fprintf(stderr, "bench: out of memory\n");
    exit(1);
  }
  must(dnnl_engine_create(&c.engine, dnnl_cpu, 0));
  must(dnnl_stream_create(&c.stream, c.engine, dnnl_stream_default_flags));
  double best = primitive_seconds(&c, tries);
  if (!bf16) {
    double other = sgemm_seconds(&c, tries);
    if (other < best) best = other;
  }
  dnnl_stream_destroy(c.stream);
  dnnl_engine_destroy(c.engine);
  mem_free(&c.A);
  mem_free(&c.B);
  mem_free(&c.C);
  return best;
}
