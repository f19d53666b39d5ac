/* cuda — what the files of the CUDA backend share: launching a kernel on a device's stream, and reductions over a
 * block.
 *
 * Kernels are written for blocks of THREADS threads and launched through LAUNCH only, so that the tests can run them on
 * the CPU (tests/emulation). No atomics: every sum has one order, and results repeat bit for bit. */
#pragma once
#include "base/err.h"
#include "ops/ops.h"
#include <math.h>

enum { THREADS = 256, WARP = 32, WARPS = THREADS / WARP };

#ifdef __CUDACC__
#include <cuda_runtime.h>
/* SHARED — n elements in the block's shared memory. */
#define SHARED(type, name, n) __shared__ type name[n]
typedef struct Cuda {
  cudaStream_t stream;
} Cuda;
/* LAUNCH — kernel(…) on `blocks` blocks of THREADS; evaluates to OK or ERR_DEVICE. */
#define LAUNCH(dev, kernel, blocks, ...)                                                                               \
  (kernel<<<(unsigned)(blocks), THREADS, 0, ((Cuda *)(dev)->impl)->stream>>>(__VA_ARGS__), cuda_launched(#kernel))
static inline int cuda_launched(const char *kernel) {
  cudaError_t e = cudaGetLastError();
  return e == cudaSuccess ? OK : RAISE(ERR_DEVICE, "%s: %s", kernel, cudaGetErrorString(e));
}
#else
#include "emulation/cuda_on_cpu.h"
#endif

/* f over the block's values in one fixed order, for every thread. Ends with all threads past their reads of `part`. */
template <class T, class F> __device__ T block_reduce(T v, F f) {
  SHARED(T, part, WARPS);
  for (int m = WARP / 2; m > 0; m /= 2) v = f(v, T::exchange(v, m));
  if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = v;
  __syncthreads();
  T all = part[0];
  for (int i = 1; i < WARPS; i++) all = f(all, part[i]);
  __syncthreads();
  return all;
}

static inline int64_t rows_of(Tensor t) { return tensor_count(t) / t.dims[t.rank - 1]; }
static inline int64_t cols_of(Tensor t) { return t.dims[t.rank - 1]; }
