/* gelu — the tanh approximation, and its derivative:
 *   y = x·½(1 + tanh u) = x·sigmoid(2u)
 *   u = √(2/π)(x + 0.044715 x³) */
#pragma once
#include "ops/cpu/cpu.h"

#define GELU_TWICE_ROOT (2 * (real)0.79788456080286535588) /* 2√(2/π) */

static inline real gelu(real x) {
  real u2 = GELU_TWICE_ROOT * (x + (real)0.044715 * x * x * x);
  return x / (1 + real_exp(-u2));
}

static inline real gelu_slope(real x) {
  real u2 = GELU_TWICE_ROOT * (x + (real)0.044715 * x * x * x);
  real s = 1 / (1 + real_exp(-u2));
  return s + x * s * (1 - s) * GELU_TWICE_ROOT * (1 + 3 * (real)0.044715 * x * x);
}
