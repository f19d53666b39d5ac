/* dropout — the mask of one row, recomputed wherever it is needed: 16 random bits per unit, eight units per Philox
 * block. */
#pragma once
#include "base/rng.h"
#include "ops/cpu/cpu.h"

enum { DROPOUT_LANES = 16, DROPOUT_UNITS = 8 * DROPOUT_LANES };

/* Random bits of 128 consecutive units, from block `block` on: sixteen Philox blocks at once, so that loops
 * vectorise. */
static inline void dropout_bits(uint16_t bits[DROPOUT_UNITS], RngKey key, uint32_t block) {
  enum { N = DROPOUT_LANES };
  uint32_t c0[N], c1[N], c2[N], c3[N], k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
  for (int i = 0; i < N; i++) {
    c0[i] = block + (uint32_t)i;
    c1[i] = key.stream;
    c2[i] = key.step;
    c3[i] = key.sequence;
  }
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
#pragma omp simd
    for (int i = 0; i < N; i++) {
      uint64_t a = (uint64_t)0xD2511F53u * c0[i], b = (uint64_t)0xCD9E8D57u * c2[i];
      c0[i] = (uint32_t)(b >> 32) ^ c1[i] ^ k0;
      c2[i] = (uint32_t)(a >> 32) ^ c3[i] ^ k1;
      c1[i] = (uint32_t)b;
      c3[i] = (uint32_t)a;
    }
  }
  for (int i = 0; i < N; i++) {
    uint32_t w[4] = {c0[i], c1[i], c2[i], c3[i]};
    for (int j = 0; j < 4; j++) {
      bits[8 * i + 2 * j] = (uint16_t)w[j];
      bits[8 * i + 2 * j + 1] = (uint16_t)(w[j] >> 16);
    }
  }
}

/** dropout_row — keep[d] := 0 or 1/(1−p) for row r of width D; D is a multiple of 8. */
static inline void dropout_row(real *keep, const Dropout *drop, int64_t r, int64_t D) {
  uint32_t threshold = (uint32_t)(drop->p * 65536 + 0.5);
  real scale = (real)(65536.0 / (65536.0 - threshold));
  uint64_t sequence = (uint64_t)(drop->first + r / drop->L);
  RngKey key = rng_key(drop->seed, RNG_DROPOUT, drop->layer, drop->step, sequence);
  uint32_t block = (uint32_t)(r % drop->L * D / 8);
  for (int64_t d = 0; d < D; d += DROPOUT_UNITS, block += DROPOUT_LANES) {
    uint16_t bits[DROPOUT_UNITS];
    dropout_bits(bits, key, block);
    int64_t n = min64(DROPOUT_UNITS, D - d);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) keep[d + i] = bits[i] < threshold ? 0 : scale;
  }
}
