/* logits — how a block reads a row of V logits: in packs, thread t the packs t, t + THREADS, … in every pass, several
 * on their way at once. A pack is 16 bytes where rows begin at multiples of that, or else one logit. */
#pragma once
#include "cuda.cuh"

static constexpr int PACK_BYTES = 16, AT_ONCE = 4;

/* WITH_ROWS — an expression with A standing for the type of the logits and N for the logits in a pack. */
#define WITH_ROWS(t, ...)                                                                                              \
  WITH_TYPE((t).type, rows_aligned(t) ?                                                                                \
                          [&] {                                                                                        \
                            constexpr int N = PACK_BYTES / sizeof(A);                                                  \
                            return __VA_ARGS__;                                                                        \
                          }()                                                                                          \
                                      : [&] {                                                                          \
                                          constexpr int N = 1;                                                         \
                                          return __VA_ARGS__;                                                          \
                                        }())
static inline bool rows_aligned(Tensor t) {
  return (uintptr_t)t.data % PACK_BYTES == 0 && t.ld * (int64_t)dtype_size(t.type) % PACK_BYTES == 0;
}

/* The i-th pack of a row, −∞ beyond the row's end. */
template <int N, class A> static __device__ Pack<A, N> pack_at(const A *f, int V, int i) {
  if ((i + 1) * N <= V) return ((const Pack<A, N> *)f)[i];
  Pack<A, N> p;
  for (int j = 0; j < N; j++) {
    put(&p.v[j], -INFINITY);
    if (i * N + j < V) p.v[j] = f[i * N + j];
  }
  return p;
}

template <int N, class A> static __device__ void put_pack(A *f, int V, int i, const Pack<A, N> &p) {
  if ((i + 1) * N <= V)
    ((Pack<A, N> *)f)[i] = p;
  else
    for (int j = 0; j < N; j++)
      if (i * N + j < V) f[i * N + j] = p.v[j];
}

/* use(i, p) for this thread's packs from the i-th on. */
template <int N, class A, class F> static __device__ void each_pack(const A *f, int V, int i, F use) {
  for (; i + (AT_ONCE - 1) * THREADS < V / N; i += AT_ONCE * THREADS) {
    Pack<A, N> p[AT_ONCE];
    for (int k = 0; k < AT_ONCE; k++) p[k] = ((const Pack<A, N> *)f)[i + k * THREADS];
    for (int k = 0; k < AT_ONCE; k++) use(i + k * THREADS, p[k]);
  }
  for (; i * N < V; i += THREADS) use(i, pack_at<N>(f, V, i));
}

/* The logits of the i-th pack as floats; forbid is hidden: −∞. */
template <class A, int N> struct Logits {
  float v[N];
  __device__ Logits(const Pack<A, N> &p, int i, int32_t forbid) {
    for (int j = 0; j < N; j++) v[j] = get(p.v[j]);
    if (forbid >= i * N && forbid < (i + 1) * N) /* a rare branch: nothing is compared one by one but there */
      for (int j = 0; j < N; j++)
        if (i * N + j == forbid) v[j] = -INFINITY;
  }
};

/* The largest of a block's values, for every thread. */
static __device__ float larger(float a, float b) { return fmaxf(a, b); }
static __device__ float block_max(float v) { return block_reduce(v, larger); }
