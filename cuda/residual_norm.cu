/* residual_norm — residual, dropout, norm and modulation between two layers; formulas in src/ops/cpu/residual_norm.c.
 *
 * Forward: a warp takes a row and keeps it in registers if it is no wider than WIDEST, so that each input is read once
 * and each output written once. Row numbers are 32-bit. x_out may alias x: a lane reads its part of a row before it
 * writes there.
 *
 * Backward: a block takes CHUNK rows of one group, in tiles of WARPS rows. First each warp computes the sums over one
 * row of the tile, and requests from memory what comes next: its row of dx and branch, and of dh and x_out in the next
 * tile. Then each thread takes its columns of all rows of the tile, whose dh and x_out are still in L1, and accumulates the sums over rows in registers. These are Σdh, Σdh·ŷ and Σdx·keep·branch of a chunk. They are folded,
 * FOLD chunks at a time, to the sums of a group; dscale and dweight are both multiples of the second. */
#include "backend.h"
#include "dropout.cuh"
#include "packs.cuh"

enum { WIDEST = 1024, CHUNK = 32, FOLD = 32, SUMS = 3 };
static constexpr float EPSILON = 1e-5f;

template <class A> struct Seam {
  Rows<float> x, x_out;
  Rows<A> branch, h;
  float *mean, *rstd;
  uint32_t per; /* rows per group */
  bool layer;
  Mask mask;
  const int32_t *index; /* rows of the batch, or NULL */
};
template <class A> static __device__ Spot spot_of(const Seam<A> &a, uint32_t r) {
  return row_spot(a.mask, a.index ? (uint32_t)a.index[r] : r);
}
template <class A> static Seam<A> seam_of(const ResidualNorm *a) {
  Seam<A> s;
  bool branched = !tensor_none(a->branch);
  s.x = rows<float>(a->x);
  s.x_out = branched ? rows<float>(a->x_out) : s.x;
  s.branch = rows<A>(a->branch);
  s.h = rows<A>(a->h);
  s.mean = (float *)a->mean.data;
  s.rstd = (float *)a->rstd.data;
  s.per = (uint32_t)a->rows_per_group;
  s.layer = a->kind == NORM_LAYER;
  s.mask = mask_of(&a->dropout, s.x.cols);
  s.index = (const int32_t *)a->index.data;
  return s;
}

/* Columns of a row of gate, shift or scale; `otherwise` for a left-out tensor. */
template <int N> static __device__ Pack<float, N> columns(const float *from, int col, float otherwise) {
  Pack<float, N> p;
  if (from) p = load<N>(from + col);
  if (!from)
    for (int i = 0; i < N; i++) p.v[i] = otherwise;
  return p;
}

/* ---- forward */
/* S packs of row r from column `first` on: v = x + gate ⊙ dropout(branch), also written to x_out; returns their sum.
 * All loads precede the first store. */
template <class A, int N, int S>
static __device__ float join(Pack<float, N> v[S], const Seam<A> &a, const float *gate, uint32_t r, int first) {
  const int D = (int)a.x.cols, lane = threadIdx.x % WARP;
  Pack<A, N> b[S];
  float sum = 0;
  for (int s = 0; s < S; s++) {
    int col = first + (s * WARP + lane) * N;
    if (col < D) v[s] = load<N>(a.x.row(r) + col);
    if (col < D && a.branch.data) b[s] = load<N>(a.branch.row(r) + col);
  }
  Spot spot = spot_of(a, r);
  for (int s = 0; s < S && a.branch.data; s += 2) {
    int col = first + (s * WARP + lane) * N, next = col + WARP * N;
    Spot here = {spot.sequence, spot.block + col / 8}, there = {spot.sequence, spot.block + next / 8};
    uint32_t bits = kept_two<N>(a.mask, here, there, col % 8);
    for (int j = 0; j < 2; j++, col = next) {
      if (col >= D) continue;
      Pack<float, N> g = columns<N>(gate, col, 1);
      for (int i = 0; i < N; i++) v[s + j].v[i] += g.v[i] * keep(a.mask, bits, j * N + i) * get(b[s + j].v[i]);
      store(a.x_out.row(r) + col, v[s + j]);
    }
  }
  for (int s = 0; s < S; s++)
    for (int i = 0; i < N && first + (s * WARP + lane) * N < D; i++) sum += v[s].v[i];
  return sum;
}

/* KEPT: the S packs of the lanes hold the whole row. Otherwise a lane reads back the x_out that it wrote itself. */
template <class A, int N, int S, bool KEPT>
__global__ void k_residual_norm(Seam<A> a, const float *__restrict__ weight, const float *__restrict__ gate,
                                int64_t gate_ld, const float *__restrict__ shift, int64_t shift_ld,
                                const float *__restrict__ scale, int64_t scale_ld) {
  const int D = (int)a.x.cols, lane = threadIdx.x % WARP, width = S * WARP * N,
            strips = KEPT ? 1 : (D + width - 1) / width;
  const uint32_t r = blockIdx.x * WARPS + threadIdx.x / WARP, g = r / a.per;
  if (r >= a.x.rows) return;
  if (gate) gate += g * gate_ld;
  if (shift) shift += g * shift_ld;
  if (scale) scale += g * scale_ld;
  Pack<float, N> v[S];
  float mean = 0, square = 0;
  for (int strip = 0; strip < strips; strip++) mean += join<A, N, S>(v, a, gate, r, strip * width);
  mean = a.layer ? warp_sum(mean) / (float)D : 0;
  auto each = [&](auto f) {
    for (int strip = 0; strip < strips; strip++) {
      for (int s = 0; s < S; s++) {
        int col = strip * width + (s * WARP + lane) * N;
        if (col < D) f(KEPT ? v[s] : load<N>(a.x_out.row(r) + col), col);
      }
    }
  };
  each([&](Pack<float, N> x, int) {
    for (int i = 0; i < N; i++) square += (x.v[i] - mean) * (x.v[i] - mean);
  });
  float rstd = rsqrtf(warp_sum(square) / (float)D + EPSILON);
  each([&](Pack<float, N> x, int col) {
    Pack<float, N> w = load<N>(weight + col), up = columns<N>(shift, col, 0), by = columns<N>(scale, col, 0);
    for (int i = 0; i < N; i++) x.v[i] = (x.v[i] - mean) * rstd * w.v[i] * (1 + by.v[i]) + up.v[i];
    store_as(a.h.row(r) + col, x);
  });
  if (lane > 0) return;
  if (a.layer) a.mean[r] = mean;
  a.rstd[r] = rstd;
}

static bool all_in_packs(const ResidualNorm *a) {
  const Tensor all[] = {a->x, a->branch, a->gate, a->shift, a->scale,  a->weight, a->x_out,
                        a->h, a->dh,     a->dx,   a->dgate, a->dshift, a->dscale, a->dbranch};
  for (Tensor t : all)
    if (!in_packs(t, WIDE<float>)) return false;
  return true;
}

template <class A, int N, int S, bool KEPT> static int forward_as(Device *dev, const ResidualNorm *a) {
  return LAUNCH(dev, (k_residual_norm<A, N, S, KEPT>), ceil_div(rows_of(a->x), WARPS), seam_of<A>(a),
                (const float *)a->weight.data, (const float *)a->gate.data, a->gate.ld, (const float *)a->shift.data,
                a->shift.ld, (const float *)a->scale.data, a->scale.ld);
}

template <class A> static int forward(Device *dev, const ResidualNorm *a) {
  int64_t D = cols_of(a->x);
  if (!all_in_packs(a)) return forward_as<A, 1, 2, false>(dev, a);
  if (D > WIDEST) return forward_as<A, 4, 2, false>(dev, a);
  if (D > 768) return forward_as<A, 4, 8, true>(dev, a);
  if (D > 512) return forward_as<A, 4, 6, true>(dev, a);
  if (D > 256) return forward_as<A, 4, 4, true>(dev, a);
  return forward_as<A, 4, 2, true>(dev, a);
}

int cuda_residual_norm(Device *dev, const ResidualNorm *a) { return WITH_TYPE(dev->act, forward<A>(dev, a)); }

/* ---- backward */
template <class A> struct Slope {
  Rows<A> dh, dbranch;
  Rows<float> dx;
  float *partial;  /* [chunks of all groups, SUMS, D] */
  uint32_t chunks; /* per group */
};
struct RowSums {
  float mean, rstd, g_mean, g_dot; /* g = dh·w·(1+scale), g_dot = mean(g ŷ) */
  Spot spot;
};

/* The sums over row r, by a warp and for all its lanes. */
template <class A, int N>
static __device__ RowSums row_sums(const Seam<A> &a, const Slope<A> &b, const float *weight, const float *scale,
                                   uint32_t r) {
  constexpr int S = 2;
  const int D = (int)a.x.cols, lane = threadIdx.x % WARP;
  RowSums m = {a.layer ? a.mean[r] : 0, a.rstd[r], 0, 0, spot_of(a, r)};
  for (int first = 0; first < D; first += S * WARP * N) {
    Pack<float, N> y[S];
    Pack<A, N> dh[S];
    for (int s = 0; s < S; s++) {
      int col = first + (s * WARP + lane) * N;
      if (col < D) y[s] = load<N>(a.x_out.row(r) + col);
      if (col < D) dh[s] = load<N>(b.dh.row(r) + col);
    }
    for (int s = 0; s < S; s++) {
      int col = first + (s * WARP + lane) * N;
      if (col >= D) continue;
      Pack<float, N> w = load<N>(weight + col), by = columns<N>(scale, col, 0);
      for (int i = 0; i < N; i++) {
        float g = get(dh[s].v[i]) * w.v[i] * (1 + by.v[i]);
        m.g_mean += g;
        m.g_dot += g * (y[s].v[i] - m.mean) * m.rstd;
      }
    }
  }
  m.g_mean = a.layer ? warp_sum(m.g_mean) / (float)D : 0;
  m.g_dot = warp_sum(m.g_dot) / (float)D;
  return m;
}

/* Request a row of n elements for L2, by a warp. */
template <class A> static __device__ void request(const A *row, int n) {
#ifdef __CUDACC__
  constexpr int LINE = 128 / (int)sizeof(A);
  for (int i = threadIdx.x % WARP * LINE; i < n; i += WARP * LINE)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(row + i));
#else
  (void)row, (void)n;
#endif
}

/* The thread's columns of the first `have` of rows r and r + 1: dx, dbranch, and their contribution to the sums. */
template <class A, int N>
static __device__ void two_rows(const Seam<A> &a, const Slope<A> &b, const RowSums m[2], uint32_t r, int have, int col,
                                Pack<float, N> w, const float *gate, Pack<float, N> sum[SUMS]) {
  Pack<float, N> dx[2];
  Pack<A, N> branch[2];
  uint32_t bits = 0;
  for (int j = 0; j < 2; j++) {
    if (j < have) dx[j] = load<N>(b.dx.row(r + j) + col);
    if (j < have && a.branch.data) branch[j] = load<N>(a.branch.row(r + j) + col);
  }
  Spot here = m[0].spot, there = m[have > 1].spot;
  here.block += col / 8, there.block += col / 8;
  if (a.branch.data) bits = kept_two<N>(a.mask, here, there, col % 8);
  for (int j = 0; j < 2; j++) {
    if (j >= have) continue;
    Pack<float, N> y = load<N>(a.x_out.row(r + j) + col);
    Pack<A, N> dh = load<N>(b.dh.row(r + j) + col);
    for (int i = 0; i < N; i++) {
      float d = get(dh.v[i]), hat = (y.v[i] - m[j].mean) * m[j].rstd;
      dx[j].v[i] += m[j].rstd * (d * w.v[i] - m[j].g_mean - hat * m[j].g_dot);
      sum[0].v[i] += d;
      sum[1].v[i] += d * hat;
    }
    store(b.dx.row(r + j) + col, dx[j]);
    if (!a.branch.data) continue;
    Pack<float, N> g = columns<N>(gate, col, 1);
    for (int i = 0; i < N; i++) {
      float through = dx[j].v[i] * keep(a.mask, bits, j * N + i);
      sum[2].v[i] += through * get(branch[j].v[i]);
      dx[j].v[i] = through * g.v[i];
    }
    store_as(b.dbranch.row(r + j) + col, dx[j]);
  }
}

template <class A, int N>
__global__ void __launch_bounds__(THREADS, 3)
    k_residual_norm_backward(Seam<A> a, Slope<A> b, const float *__restrict__ weight, const float *__restrict__ gate,
                             int64_t gate_ld, const float *__restrict__ scale, int64_t scale_ld) {
  SHARED(RowSums, row, CHUNK);
  const int D = (int)a.x.cols, warp = threadIdx.x / WARP;
  const uint32_t g = blockIdx.x / b.chunks, at = blockIdx.x % b.chunks * CHUNK, first = g * a.per + at;
  const int n = a.per - at < CHUNK ? (int)(a.per - at) : CHUNK;
  if (gate) gate += g * gate_ld;
  if (scale) scale += g * scale_ld;
  for (int slab = 0; slab < D; slab += THREADS * N) {
    const int col = slab + (int)threadIdx.x * N;
    Pack<float, N> w = {}, sum[SUMS] = {};
    if (col < D) {
      Pack<float, N> by = columns<N>(scale, col, 0);
      w = load<N>(weight + col);
      for (int i = 0; i < N; i++) w.v[i] *= 1 + by.v[i];
    }
    for (int tile = 0; tile < n; tile += WARPS) {
      if (slab == 0) { /* the sums over a row are computed once and used by every slab */
        if (tile + warp < n) {
          request(b.dx.row(first + tile + warp), D);
          if (a.branch.data) request(a.branch.row(first + tile + warp), D);
          if (tile + WARPS + warp < n) {
            request(b.dh.row(first + tile + WARPS + warp), D);
            request(a.x_out.row(first + tile + WARPS + warp), D);
          }
          RowSums m = row_sums<A, N>(a, b, weight, scale, first + tile + warp);
          if (threadIdx.x % WARP == 0) row[tile + warp] = m;
        }
        __syncthreads();
      }
      for (int i = tile; i < tile + WARPS && i < n; i += 2)
        two_rows<A, N>(a, b, row + i, first + i, col >= D ? 0 : i + 1 < n ? 2 : 1, col, w, gate, sum);
    }
    for (int s = 0; s < SUMS && col < D; s++) store(b.partial + ((int64_t)blockIdx.x * SUMS + s) * D + col, sum[s]);
  }
}

/* out[j] = Σ of FOLD rows of `in` from row FOLD·j on, in order, within each group; rows have W columns. */
template <int N> __global__ void k_fold(float *out, const float *in, uint32_t n, uint32_t folded, int W, bool add) {
  const uint32_t slabs = (W + THREADS * N - 1) / (THREADS * N), j = blockIdx.x / slabs, group = j / folded;
  const uint32_t first = j % folded * FOLD, last = first + FOLD < n ? first + FOLD : n;
  const int col = (int)(blockIdx.x % slabs * THREADS + threadIdx.x) * N;
  if (col >= W) return;
  Pack<float, N> sum = {};
  for (uint32_t i = first; i < last; i++) {
    Pack<float, N> p = load<N>(in + ((int64_t)group * n + i) * W + col);
    for (int k = 0; k < N; k++) sum.v[k] += p.v[k];
  }
  float *to = out + (int64_t)j * W + col;
  if (add) {
    Pack<float, N> p = load<N>(to);
    for (int k = 0; k < N; k++) sum.v[k] += p.v[k];
  }
  store(to, sum);
}

static int fold_once(Device *dev, float *out, const float *in, int64_t groups, int64_t n, int64_t W, bool add) {
  int64_t folded = ceil_div(n, FOLD);
  return WITH_PACKS(W % WIDE<float> == 0 && aligned(out, sizeof(Pack<float, WIDE<float>>)), WIDE<float>,
                    LAUNCH(dev, (k_fold<N>), groups * folded * ceil_div(W, THREADS * N), out, in, (uint32_t)n,
                           (uint32_t)folded, (int)W, add));
}

/* Fold each group to at most FOLD rows, alternating between the two buffers; *in is the result. */
static int fold_to_last(Device *dev, float **in, float **spare, int64_t groups, int64_t *n, int64_t W) {
  for (; *n > FOLD; *n = ceil_div(*n, FOLD)) {
    TRY(fold_once(dev, *spare, *in, groups, *n, W, false));
    float *swap = *in;
    *in = *spare;
    *spare = swap;
  }
  return OK;
}

/* From the sums of a group: its gradients, and its contribution to dweight. A left-out output is NULL. */
__global__ void k_spread(const float *sums, Rows<float> dshift, Rows<float> dscale, Rows<float> dgate, float *dweight,
                         const float *weight, Rows<float> scale, int D) {
  const uint32_t slabs = (D + THREADS - 1) / THREADS, g = blockIdx.x / slabs;
  const int d = (int)(blockIdx.x % slabs * THREADS + threadIdx.x);
  if (d >= D) return;
  const float *sum = sums + (int64_t)g * SUMS * D + d;
  if (dshift.data) dshift.row(g)[d] = sum[0];
  if (dscale.data) dscale.row(g)[d] = sum[D] * weight[d];
  if (dgate.data) dgate.row(g)[d] = sum[2 * D];
  dweight[(int64_t)g * D + d] = sum[D] * (scale.data ? 1 + scale.row(g)[d] : 1);
}

/* From the sums of the chunks, in `partial`, to the outputs. `spare` is 1/FOLD of the size of `partial`, rounded up,
 * and `weights` is [2G, D]. */
static int finish(Device *dev, const ResidualNorm *a, float *partial, float *spare, float *weights, int64_t G,
                  int64_t n) {
  const int64_t D = cols_of(a->x), W = SUMS * D;
  TRY(fold_to_last(dev, &partial, &spare, G, &n, W));
  TRY(fold_once(dev, spare, partial, G, n, W, false));
  TRY(LAUNCH(dev, k_spread, G * ceil_div(D, THREADS), spare, rows<float>(a->dshift), rows<float>(a->dscale),
             rows<float>(a->dgate), weights, (const float *)a->weight.data, rows<float>(a->scale), (int)D));
  float *other = weights + G * D;
  n = G;
  TRY(fold_to_last(dev, &weights, &other, 1, &n, D));
  return fold_once(dev, (float *)a->dweight.data, weights, 1, n, D, true);
}

template <class A, int N> static int backward_as(Device *dev, const ResidualNorm *a, Slope<A> b, int64_t G) {
  return LAUNCH(dev, (k_residual_norm_backward<A, N>), G * b.chunks, seam_of<A>(a), b, (const float *)a->weight.data,
                (const float *)a->gate.data, a->gate.ld, (const float *)a->scale.data, a->scale.ld);
}

template <class A> static int backward(Device *dev, const ResidualNorm *a) {
  const int64_t R = rows_of(a->x), D = cols_of(a->x), G = R / a->rows_per_group, n = ceil_div(a->rows_per_group, CHUNK);
  const int64_t all = round_up(G * n * SUMS * D, 4), few = round_up(G * ceil_div(n, FOLD) * SUMS * D, 4);
  float *partial = NULL;
  TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)(all + few + 2 * G * D) * sizeof(float), &partial));
  Slope<A> b = {rows<A>(a->dh), rows<A>(a->dbranch), rows<float>(a->dx), partial, (uint32_t)n};
  TRY(WITH_PACKS(all_in_packs(a), WIDE<float>, (backward_as<A, N>(dev, a, b, G))));
  return finish(dev, a, partial, partial + all, partial + all + few, G, n);
}

int cuda_residual_norm_backward(Device *dev, const ResidualNorm *a) { return WITH_TYPE(dev->act, backward<A>(dev, a)); }
