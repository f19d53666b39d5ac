/* alone — how fast oneDNN multiplies matrices of a shape with nothing else to do: the floor of dense work. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/** alone_seconds — median time of C[M,N] = op(A) op(B) over `tries` runs after a warm-up, the better of sgemm and a
 *  matmul primitive (bf16: the primitive), all threads. */
double alone_seconds(bool bf16, bool ta, bool tb, int64_t M, int64_t N, int64_t K, int tries);
