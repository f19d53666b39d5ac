/* rng — random numbers as a pure function of (seed, purpose, step, sequence, position): Philox4x32-10.
 *
 * There is no state. Any rank, run or machine that asks for the same draw gets the same bits, which makes masks,
 * dropout and data order independent of the number of ranks, and resuming exact.
 *   key      = seed (64 bits)
 *   counter  = { block, purpose << 24 | layer, step, sequence }
 * `block` numbers the 128-bit blocks of a stream; a stream has one purpose, and no two purposes share one.
 * Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), whose known answers
 * tests/unit/test_rng.c checks. Shared with CUDA: keep it C++-clean. */
#pragma once
#include <stdint.h>

#ifdef __CUDACC__
#define RNG_FN __host__ __device__ static inline
#else
#define RNG_FN static inline
#endif

typedef enum RngPurpose {
  RNG_INIT = 1,      /* initial weights: layer = parameter number                                  */
  RNG_ORDER,         /* data order: step = epoch                                                   */
  RNG_TIME,          /* time step of a training sequence                                           */
  RNG_MASK,          /* forward masking of a training sequence                                     */
  RNG_DROPOUT,       /* dropout: layer = which dropout of the network                              */
  RNG_EVAL_TIME,     /* time steps of an evaluation: step = draw, sequence = row of the data set   */
  RNG_EVAL_MASK,     /* forward masking of an evaluation                                           */
  RNG_EVAL_ORDER,    /* the permutation that stratifies an evaluation                              */
  RNG_SAMPLE_UNMASK, /* sampler: does this position unmask now? step = sampler step                */
  RNG_SAMPLE_TOKEN,  /* sampler: which token                                                       */
  RNG_TEST,          /* tests only; a new purpose goes below the last one: numbers never change    */
  RNG_CROP,          /* where a cropped row begins: step, place in the global batch                */
  RNG_SAMPLE_NOISE,  /* noise of a draw in f32: seed = the bits of the draw's own number            */
  RNG_EVAL_ROWS,     /* which rows a subset of a data set has                                      */
  RNG_VALID,         /* the seed of the masks of training's validations                            */
  RNG_PLACES,        /* places in a batch of the draws of a mixture: step                          */
  RNG_SAMPLE_PRIOR,  /* the tokens that a sampler of uniform noise begins with                     */
  RNG_LABEL,         /* is the class of a training sequence hidden? step, place in the global batch */
  RNG_PURPOSES
} RngPurpose;

typedef struct RngKey {
  uint64_t seed;
  uint32_t stream; /* purpose << 24 | layer */
  uint32_t step;
  uint32_t sequence;
} RngKey;

RNG_FN RngKey rng_key(uint64_t seed, RngPurpose purpose, uint32_t layer, uint64_t step, uint64_t sequence) {
  RngKey k;
  k.seed = seed;
  k.stream = (uint32_t)purpose << 24 | (layer & 0xffffffu);
  k.step = (uint32_t)step;
  k.sequence = (uint32_t)sequence;
  return k;
}

/** rng_philox — the Philox4x32-10 bijection: out := P(counter; key). */
RNG_FN void rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)b;
    c3 = (uint32_t)a;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** rng_block — block number `block` (128 random bits) of stream k. */
RNG_FN void rng_block(uint32_t out[4], RngKey k, uint32_t block) {
  uint32_t counter[4], key[2];
  counter[0] = block;
  counter[1] = k.stream;
  counter[2] = k.step;
  counter[3] = k.sequence;
  key[0] = (uint32_t)k.seed;
  key[1] = (uint32_t)(k.seed >> 32);
  rng_philox(out, counter, key);
}

#ifndef __cplusplus
enum { RNG_LANES = 16 };
/** rng_lanes — blocks `block` to block + RNG_LANES − 1 of stream k, computed side by side so that the compiler
 *  vectorises the loops: out[w][i] is word w of block + i. */
static inline void rng_lanes(uint32_t out[4][RNG_LANES], RngKey k, uint32_t block) {
  uint32_t c0[RNG_LANES], c1[RNG_LANES], c2[RNG_LANES], c3[RNG_LANES], k0 = (uint32_t)k.seed,
                                                                       k1 = (uint32_t)(k.seed >> 32);
  for (int i = 0; i < RNG_LANES; i++) {
    c0[i] = block + (uint32_t)i;
    c1[i] = k.stream;
    c2[i] = k.step;
    c3[i] = k.sequence;
  }
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
#pragma omp simd
    for (int i = 0; i < RNG_LANES; i++) {
      uint64_t a = (uint64_t)0xD2511F53u * c0[i], b = (uint64_t)0xCD9E8D57u * c2[i];
      c0[i] = (uint32_t)(b >> 32) ^ c1[i] ^ k0;
      c2[i] = (uint32_t)(a >> 32) ^ c3[i] ^ k1;
      c1[i] = (uint32_t)b;
      c3[i] = (uint32_t)a;
    }
  }
  for (int i = 0; i < RNG_LANES; i++) {
    out[0][i] = c0[i];
    out[1][i] = c1[i];
    out[2][i] = c2[i];
    out[3][i] = c3[i];
  }
}
#endif

/** rng_uniform — number i of stream k, uniform on the 2^53 grid of [0,1). Two positions share a block. */
RNG_FN double rng_uniform(RngKey k, uint64_t i) {
  uint32_t r[4];
  rng_block(r, k, (uint32_t)(i >> 1));
  uint64_t x = i & 1 ? (uint64_t)r[3] << 32 | r[2] : (uint64_t)r[1] << 32 | r[0];
  return (double)(x >> 11) * 0x1p-53;
}

/** rng_permute — a keyed permutation of {0 … n−1}: where i goes. O(1) memory, any n < 2^62, a new one for every key.
 *  A balanced Feistel network on the next even number of bits, walked until the value falls below n. */
RNG_FN uint64_t rng_permute(RngKey k, uint64_t n, uint64_t i) {
  unsigned half = 1;
  while (half < 31 && ((uint64_t)1 << 2 * half) < n) half++;
  uint64_t mask = ((uint64_t)1 << half) - 1;
  do {
    uint64_t left = i >> half, right = i & mask;
    for (uint32_t round = 0; round < 6; round++) {
      uint32_t r[4];
      RngKey kr = k;
      kr.sequence = round;
      rng_block(r, kr, (uint32_t)right);
      uint64_t next = (left ^ r[0]) & mask;
      left = right;
      right = next;
    }
    i = left << half | right;
  } while (i >= n);
  return i;
}
