/* dropout — the mask of one row, recomputed wherever it is needed: 16 random bits per unit, eight units per Philox
 * block. */
#pragma once
#include "base/rng.h"
#include "ops/cpu/cpu.h"

enum { DROPOUT_UNITS = 8 * RNG_LANES };

/* The bits of 128 consecutive units, from block `block` on. */
static inline void dropout_bits(uint16_t bits[DROPOUT_UNITS], RngKey key, uint32_t block) {
  uint32_t w[4][RNG_LANES];
  rng_lanes(w, key, block);
  for (int i = 0; i < RNG_LANES; i++)
    for (int j = 0; j < 4; j++) {
      bits[8 * i + 2 * j] = (uint16_t)w[j][i];
      bits[8 * i + 2 * j + 1] = (uint16_t)(w[j][i] >> 16);
    }
}

/** dropout_row — keep[d] := 0 or 1/(1−p) for row r of width D; D is a multiple of 8. */
static inline void dropout_row(real *keep, const Dropout *drop, int64_t r, int64_t D) {
  uint32_t threshold = (uint32_t)(drop->p * 65536 + 0.5);
  real scale = (real)(65536.0 / (65536.0 - threshold));
  bool clean = drop->clean && r >= drop->clean;
  if (clean) r -= drop->clean;
  uint64_t sequence = (uint64_t)(drop->first + r / drop->L * (clean ? drop->draws : 1));
  RngKey key = rng_key(drop->seed, RNG_DROPOUT, drop->layer, drop->step, sequence);
  uint32_t block = (uint32_t)((r % drop->L + (clean ? drop->L : 0)) * D / 8);
  for (int64_t d = 0; d < D; d += DROPOUT_UNITS, block += RNG_LANES) {
    uint16_t bits[DROPOUT_UNITS];
    dropout_bits(bits, key, block);
    int64_t n = min64(DROPOUT_UNITS, D - d);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) keep[d + i] = bits[i] < threshold ? 0 : scale;
  }
}
