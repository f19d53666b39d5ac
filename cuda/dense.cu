/* dense — products of activations and weights on the GPU, their bias gradients, and GELU.
 *
 * cuBLASLt computes the products (dense_plan.cu), with bias and GELU as an epilogue if it supports that; otherwise they
 * follow in a pass of our own. A product that cuBLASLt refuses altogether is computed by k_product, a simple tiled
 * kernel. In f32 GELU is always a separate pass: cuBLASLt's is the tanh form too, but off by some 2e-6, which matters
 * in f32 and not in bf16.
 *
 * GELU is computed as x·s with s = 1/(1 + exp(−2u)), u = √(2/π)(x + 0.044715 x³), since (1 + tanh u)/2 = s.
 *
 * The gradient of GELU's input, dy w ⊙ gelu'(pre), is a product and a pass that also sums the columns; or one product
 * with an epilogue, and the sums. Which is faster is measured once for each shape. A deterministic device always takes
 * the first, since the two round differently.
 *
 * A bias gradient is a column sum in two stages: over slabs of rows, then over the slabs. The slabs, and with them the
 * order of the sum, depend only on the number of rows. A thread reads packs of neighbouring columns if the rows are
 * aligned; where their number is not a multiple of the pack, as with 50,258 logits, the last lane takes the rest one by
 * one. */
#include "backend.h"
#include "dense.cuh"
#include "packs.cuh"

static constexpr int PACKS = 2, TILE = 32, SLAB = 64, MOST_SLABS = 256, AT_ONCE = 4;
static const int64_t ROUND = 256;

/* WITH_WIDTH — evaluate an expression with W as the number of elements in a pack: WIDE, 2 or 1. */
#define WITH_WIDTH(width, ...)                                                                                         \
  ((width) > 2    ? WITH_INT(W, WIDE<A>, __VA_ARGS__)                                                                  \
   : (width) == 2 ? WITH_INT(W, 2, __VA_ARGS__)                                                                        \
                  : WITH_INT(W, 1, __VA_ARGS__))
template <class A> static int width(Rows<A> m) { return in_packs(m, WIDE<A>) ? WIDE<A> : in_packs(m, 2) ? 2 : 1; }
template <class A> static int width(Rows<A> m, Rows<A> n) { return width(m) < width(n) ? width(m) : width(n); }
/* The same where the last pack of a row may be cut off. */
template <class A> static int width_upto(Rows<A> m, Rows<A> n) {
  auto fits = [&](int W) { return rows_aligned(m, W) && rows_aligned(n, W); };
  return fits(WIDE<A>) ? WIDE<A> : fits(2) ? 2 : 1;
}

/* ---- GELU */
static __device__ inline float gelu_gate(float x) {
  return __fdividef(1, 1 + __expf(-1.5957691216f * (x + 0.044715f * x * x * x)));
}
static __device__ inline float gelu(float x) { return x * gelu_gate(x); }
static __device__ inline float gelu_slope(float x) {
  float s = gelu_gate(x);
  return s + x * s * (1 - s) * 1.5957691216f * (1 + 3 * 0.044715f * x * x);
}

/* A block takes a piece of a row: PACKS packs per thread. */
template <class A, int W> struct Piece {
  int64_t row, col, end;
  __device__ Piece(int64_t pieces, int64_t cols)
      : row(blockIdx.x / pieces), col((blockIdx.x % pieces * PACKS * THREADS + threadIdx.x) * W), end(cols) {}
  __device__ int64_t at(int i) const { return col + (int64_t)i * THREADS * W; }
  __device__ bool has(int i) const { return at(i) < end; }
};
static int64_t pieces_of(int64_t cols, int W) { return ceil_div(cols, (int64_t)PACKS * THREADS * W); }

/* m ← m + bias, y = gelu(m); bias and y may be none; y may be m */
template <class A, int W> __global__ void k_activate(Rows<A> m, Rows<A> y, const A *bias, int64_t pieces) {
  Piece<A, W> piece(pieces, m.cols);
  Pack<A, W> p[PACKS], g;
  for (int i = 0; i < PACKS; i++)
    if (piece.has(i)) p[i] = load<W>(m.row(piece.row) + piece.at(i));
  for (int i = 0; i < PACKS; i++) {
    if (!piece.has(i)) continue;
    for (int j = 0; j < W; j++) {
      float x = get(p[i].v[j]) + (bias ? get(bias[piece.at(i) + j]) : 0);
      put(&p[i].v[j], x);
      put(&g.v[j], gelu(x));
    }
    if (bias && y.data != m.data) store(m.row(piece.row) + piece.at(i), p[i]);
    if (y.data) store(y.row(piece.row) + piece.at(i), g);
  }
}

template <class A, int W> __global__ void k_gelu_backward(Rows<A> dy, Rows<A> pre, int64_t pieces) {
  Piece<A, W> piece(pieces, pre.cols);
  Pack<A, W> d[PACKS], x[PACKS];
  for (int i = 0; i < PACKS; i++) {
    if (!piece.has(i)) continue;
    d[i] = load<W>(dy.row(piece.row) + piece.at(i));
    x[i] = load<W>(pre.row(piece.row) + piece.at(i));
  }
  for (int i = 0; i < PACKS; i++) {
    if (!piece.has(i)) continue;
    for (int j = 0; j < W; j++) put(&d[i].v[j], get(d[i].v[j]) * gelu_slope(get(x[i].v[j])));
    store(dy.row(piece.row) + piece.at(i), d[i]);
  }
}

/* Contiguous rows as one long row. */
template <class A> static Rows<A> joined(Tensor t) {
  Rows<A> m = rows<A>(t);
  if (!tensor_packed(t)) return m;
  Rows<A> one = {m.data, m.rows * m.cols, 1, m.rows * m.cols};
  return one;
}

static int gelu_gradient(Device *dev, Tensor dy, Tensor pre) {
  bool join = tensor_packed(dy) && tensor_packed(pre);
  return WITH_TYPE(pre.type, ([&] {
                     Rows<A> d = join ? joined<A>(dy) : rows<A>(dy), x = join ? joined<A>(pre) : rows<A>(pre);
                     return WITH_WIDTH(width(d, x), LAUNCH(dev, (k_gelu_backward<A, W>), x.rows * pieces_of(x.cols, W),
                                                           d, x, pieces_of(x.cols, W)));
                   }()));
}

template <class A> static int activate(Device *dev, Tensor c, Tensor y, const A *bias) {
  bool join = bias == NULL && tensor_packed(c) && tensor_packed(y);
  Rows<A> m = join ? joined<A>(c) : rows<A>(c), g = tensor_none(y) ? m : join ? joined<A>(y) : rows<A>(y);
  int w = width(m, g);
  if (tensor_none(y)) g.data = NULL;
  return WITH_WIDTH(w,
                    LAUNCH(dev, (k_activate<A, W>), m.rows * pieces_of(m.cols, W), m, g, bias, pieces_of(m.cols, W)));
}

/* ---- our own product: c and y as in Product, tiles of TILE × TILE, sums in f32 over k in order */
template <class A> struct Factor { /* element (r,k), r < rows, is data[r·down + k·right] */
  const A *data;
  int64_t rows, down, right;
};

/* part[r][k] = f(first + r, k0 + k), 0 beyond the factor's ends; neighbouring threads read neighbouring addresses */
template <class A> static __device__ void load_tile(float *part, Factor<A> f, int64_t first, int64_t k0, int64_t K) {
  int fast = threadIdx.x % TILE, slow = threadIdx.x / TILE;
  for (int i = slow; i < TILE; i += THREADS / TILE) {
    int r = f.right == 1 ? i : fast, k = f.right == 1 ? fast : i;
    bool in = first + r < f.rows && k0 + k < K;
    part[r * (TILE + 1) + k] = in ? get(f.data[(first + r) * f.down + (k0 + k) * f.right]) : 0;
  }
}

template <class A, class C>
__global__ void k_product(Factor<A> a, Factor<A> b, int64_t K, Rows<C> c, Rows<C> y, const C *bias, bool add) {
  SHARED(float, left, TILE *(TILE + 1));
  SHARED(float, right, TILE *(TILE + 1));
  int64_t tiles = (c.cols + TILE - 1) / TILE, m0 = blockIdx.x / tiles * TILE, n0 = blockIdx.x % tiles * TILE;
  int fast = threadIdx.x % TILE, slow = threadIdx.x / TILE;
  float sum[TILE * TILE / THREADS] = {0};
  for (int64_t k0 = 0; k0 < K; k0 += TILE) {
    load_tile(left, a, m0, k0, K);
    load_tile(right, b, n0, k0, K);
    __syncthreads();
    for (int k = 0; k < TILE; k++)
      for (int i = 0; i < TILE * TILE / THREADS; i++)
        sum[i] += left[(slow + i * THREADS / TILE) * (TILE + 1) + k] * right[fast * (TILE + 1) + k];
    __syncthreads();
  }
  for (int i = 0; i < TILE * TILE / THREADS; i++) {
    int64_t m = m0 + slow + i * THREADS / TILE, n = n0 + fast;
    if (m >= c.rows || n >= c.cols) continue;
    float v = sum[i] + (bias ? get(bias[n]) : 0) + (add ? get(c.row(m)[n]) : 0);
    put(c.row(m) + n, v);
    if (y.data) put(y.row(m) + n, gelu(v));
  }
}

template <class A, class C> static int own_product(Device *dev, const Product *p) {
  Factor<A> a = {(const A *)p->a.data, p->M, p->ta ? 1 : p->a.ld, p->ta ? p->a.ld : 1};
  Factor<A> b = {(const A *)p->b.data, p->N, p->tb ? p->b.ld : 1, p->tb ? 1 : p->b.ld};
  return LAUNCH(dev, (k_product<A, C>), ceil_div(p->M, TILE) * ceil_div(p->N, TILE), a, b, p->K, rows<C>(p->c),
                rows<C>(p->y), (const C *)p->bias, p->add);
}

/* ---- converted copies of factors and biases */
template <class From, class To> __global__ void k_convert(To *to, Rows<From> from, int64_t pieces) {
  Piece<From, 1> piece(pieces, from.cols);
  for (int i = 0; i < PACKS; i++)
    if (piece.has(i)) put(to + piece.row * from.cols + piece.at(i), get(from.row(piece.row)[piece.at(i)]));
}
template <class From, class To> static int convert(Device *dev, void *to, Tensor t) {
  int64_t pieces = pieces_of(cols_of(t), 1);
  return LAUNCH(dev, (k_convert<From, To>), rows_of(t) * pieces, (To *)to, rows<From>(t), pieces);
}

/* Replace t by a contiguous copy of the given type at *free, which is advanced past it. */
static int converted(Device *dev, Tensor *t, DType type, char **free) {
  Tensor from = *t;
  *t = tensor_make(*free, type, from.rank, from.dims);
  *free += round_up((int64_t)tensor_bytes(*t), ROUND);
  if (type == DT_BF16) return WITH_TYPE(from.type, convert<A, bf16>(dev, t->data, from));
  return WITH_TYPE(from.type, convert<A, float>(dev, t->data, from));
}
static size_t room(bool wanted, Tensor t) {
  return wanted ? (size_t)(tensor_count(t) * (int64_t)sizeof(float) + ROUND) : 0;
}

/* ---- products */
/* Convert the factors to bf16 if `low`, and the bias to the output's type at an address aligned to 16 bytes. */
static int prepare(Device *dev, Product *p, bool low, Tensor bias, void **workspace) {
  bool a = low && p->a.type == DT_F32, b = low && p->b.type == DT_F32;
  bool other_bias = !tensor_none(bias) && (bias.type != p->c.type || !aligned(bias.data, 16));
  TRY(cuda_scratch(dev, SCRATCH_DENSE, DENSE_WORKSPACE + room(a, p->a) + room(b, p->b) + room(other_bias, bias),
                   workspace));
  char *free = (char *)*workspace + DENSE_WORKSPACE;
  if (a) TRY(converted(dev, &p->a, DT_BF16, &free));
  if (b) TRY(converted(dev, &p->b, DT_BF16, &free));
  if (other_bias) TRY(converted(dev, &bias, p->c.type, &free));
  p->bias = bias.data;
  return OK;
}

/* GELU is an epilogue of cuBLASLt's call if y is bf16 and pre satisfies its requirements on an aux matrix. A bias that
 * cuBLASLt refuses is added afterwards in f32 only: a product already rounded to bf16 would be rounded twice. */
static int product(Device *dev, Product p, bool low, Tensor bias) {
  void *workspace;
  bool done = false, gelu = !tensor_none(p.y);
  TRY(prepare(dev, &p, low, bias, &workspace));
  if (!gelu || (p.c.type == DT_BF16 && p.c.ld % 8 == 0)) TRY(dense_library(dev, &p, workspace, &done));
  if (done) return OK;
  Product plain = p;
  plain.y = TENSOR_NONE;
  if (gelu) TRY(dense_library(dev, &plain, workspace, &done));
  if (done) return WITH_TYPE(p.c.type, activate<A>(dev, p.c, p.y, NULL));
  plain.bias = NULL;
  if (p.bias && p.c.type == DT_F32) TRY(dense_library(dev, &plain, workspace, &done));
  if (done) return activate<float>(dev, p.c, p.y, (const float *)p.bias);
  if (p.a.type == DT_F32) return own_product<float, float>(dev, &p);
  return WITH_TYPE(p.c.type, own_product<bf16, A>(dev, &p));
}

/* c = op(a) op(b) */
static Product plain_product(const char *op, Tensor c, Tensor a, bool ta, Tensor b, bool tb) {
  int64_t K = ta ? rows_of(a) : cols_of(a);
  Product p = {op, ta, tb, rows_of(c), cols_of(c), K, a, b, c, TENSOR_NONE, NULL, false, TENSOR_NONE};
  return p;
}

int cuda_dense(Device *dev, Tensor y, Tensor pre, Tensor x, Tensor w, Tensor b) {
  bool gelu = !tensor_none(pre);
  if (rows_of(x) == 0) return OK;
  Product p = plain_product("dense", gelu ? pre : y, x, false, w, true);
  if (gelu) p.y = y;
  return product(dev, p, w.type == DT_BF16, b);
}

/* ---- backward */
/* in[r] as it is added; with GELU, in[r] ← in[r]·gelu'(pre[r]) first, rounded to the type of in */
template <class A, int W, bool GELU>
static __device__ inline void add_pack(float *sum, Pack<A, W> d, Pack<A, W> x, A *at) {
  if constexpr (GELU) {
    for (int j = 0; j < W; j++) put(&d.v[j], get(d.v[j]) * gelu_slope(get(x.v[j])));
    store(at, d);
  }
  for (int j = 0; j < W; j++) sum[j] += get(d.v[j]);
}

/* sum[j] := Σ in[r][col + j] over every WARPS-th row from r on */
template <class A, int W, bool GELU>
static __device__ inline void add_rows(float (&sum)[W], Rows<A> in, Rows<A> pre, int64_t col, int64_t r, int64_t end) {
  Pack<A, W> d[AT_ONCE], x[AT_ONCE];
  A *at = in.data + col;
  const A *gelu_at = pre.data + col;
  for (int j = 0; j < W; j++) sum[j] = 0;
  for (; r + (AT_ONCE - 1) * WARPS < end; r += AT_ONCE * WARPS) {
    for (int i = 0; i < AT_ONCE; i++) d[i] = load<W>(at + (r + i * WARPS) * in.ld);
    for (int i = 0; i < AT_ONCE; i++) x[i] = GELU ? load<W>(gelu_at + (r + i * WARPS) * pre.ld) : d[i];
    for (int i = 0; i < AT_ONCE; i++) add_pack<A, W, GELU>(sum, d[i], x[i], at + (r + i * WARPS) * in.ld);
  }
  for (; r < end; r += WARPS) {
    d[0] = load<W>(at + r * in.ld);
    x[0] = GELU ? load<W>(gelu_at + r * pre.ld) : d[0];
    add_pack<A, W, GELU>(sum, d[0], x[0], at + r * in.ld);
  }
}

/* out[s] (+)= Σ in[r] over the rows r of slab s; warps take every WARPS-th row, lanes W neighbouring columns */
template <class A, int W, bool GELU>
__global__ void k_column_sums(Rows<float> out, Rows<A> in, Rows<A> pre, int64_t slab, int64_t tiles, bool add) {
  SHARED(float, part, WARPS *WARP *W);
  int64_t s = blockIdx.x / tiles, first = blockIdx.x % tiles * WARP * W;
  int64_t end = (s + 1) * slab < in.rows ? (s + 1) * slab : in.rows;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int64_t col = first + lane * W, r = s * slab + warp;
  if (col + W <= in.cols) {
    float sum[W];
    add_rows<A, W, GELU>(sum, in, pre, col, r, end);
    for (int j = 0; j < W; j++) part[(warp * W + j) * WARP + lane] = sum[j];
  } else {
    for (int j = 0; j < W - 1 && col + j < in.cols; j++) {
      float sum[1];
      add_rows<A, 1, GELU>(sum, in, pre, col + j, r, end);
      part[(warp * W + j) * WARP + lane] = sum[0];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < WARP * W && first + i < in.cols; i += THREADS) {
    float all = 0;
    for (int w = 0; w < WARPS; w++) all += part[(w * W + i % W) * WARP + i / W];
    float *to = out.row(s) + first + i;
    *to = all + (add ? *to : 0);
  }
}

template <class A, bool GELU>
static int column_sums(Device *dev, Rows<float> out, Rows<A> in, Rows<A> pre, int64_t slab, bool add) {
  int64_t slabs = ceil_div(in.rows, slab);
  return WITH_WIDTH(width_upto(in, pre), LAUNCH(dev, (k_column_sums<A, W, GELU>), slabs * ceil_div(in.cols, WARP * W),
                                                out, in, pre, slab, ceil_div(in.cols, WARP * W), add));
}

template <class A> static int first_sums(Device *dev, Rows<float> out, Tensor dy, Tensor pre, int64_t slab) {
  Rows<A> in = rows<A>(dy);
  if (tensor_none(pre)) return column_sums<A, false>(dev, out, in, in, slab, false);
  return column_sums<A, true>(dev, out, in, rows<A>(pre), slab, false);
}

/* db += Σ_r dy; with pre, dy ← dy·gelu'(pre) first, in the same pass */
static int bias_gradient(Device *dev, Tensor db, Tensor dy, Tensor pre) {
  int64_t R = rows_of(dy), N = cols_of(dy), slab = ceil_div(R, MOST_SLABS);
  if (slab < SLAB) slab = SLAB;
  int64_t ld = round_up(N, WIDE<float>); /* aligned rows for the second stage */
  Rows<float> partial = {NULL, ld, ceil_div(R, slab), N}, out = {(float *)db.data, N, 1, N};
  TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)(partial.rows * ld) * sizeof(float), &partial.data));
  TRY(WITH_TYPE(dy.type, first_sums<A>(dev, partial, dy, pre, slab)));
  return column_sums<float, false>(dev, out, partial, partial, partial.rows, true);
}

int cuda_gelu_backward(Device *dev, Tensor dy, Tensor pre, Tensor db) {
  if (rows_of(dy) == 0) return OK;
  return tensor_none(db) ? gelu_gradient(dev, dy, pre) : bias_gradient(dev, db, dy, pre);
}

int cuda_dense_backward(Device *dev, Tensor dx, bool dx_add, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w) {
  bool low = w.type == DT_BF16;
  if (rows_of(dy) == 0) return OK;
  if (!tensor_none(dx)) {
    Product p = plain_product("dense_backward: dx", dx, dy, false, w, false);
    p.add = dx_add;
    TRY(product(dev, p, low, TENSOR_NONE));
  }
  if (!tensor_none(dw)) {
    Product p = plain_product("dense_backward: dw", dw, dy, true, x, false);
    p.add = true;
    TRY(product(dev, p, low, TENSOR_NONE));
  }
  return tensor_none(db) ? OK : bias_gradient(dev, db, dy, TENSOR_NONE);
}

/* ---- the gradient of GELU's input */
/* The product by one of the ways, and the column sums that follow or are part of it. */
static int run_way(Device *dev, const Product *p, bool fused, Tensor sums, void *workspace) {
  bool done;
  Product plain = *p;
  plain.pre = TENSOR_NONE;
  TRY(fused ? dense_library(dev, p, workspace, &done) : product(dev, plain, true, TENSOR_NONE));
  return bias_gradient(dev, sums, p->c, fused ? TENSOR_NONE : p->pre);
}

/* Time both ways. They overwrite the output and add column sums to the workspace, where they mean nothing. */
static int choose_way(Device *dev, const Product *p, void *workspace, Way *way) {
  bool done;
  float fused, separate;
  Tensor sums = tensor_1d(workspace, DT_F32, p->N);
  *way = WAY_SEPARATE;
  TRY(dense_library(dev, p, workspace, &done));
  if (!done || p->N * (int64_t)sizeof(float) > DENSE_WORKSPACE) return OK;
  TRY(dense_time(
      dev, [&] { return run_way(dev, p, true, sums, workspace); }, &fused));
  TRY(dense_time(
      dev, [&] { return run_way(dev, p, false, sums, workspace); }, &separate));
  if (fused < separate) *way = WAY_FUSED;
  return OK;
}

int cuda_dense_gelu_backward(Device *dev, Tensor dx, Tensor dy, Tensor w, Tensor pre, bool *done) {
  *done = false;
  bool low = dx.type == DT_BF16 && dy.type == DT_BF16 && w.type == DT_BF16;
  if (dev->deterministic || !low || pre.ld % 8 != 0 || rows_of(dy) == 0) return OK;
  Product p = plain_product("dense_gelu_backward", dx, dy, false, w, false);
  p.pre = pre;
  void *workspace;
  TRY(cuda_scratch(dev, SCRATCH_DENSE, DENSE_WORKSPACE, &workspace));
  Way *way = dense_way(dev, &p);
  if (*way == WAY_UNKNOWN) TRY(choose_way(dev, &p, workspace, way));
  return *way == WAY_FUSED ? dense_library(dev, &p, workspace, done) : OK;
}
