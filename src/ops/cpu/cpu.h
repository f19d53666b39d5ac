/* cpu — declarations shared by the files of the CPU backend. Each file is compiled twice: with REAL = float
 * (production) and with REAL = double (the oracle, plain loops). FN(name) gives the two versions different
 * names.
 *
 * Parallel loops run over chunks whose bounds depend only on the shapes, and sums over chunks are taken in order:
 * results are bitwise the same for any number of threads. */
#pragma once
#include "base/err.h"
#include "ops/ops.h"
#include <math.h>

#ifndef REAL
#define REAL float
#define REAL_IS_FLOAT 1
#define FN(name) cpu_f32_##name
#else
#define REAL_IS_FLOAT 0
#define FN(name) cpu_f64_##name
#endif
typedef REAL real;

/* The C library's vector exp and log (libmvec), for loops marked `omp simd`. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__OPTIMIZE__)
#pragma omp declare simd notinbranch
extern float expf(float);
#pragma omp declare simd notinbranch
extern double exp(double);
#pragma omp declare simd notinbranch
extern float logf(float);
#pragma omp declare simd notinbranch
extern double log(double);
#endif
static inline real real_exp(real x) { return REAL_IS_FLOAT ? (real)expf((float)x) : (real)exp((double)x); }
static inline real real_log(real x) { return REAL_IS_FLOAT ? (real)logf((float)x) : (real)log((double)x); }
static inline real real_sqrt(real x) { return REAL_IS_FLOAT ? (real)sqrtf((float)x) : (real)sqrt((double)x); }

enum { UPDATE_CHUNK = 4096 }; /* Ops.chunk */

typedef enum ScratchSlot {
  SCRATCH_A,
  SCRATCH_B,
  SCRATCH_LOW_A,
  SCRATCH_LOW_B,
  SCRATCH_PARTIAL,
  SCRATCH_THREAD,
  SCRATCH_PACK,
  SCRATCH_ROWS,
  SCRATCH_SLOTS
} ScratchSlot;

typedef struct Gemm16 Gemm16; /* cached bf16 matrix products, gemm16.c */

typedef struct Cpu {
  void *scratch[SCRATCH_SLOTS];
  size_t size[SCRATCH_SLOTS];
  real *cosine, *sine; /* [rotary_L, rotary_half] tables of the rotary embedding */
  int64_t rotary_L, rotary_half;
  Gemm16 *gemm16;
} Cpu;

/** scratch — *p := the slot's memory, at least `bytes`; valid until the next call for the slot. Grows, never
 *  shrinks. */
int FN(scratch)(Device *dev, ScratchSlot slot, size_t bytes, void *p);

/* Epilogue — applied to each finished tile of a product C:
 *   C ← C + bias;  with y: y = gelu(C) */
typedef struct Epilogue {
  const real *bias; /* [N] or NULL */
  real *y;          /* [M,N], row stride ldy; NULL: no activation */
  int64_t ldy;
} Epilogue;

/** gemm — C[M,N] = op(A) op(B), or with `add` C += op(A) op(B), where op transposes if ta, tb. Blocks of C are computed
 *  in parallel. An element has the same bits whatever M and N are. */
int FN(gemm)(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
             int64_t ldb, bool add, real *C, int64_t ldc, const Epilogue *epilogue);
/** gemm_serial — the same in the calling thread, without epilogue. room: gemm_room(N, K) reals, 64-byte aligned, for
 *  packed factors. */
void FN(gemm_serial)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *B,
                     int64_t ldb, bool add, real *C, int64_t ldc, real *room);
/** gemm_room — a number of reals that grows with N and K, and is a multiple of 64 bytes. */
size_t FN(gemm_room)(int64_t N, int64_t K);
/** gemm_pack — to := op(B)[K,N], packed once for several gemm_packed. to: gemm_pack_room(N, K) reals, 64-byte aligned. */
void FN(gemm_pack)(bool tb, int64_t N, int64_t K, const real *B, int64_t ldb, real *to);
/** gemm_packed — gemm_serial, the same bits, with the first N columns and the terms first … first+K−1 of what was packed
 *  with `height` terms. */
void FN(gemm_packed)(bool ta, int64_t M, int64_t N, int64_t K, const real *A, int64_t lda, const real *packed,
                     int64_t height, int64_t first, bool add, real *C, int64_t ldc);
size_t FN(gemm_pack_room)(int64_t N, int64_t K);
void FN(epilogue)(const Epilogue *e, real *C, int64_t ldc, int64_t i0, int64_t rows, int64_t j0, int64_t cols);

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static inline real *row(Tensor t, int64_t r) { return (real *)t.data + r * t.ld; }

int FN(dense)(Device *, Tensor y, Tensor pre, Tensor x, Tensor w, Tensor b);
int FN(dense_backward)(Device *, Tensor dx, bool dx_add, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w);
int FN(gelu_backward)(Device *, Tensor dy, Tensor pre, Tensor db);
int FN(embed)(Device *, Tensor x, Tensor ids, Tensor table);
int FN(embed_backward)(Device *, Tensor dtable, Tensor dx, Tensor ids);
int FN(embed_mix)(Device *, Tensor x, const Mixture *, Tensor table);
int FN(embed_mix_backward)(Device *, Tensor dtable, Tensor dx, const Mixture *);
int FN(residual_norm)(Device *, const ResidualNorm *);
int FN(residual_norm_backward)(Device *, const ResidualNorm *);
int FN(rotary)(Device *, Tensor x, int64_t heads, int64_t L, int64_t first, bool inverse);
int FN(attention)(Device *, const Attention *);
int FN(attention_backward)(Device *, const Attention *);
int FN(attention_step)(Device *, const AttentionStep *);
int FN(conv)(Device *, const Conv *);
int FN(conv_backward)(Device *, const Conv *);
int FN(scan)(Device *, const Scan *);
int FN(scan_backward)(Device *, const Scan *);
int FN(gate)(Device *, Tensor o, Tensor y, Tensor z);
int FN(gate_backward)(Device *, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z);
int FN(silu)(Device *, Tensor y, Tensor x);
int FN(silu_backward)(Device *, Tensor dx, Tensor dy, Tensor x);
int FN(sinusoid)(Device *, Tensor y, Tensor sigma);
int FN(gather_rows)(Device *, Tensor y, Tensor x, Tensor rows);
int FN(scatter_rows)(Device *, Tensor y, Tensor x, Tensor rows);
int FN(cross_entropy)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                      bool gradient);
int FN(absorbing_bound)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask, bool gradient);
int FN(score_entropy)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask, bool gradient);
int FN(uniform_bound)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask, bool gradient);
int FN(draw)(Device *, Tensor ids, Tensor logits, Tensor uniform, Tensor keep, const DrawRule *);
int FN(prediction)(Device *, Tensor out, Tensor logits, Tensor target, int32_t forbid);
int FN(argmax)(Device *, Tensor ids, Tensor logits, int32_t forbid);
int FN(confidence)(Device *, Tensor out, Tensor logits, Tensor ids, int32_t forbid);
int FN(exclude)(Device *, Tensor logits, int32_t id);
int FN(add)(Device *, Tensor y, Tensor x);
int FN(blend)(Device *, Tensor y, double a, double b, Tensor x);
int FN(sum)(Device *, Tensor total, Tensor x);
int FN(squares)(Device *, Tensor terms, Tensor x);
int FN(sum_terms)(Device *, Tensor sum, Tensor terms);
int FN(adamw)(Device *, const AdamW *);
int FN(to_bf16)(Device *, Tensor y, Tensor x);
