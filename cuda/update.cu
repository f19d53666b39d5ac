/* update — gradients and weights as flat buffers: sums, norms, and AdamW with moving average and bf16 copy in one pass.
 *
 * All kernels are bound by memory. A thread takes one pack of each buffer, 16 bytes of f32 if all buffers are aligned
 * to that, and issues all its loads before it computes. */
#include "backend.h"
#include "packs.cuh"

static constexpr int WIDTH = WIDE<float>;

/* x[i … i+N), 0 from x[n] on. WHOLE: all N exist and are aligned. */
template <bool WHOLE, int N> static __device__ Pack<float, N> load_flat(const float *x, int64_t i, int64_t n) {
  if constexpr (WHOLE)
    return load<N>(x + i);
  else
    return load_each<N>(x + i, n - i, 0);
}
template <int N> static __device__ int64_t my_pack() { return thread_number() * N; }

static bool wide(const void *p) { return aligned(p, WIDTH * sizeof(float)); }
static bool wide_low(const void *p) { return aligned(p, WIDTH * sizeof(uint16_t)); }

/* LAUNCH_PACKS — launch kernel<N> on n elements, with N = WIDTH where `wide` holds, else 1. */
#define LAUNCH_PACKS(dev, kernel, n, wide, ...)                                                                        \
  WITH_PACKS(wide, WIDTH, LAUNCH(dev, kernel<N>, ceil_div(n, N *THREADS), __VA_ARGS__))

/* ---- add */
template <bool WHOLE, int N> static __device__ void add_pack(float *y, const float *x, int64_t i, int64_t n) {
  Pack<float, N> a = load_flat<WHOLE, N>(y, i, n), b = load_flat<WHOLE, N>(x, i, n);
  for (int j = 0; j < N; j++) a.v[j] += b.v[j];
  store_upto(y + i, a, n - i);
}

template <int N> __global__ void k_add(float *y, const float *x, int64_t n) {
  int64_t i = my_pack<N>();
  if (i + N <= n)
    add_pack<true, N>(y, x, i, n);
  else
    add_pack<false, N>(y, x, i, n);
}

int cuda_add(Device *dev, Tensor y, Tensor x) {
  int64_t n = tensor_count(x);
  return LAUNCH_PACKS(dev, k_add, n, wide(y.data) && wide(x.data), (float *)y.data, (const float *)x.data, n);
}

/* ---- blend */
template <int N> __global__ void k_blend(float *y, double a, double b, const float *x, int64_t n) {
  int64_t i = my_pack<N>();
  Pack<float, N> to = load_upto<N>(y + i, n - i, 0), from = load_upto<N>(x + i, n - i, 0);
  for (int j = 0; j < N; j++) to.v[j] = (float)(a * (double)to.v[j] + b * (double)from.v[j]);
  store_upto(y + i, to, n - i);
}

int cuda_blend(Device *dev, Tensor y, double a, double b, Tensor x) {
  int64_t n = tensor_count(x);
  return LAUNCH_PACKS(dev, k_blend, n, wide(y.data) && wide(x.data), (float *)y.data, a, b, (const float *)x.data, n);
}

/* ---- sum, squares, sum_terms: each block sums SPAN neighbours, then one block sums the blocks' sums. The alignment of x
 * affects how it is read, not the order of the sum. */
static constexpr int AT_ONCE = 4, TURNS = 16, SPAN = UPDATE_CHUNK;
static_assert(SPAN == TURNS * WIDTH * THREADS, "a block sums one chunk");

template <bool SQUARES, bool ALIGNED> static __device__ double sum_of(const float *x, int64_t first, int64_t n) {
  double sum[WIDTH] = {0};
  for (int turn = 0; turn < TURNS; turn += AT_ONCE) {
    Pack<float, WIDTH> p[AT_ONCE];
    for (int k = 0; k < AT_ONCE; k++)
      p[k] = load_flat<ALIGNED, WIDTH>(x, first + (int64_t)(turn + k) * WIDTH * THREADS, n);
    for (int k = 0; k < AT_ONCE; k++)
      for (int j = 0; j < WIDTH; j++) sum[j] += SQUARES ? (double)p[k].v[j] * (double)p[k].v[j] : (double)p[k].v[j];
  }
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

template <bool SQUARES> __global__ void k_sum(double *partial, const float *x, int64_t n, bool aligned) {
  int64_t block = (int64_t)blockIdx.x * SPAN, first = block + threadIdx.x * WIDTH;
  bool whole = aligned && block + SPAN <= n;
  double sum = whole ? sum_of<SQUARES, true>(x, first, n) : sum_of<SQUARES, false>(x, first, n);
  sum = block_reduce(sum, plus<double>);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void k_sum_partial(double *out, const double *partial, int64_t n, bool add) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += THREADS) sum += partial[i];
  sum = block_reduce(sum, plus<double>);
  if (threadIdx.x == 0) *out = (add ? *out : 0) + sum;
}

int cuda_sum(Device *dev, Tensor total, Tensor x) {
  int64_t n = tensor_count(x), blocks = ceil_div(n, SPAN);
  const float *v = (const float *)x.data;
  double *partial;
  TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)blocks * sizeof *partial, &partial));
  TRY(LAUNCH(dev, k_sum<false>, blocks, partial, v, n, wide(v)));
  return LAUNCH(dev, k_sum_partial, 1, (double *)total.data, partial, blocks, true);
}

int cuda_squares(Device *dev, Tensor terms, Tensor x) {
  int64_t n = tensor_count(x);
  const float *v = (const float *)x.data;
  return LAUNCH(dev, k_sum<true>, ceil_div(n, SPAN), (double *)terms.data, v, n, wide(v));
}

int cuda_sum_terms(Device *dev, Tensor sum, Tensor terms) {
  return LAUNCH(dev, k_sum_partial, 1, (double *)sum.data, (const double *)terms.data, tensor_count(terms), false);
}

/* ---- to_bf16, written out as on the CPU, so that NaN has the same bits on every device */
static __device__ uint16_t to_nearest(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
  return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : rounded); /* NaN stays NaN */
}

template <int N> __global__ void k_to_bf16(uint16_t *y, const float *x, int64_t n) {
  int64_t i = my_pack<N>();
  Pack<float, N> a = load_upto<N>(x + i, n - i, 0);
  Pack<uint16_t, N> b;
  for (int j = 0; j < N; j++) b.v[j] = to_nearest(a.v[j]);
  store_upto(y + i, b, n - i);
}

int cuda_to_bf16(Device *dev, Tensor y, Tensor x) {
  int64_t n = tensor_count(x);
  return LAUNCH_PACKS(dev, k_to_bf16, n, wide_low(y.data) && wide(x.data), (uint16_t *)y.data, (const float *)x.data,
                      n);
}

/* ---- adamw */
struct Update { /* AdamW in f32: p ← shrink·p − rate·m/(root·√v + eps) */
  float *p, *m, *v, *ema;
  const float *g;
  uint16_t *low; /* may be NULL */
  const double *squares;
  int64_t n;
  double scale, clip;
  float b1, b2, new1, new2, eps, shrink, rate, root, keep, new_ema;
};

/* The factor of the gradients; NaN if the sum of their squares is not finite. */
static __device__ float factor_of(const Update &u) {
  double squares = *u.squares, norm = u.scale * sqrt(squares), clip = u.clip > 0 ? u.clip / (norm + 1e-6) : 1;
  return isfinite(squares) ? (float)(u.scale * (clip < 1 ? clip : 1)) : NAN;
}

template <int N> struct State { Pack<float, N> g, p, m, v, ema; };
template <bool WHOLE, int N> static __device__ State<N> load_state(const Update &u, int64_t i) {
  State<N> s = {load_flat<WHOLE, N>(u.g, i, u.n), load_flat<WHOLE, N>(u.p, i, u.n), load_flat<WHOLE, N>(u.m, i, u.n),
                load_flat<WHOLE, N>(u.v, i, u.n), load_flat<WHOLE, N>(u.ema, i, u.n)};
  return s;
}

template <int N> __global__ void k_adamw(Update u) {
  SHARED(float, shared_factor, 1);
  int64_t i = my_pack<N>();
  State<N> s = i + N <= u.n ? load_state<true, N>(u, i) : load_state<false, N>(u, i);
  if (threadIdx.x == 0) shared_factor[0] = factor_of(u);
  __syncthreads();
  float factor = shared_factor[0];
  if (isnan(factor)) return;
  Pack<uint16_t, N> low;
  for (int j = 0; j < N; j++) {
    float g = factor * s.g.v[j], *p = &s.p.v[j], *m = &s.m.v[j], *v = &s.v.v[j], *ema = &s.ema.v[j];
    *m = u.b1 * *m + u.new1 * g;
    *v = u.b2 * *v + u.new2 * g * g;
    *p = u.shrink * *p - u.rate * *m / (sqrtf(*v) * u.root + u.eps);
    *ema = u.keep * *ema + u.new_ema * *p;
    low.v[j] = to_nearest(*p);
  }
  int64_t left = u.n - i;
  store_upto(u.p + i, s.p, left);
  store_upto(u.m + i, s.m, left);
  store_upto(u.v + i, s.v, left);
  store_upto(u.ema + i, s.ema, left);
  if (u.low) store_upto(u.low + i, low, left);
}

int cuda_adamw(Device *dev, const AdamW *a) {
  Update u = {.p = (float *)a->p.data,
              .m = (float *)a->m.data,
              .v = (float *)a->v.data,
              .ema = (float *)a->ema.data,
              .g = (const float *)a->g.data,
              .low = (uint16_t *)a->low.data,
              .squares = (const double *)a->squares.data,
              .n = tensor_count(a->p),
              .scale = a->scale,
              .clip = a->clip,
              .b1 = (float)a->beta1,
              .b2 = (float)a->beta2,
              .new1 = (float)(1 - a->beta1),
              .new2 = (float)(1 - a->beta2),
              .eps = (float)a->eps,
              .shrink = (float)(1 - a->lr * a->weight_decay),
              .rate = (float)(a->lr / a->correct1),
              .root = (float)(1 / sqrt(a->correct2)),
              .keep = (float)a->ema_decay,
              .new_ema = (float)(1 - a->ema_decay)};
  bool all_wide = wide(u.p) && wide(u.m) && wide(u.v) && wide(u.ema) && wide(u.g) && wide_low(u.low);
  return LAUNCH_PACKS(dev, k_adamw, u.n, all_wide, u);
}
