/* rotary — rotary position embedding of the heads of q or k; and the sinusoid of the time conditioning. With x1 and x2
 * the lower and upper half of a head:
 *   (x1, x2) ← (x1 cos − x2 sin, x2 cos + x1 sin),  angle = position·10000^(−2k/K) */
#include "base/mem.h"
#include "ops/cpu/cpu.h"

/* Make the table cover at least L positions. It grows by doubling, since L may increase by one per call. */
static int table(Cpu *cpu, int64_t L, int64_t half) {
  if (cpu->rotary_half == half && cpu->rotary_L >= L) return OK;
  if (cpu->rotary_half == half && cpu->rotary_L > 0 && L < 2 * cpu->rotary_L) L = 2 * cpu->rotary_L;
  mem_free(&cpu->cosine);
  mem_free(&cpu->sine);
  cpu->rotary_L = 0;
  TRY(mem_alloc(&cpu->cosine, (size_t)(L * half) * sizeof(real)));
  TRY(mem_alloc(&cpu->sine, (size_t)(L * half) * sizeof(real)));
  for (int64_t l = 0; l < L; l++) {
    for (int64_t k = 0; k < half; k++) {
      double angle = (double)l * pow(10000.0, -(double)k / (double)half);
      cpu->cosine[l * half + k] = (real)cos(angle);
      cpu->sine[l * half + k] = (real)sin(angle);
    }
  }
  cpu->rotary_L = L;
  cpu->rotary_half = half;
  return OK;
}

int FN(rotary)(Device *dev, Tensor x, int64_t heads, int64_t L, int64_t first, bool inverse) {
  Cpu *cpu = dev->impl;
  int64_t R = rows_of(x), K = cols_of(x) / heads, half = K / 2;
  TRY(table(cpu, first + L, half));
  real sign = inverse ? -1 : 1;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    const real *c = cpu->cosine + (first + r % L) * half, *s = cpu->sine + (first + r % L) * half;
    for (int64_t h = 0; h < heads; h++) {
      real *x1 = row(x, r) + h * K, *x2 = x1 + half;
#pragma omp simd
      for (int64_t k = 0; k < half; k++) {
        real a = x1[k], b = x2[k], sk = sign * s[k];
        x1[k] = a * c[k] - b * sk;
        x2[k] = b * c[k] + a * sk;
      }
    }
  }
  return OK;
}

/* Sequences that are sampled together have one sigma: the values of a row like the one before it are copied. */
int FN(sinusoid)(Device *dev, Tensor y, Tensor sigma) {
  (void)dev;
  int64_t G = rows_of(y), half = cols_of(y) / 2;
  const real *s = sigma.data;
  for (int64_t k = 0; k < half; k++) {
    double frequency = pow(10000.0, -(double)k / (double)half);
    for (int64_t g = 0; g < G; g++) {
      real *out = row(y, g);
      bool again = g > 0 && s[g] == s[g - 1];
      double angle = (double)s[g] * frequency;
      out[k] = again ? row(y, g - 1)[k] : (real)cos(angle);
      out[half + k] = again ? row(y, g - 1)[half + k] : (real)sin(angle);
    }
  }
  return OK;
}
