/* alone — the speed of oneDNN's matrix products by themselves: a lower bound on the time of dense ops. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/** alone_seconds — median time of C[M,N] = op(A) op(B) over `tries` runs after a warm-up, with all threads: the faster
 *  of sgemm and a matmul primitive (bf16: the primitive only). */
double alone_seconds(bool bf16, bool ta, bool tb, int64_t M, int64_t N, int64_t K, int tries);
