/* cuda_on_cpu — runs the kernels of cuda/ on the CPU, for machines without a GPU; the CUDA runtime calls are in
 * runtime_on_cpu.h.
 *
 * One block runs at a time. Each CUDA thread is a fiber that runs until its next barrier or shuffle, which waits for
 * all threads. So a missing barrier gives wrong results, and a barrier that not all threads reach aborts the process.
 * EMULATION_SEED permutes the order of blocks and of fibers. Shared memory is poisoned before each block. Device memory
 * is accessible only to kernels and copies. Not covered: memory models, inline PTX, order between streams. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <utility>
#include <vector>

#include "emulation/runtime_on_cpu.h"

namespace emulation {
struct Index {
  unsigned x, y, z;
};
using Place = void *[5]; /* where to go on: that of __builtin_setjmp, which saves three registers and calls nothing */
struct Fiber {           /* started once and reused for all blocks; switching needs no system call */
  Place at;
  bool entered;
  std::vector<char> stack;
  ucontext_t context;
};
struct Meeting { /* a barrier of a block or of a warp */
  unsigned arrived, round;
};
struct Shared { /* a shared variable; the type has a name, because otherwise each file would have its own table */
  void *at;
  size_t bytes;
};
/* Not a multiple of 4 KiB: else the same variables of all fibers would share the same few lines of the cache. */
constexpr unsigned STACK = (64 << 10) + 9 * 64, WARP_SIZE = 32, MOST_SHARED = 256;

inline Place scheduler;
inline std::vector<Fiber> fibers;
inline std::vector<char> done; /* [fibers]: has left the kernel */
inline std::vector<Meeting> warps;
inline Meeting block;
inline std::vector<uint64_t> exchange;
inline unsigned current;
inline uint64_t progress;
inline Index block_index, block_size, grid_size;
inline std::function<void()> body;
inline Shared shared[MOST_SHARED];
inline unsigned shared_count;

/* A shared variable registers itself at its first use and is poisoned before every block from then on. */
inline bool share(void *at, size_t bytes) {
  if (shared_count == MOST_SHARED) abort();
  shared[shared_count++] = {at, bytes};
  memset(at, 0x7f, bytes);
  return true;
}
[[gnu::noinline, gnu::noclone]] inline void leave(Place at) { __builtin_longjmp(at, 1); }
[[gnu::noinline, gnu::noclone]] inline void pause() {
  if (__builtin_setjmp(fibers[current].at) == 0) leave(scheduler);
}
[[gnu::noinline, gnu::noclone]] inline void resume(Fiber *f) {
  if (__builtin_setjmp(scheduler) != 0) return;
  if (f->entered) leave(f->at);
  f->entered = true;
  setcontext(&f->context);
}
inline void meet(Meeting *m, unsigned n) {
  unsigned round = m->round;
  progress++;
  if (++m->arrived == n) {
    m->arrived = 0;
    m->round++;
  } else {
    while (m->round == round) pause();
  }
}
inline unsigned warp_threads() {
  unsigned first = current / WARP_SIZE * WARP_SIZE, n = (unsigned)fibers.size() - first;
  return n < WARP_SIZE ? n : WARP_SIZE;
}
inline void meet_warp() { meet(&warps[current / WARP_SIZE], warp_threads()); }
inline void enter() { /* runs one block after the other */
  for (;;) {
    body();
    done[current] = true;
    pause();
  }
}

template <class T> T shuffle(T v, unsigned lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 64 bits");
  T got;
  memcpy(&exchange[current], &v, sizeof v);
  meet_warp();
  memcpy(&got, &exchange[current / WARP_SIZE * WARP_SIZE + lane % WARP_SIZE], sizeof got);
  meet_warp();
  return got;
}

inline void prepare(Fiber *f) {
  f->stack.resize(STACK);
  f->entered = false;
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack.data();
  f->context.uc_stack.ss_size = STACK;
  f->context.uc_link = nullptr;
  makecontext(&f->context, enter, 0);
}

/* Two fibers ahead: all of them together do not fit in the first-level cache. */
inline void prefetch(const Fiber *f) {
  const char *top = (const char *)f->at[2];
  __builtin_prefetch(f);
  for (int i = 0; i < 4; i++) __builtin_prefetch(top + 64 * i);
}

inline void shuffle_order(std::vector<unsigned> &order, uint64_t *random) { /* *random 0: unchanged */
  for (unsigned i = (unsigned)order.size() - 1; i > 0 && *random; i--) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i], order[(*random >> 32) * (i + 1) >> 32]);
  }
}

inline void run_block(unsigned threads, uint64_t *random) {
  std::vector<unsigned> order(threads);
  block = Meeting();
  warps.assign((threads + WARP_SIZE - 1) / WARP_SIZE, Meeting());
  for (unsigned i = 0; i < shared_count; i++) {
    if (shared[i].at == nullptr) abort(); /* registered in another table */
    memset(shared[i].at, 0x7f, shared[i].bytes);
  }
  for (unsigned i = 0; i < threads; i++) order[i] = i;
  done.assign(threads, false);
  for (unsigned left = threads; left > 0;) {
    uint64_t before = progress;
    unsigned left_before = left;
    shuffle_order(order, random);
    for (unsigned k = 0; k < threads; k++) {
      unsigned i = order[k];
      if (k + 2 < threads) prefetch(&fibers[order[k + 2]]);
      if (done[i]) continue;
      current = i;
      resume(&fibers[i]);
      left -= done[i];
    }
    if (left > 0 && progress == before && left == left_before) {
      fprintf(stderr, "emulation: a barrier that not all threads reach\n");
      abort();
    }
  }
}

inline cudaError_t launch(int64_t blocks, unsigned threads, std::function<void()> kernel) {
  const char *seed = getenv("EMULATION_SEED");
  uint64_t random = seed ? strtoull(seed, nullptr, 10) : 0;
  if (!runtime::may_launch()) return cudaErrorIllegalAddress;
  runtime::Open open;
  body = kernel;
  grid_size = {(unsigned)blocks, 1, 1};
  block_size = {threads, 1, 1};
  if (fibers.size() != threads) {
    fibers = std::vector<Fiber>(threads);
    for (Fiber &f : fibers) prepare(&f);
  }
  exchange.assign(threads, 0);
  std::vector<unsigned> order(grid_size.x);
  for (unsigned b = 0; b < grid_size.x; b++) order[b] = b;
  shuffle_order(order, &random);
  for (unsigned b : order) {
    block_index = {b, 0, 0};
    run_block(threads, &random);
  }
  return cudaSuccess;
}
} /* namespace emulation */

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (emulation::Index{emulation::current, 0, 0})
#define blockIdx (emulation::block_index)
#define blockDim (emulation::block_size)
#define gridDim (emulation::grid_size)
#define SHARED(type, name, n)                                                                                          \
  static type name[n];                                                                                                 \
  static bool name##_shared = emulation::share(name, sizeof name);                                                     \
  (void)name##_shared
#define LAUNCH(dev, kernel, blocks, ...)                                                                               \
  ((void)(dev),                                                                                                        \
   (blocks) == 0 ? OK : cuda_check(emulation::launch((blocks), THREADS, [&] { kernel(__VA_ARGS__); }), #kernel))
inline void __syncthreads() { emulation::meet(&emulation::block, (unsigned)emulation::fibers.size()); }
inline void __syncwarp(unsigned = ~0u) { emulation::meet_warp(); }
template <class T> T __shfl_sync(unsigned, T v, int lane) { return emulation::shuffle(v, (unsigned)lane); }
template <class T> T __shfl_down_sync(unsigned, T v, unsigned by) {
  unsigned lane = emulation::current % emulation::WARP_SIZE;
  return emulation::shuffle(v, lane + by < emulation::WARP_SIZE ? lane + by : lane);
}
template <class T> T __shfl_up_sync(unsigned, T v, unsigned by) {
  unsigned lane = emulation::current % emulation::WARP_SIZE;
  return emulation::shuffle(v, lane >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned, int on) {
  unsigned all = 0;
  for (unsigned i = 0; i < emulation::WARP_SIZE; i++) all |= (unsigned)(emulation::shuffle(on, i) != 0) << i;
  return all;
}
inline float __uint_as_float(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}
inline long long __double_as_longlong(double x) {
  long long u;
  memcpy(&u, &x, sizeof u);
  return u;
}
template <class T> T __ldg(const T *p) { return *p; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
template <class T> T __shfl_xor_sync(unsigned, T v, int mask) {
  return emulation::shuffle(v, (emulation::current % emulation::WARP_SIZE) ^ (unsigned)mask);
}
