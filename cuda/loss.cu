/* loss — rows of logits on the GPU: the losses and their gradients in place, draws, arg-max. A block is a row, whose
 * logits are read once for the sum and once more for the gradient, which an L2 of chunk size serves. */
#include "backend.h"
#include "cuda.cuh"

/* Σ exp(f − top) with top the largest f so far: one pass over the row. */
struct LogSum {
  float top, sum;
  __device__ static LogSum exchange(LogSum v, int mask) {
    LogSum w = {__shfl_xor_sync(~0u, v.top, mask), __shfl_xor_sync(~0u, v.sum, mask)};
    return w;
  }
};
static __device__ LogSum merge(LogSum a, LogSum b) {
  LogSum all = {b.top > a.top ? b.top : a.top, 0};
  if (all.top > -INFINITY) all.sum = a.sum * expf(a.top - all.top) + b.sum * expf(b.top - all.top);
  if (isnan(a.sum) || isnan(b.sum)) all.sum = NAN; /* a logit that is no number is seen */
  return all;
}
struct Sum {
  float v;
  __device__ static Sum exchange(Sum s, int mask) {
    Sum w = {__shfl_xor_sync(~0u, s.v, mask)};
    return w;
  }
};
static __device__ Sum plus(Sum a, Sum b) {
  Sum all = {a.v + b.v};
  return all;
}

template <class A> static __device__ LogSum row_log_sum(const A *f, int64_t V, int32_t forbid) {
  LogSum mine = {-INFINITY, 0};
  for (int64_t v = threadIdx.x; v < V; v += THREADS) {
    if (v == forbid) continue;
    float x = get(f[v]);
    LogSum one = {isnan(x) ? -INFINITY : x, isnan(x) ? NAN : 1.f};
    mine = merge(mine, one);
  }
  return block_reduce(mine, merge);
}

template <class A>
__global__ void k_cross_entropy(float *loss, Rows<A> l, const int32_t *target, const float *weight, int32_t forbid,
                                bool gradient) {
  int64_t r = blockIdx.x;
  A *f = l.row(r);
  float w = weight[r];
  int32_t x0 = target[r];
  float hit = get(f[x0]);
  LogSum all = row_log_sum(f, l.cols, forbid); /* its barriers part this read from the writes below */
  if (threadIdx.x == 0) loss[r] = w * ((all.top - hit) + logf(all.sum));
  float c = w / all.sum;
  for (int64_t v = threadIdx.x; v < l.cols && gradient; v += THREADS)
    put(f + v, v == forbid ? 0 : c * expf(get(f[v]) - all.top) - (v == x0 ? w : 0));
}

template <class A>
__global__ void k_absorbing_bound(float *loss, Rows<A> l, const int32_t *target, const float *terms, int32_t mask,
                                  bool gradient) {
  int64_t r = blockIdx.x;
  A *f = l.row(r);
  const float *k = terms + 4 * r;
  int32_t x0 = target[r];
  float hit = get(f[x0]), at_mask = get(f[mask]);
  LogSum all = row_log_sum(f, l.cols, -1);
  double w1 = k[0], w2 = k[1], a = k[2], d = k[3], lse = log((double)all.sum);
  double p = exp((double)(at_mask - all.top) - lse), one = 1 + a * p, slope = (w1 * a - w2 * d / (one + d * p)) / one;
  if (threadIdx.x == 0)
    loss[r] = (float)(w1 * (log1p(a * p) - ((double)(hit - all.top) - lse)) - w2 * log1p(d * p / one));
  float scale = (float)((w1 - slope * p) / (double)all.sum), at = (float)(slope * p);
  for (int64_t v = threadIdx.x; v < l.cols && gradient; v += THREADS)
    put(f + v, scale * expf(get(f[v]) - all.top) - (v == x0 ? k[0] : 0) + (v == mask ? at : 0));
}

template <class A>
__global__ void k_score_entropy(float *loss, Rows<A> l, const int32_t *target, const float *weight, int32_t mask,
                                bool gradient) {
  int64_t r = blockIdx.x;
  A *f = l.row(r);
  float w = weight[r], shift = logf((float)(l.cols - 1));
  int32_t x0 = target[r];
  float hit = get(f[x0]) - shift;
  Sum mine = {0};
  for (int64_t v = threadIdx.x; v < l.cols; v += THREADS)
    if (v != mask) mine.v += expf(get(f[v]) - shift);
  Sum all = block_reduce(mine, plus);
  if (threadIdx.x == 0) loss[r] = w * (all.v - hit - 1);
  for (int64_t v = threadIdx.x; v < l.cols && gradient; v += THREADS)
    put(f + v, v == mask ? 0 : w * expf(get(f[v]) - shift) - (v == x0 ? w : 0));
}

/* A thread sums a run of neighbours, in f64; thread 0 finds the run in which the goal falls, and the token in it. */
template <class A> __global__ void k_draw(int32_t *ids, Rows<A> l, const double *uniform, int32_t forbid) {
  SHARED(double, part, THREADS);
  int64_t r = blockIdx.x, run = (l.cols + THREADS - 1) / THREADS, first = threadIdx.x * run;
  const A *f = l.row(r);
  LogSum all = row_log_sum(f, l.cols, forbid);
  double mine = 0;
  for (int64_t v = first; v < first + run && v < l.cols; v++)
    if (v != forbid) mine += (double)expf(get(f[v]) - all.top);
  part[threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0, below = 0;
  for (int i = 0; i < THREADS; i++) total += part[i];
  double goal = uniform[r] * total;
  int32_t last = -1;
  for (int i = 0; i < THREADS && isfinite(total); i++) {
    if (part[i] <= 0) continue;
    if (below + part[i] <= goal && i < THREADS - 1) { /* not in this run; but remember its last token */
      for (int64_t v = i * run; v < (i + 1) * run && v < l.cols; v++)
        if (v != forbid && expf(get(f[v]) - all.top) > 0) last = (int32_t)v;
      below += part[i];
      continue;
    }
    for (int64_t v = i * run; v < (i + 1) * run && v < l.cols; v++) {
      float p = v == forbid ? 0 : expf(get(f[v]) - all.top);
      if (p <= 0) continue;
      last = (int32_t)v;
      below += (double)p;
      if (below > goal) break;
    }
    if (below > goal) break;
  }
  ids[r] = last;
}

struct Best {
  float f;
  int32_t v; /* −1: none yet */
  __device__ static Best exchange(Best b, int mask) {
    Best w = {__shfl_xor_sync(~0u, b.f, mask), __shfl_xor_sync(~0u, b.v, mask)};
    return w;
  }
};
/* The larger one; of equals, the first. */
static __device__ Best better(Best a, Best b) {
  if (a.v < 0 || b.v < 0) return a.v < 0 ? b : a;
  if (a.f == b.f) return a.v < b.v ? a : b;
  return b.f > a.f ? b : a;
}

template <class A> __global__ void k_argmax(int32_t *ids, Rows<A> l, int32_t forbid) {
  int64_t r = blockIdx.x;
  const A *f = l.row(r);
  Best mine = {0, -1};
  for (int64_t v = threadIdx.x; v < l.cols; v += THREADS) {
    Best one = {get(f[v]), (int32_t)v};
    if (v != forbid && !isnan(one.f)) mine = better(mine, one);
  }
  Best best = block_reduce(mine, better);
  int32_t first = forbid == 0 ? 1 : 0;
  if (threadIdx.x == 0) ids[r] = isnan(get(f[first])) ? -1 : best.v;
}

int cuda_cross_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                       bool gradient) {
  return WITH_TYPE(logits.type, LAUNCH(dev, k_cross_entropy<A>, rows_of(logits), (float *)loss.data, rows<A>(logits),
                                       (const int32_t *)target.data, (const float *)weight.data, forbid, gradient));
}

int cuda_absorbing_bound(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                         bool gradient) {
  return WITH_TYPE(logits.type, LAUNCH(dev, k_absorbing_bound<A>, rows_of(logits), (float *)loss.data, rows<A>(logits),
                                       (const int32_t *)target.data, (const float *)terms.data, mask, gradient));
}

int cuda_score_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask,
                       bool gradient) {
  return WITH_TYPE(logits.type, LAUNCH(dev, k_score_entropy<A>, rows_of(logits), (float *)loss.data, rows<A>(logits),
                                       (const int32_t *)target.data, (const float *)weight.data, mask, gradient));
}

int cuda_draw(Device *dev, Tensor ids, Tensor logits, Tensor uniform, int32_t forbid) {
  return WITH_TYPE(logits.type, LAUNCH(dev, k_draw<A>, rows_of(logits), (int32_t *)ids.data, rows<A>(logits),
                                       (const double *)uniform.data, forbid));
}

int cuda_argmax(Device *dev, Tensor ids, Tensor logits, int32_t forbid) {
  return WITH_TYPE(logits.type,
                   LAUNCH(dev, k_argmax<A>, rows_of(logits), (int32_t *)ids.data, rows<A>(logits), forbid));
}
