/* sequence — what the state-space kernels share: the rows of a sequence in the direction that is asked for, and several
 * neighbours of a row at once as f32. */
#pragma once
#include "cuda.cuh"

/* Rows of a sequence from step `start` on: at(k) is the row of step start + k. A reversed sequence begins with its last
 * row. */
template <class A> struct Line {
  A *first;
  int64_t step;
  __device__ Line(const Rows<A> &m, int64_t b, int64_t L, bool reverse, int64_t start, int64_t column)
      : first(m.row(b * L + (reverse ? L - 1 - start : start)) + column), step(reverse ? -m.ld : m.ld) {}
  __device__ A *at(int k) const { return first + k * step; }
};

template <int N, class A> static __device__ inline void unpack(float *to, Pack<A, N> from) {
  for (int i = 0; i < N; i++) to[i] = get(from.v[i]);
}
template <int N, class A> static __device__ inline Pack<A, N> pack(const float *from) {
  Pack<A, N> p;
  for (int i = 0; i < N; i++) put(&p.v[i], from[i]);
  return p;
}
template <int N, class A> static __device__ inline Pack<A, N> load_pack(const A *from) {
  return *(const Pack<A, N> *)from;
}
template <int N, class A> static __device__ inline void store_pack(A *to, Pack<A, N> p) { *(Pack<A, N> *)to = p; }

/* Whether the rows of t fall into packs of n elements that begin at multiples of their size. */
static inline bool in_packs(Tensor t, int64_t n) {
  return t.ld % n == 0 && cols_of(t) % n == 0 && (uintptr_t)t.data % ((size_t)n * dtype_size(t.type)) == 0;
}
