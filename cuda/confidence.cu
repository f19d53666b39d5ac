/* confidence — how sure a row of logits is of its token, and a token that no row may have. A block takes a row.
 *
 * A row is read twice, the second time from L2: for its two largest logits, and for the sums of the weights relative to
 * the largest. Bound by memory, as the draw that comes before it. */
#include "backend.h"
#include "logits.cuh"

namespace {
struct Two { /* first ≥ second */
  float first, second;
};
__device__ Two exchange(Two t, int mask) {
  Two other = {::exchange(t.first, mask), ::exchange(t.second, mask)};
  return other;
}
} /* namespace */

/* The two largest of four. A NaN counts as larger than any number. */
static __device__ float most(float a, float b) { return isnan(a) || isnan(b) ? NAN : fmaxf(a, b); }
static __device__ Two largest(Two a, Two b) {
  bool ahead = a.first >= b.first;
  Two t = {most(a.first, b.first), ahead ? most(a.second, b.first) : most(b.second, a.first)};
  return t;
}

template <class A, int N> __global__ void k_confidence(double *out, Rows<A> l, const int32_t *ids, int32_t forbid) {
  const A *f = l.row(blockIdx.x);
  int V = (int)l.cols, id = ids[blockIdx.x];
  Two mine = {-INFINITY, -INFINITY};
  each_pack<N>(f, V, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    Logits<A, N> x(p, i, forbid);
    for (int j = 0; j < N; j++) {
      Two one = {x.v[j], -INFINITY};
      mine = largest(mine, one);
    }
  });
  Two top = block_reduce(mine, largest);
  double weights = 0, moments = 0;
  each_pack<N>(f, V, (int)threadIdx.x, [&](int i, const Pack<A, N> &p) {
    Logits<A, N> x(p, i, forbid);
    for (int j = 0; j < N; j++) {
      float below = x.v[j] - top.first, e = expf(below);
      weights += (double)e;
      if (!(e <= 0)) moments += (double)e * (double)below;
    }
  });
  double sum = block_reduce(weights, plus<double>), moment = block_reduce(moments, plus<double>);
  if (threadIdx.x > 0) return;
  double *o = out + 3 * (int64_t)blockIdx.x;
  o[0] = id < 0 ? NAN : (double)expf(get(f[id]) - top.first) / sum;
  o[1] = (1 - (double)expf(top.second - top.first)) / sum;
  o[2] = log(sum) - moment / sum;
}

template <class A> __global__ void k_exclude(Rows<A> l, int32_t id) {
  int64_t r = thread_number();
  if (r < l.rows) put(l.row(r) + id, -INFINITY);
}

int cuda_confidence(Device *dev, Tensor out, Tensor logits, Tensor ids, int32_t forbid) {
  return WITH_ROWS(logits, LAUNCH(dev, (k_confidence<A, N>), rows_of(logits), (double *)out.data, rows<A>(logits),
                                  (const int32_t *)ids.data, forbid));
}

int cuda_exclude(Device *dev, Tensor logits, int32_t id) {
  return WITH_TYPE(logits.type, LAUNCH(dev, (k_exclude<A>), ceil_div(rows_of(logits), THREADS), rows<A>(logits), id));
}
