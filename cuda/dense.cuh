/* dense — shared by dense.cu and dense_plan.cu: the description of a product, and the call to cuBLASLt. */
#pragma once
#include "cuda.cuh"

/* Product — c[M,N] = op(a) op(b) (+ bias[N]) (+ c if add);  with y: y = gelu_tanh(c);  with pre: c = c·gelu_tanh'(pre). */
typedef struct Product {
  const char *op;   /* the calling op, for messages */
  bool ta, tb;      /* a is stored as [K,M], b as [N,K] */
  int64_t M, N, K;  /* M, N, K > 0 */
  Tensor a, b;      /* both f32 or both bf16; rows may be strided */
  Tensor c, y;      /* [M,N], f32 or bf16, both of one type; y may be none */
  const void *bias; /* [N] of c's type; may be NULL */
  bool add;         /* excludes bias and y */
  Tensor pre;       /* [M,N] of c's type; may be none; excludes bias, y and add */
} Product;

enum { DENSE_WORKSPACE = 32 << 20 }; /* bytes, as NVIDIA recommends for Hopper */

/** dense_library — compute the whole product by one call of cuBLASLt. *done := whether it did; false if it refuses.
 *  Where   device, on dev's stream; the first call for a shape may synchronise with the device
 *  Errors  ERR_DEVICE for a CUDA error */
int dense_library(Device *dev, const Product *p, void *workspace, bool *done);

/* How the gradient of GELU's input is computed: fused into the product, or by a pass of its own. */
typedef enum Way { WAY_UNKNOWN, WAY_FUSED, WAY_SEPARATE } Way;
/** dense_way — where the way of computing p is remembered; WAY_UNKNOWN at first. */
Way *dense_way(Device *dev, const Product *p);

/** dense_time — *ms := the time of a few calls of f, which queues work and returns an error code. */
template <class F> static int dense_time(Device *dev, F f, float *ms) {
  enum { WARM_UP = 1, TIMED = 2 };
  static const char *const what = "timing a product";
  cudaStream_t stream = cuda_of(dev)->stream;
  cudaEvent_t from = NULL, to = NULL;
  int err = cuda_check(cudaEventCreateWithFlags(&from, 0), what);
  if (err == OK) err = cuda_check(cudaEventCreateWithFlags(&to, 0), what);
  for (int turn = 0; turn < WARM_UP + TIMED && err == OK; turn++) {
    if (turn == WARM_UP) err = cuda_check(cudaEventRecord(from, stream), what);
    if (err == OK) err = f();
  }
  if (err == OK) err = cuda_check(cudaEventRecord(to, stream), what);
  if (err == OK) err = cuda_check(cudaEventSynchronize(to), what);
  if (err == OK) err = cuda_check(cudaEventElapsedTime(ms, from, to), what);
  if (from) cudaEventDestroy(from);
  if (to) cudaEventDestroy(to);
  return err;
}
