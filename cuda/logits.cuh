/* logits — how a block reads a row of V logits: in packs of 16 bytes, or single logits where rows are not aligned to
 * that. In every pass thread t takes packs t, t + THREADS, …, with AT_ONCE loads in flight. */
#pragma once
#include "packs.cuh"

static constexpr int AT_ONCE = 4;

/* WITH_ROWS — evaluate an expression with A as the type of the logits and N as the number of logits in a pack. */
#define WITH_ROWS(t, ...) WITH_TYPE((t).type, WITH_PACKS(rows_aligned(t, WIDE<A>), WIDE<A>, __VA_ARGS__))

/* Pack i of a row; −∞ beyond the row's end. */
template <int N, class A> static __device__ Pack<A, N> pack_at(const A *f, int V, int i) {
  return load_upto<N>(f + i * N, V - i * N, -INFINITY);
}
template <int N, class A> static __device__ void put_pack(A *f, int V, int i, const Pack<A, N> &p) {
  store_upto(f + i * N, p, V - i * N);
}

/* Call use(i, p) for this thread's packs, beginning with number i. */
template <int N, class A, class F> static __device__ void each_pack(const A *f, int V, int i, F use) {
  for (; i + (AT_ONCE - 1) * THREADS < V / N; i += AT_ONCE * THREADS) {
    Pack<A, N> p[AT_ONCE];
    for (int k = 0; k < AT_ONCE; k++) p[k] = load<N>(f + (i + k * THREADS) * N);
    for (int k = 0; k < AT_ONCE; k++) use(i + k * THREADS, p[k]);
  }
  for (; i * N < V; i += THREADS) use(i, pack_at<N>(f, V, i));
}

/* The logits of pack i as floats, −∞ at `forbid`. */
template <class A, int N> struct Logits {
  float v[N];
  __device__ Logits(const Pack<A, N> &p, int i, int32_t forbid) {
    for (int j = 0; j < N; j++) v[j] = get(p.v[j]);
    if (forbid >= i * N && forbid < (i + 1) * N) /* one pack of the row: the others need no comparison by element */
      for (int j = 0; j < N; j++)
        if (i * N + j == forbid) v[j] = -INFINITY;
  }
};

/* The largest of a block's values, for every thread. */
static __device__ inline float block_max(float v) { return block_reduce(v, larger); }
