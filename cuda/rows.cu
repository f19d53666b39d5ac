/* rows — embedding, gathering and scattering of rows, SiLU and the gate. A warp moves a row. */
#include "backend.h"
#include "packs.cuh"

/* ---- gather and scatter */
/* y[i] = x[from[i]], or 0 where from[i] < 0. S loads are in flight at a time. */
template <class A, int N> __global__ void k_gather_rows(Rows<A> y, Rows<A> x, const int32_t *from) {
  constexpr int S = 4;
  const int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
  if (i >= y.rows) return;
  const int32_t r = from[i];
  for (int64_t first = threadIdx.x % WARP * N; first < y.cols; first += S * WARP * N) {
    Pack<A, N> p[S] = {};
    for (int s = 0; s < S; s++)
      if (r >= 0 && first + s * WARP * N < y.cols) p[s] = load<N>(x.row(r) + first + s * WARP * N);
    for (int s = 0; s < S; s++)
      if (first + s * WARP * N < y.cols) store(y.row(i) + first + s * WARP * N, p[s]);
  }
}

template <class A> static int gather(Device *dev, Tensor y, Tensor x, const int32_t *from) {
  return WITH_PACKS(in_packs(y, WIDE<A>) && in_packs(x, WIDE<A>), WIDE<A>,
                    LAUNCH(dev, (k_gather_rows<A, N>), ceil_div(rows_of(y), WARPS), rows<A>(y), rows<A>(x), from));
}

int cuda_gather_rows(Device *dev, Tensor y, Tensor x, Tensor rows) {
  return WITH_TYPE(y.type, gather<A>(dev, y, x, (const int32_t *)rows.data));
}

int cuda_embed(Device *dev, Tensor x, Tensor ids, Tensor table) { return cuda_gather_rows(dev, x, table, ids); }

/* x[r] = Σ weights[e]·table[ids[e]] over the entries e = begin[r] … begin[r+1]−1 */
template <int N>
__global__ void k_embed_mix(Rows<float> x, Rows<float> table, const int32_t *begin, const int32_t *ids,
                            const float *weights) {
  const int64_t r = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
  if (r >= x.rows) return;
  const int32_t first = begin[r], end = begin[r + 1];
  for (int64_t col = threadIdx.x % WARP * N; col < x.cols; col += WARP * N) {
    Pack<float, N> sum = {};
    for (int32_t e = first; e < end; e++) {
      const Pack<float, N> p = load<N>(table.row(ids[e]) + col);
      const float w = weights[e];
      for (int j = 0; j < N; j++) sum.v[j] += w * p.v[j];
    }
    store(x.row(r) + col, sum);
  }
}

int cuda_embed_mix(Device *dev, Tensor x, const Mixture *m, Tensor table) {
  return WITH_PACKS(in_packs(x, WIDE<float>) && in_packs(table, WIDE<float>), WIDE<float>,
                    LAUNCH(dev, (k_embed_mix<N>), ceil_div(rows_of(x), WARPS), rows<float>(x), rows<float>(table),
                           (const int32_t *)m->begin.data, (const int32_t *)m->ids.data,
                           (const float *)m->weights.data));
}

/* to[from[i]] = i for i < n */
__global__ void k_invert(int32_t *to, const int32_t *from, int64_t n) {
  int64_t i = thread_number();
  if (i < n) to[from[i]] = (int32_t)i;
}

/* Scattering is gathering through the inverse index, so that every row of y is written exactly once. */
int cuda_scatter_rows(Device *dev, Tensor y, Tensor x, Tensor rows) {
  int64_t R = rows_of(y), n = tensor_count(rows);
  int32_t *from = NULL;
  TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)R * sizeof *from, &from));
  TRY(cuda_check(cudaMemsetAsync(from, 0xff, (size_t)R * sizeof *from, cuda_of(dev)->stream), "scattering rows"));
  TRY(LAUNCH(dev, k_invert, ceil_div(n, THREADS), from, (const int32_t *)rows.data, n));
  return WITH_TYPE(y.type, gather<A>(dev, y, x, from));
}

/* ---- silu, over flat buffers of whole packs */
static __device__ float logistic(float x) { return 1 / (1 + expf(-x)); }

template <int N> __global__ void k_silu(float *y, const float *x, int64_t n) {
  int64_t i = thread_number() * N;
  if (i >= n) return;
  Pack<float, N> v = load<N>(x + i);
  for (int j = 0; j < N; j++) v.v[j] *= logistic(v.v[j]);
  store(y + i, v);
}

static __device__ float silu_slope(float x) {
  float s = logistic(x);
  return s * (1 + x * (1 - s));
}

template <int N> __global__ void k_silu_backward(float *dx, const float *dy, const float *x, int64_t n) {
  int64_t i = thread_number() * N;
  if (i >= n) return;
  Pack<float, N> v = load<N>(x + i), d = load<N>(dy + i);
  for (int j = 0; j < N; j++) d.v[j] *= silu_slope(v.v[j]);
  store(dx + i, d);
}

static bool flat_packs(Tensor t, int64_t n) {
  return tensor_count(t) % n == 0 && aligned(t.data, (size_t)n * sizeof(float));
}

int cuda_silu(Device *dev, Tensor y, Tensor x) {
  int64_t n = tensor_count(x);
  return WITH_PACKS(flat_packs(y, WIDE<float>) && flat_packs(x, WIDE<float>), WIDE<float>,
                    LAUNCH(dev, (k_silu<N>), ceil_div(n, N * THREADS), (float *)y.data, (const float *)x.data, n));
}

int cuda_silu_backward(Device *dev, Tensor dx, Tensor dy, Tensor x) {
  int64_t n = tensor_count(x);
  bool packs = flat_packs(dx, WIDE<float>) && flat_packs(dy, WIDE<float>) && flat_packs(x, WIDE<float>);
  return WITH_PACKS(packs, WIDE<float>,
                    LAUNCH(dev, (k_silu_backward<N>), ceil_div(n, N * THREADS), (float *)dx.data,
                           (const float *)dy.data, (const float *)x.data, n));
}

/* ---- gate */
template <class A, int N> __global__ void k_gate(Rows<A> o, Rows<A> y, Rows<A> z) {
  const int64_t r = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
  if (r >= y.rows) return;
  for (int64_t e = threadIdx.x % WARP * N; e < y.cols; e += WARP * N) {
    Pack<A, N> v = load<N>(y.row(r) + e), g = load<N>(z.row(r) + e);
    for (int j = 0; j < N; j++) put(&v.v[j], get(v.v[j]) * get(g.v[j]) * logistic(get(g.v[j])));
    store(o.row(r) + e, v);
  }
}

template <class A, int N> __global__ void k_gate_backward(Rows<A> dy, Rows<A> dz, Rows<A> d_o, Rows<A> y, Rows<A> z) {
  const int64_t r = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP;
  if (r >= y.rows) return;
  for (int64_t e = threadIdx.x % WARP * N; e < y.cols; e += WARP * N) {
    Pack<A, N> d = load<N>(d_o.row(r) + e), v = load<N>(y.row(r) + e), g = load<N>(z.row(r) + e), to_y, to_z;
    for (int j = 0; j < N; j++) {
      float de = get(d.v[j]), x = get(g.v[j]);
      put(&to_y.v[j], de * x * logistic(x));
      put(&to_z.v[j], de * get(v.v[j]) * silu_slope(x));
    }
    store(dy.row(r) + e, to_y);
    store(dz.row(r) + e, to_z);
  }
}

template <class A> static int gate_rows(Device *dev, Tensor o, Tensor y, Tensor z) {
  bool packs = in_packs(o, WIDE<A>) && in_packs(y, WIDE<A>) && in_packs(z, WIDE<A>);
  return WITH_PACKS(packs, WIDE<A>,
                    LAUNCH(dev, (k_gate<A, N>), ceil_div(rows_of(y), WARPS), rows<A>(o), rows<A>(y), rows<A>(z)));
}

template <class A> static int gate_rows_backward(Device *dev, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z) {
  bool packs = true;
  for (Tensor t : {dy, dz, d_o, y, z}) packs = packs && in_packs(t, WIDE<A>);
  return WITH_PACKS(packs, WIDE<A>,
                    LAUNCH(dev, (k_gate_backward<A, N>), ceil_div(rows_of(y), WARPS), rows<A>(dy), rows<A>(dz),
                           rows<A>(d_o), rows<A>(y), rows<A>(z)));
}

int cuda_gate(Device *dev, Tensor o, Tensor y, Tensor z) { return WITH_TYPE(y.type, gate_rows<A>(dev, o, y, z)); }

int cuda_gate_backward(Device *dev, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z) {
  return WITH_TYPE(y.type, gate_rows_backward<A>(dev, dy, dz, d_o, y, z));
}
