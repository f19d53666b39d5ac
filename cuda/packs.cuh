/* packs — N neighbours of a row read or written in one access.
 *
 * A kernel is a template over N, the elements of a pack; N = 1 serves tensors whose rows may begin anywhere. */
#pragma once
#include "cuda.cuh"

/* Elements in 16 bytes, the widest access of a thread. */
template <class A> constexpr int WIDE = 16 / (int)sizeof(A);

/* WITH_PACKS — evaluate an expression with N = n where `fit` holds, else with N = 1. */
#define WITH_PACKS(fit, n, ...) ((fit) ? WITH_INT(N, n, __VA_ARGS__) : WITH_INT(N, 1, __VA_ARGS__))

/* ---- on the host */
static inline bool aligned(const void *p, size_t bytes) { return (uintptr_t)p % bytes == 0; }
/* Whether every row of t begins at a multiple of n elements. */
static inline bool rows_aligned(Tensor t, int64_t n) {
  return aligned(t.data, (size_t)n * dtype_size(t.type)) && t.ld % n == 0;
}
/* Whether every row of t consists of aligned packs of n elements; true for a left-out t. */
static inline bool in_packs(Tensor t, int64_t n) {
  return tensor_none(t) || (rows_aligned(t, n) && cols_of(t) % n == 0);
}
/* The same two for rows on the device, where the stride of a single row does not matter. */
template <class A> static inline bool rows_aligned(Rows<A> m, int64_t n) {
  return aligned(m.data, (size_t)n * sizeof(A)) && (m.rows == 1 || m.ld % n == 0);
}
template <class A> static inline bool in_packs(Rows<A> m, int64_t n) { return rows_aligned(m, n) && m.cols % n == 0; }

/* ---- in kernels */
template <int N, class A> static __device__ inline Pack<A, N> load(const A *from) { return *(const Pack<A, N> *)from; }
template <class A, int N> static __device__ inline void store(A *to, const Pack<A, N> &p) { *(Pack<A, N> *)to = p; }

/* The same numbers in another type. */
template <class A, int N> static __device__ inline void store_as(A *to, Pack<float, N> p) {
  Pack<A, N> out;
  for (int i = 0; i < N; i++) put(&out.v[i], p.v[i]);
  store(to, out);
}

/* N elements one by one, of which the first n exist; the others are `beyond`. Any alignment. */
template <int N, class A, class I> static __device__ inline Pack<A, N> load_each(const A *from, I n, float beyond) {
  Pack<A, N> p;
  for (int j = 0; j < N; j++) {
    put(&p.v[j], beyond);
    if (j < n) p.v[j] = from[j];
  }
  return p;
}
/* An aligned pack of which the first n elements exist. */
template <int N, class A, class I> static __device__ inline Pack<A, N> load_upto(const A *from, I n, float beyond) {
  return n >= N ? load<N>(from) : load_each<N>(from, n, beyond);
}
template <class A, int N, class I> static __device__ inline void store_upto(A *to, const Pack<A, N> &p, I n) {
  if (n >= N)
    store(to, p);
  else
    for (int j = 0; j < N; j++)
      if (j < n) to[j] = p.v[j];
}
