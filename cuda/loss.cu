/* loss — losses of rows of logits, and their gradients in place; what a row predicts. A block takes a row.
 *
 * A row is read once for its sum and once more for the gradient. The block keeps the first part of the row in shared
 * memory. Using that much shared memory also limits the number of rows in flight to those whose remainders fit in L2,
 * so that device memory is read once and written once. */
#include "backend.h"
#include "logits.cuh"
#include "ops/uniform_bound.h"

static constexpr int KEPT_BYTES = 46 << 10; /* together with the reductions' few bytes below a block's 48 KiB */

/* Losses are f32. The error of the fast exponential is small beside the rounding of a bf16 logit. */
template <class A> static __device__ float exp_of(float x) {
  if constexpr (sizeof(A) == 2)
    return __expf(x);
  else
    return expf(x);
}

/* Σ exp(f − top) with top the largest f. A NaN logit makes the sum NaN. */
namespace {
struct LogSum {
  float top, sum;
};
} /* namespace */

/* Add one pack to the running sum, which is rescaled when a larger logit is met. */
template <class A, int N> static __device__ void take(LogSum *mine, const Logits<A, N> &x) {
  float most = x.v[0], sum = 0;
  for (int j = 1; j < N; j++) most = fmaxf(most, x.v[j]);
  if (most > mine->top) {
    mine->sum *= exp_of<A>(mine->top - most);
    mine->top = most;
  }
  float top = mine->top > -INFINITY ? mine->top : 0;
  for (int j = 0; j < N; j++) sum += exp_of<A>(x.v[j] - top);
  mine->sum += sum;
}

template <class A, int N> static __device__ LogSum row_log_sum(Pack<A, N> *kept, const A *f, int V, int32_t forbid) {
  LogSum mine = {-INFINITY, 0};
  each_pack<N>(f, V, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    if (i < KEPT_BYTES / (int)sizeof p) kept[i] = p;
    take(&mine, Logits<A, N>(p, i, forbid));
  });
  float top = block_max(mine.top);
  float sum = mine.top == top ? mine.sum : mine.sum * exp_of<A>(mine.top - top);
  LogSum all = {top, block_reduce(sum, plus<float>)};
  return all;
}

/* Call use(i, p) for the packs that this thread has read before. */
template <class A, int N, class F> static __device__ void each_again(const Pack<A, N> *kept, const A *f, int V, F use) {
  int i = (int)threadIdx.x;
  for (; i < KEPT_BYTES / (int)sizeof *kept && i * N < V; i += THREADS) use(i, kept[i]);
  each_pack<N>(f, V, i, use);
}

/* f ← to(f), each thread the packs that it read before. */
template <class A, int N, class F> static __device__ void map_row(const Pack<A, N> *kept, A *f, int V, F to) {
  each_again(kept, f, V, [&](int i, Pack<A, N> p) {
    for (int j = 0; j < N; j++) put(&p.v[j], to(get(p.v[j])));
    put_pack(f, V, i, p);
  });
}

/* f ← scale·exp(f − from) */
template <class A, int N>
static __device__ void rewrite_row(const Pack<A, N> *kept, A *f, int V, float scale, float from) {
  map_row(kept, f, V, [=](float x) { return scale * exp_of<A>(x - from); });
}

/* f[v] ← x after rewrite_row, by the thread that rewrote it. */
template <int N, class A> static __device__ void put_one(A *f, int32_t v, float x) {
  if (v >= 0 && v / N % THREADS == (int)threadIdx.x) put(f + v, x);
}

template <class A, int N>
__global__ void k_cross_entropy(float *loss, Rows<A> l, const int32_t *target, const float *weight, int32_t forbid,
                                bool gradient) {
  using P = Pack<A, N>;
  SHARED(P, kept, KEPT_BYTES / sizeof(P));
  A *f = l.row(blockIdx.x);
  int V = (int)l.cols, x0 = target[blockIdx.x];
  float w = weight[blockIdx.x], hit = x0 == forbid ? -INFINITY : get(f[x0]);
  LogSum all = row_log_sum(kept, f, V, forbid); /* its barriers separate the read of f[x0] from the writes below */
  if (threadIdx.x == 0) loss[blockIdx.x] = w * ((all.top - hit) + logf(all.sum));
  if (!gradient) return;
  float c = w / all.sum;
  rewrite_row(kept, f, V, c, all.top);
  put_one<N>(f, x0, c * exp_of<A>(hit - all.top) - w);
  put_one<N>(f, forbid, 0);
}

/* With e = exp(f − top), the gradient is  scale·e − w1 [target] + at_mask [mask]. */
namespace {
struct Bound {
  float loss, scale, at_mask;
};
} /* namespace */
static __device__ Bound bound_of(const float *terms, float hit, float at_mask, LogSum all) {
  double w1 = terms[0], w2 = terms[1], a = terms[2], d = terms[3], lse = log((double)all.sum);
  double p = exp((double)(at_mask - all.top) - lse), one = 1 + a * p, slope = (w1 * a - w2 * d / (one + d * p)) / one;
  Bound b = {(float)(w1 * (log1p(a * p) - ((double)(hit - all.top) - lse)) - w2 * log1p(d * p / one)),
             (float)((w1 - slope * p) / (double)all.sum), (float)(slope * p)};
  return b;
}

template <class A, int N>
__global__ void k_absorbing_bound(float *loss, Rows<A> l, const int32_t *target, const float *terms, int32_t mask,
                                  bool gradient) {
  using P = Pack<A, N>;
  SHARED(P, kept, KEPT_BYTES / sizeof(P));
  SHARED(Bound, shared, 1);
  A *f = l.row(blockIdx.x);
  int V = (int)l.cols, x0 = target[blockIdx.x];
  const float *k = terms + 4 * (int64_t)blockIdx.x;
  float hit = get(f[x0]), at_mask = get(f[mask]);
  LogSum all = row_log_sum(kept, f, V, -1);
  if (threadIdx.x == 0) shared[0] = bound_of(k, hit, at_mask, all);
  __syncthreads();
  Bound b = shared[0];
  if (threadIdx.x == 0) loss[blockIdx.x] = b.loss;
  if (!gradient) return;
  rewrite_row(kept, f, V, b.scale, all.top);
  put_one<N>(f, mask, b.scale * exp_of<A>(at_mask - all.top) + b.at_mask);
  if (x0 != mask) put_one<N>(f, x0, b.scale * exp_of<A>(hit - all.top) - k[0]);
}

template <class A, int N>
__global__ void k_score_entropy(float *loss, Rows<A> l, const int32_t *target, const float *weight, int32_t mask,
                                bool gradient) {
  using P = Pack<A, N>;
  SHARED(P, kept, KEPT_BYTES / sizeof(P));
  A *f = l.row(blockIdx.x);
  int V = (int)l.cols, x0 = target[blockIdx.x];
  float w = weight[blockIdx.x], shift = logf((float)(V - 1)), hit = get(f[x0]);
  LogSum all = row_log_sum(kept, f, V, mask);
  if (threadIdx.x == 0) loss[blockIdx.x] = w * (all.sum * expf(all.top - shift) - (hit - shift) - 1);
  if (!gradient) return;
  rewrite_row(kept, f, V, w, shift);
  put_one<N>(f, x0, w * exp_of<A>(hit - shift) - w);
  put_one<N>(f, mask, 0);
}

/* ---- the bound of uniform noise: the row is read again for the sum of logarithms, which needs the normaliser */
/* Scalars of a row, and over the tokens besides m, z and x: Σ φ(q), Σ e·a p/y. */
namespace {
struct UniformRow {
  UniformBound u;
  UniformSlopes s;
};
struct UniformSums {
  float phi, share;
};
} /* namespace */

template <class A, int N>
static __device__ UniformSums uniform_sums(const Pack<A, N> *kept, const A *f, int V, const UniformBound &u, LogSum all,
                                           int m, int z, int x0) {
  float slope = (float)(u.q_slope / (double)all.sum), shift = (float)u.q_shift, scale = (float)(u.a / (double)all.sum),
        b = (float)u.b;
  UniformSums mine = {0, 0};
  each_again(kept, f, V, [&](int i, const Pack<A, N> &p) {
    for (int j = 0; j < N; j++) {
      int v = i * N + j;
      if (v >= V || v == m || v == z || v == x0) continue;
      float e = exp_of<A>(get(p.v[j]) - all.top), q = slope * e + shift, ap = scale * e;
      mine.phi += q - 1 - logf(q);
      mine.share += e * (ap / (ap + b));
    }
  });
  UniformSums sums = {block_reduce(mine.phi, plus<float>), block_reduce(mine.share, plus<float>)};
  return sums;
}

template <class A, int N>
__global__ void k_uniform_bound(float *loss, Rows<A> l, const int32_t *target, const float *terms, int32_t mask,
                                bool gradient) {
  using P = Pack<A, N>;
  SHARED(P, kept, KEPT_BYTES / sizeof(P));
  SHARED(UniformRow, row, 1);
  A *f = l.row(blockIdx.x);
  const float *k = terms + 3 * (int64_t)blockIdx.x;
  int V = (int)l.cols, x0 = target[blockIdx.x], z = (int)k[2];
  float w = k[0], at_z = get(f[z]), at_x = get(f[x0]);
  LogSum all = row_log_sum(kept, f, V, mask);
  if (w == 0) {
    if (threadIdx.x == 0) loss[blockIdx.x] = 0;
    if (gradient) map_row(kept, f, V, [](float) { return 0.0f; });
    return;
  }
  if (threadIdx.x == 0) {
    double sum = all.sum, e_z = exp_of<A>(at_z - all.top), e_x = exp_of<A>(at_x - all.top);
    row->u = uniform_bound(w, k[1], (double)V - 1, z == x0, e_z / sum, e_x / sum);
  }
  __syncthreads();
  UniformSums sums = uniform_sums(kept, f, V, row->u, all, mask, z, x0);
  if (threadIdx.x == 0) {
    loss[blockIdx.x] = (float)uniform_bound_loss(&row->u, sums.phi);
    row->s = uniform_bound_slopes(&row->u, sums.share / (double)all.sum);
  }
  __syncthreads();
  if (!gradient) return;
  float each = 1 / all.sum, scale = (float)(row->u.a / (double)all.sum), b = (float)row->u.b, rest = (float)row->s.rest,
        mean = (float)row->s.mean;
  map_row(kept, f, V, [=](float x) {
    float e = exp_of<A>(x - all.top), ap = scale * e;
    return each * e * (rest * (ap / (ap + b)) - mean);
  });
  put_one<N>(f, mask, 0);
  put_one<N>(f, x0, (float)row->s.at_x);
  if (z != x0) put_one<N>(f, z, (float)row->s.at_z);
}

/* ---- prediction: a row is read once */
/* With t = f − top: Σ e^t, Σ t e^t. */
namespace {
struct Moments {
  float top, sum, moment;
};
} /* namespace */

/* The sums of `m` for a larger top. */
template <class A> static __device__ void raise_top(Moments *m, float top) {
  if (!(m->top < top)) return;
  float shift = m->top - top, scale = m->top > -INFINITY ? exp_of<A>(shift) : 0;
  m->moment = scale > 0 ? scale * (m->moment + m->sum * shift) : 0;
  m->sum *= scale;
  m->top = top;
}

template <class A, int N> __global__ void k_prediction(float *out, Rows<A> l, const int32_t *target, int32_t forbid) {
  const A *f = l.row(blockIdx.x);
  Moments mine = {-INFINITY, 0, 0};
  each_pack<N>(f, (int)l.cols, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    Logits<A, N> x(p, i, forbid);
    float most = x.v[0];
    for (int j = 1; j < N; j++) most = fmaxf(most, x.v[j]);
    raise_top<A>(&mine, most);
    float top = mine.top > -INFINITY ? mine.top : 0;
    for (int j = 0; j < N; j++) {
      float t = x.v[j] - top, e = exp_of<A>(t);
      mine.sum += e;
      if (e > 0) mine.moment += e * t;
    }
  });
  raise_top<A>(&mine, block_max(mine.top));
  float sum = block_reduce(mine.sum, plus<float>), moment = block_reduce(mine.moment, plus<float>);
  if (threadIdx.x > 0) return;
  int x0 = target[blockIdx.x];
  float *to = out + 3 * (int64_t)blockIdx.x, hit = x0 == forbid ? -INFINITY : get(f[x0]), lse = logf(sum);
  to[0] = (mine.top - hit) + lse;
  to[1] = 1 / sum;
  to[2] = lse - moment / sum;
}

int cuda_prediction(Device *dev, Tensor out, Tensor logits, Tensor target, int32_t forbid) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_prediction<A, N>), rows_of(logits), (float *)out.data, rows<A>(logits),
                                  (const int32_t *)target.data, forbid));
}

int cuda_cross_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                       bool gradient) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_cross_entropy<A, N>), rows_of(logits), (float *)loss.data, rows<A>(logits),
                                  (const int32_t *)target.data, (const float *)weight.data, forbid, gradient));
}

int cuda_absorbing_bound(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                         bool gradient) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_absorbing_bound<A, N>), rows_of(logits), (float *)loss.data, rows<A>(logits),
                                  (const int32_t *)target.data, (const float *)terms.data, mask, gradient));
}

int cuda_score_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask,
                       bool gradient) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_score_entropy<A, N>), rows_of(logits), (float *)loss.data, rows<A>(logits),
                                  (const int32_t *)target.data, (const float *)weight.data, mask, gradient));
}

int cuda_uniform_bound(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                       bool gradient) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_uniform_bound<A, N>), rows_of(logits), (float *)loss.data, rows<A>(logits),
                                  (const int32_t *)target.data, (const float *)terms.data, mask, gradient));
}
