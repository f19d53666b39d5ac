/* conv — causal convolution of each channel with SiLU, bound by memory: x is read once and y written once, which is 4
 * bytes per token and channel in bf16; backward reads x and dy and writes dx.
 *
 * A thread takes N neighbouring channels through a run of RUN rows, keeps the latest rows of x in registers and loads
 * AHEAD rows at a time. Rows at the ends of a run are also read by the neighbouring runs; L1 serves them. The kernels
 * come in two forms: packs of channels with four taps, and a single channel with any number of taps for other shapes.
 *
 * Taps are numbered by distance here: tap d = weight[:,W−1−d] multiplies the step d before. */
#include "backend.h"
#include "sequence.cuh"

namespace {

enum { RUN = 16, AHEAD = 4, USUAL_TAPS = 4, PACK = 2, SPAN = WARPS * RUN };

template <class A> struct ConvArgs {
  int64_t L, sequences;
  int W;
  bool reverse, add;
  Rows<A> x, y, dy, dx;
  const float *weight, *bias;
  float *part; /* [sequences·spans][taps+1][E]: dweight by distance, then dbias */
};

template <int N, int TAPS> struct Taps {
  float w[TAPS][N], bias[N];
  __device__ Taps(const float *weight, const float *b, int64_t e, int W) {
    for (int i = 0; i < N; i++) {
      float all[TAPS];
      if (N > 1) {
        Held<float, TAPS> four;
        four.load(weight + (e + i) * TAPS);
        four.unpack(all);
      } else
        for (int d = 0; d < TAPS; d++) all[TAPS - 1 - d] = d < W ? weight[e * W + W - 1 - d] : 0;
      for (int d = 0; d < TAPS; d++) w[d][i] = all[TAPS - 1 - d];
      bias[i] = b[e + i];
    }
  }
};

/* The latest TAPS rows of N channels; [0] is the newest. */
template <int N, int TAPS> struct Window {
  float v[TAPS][N];
  __device__ void shift() {
    for (int d = TAPS - 1; d > 0; d--)
      for (int i = 0; i < N; i++) v[d][i] = v[d - 1][i];
  }
};

/* x at the steps before the line's first step, of which `steps` exist; zero before the sequence. */
template <class A, int N, int TAPS>
static __device__ inline void fill(Window<N, TAPS> *x, Line<A> from, int64_t steps) {
  for (int d = 1; d < TAPS; d++) {
    Held<A, N> one = {};
    if (steps >= d) one.load(from.at(-d));
    one.unpack(x->v[d - 1]);
  }
}

/* A missing tap is skipped rather than multiplied by zero, so that a NaN spreads over W rows only. */
template <int N, int TAPS>
static __device__ inline void convolve(float *pre, const Window<N, TAPS> &x, const Taps<N, TAPS> &taps, int W) {
  for (int i = 0; i < N; i++) {
    pre[i] = taps.bias[i];
    for (int d = TAPS - 1; d >= 0; d--)
      if (N > 1 || d < W) pre[i] += taps.w[d][i] * x.v[d][i];
  }
}

static __device__ inline float sigmoid(float v) { return __fdividef(1, 1 + __expf(-v)); }

template <class A, int N, int TAPS> __global__ void __launch_bounds__(THREADS, 4) k_conv(ConvArgs<A> p) {
  int64_t L = p.L, packs = p.x.cols / N, runs = (L + RUN - 1) / RUN;
  int64_t index = thread_number(), e = index % packs * N, run = index / packs;
  if (run >= runs * p.sequences) return;
  int64_t b = run / runs, first = run % runs * RUN;
  int n = (int)min_of(RUN, L - first);
  Taps<N, TAPS> taps(p.weight, p.bias, e, p.W);
  Line<A> from(p.x, b, L, p.reverse, first, e), to(p.y, b, L, p.reverse, first, e);
  Window<N, TAPS> x;
  fill(&x, from, first);
  for (int t = 0; t < n; t += AHEAD) {
    Held<A, N> next[AHEAD];
    for (int g = 0; g < AHEAD; g++)
      if (t + g < n) next[g].load(from.at(t + g));
    for (int g = 0; g < AHEAD; g++) {
      if (t + g >= n) continue;
      float y[N];
      x.shift();
      next[g].unpack(x.v[0]);
      convolve(y, x, taps, p.W);
      for (int i = 0; i < N; i++) y[i] *= sigmoid(y[i]);
      Held<A, N>::store(to.at(t + g), y);
    }
  }
}

/* The state of a thread of backward: the latest rows of x and of d, the gradient of the sum before SiLU, and the
 * gradients of weight and bias. */
template <class A, int N, int TAPS> struct Run {
  Window<N, TAPS> x, d;
  float dw[TAPS][N], dbias[N];

  /* Take in step t; it contributes to dw and dbias if it belongs to the run (`own`). */
  __device__ void step(const Taps<N, TAPS> &taps, int W, Held<A, N> x_t, Held<A, N> dy_t, bool own) {
    float pre[N], dy[N];
    x.shift();
    d.shift();
    x_t.unpack(x.v[0]);
    dy_t.unpack(dy);
    convolve(pre, x, taps, W);
    for (int i = 0; i < N; i++) {
      float s = sigmoid(pre[i]);
      d.v[0][i] = dy[i] * s * (1 + pre[i] * (1 - s));
      float mine = own ? d.v[0][i] : 0;
      dbias[i] += mine;
      for (int k = 0; k < TAPS; k++)
        if (N > 1 || k < W) dw[k][i] += mine * x.v[k][i];
    }
  }
  /* The gradient of x at the step TAPS−1 before the latest. */
  __device__ void input(float *dx, const Taps<N, TAPS> &taps) const {
    for (int i = 0; i < N; i++)
      for (int k = 0; k < TAPS; k++) dx[i] += taps.w[k][i] * d.v[TAPS - 1 - k][i];
  }
};

/* The rows of a run and the TAPS−1 after it, whose d the last rows need. */
template <class A, int N, int TAPS>
static __device__ inline void run_backward(Run<A, N, TAPS> *r, const ConvArgs<A> &p, int64_t b, int64_t first,
                                           int64_t e) {
  int64_t L = p.L;
  int own = (int)min_of(RUN, L - first), exist = (int)min_of(own + TAPS - 1, L - first);
  Taps<N, TAPS> taps(p.weight, p.bias, e, p.W);
  Line<A> x(p.x, b, L, p.reverse, first, e), dy(p.dy, b, L, p.reverse, first, e), dx(p.dx, b, L, p.reverse, first, e);
  fill(&r->x, x, first);
  for (int t = 0; t < own + TAPS - 1; t += AHEAD) {
    Held<A, N> next_x[AHEAD], next_dy[AHEAD], before[AHEAD];
    for (int g = 0; g < AHEAD; g++) {
      int out = t + g - (TAPS - 1);
      next_x[g] = next_dy[g] = before[g] = {};
      if (t + g < exist) next_x[g].load(x.at(t + g));
      if (t + g < exist) next_dy[g].load(dy.at(t + g));
      if (p.add && out >= 0 && out < own) before[g].load(dx.at(out));
    }
    for (int g = 0; g < AHEAD; g++) {
      int out = t + g - (TAPS - 1);
      float to[N];
      r->step(taps, p.W, next_x[g], next_dy[g], t + g < own);
      if (out < 0 || out >= own) continue;
      before[g].unpack(to);
      r->input(to, taps);
      Held<A, N>::store(dx.at(out), to);
    }
  }
}

/* A warp takes a run of 32 packs of channels, a block SPAN rows of them; a block writes its sums to `part`. */
template <class A, int N, int TAPS> __global__ void __launch_bounds__(THREADS, 2) k_conv_backward(ConvArgs<A> p) {
  SHARED(float, sums, (TAPS + 1) * N * THREADS);
  enum { COLS = WARP * N };
  int64_t E = p.x.cols, spans = (p.L + SPAN - 1) / SPAN, strips = (E + COLS - 1) / COLS;
  int64_t span = blockIdx.x / strips, column = blockIdx.x % strips * COLS;
  int64_t first = span % spans * SPAN + threadIdx.x / WARP * RUN, e = column + threadIdx.x % WARP * N;
  Run<A, N, TAPS> r = {};
  if (e < E && first < p.L) run_backward(&r, p, span / spans, first, e);
  for (int i = 0; i < N; i++) {
    for (int k = 0; k < TAPS; k++) sums[(k * N + i) * THREADS + threadIdx.x] = r.dw[k][i];
    sums[(TAPS * N + i) * THREADS + threadIdx.x] = r.dbias[i];
  }
  __syncthreads();
  for (int k = threadIdx.x; k < (TAPS + 1) * COLS; k += THREADS) {
    int tap = k / COLS, c = k % COLS;
    float sum = 0;
    for (int w = 0; w < WARPS; w++) sum += sums[(tap * N + c % N) * THREADS + w * WARP + c / N];
    if (column + c < E) p.part[(span * (TAPS + 1) + tap) * E + column + c] = sum;
  }
}

/* A block sums WARP columns of part[n][taps+1][E]; each warp takes every WARPS-th row. */
static __global__ void k_conv_sums(const float *part, int64_t n, int taps, int64_t E, int W, float *dweight,
                                   float *dbias) {
  SHARED(float, sums, THREADS);
  int64_t cols = (taps + 1) * E, col = (int64_t)blockIdx.x * WARP + threadIdx.x % WARP;
  float sum = 0;
  if (col < cols) {
    for (int64_t i = threadIdx.x / WARP; i < n; i += WARPS) sum += part[i * cols + col];
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= WARP || col >= cols) return;
  for (int w = 1; w < WARPS; w++) sum += sums[w * WARP + threadIdx.x];
  int64_t tap = col / E, e = col % E;
  if (tap == taps)
    dbias[e] += sum;
  else if (tap < W)
    dweight[e * W + W - 1 - tap] += sum;
}

template <class A> static ConvArgs<A> args_of(const Conv *a) {
  ConvArgs<A> p = {};
  p.L = a->L;
  p.sequences = rows_of(a->x) / a->L;
  p.W = (int)cols_of(a->weight);
  p.reverse = a->reverse;
  p.add = a->add;
  p.x = rows<A>(a->x);
  p.y = rows<A>(a->y);
  p.dy = rows<A>(a->dy);
  p.dx = rows<A>(a->dx);
  p.weight = (const float *)a->weight.data;
  p.bias = (const float *)a->bias.data;
  return p;
}

static bool usual(const Conv *a) {
  return cols_of(a->weight) == USUAL_TAPS && in_packs(a->weight, USUAL_TAPS) && in_packs(a->x, PACK);
}

template <class A, int N, int TAPS> static int launch(Device *dev, const Conv *a) {
  int64_t runs = rows_of(a->x) / a->L * ceil_div(a->L, RUN), threads = runs * (cols_of(a->x) / N);
  return LAUNCH(dev, (k_conv<A, N, TAPS>), ceil_div(threads, THREADS), args_of<A>(a));
}

template <class A, int N, int TAPS> static int launch_backward(Device *dev, const Conv *a) {
  ConvArgs<A> p = args_of<A>(a);
  int64_t E = cols_of(a->x), n = p.sequences * ceil_div(a->L, SPAN), cols = (TAPS + 1) * E;
  TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)(n * cols) * sizeof(float), &p.part));
  TRY(LAUNCH(dev, (k_conv_backward<A, N, TAPS>), n * ceil_div(E, WARP * N), p));
  return LAUNCH(dev, k_conv_sums, ceil_div(cols, WARP), p.part, n, TAPS, E, p.W, (float *)a->dweight.data,
                (float *)a->dbias.data);
}

} /* namespace */

int cuda_conv(Device *dev, const Conv *a) {
  bool packs = usual(a) && in_packs(a->y, PACK);
  return WITH_TYPE(a->x.type, packs ? launch<A, PACK, USUAL_TAPS>(dev, a) : launch<A, 1, CONV_TAPS>(dev, a));
}

int cuda_conv_backward(Device *dev, const Conv *a) {
  bool packs = usual(a) && in_packs(a->dy, PACK) && in_packs(a->dx, PACK);
  return WITH_TYPE(a->x.type,
                   packs ? launch_backward<A, PACK, USUAL_TAPS>(dev, a) : launch_backward<A, 1, CONV_TAPS>(dev, a));
}
