/* rotary — rotary embedding of the heads of q or k in place, and the sinusoid of the time conditioning; formulas in
 * src/ops/cpu/rotary.c.
 *
 * Angles are computed in double. Those of the positions are computed once per shape, into a table kept on the device.
 */
#include "backend.h"
#include "packs.cuh"

static __device__ double frequency(int k, int half) { return pow(10000.0, -(double)k / half); }

/* cosine and sine [L, half] */
__global__ void k_rotary_table(float *cosine, float *sine, int64_t n, int half) {
  int64_t i = thread_number();
  if (i >= n) return;
  double angle = (double)(i / half) * frequency((int)(i % half), half);
  cosine[i] = (float)cos(angle);
  sine[i] = (float)sin(angle);
}

/* Tables for at least L positions. They grow by doubling, since decoding asks for one position more each time. */
static int rotary_table(Device *dev, int64_t L, int64_t half, float **cosine, float **sine) {
  Cuda *cuda = cuda_of(dev);
  bool made = cuda->rotary_L >= L && cuda->rotary_half == half;
  if (made || (cuda->rotary_half == half && L < 2 * cuda->rotary_L)) L = (made ? 1 : 2) * cuda->rotary_L;
  int64_t n = round_up(L * half, 64);
  if (!made) cuda->rotary_L = 0;
  TRY(cuda_scratch(dev, SCRATCH_ROTARY, (size_t)(2 * n) * sizeof(float), cosine));
  *sine = *cosine + n;
  if (made) return OK;
  TRY(LAUNCH(dev, k_rotary_table, ceil_div(L * half, THREADS), *cosine, *sine, L * half, (int)half));
  cuda->rotary_L = L;
  cuda->rotary_half = half;
  return OK;
}

/* A warp takes a row. A lane rotates N pairs of a head at a time, through the heads. */
template <class A, int N>
__global__ void k_rotary(Rows<A> x, int heads, int half, uint32_t L, uint32_t start, const float *__restrict__ cosine,
                         const float *__restrict__ sine, float sign) {
  const uint32_t r = blockIdx.x * WARPS + threadIdx.x / WARP;
  const int packs = half / N, first = (start + r % L) * half;
  if (r >= x.rows) return;
  for (int i = threadIdx.x % WARP; i < heads * packs; i += WARP) {
    int k = i % packs * N;
    A *x1 = x.row(r) + i / packs * 2 * half + k, *x2 = x1 + half;
    Pack<A, N> a = load<N>(x1), b = load<N>(x2), to1, to2;
    Pack<float, N> c = load<N>(cosine + first + k), s = load<N>(sine + first + k);
    for (int j = 0; j < N; j++) {
      float u = get(a.v[j]), v = get(b.v[j]), sj = sign * s.v[j];
      put(&to1.v[j], u * c.v[j] - v * sj);
      put(&to2.v[j], v * c.v[j] + u * sj);
    }
    store(x1, to1);
    store(x2, to2);
  }
}

template <class A, int N>
static int rotate(Device *dev, Tensor x, int64_t heads, int64_t half, int64_t L, int64_t start, const float *cosine,
                  const float *sine, bool inverse) {
  return LAUNCH(dev, (k_rotary<A, N>), ceil_div(rows_of(x), WARPS), rows<A>(x), (int)heads, (int)half, (uint32_t)L,
                (uint32_t)start, cosine, sine, inverse ? -1.f : 1.f);
}

int cuda_rotary(Device *dev, Tensor x, int64_t heads, int64_t L, int64_t first, bool inverse) {
  int64_t half = cols_of(x) / (2 * heads);
  float *cosine = NULL, *sine = NULL;
  TRY(rotary_table(dev, first + L, half, &cosine, &sine));
  return WITH_TYPE(x.type, WITH_PACKS(half % WIDE<A> == 0 && in_packs(x, WIDE<A>), WIDE<A>,
                                      (rotate<A, N>(dev, x, heads, half, L, first, cosine, sine, inverse))));
}

__global__ void k_sinusoid(Rows<float> y, const float *sigma) {
  int half = (int)(y.cols / 2);
  int64_t i = thread_number(), g = i / half;
  if (g >= y.rows) return;
  int k = (int)(i % half);
  double angle = (double)sigma[g] * frequency(k, half);
  y.row(g)[k] = (float)cos(angle);
  y.row(g)[half + k] = (float)sin(angle);
}

int cuda_sinusoid(Device *dev, Tensor y, Tensor sigma) {
  return LAUNCH(dev, k_sinusoid, ceil_div(rows_of(y) * (cols_of(y) / 2), THREADS), rows<float>(y),
                (const float *)sigma.data);
}
