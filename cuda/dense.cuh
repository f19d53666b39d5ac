/* dense — shared by dense.cu and dense_plan.cu: the description of a product, and the call to cuBLASLt. */
#pragma once
#include "cuda.cuh"

/* Product — c[M,N] = op(a) op(b) (+ bias[N]) (+ c if add);  with y: y = gelu_tanh(c). */
typedef struct Product {
  const char *op;   /* the calling op, for messages */
  bool ta, tb;      /* a is stored as [K,M], b as [N,K] */
  int64_t M, N, K;  /* M, N, K > 0 */
  Tensor a, b;      /* both f32 or both bf16; rows may be strided */
  Tensor c, y;      /* [M,N], f32 or bf16, both of one type; y may be none */
  const void *bias; /* [N] of c's type; may be NULL */
  bool add;         /* excludes bias and y */
} Product;

enum { DENSE_WORKSPACE = 32 << 20 }; /* bytes, as NVIDIA recommends for Hopper */

/** dense_library — compute the whole product by one call of cuBLASLt. *done := whether it did; false if it refuses.
 *  Where   device, on dev's stream; the first call for a shape may synchronise with the device
 *  Errors  ERR_DEVICE for a CUDA error */
int dense_library(Device *dev, const Product *p, void *workspace, bool *done);
