/* sequence — what the state-space kernels share: the rows of a sequence in the direction that is asked for, and several
 * neighbours of a row at once as f32. */
#pragma once
#include "cuda.cuh"
#include <string.h>
#include <type_traits>

namespace { /* what a file makes of these is its own */

static __device__ inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows of a sequence from step `start` on: at(k) is the row of step start + k. A reversed sequence begins with its last
 * row. */
template <class A> struct Line {
  A *first;
  int64_t step;
  __device__ Line(const Rows<A> &m, int64_t b, int64_t L, bool reverse, int64_t start, int64_t column)
      : first(m.row(b * L + (reverse ? L - 1 - start : start)) + column), step(reverse ? -m.ld : m.ld) {}
  __device__ A *at(int k) const { return first + k * step; }
};

/* N neighbours as they stand in memory. bf16 is taken apart by unpack only, for whoever touches a number waits for its
 * load; so several can be under way. */
template <class A, int N> struct alignas(sizeof(A) * N) Held {
  static constexpr size_t BYTES = sizeof(A) * N;
  using Word = std::conditional_t<BYTES % 8 == 0, uint64_t, std::conditional_t<BYTES % 4 == 0, uint32_t, uint16_t>>;
  Word words[BYTES / sizeof(Word)];
  __device__ void load(const A *from) { *this = *(const Held *)from; }
  __device__ void unpack(float *to) const {
    A v[N];
    memcpy(v, words, sizeof v);
    for (int i = 0; i < N; i++) to[i] = get(v[i]);
  }
  __device__ static void store(A *to, const float *from) {
    Held h;
    A v[N];
    for (int i = 0; i < N; i++) put(&v[i], from[i]);
    memcpy(h.words, v, sizeof v);
    *(Held *)to = h;
  }
};

/* Whether the rows of t fall into packs of n elements that begin at multiples of their size. */
static inline bool in_packs(Tensor t, int64_t n) {
  return t.ld % n == 0 && cols_of(t) % n == 0 && (uintptr_t)t.data % ((size_t)n * dtype_size(t.type)) == 0;
}

} /* namespace */
