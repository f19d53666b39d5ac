/* cuda — what the files of the CUDA backend share: a device's stream and scratch memory, kernel launches, f32 and bf16
 * numbers, reductions over a warp and a block.
 *
 * Kernels are written for one-dimensional grids of blocks of THREADS threads with static shared memory, and are
 * launched only through LAUNCH, so that the tests can run them on the CPU (tests/emulation). No atomics: every sum has
 * a fixed order, and results repeat bit for bit. */
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
  unsigned char uuid[16];
  void *scratch[SCRATCH_SLOTS];
  size_t scratch_bytes[SCRATCH_SLOTS];
  struct { /* ring of pinned buffers that copies from the host go through */
    char *memory;
    size_t used;      /* bytes in use by copies issued so far */
    cudaEvent_t free; /* recorded after the latest of them */
  } stage[STAGES];
  int filling;                   /* index of the buffer being filled */
  int64_t rotary_L, rotary_half; /* shape of the tables in SCRATCH_ROTARY: cosine and sine [L, half] */
  DensePlans *dense;
  AttentionPlans *attention;
} Cuda;

static inline Cuda *cuda_of(const Device *dev) { return (Cuda *)dev->impl; }

/** cuda_check — OK, or ERR_DEVICE (ERR_MEMORY for a failed allocation) with what was attempted and CUDA's message. */
int cuda_check(cudaError_t e, const char *what);
/** cuda_scratch — *p := at least `bytes` of device memory, valid until the next call for the same slot. A slot grows
 *  and never shrinks. */
int cuda_scratch(Device *dev, Scratch slot, size_t bytes, void *p);

/* LAUNCH — run kernel(…) on `blocks` blocks of THREADS; evaluates to OK or ERR_DEVICE. A kernel with template arguments
 * goes in parentheses. 0 blocks launch nothing. */
#ifdef __CUDACC__
#define LAUNCH(dev, kernel, blocks, ...)                                                                               \
  ((blocks) == 0 ? OK                                                                                                  \
                 : (kernel<<<(unsigned)(blocks), THREADS, 0, cuda_of(dev)->stream>>>(__VA_ARGS__),                     \
                    cuda_check(cudaGetLastError(), #kernel)))
/* SHARED — an array of n elements in the block's shared memory. */
#define SHARED(type, name, n) __shared__ type name[n]
#endif

/* WITH_INT — evaluate an expression with `name` as a compile-time constant. WITH_TYPE — with A as float or bf16,
 * according to a tensor's type. */
#define WITH_INT(name, value, ...)                                                                                     \
  [&] {                                                                                                                \
    constexpr int name = value;                                                                                        \
    return __VA_ARGS__;                                                                                                \
  }()
#define WITH_A(type, ...)                                                                                              \
  [&] {                                                                                                                \
    using A = type;                                                                                                    \
    return __VA_ARGS__;                                                                                                \
  }()
#define WITH_TYPE(type, ...) ((type) == DT_BF16 ? WITH_A(bf16, __VA_ARGS__) : WITH_A(float, __VA_ARGS__))

/* ---- numbers */
static __device__ inline float get(float x) { return x; }
static __device__ inline float get(bf16 x) { return __bfloat162float(x); }
static __device__ inline void put(float *to, float x) { *to = x; }
static __device__ inline void put(bf16 *to, float x) { *to = __float2bfloat16(x); }

/* N neighbours accessed together: up to 16 bytes, which is 4 of f32 or 8 of bf16. The address must be a multiple of the
 * size. */
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
/* ROLLED — keeps nvcc from unrolling the loop that follows: hoisted loads would use up all registers. */
#ifdef __CUDACC__
#define ROLLED _Pragma("unroll 1")
#else
#define ROLLED
#endif

static inline int64_t ceil_div(int64_t n, int64_t d) { return (n + d - 1) / d; }
static inline int64_t round_up(int64_t n, int64_t to) { return ceil_div(n, to) * to; }

/* The number of this thread in the grid. */
static __device__ inline int64_t thread_number() { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }

/* ---- reductions over a warp or a block */
/* The value held by lane ^ mask; a struct that is reduced overloads it. */
template <class T> static __device__ inline T exchange(T v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
template <class T> static __device__ inline T plus(T a, T b) { return a + b; }
static __device__ inline float larger(float a, float b) { return fmaxf(a, b); }

/* f over the values of `lanes` neighbouring lanes, a power of two, for each of them. */
template <class T, class F> static __device__ inline T lanes_reduce(T v, F f, int lanes) {
  for (int m = lanes / 2; m > 0; m /= 2) v = f(v, exchange(v, m));
  return v;
}
static __device__ inline float warp_sum(float v) { return lanes_reduce(v, plus<float>, WARP); }

/* f over the block's values in a fixed order, for every thread. After it `part` may be overwritten. */
template <class T, class F> __device__ T block_reduce(T v, F f) {
  SHARED(T, part, WARPS);
  v = lanes_reduce(v, f, WARP);
  if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = v;
  __syncthreads();
  T all = part[0];
  for (int i = 1; i < WARPS; i++) all = f(all, part[i]);
  __syncthreads();
  return all;
}
