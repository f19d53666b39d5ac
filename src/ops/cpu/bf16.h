/* bf16 — the upper half of a float, rounded to nearest even. */
#pragma once
#include <stdint.h>
#include <string.h>

static inline uint16_t bf16_from(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
  return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : rounded); /* NaN stays NaN */
}

static inline float bf16_to(uint16_t x) {
  uint32_t u = (uint32_t)x << 16;
  float y;
  memcpy(&y, &u, sizeof y);
  return y;
}
