/* draw — rows of logits on the GPU: draws and arg-max. A block is a row.
 *
 * The inverse of the cumulative distribution is found by narrowing: the row is cut into at most THREADS segments whose
 * sums a scan turns into cumulative weights, the one in which the goal falls is cut again, until segments are tokens.
 * All sums are in f64, of the same weights, in one order. */
#include "backend.h"
#include "logits.cuh"

namespace {
struct First {
  int v;
  __device__ static First exchange(First a, int mask) {
    First w = {__shfl_xor_sync(~0u, a.v, mask)};
    return w;
  }
};
struct Best {
  float f;
  int32_t v;
  __device__ static Best exchange(Best b, int mask) {
    Best w = {__shfl_xor_sync(~0u, b.f, mask), __shfl_xor_sync(~0u, b.v, mask)};
    return w;
  }
};
} /* namespace */

/* ---- draw */
static __device__ First smaller(First a, First b) { return a.v < b.v ? a : b; }

namespace {
template <class A, int N> struct Weights { /* exp(f − top), 0 at forbid */
  const A *f;
  int V;
  int32_t forbid;
  float top;
  __device__ double at(int v) const { return v == forbid ? 0 : (double)expf(get(f[v]) - top); }
  /* Σ over [first, last) by a warp, for its lane 0; first is a multiple of a pack. */
  __device__ double sum(int first, int last) const {
    double sum = 0;
    for (int i = first / N + (int)threadIdx.x % WARP; i * N < last; i += WARP) {
      Logits<A, N> x(pack_at<N>(f, V, i), i, forbid);
      for (int j = 0; j < N; j++) sum += (double)expf(x.v[j] - top);
    }
    for (int m = WARP / 2; m > 0; m /= 2) sum += __shfl_xor_sync(~0u, sum, m);
    return sum;
  }
};
} /* namespace */

/* upto[t] := part[0] + … + part[t], along the lanes of each warp and then along the warps. */
static __device__ void scan(double *upto, double part) {
  SHARED(double, warp, WARPS);
  int lane = (int)threadIdx.x % WARP, mine = (int)threadIdx.x / WARP;
  for (int m = 1; m < WARP; m *= 2) {
    double before = __shfl_up_sync(~0u, part, m);
    if (lane >= m) part += before;
  }
  if (lane == WARP - 1) warp[mine] = part;
  __syncthreads();
  double below = 0;
  for (int i = 0; i < mine; i++) below += warp[i];
  upto[threadIdx.x] = below + part;
  __syncthreads();
}

/* The first thread with a weight at which the sums exceed the goal; if rounding leaves none, the last with a weight; −1
 * if all are 0. */
static __device__ int choose(double part, double upto, double goal) {
  int t = (int)threadIdx.x;
  First mine = {part <= 0 ? 3 * THREADS : upto > goal ? t : 2 * THREADS - t};
  int first = block_reduce(mine, smaller).v;
  return first < THREADS ? first : first < 3 * THREADS ? 2 * THREADS - first : -1;
}

template <class A, int N> static __device__ int32_t inverse_cdf(Weights<A, N> p, double uniform) {
  SHARED(double, part, THREADS);
  SHARED(double, upto, THREADS);
  double goal = -1, below = 0;
  for (int first = 0, last = p.V;;) {
    int most = (last - first + THREADS - 1) / THREADS,
        size = most > 1 ? (most + WARP * N - 1) / (WARP * N) * WARP * N : 1;
    for (int s = (int)threadIdx.x / WARP; s < THREADS && size > 1; s += WARPS) {
      int from = first + s * size, to = from + size < last ? from + size : last;
      double sum = from < to ? p.sum(from, to) : 0;
      if (threadIdx.x % WARP == 0) part[s] = sum;
    }
    __syncthreads();
    int v = first + (int)threadIdx.x;
    double mine = size > 1 ? part[threadIdx.x] : v < last ? p.at(v) : 0;
    scan(upto, mine);
    if (goal < 0) {
      double total = upto[THREADS - 1];
      if (!isfinite(total)) return -1;
      goal = uniform * total;
    }
    int t = choose(mine, below + upto[threadIdx.x], goal);
    if (t < 0 || size == 1) return t < 0 ? t : first + t;
    if (t > 0) below += upto[t - 1];
    first += t * size;
    if (first + size < last) last = first + size;
    __syncthreads();
  }
}

template <class A, int N> __global__ void k_draw(int32_t *ids, Rows<A> l, const double *uniform, int32_t forbid) {
  const A *f = l.row(blockIdx.x);
  float most = -INFINITY;
  each_pack<N>(f, (int)l.cols, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    Logits<A, N> x(p, i, forbid);
    for (int j = 0; j < N; j++) most = fmaxf(most, x.v[j]);
  });
  Weights<A, N> p = {f, (int)l.cols, forbid, block_max(most)};
  int32_t v = inverse_cdf(p, uniform[blockIdx.x]);
  if (threadIdx.x == 0) ids[blockIdx.x] = v;
}

/* ---- argmax */
/* The larger one; of equals, the first. */
static __device__ Best better(Best a, Best b) {
  if (a.f == b.f) return a.v < b.v ? a : b;
  return b.f > a.f ? b : a;
}

/* Where nothing is above −∞, the first token is the answer; what is no number is above nothing. */
template <class A, int N> __global__ void k_argmax(int32_t *ids, Rows<A> l, int32_t forbid) {
  const A *f = l.row(blockIdx.x);
  int32_t first = forbid == 0 ? 1 : 0;
  Best mine = {-INFINITY, first};
  each_pack<N>(f, (int)l.cols, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    Logits<A, N> x(p, i, forbid);
    for (int j = 0; j < N; j++)
      if (x.v[j] > mine.f) mine = {x.v[j], i * N + j};
  });
  Best best = block_reduce(mine, better);
  if (threadIdx.x == 0) ids[blockIdx.x] = first >= l.cols || isnan(get(f[first])) ? -1 : best.v;
}

int cuda_draw(Device *dev, Tensor ids, Tensor logits, Tensor uniform, int32_t forbid) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_draw<A, N>), rows_of(logits), (int32_t *)ids.data, rows<A>(logits),
                                  (const double *)uniform.data, forbid));
}

int cuda_argmax(Device *dev, Tensor ids, Tensor logits, int32_t forbid) {
  return WITH_ROWS(logits,
                   LAUNCH(dev, (k_argmax<A, N>), rows_of(logits), (int32_t *)ids.data, rows<A>(logits), forbid));
}
