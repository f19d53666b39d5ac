/* dense — what the two files of the dense products share: a product as rows and columns, and asking cuBLASLt for it. */
#pragma once
#include "cuda.cuh"

/* Product — c[M,N] = op(a) op(b) (+ bias[N]) (+ c if add);  where there is a y: y = gelu_tanh(c). */
typedef struct Product {
  const char *op;   /* whose product: for messages */
  bool ta, tb;      /* a is stored as [K,M], b as [N,K] */
  int64_t M, N, K;  /* M, N, K > 0 */
  Tensor a, b;      /* both f32 or both bf16; rows may be strided */
  Tensor c, y;      /* [M,N], f32 or bf16, both of one type; y may be none */
  const void *bias; /* [N] of c's type; may be NULL */
  bool add;         /* then there is neither bias nor y */
} Product;

enum { DENSE_WORKSPACE = 32 << 20 }; /* bytes that cuBLASLt may use, as it wants them on Hopper */

/** dense_library — ask cuBLASLt for the product, all of it in one call; *done := whether it has such a product.
 *  Where   device, on dev's stream; the first call for a shape may wait for the device
 *  Errors  ERR_DEVICE */
int dense_library(Device *dev, const Product *p, void *workspace, bool *done);
