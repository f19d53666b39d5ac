/* packs — neighbours of a row read and written at once.
 *
 * A kernel is a template over N, the elements of a pack: N = 1 serves tensors whose rows begin anywhere. */
#pragma once
#include "cuda.cuh"

/* Elements of 16 bytes, the most that a thread moves at once. */
template <class A> constexpr int WIDE = 16 / (int)sizeof(A);

/* Whether every row of t is whole packs of n elements; a left-out t is. On the host. */
static inline bool in_packs(Tensor t, int64_t n) {
  if (tensor_none(t)) return true;
  return (uintptr_t)t.data % ((size_t)n * dtype_size(t.type)) == 0 && t.ld % n == 0 && cols_of(t) % n == 0;
}

template <int N, class A> static __device__ inline Pack<A, N> load(const A *from) { return *(const Pack<A, N> *)from; }
template <class A, int N> static __device__ inline void store(A *to, Pack<A, N> p) { *(Pack<A, N> *)to = p; }
/* The same numbers in another type. */
template <class A, int N> static __device__ inline void store_as(A *to, Pack<float, N> p) {
  Pack<A, N> out;
  for (int i = 0; i < N; i++) put(&out.v[i], p.v[i]);
  store(to, out);
}
