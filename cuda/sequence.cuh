/* sequence — what the state-space kernels share: the rows of a sequence in either direction, and packs whose elements
 * are converted to f32 only when they are used. */
#pragma once
#include "packs.cuh"
#include <string.h>
#include <type_traits>

namespace { /* each file instantiates its own */

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

/* N neighbours as raw words. Only unpack() touches the elements: using a value waits for its load, so several loads
 * stay in flight until then. */
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

} /* namespace */
