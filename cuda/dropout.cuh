/* dropout — the mask of src/ops/cpu/dropout.h on the GPU: the same units are dropped, bit for bit. */
#pragma once
#include "base/rng.h"
#include "cuda.cuh"

struct Mask {
  RngKey key;               /* of sequence `first` */
  uint32_t L, clean, draws; /* clean: the first row of the clean half; without one UINT32_MAX */
  uint32_t row_blocks, threshold;
  float scale; /* of kept units: 1/(1−p) */
  bool on;
};
/* The position of random bits: a sequence, relative to `first`, and a Philox block of its stream, which covers 8 units.
 */
struct Spot {
  uint32_t sequence, block;
};

static inline Mask mask_of(const Dropout *d, int64_t D) {
  Mask m = {};
  m.on = d->p > 0;
  m.scale = 1;
  if (!m.on) return m;
  m.key = rng_key(d->seed, RNG_DROPOUT, d->layer, d->step, (uint64_t)d->first);
  m.L = (uint32_t)d->L;
  m.clean = d->clean ? (uint32_t)d->clean : UINT32_MAX;
  m.draws = (uint32_t)d->draws;
  m.row_blocks = (uint32_t)(D / 8);
  m.threshold = (uint32_t)(d->p * 65536 + 0.5);
  m.scale = (float)(65536.0 / (65536.0 - m.threshold));
  return m;
}

static __device__ inline Spot row_spot(const Mask &m, uint32_t r) {
  Spot s = {0, 0};
  if (!m.on) return s;
  uint32_t after = 0, apart = 1; /* rows of the same stream before this one's; noisy sequences to each clean one */
  if (r >= m.clean) r -= m.clean, after = m.L, apart = m.draws;
  s.sequence = r / m.L * apart;
  s.block = (r % m.L + after) * m.row_blocks;
  return s;
}

static __device__ inline void spot_bits(uint32_t w[4], const Mask &m, Spot s) {
  RngKey k = m.key;
  k.sequence += s.sequence;
  rng_block(w, k, s.block);
}

static __device__ inline bool kept(const Mask &m, uint32_t word, int half) {
  return (half ? word >> 16 : word & 0xffffu) >= m.threshold;
}

/* Which of the thread's N neighbouring units at each of two spots are kept: N bits for a, then N for b. With N = 1,
 * `unit` is the unit's index in the block. With N = 4, two lanes share a block: each draws one of the two blocks and
 * they exchange halves, so all lanes of a warp must take part. */
template <int N> static __device__ inline uint32_t kept_two(const Mask &m, Spot a, Spot b, int unit) {
  uint32_t w[4], bits = 0;
  if (!m.on) return ~0u;
  if constexpr (N == 1) {
    for (int s = 0; s < 2; s++) {
      spot_bits(w, m, s ? b : a);
      uint32_t low = unit & 2 ? w[1] : w[0], high = unit & 2 ? w[3] : w[2];
      bits |= (uint32_t)kept(m, unit & 4 ? high : low, unit & 1) << s;
    }
  } else {
    static_assert(N == 4, "half a block");
    bool odd = threadIdx.x & 1;
    spot_bits(w, m, odd ? b : a);
    uint32_t got0 = __shfl_xor_sync(~0u, odd ? w[0] : w[2], 1), got1 = __shfl_xor_sync(~0u, odd ? w[1] : w[3], 1);
    uint32_t mine[4] = {odd ? got0 : w[0], odd ? got1 : w[1], odd ? w[2] : got0, odd ? w[3] : got1};
    for (int i = 0; i < 2 * N; i++) bits |= (uint32_t)kept(m, mine[i / 2], i % 2) << i;
  }
  return bits;
}
/* The factor of unit i of the 2N. */
static __device__ inline float keep(const Mask &m, uint32_t bits, int i) { return bits >> i & 1 ? m.scale : 0; }
