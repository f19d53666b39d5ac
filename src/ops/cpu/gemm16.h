/* gemm16 — matrix products with bf16 factors and f32 sums, by oneDNN's matmul primitives: one per tile shape and
 * thread. */
#pragma once
#include "ops/cpu/cpu.h"

/** gemm16 — C[M,N] f32 = or += op(A) op(B); A and B are bf16. Tiles run in parallel. There are few
 *  tile sizes, so that a varying number of rows reuses cached primitives. */
int gemm16(Device *dev, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const uint16_t *A, int64_t lda,
           const uint16_t *B, int64_t ldb, bool add, float *C, int64_t ldc, const Epilogue *epilogue);
/** gemm16_supported — whether this processor has AVX512_BF16. Without, oneDNN emulates the products at a third of the speed
 *  of f32, or has none. */
bool gemm16_supported(void);
/** gemm16_open — create the cache. */
int gemm16_open(Device *dev);
void gemm16_destroy(Gemm16 **g);
