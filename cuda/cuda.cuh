/* cuda — what the files of the CUDA backend share: a device's stream and scratch, launching a kernel, numbers in f32
 * and bf16, reductions over a warp and a block.
 *
 * Kernels are written for blocks of THREADS threads on a grid of one dimension, with static shared memory, and launched
 * through LAUNCH only, so that the tests can run them on the CPU (tests/emulation). No atomics: every sum has one
 * order, and results repeat bit for bit. */
#pragma once
#include "base/err.h"
#include "ops/ops.h"
#include <math.h>
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#else
#include "emulation/cuda_on_cpu.h"
#endif

enum { THREADS = 256, WARP = 32, WARPS = THREADS / WARP };
typedef __nv_bfloat16 bf16;

/* ---- the device */
typedef enum Scratch { SCRATCH_PARTIAL, SCRATCH_DENSE, SCRATCH_ATTENTION, SCRATCH_ROTARY, SCRATCH_SLOTS } Scratch;
enum { STAGES = 4 };

typedef struct DensePlans DensePlans;         /* dense.cu */
typedef struct AttentionPlans AttentionPlans; /* attention_cudnn.cu */

typedef struct Cuda {
  cudaStream_t stream;
  int index, processors, major, minor; /* number of the GPU on its node, multiprocessors, compute capability */
  char name[256];
  unsigned char uuid[16]; /* tells this GPU from all others */
  void *scratch[SCRATCH_SLOTS];
  size_t scratch_bytes[SCRATCH_SLOTS];
  struct { /* pinned memory through which copies from the host pass: each is filled, then the next */
    char *memory;
    size_t used;      /* bytes that copies have been asked for from */
    cudaEvent_t free; /* after the last of them */
  } stage[STAGES];
  int filling;
  int64_t rotary_L, rotary_half; /* of what SCRATCH_ROTARY holds: cosine and sine [L, half] */
  DensePlans *dense;
  AttentionPlans *attention;
} Cuda;

static inline Cuda *cuda_of(const Device *dev) { return (Cuda *)dev->impl; }

/** cuda_check — OK, or ERR_DEVICE (ERR_MEMORY where memory lacks) with what was tried and CUDA's text. */
int cuda_check(cudaError_t e, const char *what);
/** cuda_scratch — *p := at least `bytes` of device memory, valid until the slot is asked again; grows, never shrinks.
 */
int cuda_scratch(Device *dev, Scratch slot, size_t bytes, void *p);

/* LAUNCH — kernel(…) on `blocks` blocks of THREADS; evaluates to OK or ERR_DEVICE. A template's kernel stands in
 * parentheses. Nothing is launched for 0 blocks. */
#ifdef __CUDACC__
#define LAUNCH(dev, kernel, blocks, ...)                                                                               \
  ((blocks) == 0 ? OK                                                                                                  \
                 : (kernel<<<(unsigned)(blocks), THREADS, 0, cuda_of(dev)->stream>>>(__VA_ARGS__),                     \
                    cuda_check(cudaGetLastError(), #kernel)))
/* SHARED — n elements in the block's shared memory. */
#define SHARED(type, name, n) __shared__ type name[n]
#endif

/* WITH_TYPE — an expression with A standing for float or bf16, as a tensor's type says. */
#define WITH_TYPE(type, ...)                                                                                           \
  ((type) == DT_BF16 ? [&] {                                                                                           \
    using A = bf16;                                                                                                    \
    return __VA_ARGS__;                                                                                                \
  }()                                                                                                                  \
                     : [&] {                                                                                           \
                         using A = float;                                                                              \
                         return __VA_ARGS__;                                                                           \
                       }())

/* ---- numbers */
static __device__ inline float get(float x) { return x; }
static __device__ inline float get(bf16 x) { return __bfloat162float(x); }
static __device__ inline void put(float *to, float x) { *to = x; }
static __device__ inline void put(bf16 *to, float x) { *to = __float2bfloat16(x); }

/* N neighbours, read and written at once: 16 bytes of f32 are 4, of bf16 8. Where they begin must be a multiple of
 * their size. */
template <class A, int N> struct alignas(sizeof(A) * N) Pack { A v[N]; };

/* ---- a matrix on the device: rows of ld elements */
template <class A> struct Rows {
  A *data;
  int64_t ld, rows, cols;
  __device__ A *row(int64_t r) const { return data + r * ld; }
};
template <class A> static inline Rows<A> rows(Tensor t) {
  Rows<A> m = {(A *)t.data, t.ld, rows_of(t), cols_of(t)};
  return m;
}
static inline int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }

/* ---- sums over a warp or a block */
static __device__ inline float warp_sum(float v) {
  for (int m = WARP / 2; m > 0; m /= 2) v += __shfl_xor_sync(~0u, v, m);
  return v;
}

/* The value of the thread whose number differs by mask; a struct that is reduced has one of its own. */
template <class T> static __device__ inline T exchange(T v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
template <class T> static __device__ inline T plus(T a, T b) { return a + b; }

/* f over the block's values in one fixed order, for every thread. Ends with all threads past their reads of `part`. */
template <class T, class F> __device__ T block_reduce(T v, F f) {
  SHARED(T, part, WARPS);
  for (int m = WARP / 2; m > 0; m /= 2) v = f(v, exchange(v, m));
  if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = v;
  __syncthreads();
  T all = part[0];
  for (int i = 1; i < WARPS; i++) all = f(all, part[i]);
  __syncthreads();
  return all;
}
