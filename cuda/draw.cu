/* draw — draws from rows of logits, and arg-max. A block takes a row.
 *
 * The inverse of the cumulative distribution is found by repeated subdivision: the row is divided into at most THREADS
 * segments, a scan turns their sums into cumulative weights, and the segment that contains the goal is divided again,
 * until segments are tokens. All sums are in f64, over the same weights, in a fixed order. */
#include "backend.h"
#include "base/rng.h"
#include "logits.cuh"

namespace {
struct Best {
  float f;
  int32_t v;
};
__device__ Best exchange(Best b, int mask) {
  Best w = {::exchange(b.f, mask), ::exchange(b.v, mask)};
  return w;
}
} /* namespace */

/* ---- draw */
/* The larger one; of equals, the first. NaN is larger than any number. */
static __device__ Best better(Best a, Best b) {
  if (isnan(a.f) || isnan(b.f)) return isnan(a.f) ? a : b;
  if (a.f == b.f) return a.v < b.v ? a : b;
  return b.f > a.f ? b : a;
}
static __device__ int smaller(int a, int b) { return a < b ? a : b; }

namespace {
template <class A, int N> struct Weights { /* exp((f − top)·by), 0 at forbid and below `least` */
  const A *f;
  int V;
  int32_t forbid;
  float top, by, least;
  __device__ float of(float x) const {
    float w = expf((x - top) * by);
    return w >= least || isnan(w) ? w : 0;
  }
  __device__ double at(int v) const { return v == forbid ? 0 : (double)of(get(f[v])); }
  /* Σ over [first, last) by a warp, for its lane 0; first is a multiple of a pack. */
  __device__ double sum(int first, int last) const {
    double sum = 0;
    for (int i = first / N + (int)threadIdx.x % WARP; i * N < last; i += WARP) {
      Logits<A, N> x(pack_at<N>(f, V, i), i, forbid);
      for (int j = 0; j < N; j++) sum += (double)of(x.v[j]);
    }
    return lanes_reduce(sum, plus<double>, WARP);
  }
};
} /* namespace */

/* upto[t] := part[0] + … + part[t], first along the lanes of each warp, then along the warps. */
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

/* The first thread of positive weight whose cumulative sum exceeds the goal; if rounding leaves none, the last thread
 * of positive weight; −1 if all weights are 0. */
static __device__ int choose(double part, double upto, double goal) {
  int t = (int)threadIdx.x;
  int first = block_reduce(part <= 0 ? 3 * THREADS : upto > goal ? t : 2 * THREADS - t, smaller);
  return first < THREADS ? first : first < 3 * THREADS ? 2 * THREADS - first : -1;
}

/* Σ of the row's weights, for every thread. */
template <class A, int N> static __device__ double total(const Weights<A, N> &p) {
  double sum = 0;
  each_pack<N>(p.f, p.V, (int)threadIdx.x, [&](int i, const Pack<A, N> &q) {
    Logits<A, N> x(q, i, p.forbid);
    for (int j = 0; j < N; j++) sum += (double)p.of(x.v[j]);
  });
  return block_reduce(sum, plus<double>);
}

/* The largest weight such that the weights not below it make up the share. Non-negative floats are ordered like their
 * bits, which are determined one by one from the highest. within: at most the share, or the largest weights alone. */
template <class A, int N> static __device__ float least_of(Weights<A, N> p, double share, bool within) {
  double goal = share * total(p);
  uint32_t least = 0;
  for (int bit = 30; bit >= 0; bit--) {
    p.least = __uint_as_float(least | 1u << bit);
    if (total(p) >= goal) least |= 1u << bit;
  }
  if (within) {
    p.least = __uint_as_float(least);
    double above = total(p);
    p.least = __uint_as_float(least + 1);
    if (above > goal && total(p) > 0) least++;
  }
  return __uint_as_float(least);
}

/* Noise in f32: 4 tokens per Philox block, whose key is the row's random number. */
template <class A, int N>
static __device__ int32_t with_noise(const Weights<A, N> &p, double uniform, double keep, double others) {
  double sum = total(p);
  if (!isfinite(sum) || sum <= 0) return -1;
  RngKey key = rng_key((uint64_t)__double_as_longlong(uniform), RNG_SAMPLE_NOISE, 0, 0, 0);
  Best mine = {-1, 0};
  for (int first = (int)threadIdx.x * 4; first < p.V; first += THREADS * 4) {
    uint32_t r[4];
    rng_block(r, key, (uint32_t)first / 4);
    for (int j = 0; j < 4 && first + j < p.V; j++) {
      float u = (float)(r[j] >> 8) * 0x1p-24f, noise = 1e-10f - logf(u + 1e-10f);
      float q = (float)(first + j == p.forbid ? keep : others * (p.at(first + j) / sum));
      if (q / noise > mine.f) mine = {q / noise, first + j};
    }
  }
  return block_reduce(mine, better).v;
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

template <class A, int N>
__global__ void k_draw(int32_t *ids, Rows<A> l, const double *uniforms, const double *keeps, DrawRule rule, float by) {
  const A *f = l.row(blockIdx.x);
  float most = -INFINITY;
  each_pack<N>(f, (int)l.cols, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    Logits<A, N> x(p, i, rule.forbid);
    for (int j = 0; j < N; j++) most = fmaxf(most, x.v[j]);
  });
  Weights<A, N> p = {f, (int)l.cols, rule.forbid, block_max(most), 1, 0};
  double keep = keeps ? keeps[blockIdx.x] : 0, uniform = uniforms[blockIdx.x], others = 1 - keep;
  bool kept = false, broken = false, odds = rule.keep == KEEP_ODDS;
  if (odds || rule.keep == KEEP_SCORE) {
    double sum = total(p), S = odds ? sum * exp((double)p.top - (double)get(f[rule.forbid]))
                                    : sum * exp((double)p.top) / (double)(l.cols - 1);
    broken = isnan(S);
    kept = S <= keep && !rule.f32;
    if (odds) others /= 1 + 1 / S;
  }
  p.by = by;
  if (rule.nucleus < 1 && !kept && !broken) p.least = least_of(p, rule.nucleus, rule.within);
  int32_t v = broken     ? -1
              : kept     ? rule.forbid
              : rule.f32 ? with_noise(p, uniform, keep, others)
                         : inverse_cdf(p, uniform);
  if (threadIdx.x == 0) ids[blockIdx.x] = v;
}

/* ---- argmax */
/* The first token if none is above −∞. */
template <class A, int N> __global__ void k_argmax(int32_t *ids, Rows<A> l, int32_t forbid) {
  const A *f = l.row(blockIdx.x);
  int32_t first = forbid == 0 ? 1 : 0;
  Best mine = {-INFINITY, first};
  each_pack<N>(f, (int)l.cols, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    Logits<A, N> x(p, i, forbid);
    for (int j = 0; j < N; j++)
      if (x.v[j] > mine.f || isnan(x.v[j])) mine = {x.v[j], i * N + j};
  });
  Best best = block_reduce(mine, better);
  if (threadIdx.x == 0) ids[blockIdx.x] = first >= l.cols || isnan(best.f) ? -1 : best.v;
}

int cuda_draw(Device *dev, Tensor ids, Tensor logits, Tensor uniform, Tensor keep, const DrawRule *rule) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_draw<A, N>), rows_of(logits), (int32_t *)ids.data, rows<A>(logits),
                                  (const double *)uniform.data, (const double *)keep.data, *rule,
                                  (float)(1 / rule->temperature)));
}

int cuda_argmax(Device *dev, Tensor ids, Tensor logits, int32_t forbid) {
  return WITH_ROWS(logits,
                   LAUNCH(dev, (k_argmax<A, N>), rows_of(logits), (int32_t *)ids.data, rows<A>(logits), forbid));
}
