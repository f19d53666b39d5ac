/* attention_step — a few queries per sequence against the cached keys and values of all earlier positions, and against each
 * other: one for autoregressive sampling, which is bound by reading the cache once; those of a block in block diffusion.
 *
 * A block takes one query of a head. It reads the new keys and values from qkv, and writes those of its own position to the
 * cache, where no other block reads them. A warp takes a few keys at a time, with the columns across its lanes, and keeps
 * its own running softmax; these are merged at the end in the order of the warps. */
#include "backend.h"
#include "cuda.cuh"

enum { WIDEST = 256 };
static const float LOG2E = 1.44269504f;

namespace {
template <class A> struct Step {
  const A *qkv;
  A *cache, *o;
  int64_t ld_qkv, ld_cache, ld_o, L, H;
  int K, position, count;
};
} /* namespace */

/* The C columns of a lane, from K in memory; zeros beyond. */
template <class A, int C> static __device__ void read(float (&x)[C], const A *from, int K) {
  for (int c = 0; c < C; c++) {
    int k = c * WARP + (int)threadIdx.x % WARP;
    x[c] = k < K ? get(from[k]) : 0;
  }
}

template <class A, int C> __global__ void k_attention_step(Step<A> p) {
  constexpr int AT_ONCE = C == 8 ? 2 : 4;
  SHARED(float, tops, WARPS);
  SHARED(float, sums, WARPS);
  SHARED(float, parts, WARPS *WARP *C);
  const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
  const int64_t r = blockIdx.x / p.H, h = blockIdx.x % p.H, D = p.H * p.K, b = r / p.count;
  const A *mine = p.qkv + r * p.ld_qkv + h * p.K, *rows = p.qkv + b * p.count * p.ld_qkv + h * p.K + D;
  A *cache = p.cache + b * p.L * p.ld_cache + h * p.K, *to = cache + (p.position + r % p.count) * p.ld_cache;
  for (int k = (int)threadIdx.x; k < p.K; k += THREADS) {
    to[k] = mine[D + k];
    to[D + k] = mine[2 * D + k];
  }
  float q[C], o[C] = {}, top = -INFINITY, sum = 0, scale = LOG2E / sqrtf((float)p.K);
  read<A, C>(q, mine, p.K);
  ROLLED
  for (int part = 0; part < 2; part++) { /* earlier positions, then the new ones */
    const A *from = part ? rows : cache;
    const int64_t ld = part ? p.ld_qkv : p.ld_cache;
    const int n = part ? p.count : p.position;
    for (int first = warp * AT_ONCE; first < n; first += WARPS * AT_ONCE) {
      float key[AT_ONCE][C], value[AT_ONCE][C], s[AT_ONCE], before = top;
      for (int i = 0; i < AT_ONCE; i++) {
        const A *at = from + (first + i < n ? first + i : n - 1) * ld;
        read<A, C>(key[i], at, p.K);
        read<A, C>(value[i], at + D, p.K);
      }
      for (int i = 0; i < AT_ONCE; i++) {
        s[i] = 0;
        for (int c = 0; c < C; c++) s[i] += q[c] * key[i][c];
        s[i] = first + i < n ? scale * warp_sum(s[i]) : -INFINITY;
        top = fmaxf(top, s[i]);
      }
      float back = exp2f(before - top);
      sum *= back;
      for (int c = 0; c < C; c++) o[c] *= back;
      for (int i = 0; i < AT_ONCE; i++) {
        float weight = exp2f(s[i] - top);
        sum += weight;
        for (int c = 0; c < C; c++) o[c] += weight * value[i][c];
      }
    }
  }
  if (lane == 0) tops[warp] = top, sums[warp] = sum;
  for (int c = 0; c < C; c++) parts[(warp * C + c) * WARP + lane] = o[c];
  __syncthreads();
  float most = tops[0], total = 0; /* finite, since the first warp has seen a key */
  for (int w = 1; w < WARPS; w++) most = fmaxf(most, tops[w]);
  for (int w = 0; w < WARPS; w++) total += exp2f(tops[w] - most) * sums[w];
  for (int k = (int)threadIdx.x; k < p.K; k += THREADS) {
    float x = 0;
    for (int w = 0; w < WARPS; w++) x += exp2f(tops[w] - most) * parts[w * C * WARP + k];
    put(p.o + r * p.ld_o + h * p.K + k, x / total);
  }
}

template <class A, int C> static int step(Device *dev, const AttentionStep *a) {
  Step<A> p = {};
  p.H = a->heads, p.L = a->L;
  p.K = (int)(cols_of(a->o) / a->heads), p.position = (int)a->position, p.count = (int)a->count;
  p.qkv = (const A *)a->qkv.data, p.ld_qkv = a->qkv.ld;
  p.cache = (A *)a->cache.data, p.ld_cache = a->cache.ld;
  p.o = (A *)a->o.data, p.ld_o = a->o.ld;
  return LAUNCH(dev, (k_attention_step<A, C>), rows_of(a->o) * a->heads, p);
}

int cuda_attention_step(Device *dev, const AttentionStep *a) {
  int64_t K = cols_of(a->o) / a->heads;
  CHECK(K <= WIDEST, ERR_DEVICE,
        "device.name = cuda: heads of %ld columns are not supported, %d is the limit; use more "
        "heads",
        (long)K, WIDEST);
  return WITH_TYPE(a->qkv.type, K <= 32    ? step<A, 1>(dev, a)
                                : K <= 64  ? step<A, 2>(dev, a)
                                : K <= 128 ? step<A, 4>(dev, a)
                                           : step<A, 8>(dev, a));
}
