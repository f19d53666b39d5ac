/* attention — softmax(q kᵀ/√K) v and its gradient, tile by tile in shared memory; [L,L] is never stored. It covers what
 * cuDNN (attention_cudnn.cu) does not: f32, lengths, unusual head widths, builds without cuDNN. Everything is computed
 * in f32.
 *
 * A block owns ROWS rows of one head (queries; in k_attention_keys keys) and iterates over tiles of COLS rows of the
 * other kind. Its threads form a 16 × 16 grid: thread (y, x) holds R rows of the tile from y·R on; of the scores it
 * holds columns x, x+16, …, and of the sums over them a piece of the head's width. So the scores of a row belong to
 * half a warp and are exchanged through shared memory without a block barrier. Two tiles are held at a time, each
 * loaded (mostly from L2) when it is needed:
 *   forward   S = Q Kᵀ → P;  O += P V, rescaled when a row's largest score grows
 *   dQ        S = Q Kᵀ, dP = dO Vᵀ → dS = P ⊙ (dP − δ)/√K;  dQ += dS K
 *   dK, dV    Sᵀ = K Qᵀ, dPᵀ = V dOᵀ → Pᵀ, dSᵀ;  dV += Pᵀ dO, dK += dSᵀ Q
 * with P = exp(S − lse) in backward and δ = Σ_k o_k do_k of each row. Every sum has a fixed order.
 *
 * The rows of the other kind that a tile needs form ranges (attention_ranges.cuh): one in whole sequences; in block
 * diffusion up to two, since the keys before a noisy query's block are clean. */
#include "attention_cudnn.h"
#include "attention_ranges.cuh"
#include "backend.h"
#include "base/log.h"
#include "packs.cuh"
#include <string.h>

enum { SIDE = 16, WIDEST = 256 }; /* threads along each side of a tile; the widest head */
static const float LOG2E = 1.44269504f, LN2 = 0.69314718f;

typedef Pack<float, 4> Four;
static __device__ int thread_y() { return (int)threadIdx.x / SIDE; }
static __device__ int thread_x() { return (int)threadIdx.x % SIDE; }
static __device__ Four four(const float *p) { return load<4>(p); }

/* Shape — the tiles for heads of up to W columns; they fit in 48 KiB. LD and PLD put rows in different banks. */
template <int W> struct Shape {
  static constexpr int ROWS = W == 32 ? 64 : 4096 / W, COLS = W == 256 ? 16 : 32;
  static constexpr int R = ROWS / SIDE, C = COLS / SIDE; /* a thread's rows, and its columns of scores */
  static constexpr int V = W / SIDE, N = V < 4 ? V : 4;  /* its columns of sums, and how many are contiguous */
  static constexpr int LD = W + 4, PLD = COLS + 4;
};
/* Blocks per multiprocessor: the most without spilled registers. */
template <int W, class M> static constexpr int RESIDENT = M::HALVES || W > 64 ? 2 : 3;
/* TILES — a block's two tiles, and the buffer through which its threads exchange scores. */
#define TILES(T, mine, other, pass)                                                                                    \
  SHARED(Four, shared_rows, T::ROWS *T::LD / 4);                                                                       \
  SHARED(Four, shared_cols, T::COLS *T::LD / 4);                                                                       \
  SHARED(Four, shared_pass, T::ROWS *T::PLD / 4);                                                                      \
  float *mine = (float *)shared_rows, *other = (float *)shared_cols, *pass = (float *)shared_pass

/* to[n][LD] ← rows first … of `from`, columns up to K; zeros beyond the last row and the last column. */
template <int n, int W, class A>
static __device__ void load_tile(float *to, const A *from, int64_t ld, int first, int last, int K, bool wide) {
  constexpr int N = WIDE<A>;
  ROLLED
  for (int i = threadIdx.x; i < n * W / N; i += THREADS) {
    int r = i / (W / N), c = i % (W / N) * N;
    const A *at = from + (first + r) * ld + c;
    Pack<A, N> x = {};
    if (first + r < last && wide && c < K) x = load<N>(at);
    if (first + r < last && !wide)
      for (int j = 0; j < N; j++)
        if (c + j < K) x.v[j] = at[j];
    for (int j = 0; j < N; j += 4) {
      Four y = {{get(x.v[j]), get(x.v[j + 1]), get(x.v[j + 2]), get(x.v[j + 3])}};
      store(to + r * (W + 4) + c + j, y);
    }
  }
}

/* s[r][c] = Σ_k a[y R + r][k] b[x + 16 c][k] */
template <int W, int R, int C> static __device__ void scores(float (&s)[R][C], const float *a, const float *b) {
  const float *mine = a + thread_y() * R * (W + 4), *other = b + thread_x() * (W + 4);
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) s[r][c] = 0;
  ROLLED
  for (int k = 0; k < W; k += 4) {
    Four u[R], w[C];
    for (int r = 0; r < R; r++) u[r] = four(mine + r * (W + 4) + k);
    for (int c = 0; c < C; c++) w[c] = four(other + c * SIDE * (W + 4) + k);
    for (int r = 0; r < R; r++)
      for (int c = 0; c < C; c++)
        for (int j = 0; j < 4; j++) s[r][c] += u[r].v[j] * w[c].v[j];
  }
}

/* The columns of a thread form groups of N neighbours: group g begins at column (16 g + x) N. */
template <int W> static __device__ int column(int v) {
  constexpr int N = Shape<W>::N;
  return (v / N * SIDE + thread_x()) * N + v % N;
}

/* sum[r][v] += Σ_j p[r][j] b[j][column v], where the threads of a row exchange their parts of p through `pass`. */
template <int W, int R, int C, int V>
static __device__ void add_product(float (&sum)[R][V], const float (&p)[R][C], float *pass, const float *b) {
  typedef Shape<W> T;
  float *mine = pass + thread_y() * R * T::PLD;
  __syncwarp();
  for (int r = 0; r < R; r++)
    for (int c = 0; c < C; c++) mine[r * T::PLD + c * SIDE + thread_x()] = p[r][c];
  __syncwarp();
  ROLLED
  for (int j = 0; j < T::COLS; j += 4) {
    Four u[R];
    for (int r = 0; r < R; r++) u[r] = four(mine + r * T::PLD + j);
    for (int i = 0; i < 4; i++)
      for (int v = 0; v < V; v += T::N) {
        Pack<float, T::N> w = load<T::N>(b + (j + i) * T::LD + column<W>(v));
        for (int r = 0; r < R; r++)
          for (int n = 0; n < T::N; n++) sum[r][v + n] += u[r].v[i] * w.v[n];
      }
  }
}

/* Write a thread's rows to memory; zeros for rows of padding. */
template <int W, class A, int R, int V>
static __device__ void store_rows(A *to, int64_t ld, const Pass<A> &p, const Head &x, const float (&value)[R][V]) {
  constexpr int N = Shape<W>::N;
  for (int r = 0; r < R; r++) {
    int row = x.first + thread_y() * R + r;
    if (row >= p.L) return;
    A *at = to + (x.row + row) * ld + x.h * p.K;
    for (int v = 0; v < V; v += N) {
      int c = column<W>(v);
      Pack<A, N> y;
      for (int n = 0; n < N; n++) put(&y.v[n], row < x.length ? value[r][v + n] : 0);
      if (p.wide && c < p.K) store(at + c, y);
      for (int n = 0; n < N && !p.wide; n++)
        if (c + n < p.K) at[c + n] = y.v[n];
    }
  }
}

/* over the 16 threads of a row */
static __device__ float row_max(float v) { return lanes_reduce(v, larger, SIDE); }
static __device__ float row_sum(float v) { return lanes_reduce(v, plus<float>, SIDE); }

/* Softmax — the running softmax of a thread's rows: the largest score in base 2, and this thread's part of Σ exp. */
template <int R> struct Softmax { float top[R], sum[R]; };

/* s ← exp(s − top) for the keys that a row sees, 0 for others; the sums so far are rescaled to the new top. */
template <int W, class M, int R, int C, int V>
static __device__ void soften(float (&s)[R][C], Softmax<R> *m, float (&o)[R][V], float scale, const M &mask, int first,
                              int key) {
  for (int r = 0; r < R; r++) {
    int row = first + thread_y() * R + r;
    float top = m->top[r];
    for (int c = 0; c < C; c++) {
      s[r][c] = mask.sees(row, key + c * SIDE + thread_x()) ? s[r][c] * (scale * LOG2E) : -INFINITY;
      top = fmaxf(top, s[r][c]);
    }
    top = row_max(top);
    float base = top > -INFINITY ? top : 0; /* a row may see no key of its first tiles */
    float back = exp2f(m->top[r] - base);
    m->top[r] = top;
    m->sum[r] *= back;
    for (int v = 0; v < V; v++) o[r][v] *= back;
    for (int c = 0; c < C; c++) m->sum[r] += s[r][c] = exp2f(s[r][c] - base);
  }
}

template <class A, int W, class M> __global__ void __launch_bounds__(THREADS, (RESIDENT<W, M>)) k_attention(Pass<A> p) {
  typedef Shape<W> T;
  TILES(T, q, kv, pass);
  Head x = head_of(p, T::ROWS, M::HALVES || p.causal);
  float s[T::R][T::C], o[T::R][T::V] = {};
  Softmax<T::R> m;
  for (int r = 0; r < T::R; r++) m.top[r] = -INFINITY, m.sum[r] = 0;
  load_tile<T::ROWS, W>(q, queries(p, x.row, x.h), p.ld_qkv, x.first, x.length, p.K, p.wide);
  ROLLED
  for (int part = 0; part < key_parts<M>(); part++) {
    Range<M> g = keys_of<M>(p, x, T::ROWS, part);
    const A *k = keys(p, g.row, x.h), *v = values(p, g.row, x.h);
    ROLLED
    for (int key = g.first; key < g.end; key += T::COLS) {
      load_tile<T::COLS, W>(kv, k, p.ld_qkv, key, g.end, p.K, p.wide);
      __syncthreads();
      scores<W>(s, q, kv);
      soften<W>(s, &m, o, p.scale, g.mask, x.first, key);
      __syncthreads();
      load_tile<T::COLS, W>(kv, v, p.ld_qkv, key, g.end, p.K, p.wide);
      __syncthreads();
      add_product<W>(o, s, pass, kv);
      __syncthreads();
    }
  }
  for (int r = 0; r < T::R; r++) {
    int row = x.first + thread_y() * T::R + r;
    float sum = row_sum(m.sum[r]), inverse = 1 / sum;
    for (int v = 0; v < T::V; v++) o[r][v] *= inverse;
    if (thread_x() == 0 && row < p.L) p.lse[x.kept + row] = row < x.length ? (m.top[r] + log2f(sum)) * LN2 : 0;
  }
  store_rows<W>(p.out, p.ld_o, p, x, o);
}

/* delta[b,h,l] = Σ_k o do, by `team` neighbouring lanes, each taking N neighbouring columns at a time. */
template <class A, int N> __global__ void k_attention_delta(Pass<A> p, int64_t n, int team) {
  int64_t i = thread_number() / team, r = i / p.H, h = i % p.H;
  bool counts = i < n && (!p.lengths || r % p.L < length_of(p, r / p.L));
  float sum = 0;
  for (int k = threadIdx.x % team * N; k < p.K && counts; k += team * N) {
    Pack<A, N> o = load<N>(p.o + r * p.ld_o + h * p.K + k);
    Pack<A, N> d = load<N>(p.d_o + r * p.ld_do + h * p.K + k);
    for (int j = 0; j < N; j++) sum += get(o.v[j]) * get(d.v[j]);
  }
  sum = lanes_reduce(sum, plus<float>, team);
  if (threadIdx.x % team == 0 && i < n) p.delta[(r / p.L * p.H + h) * p.L + r % p.L] = sum;
}

/* The lse of a query in base 2, and its delta. */
struct Kept {
  float lse, delta;
};
template <class A> static __device__ Kept kept(const Pass<A> &p, int64_t at, int query, int length) {
  Kept k = {0, 0};
  if (query >= length) return k;
  k.lse = p.lse[at + query] * LOG2E;
  k.delta = p.delta[at + query];
  return k;
}

/* s ← p = exp(s − lse), d ← p (d − δ)/√K; both 0 where the query does not see the key */
static __device__ void slope(float *s, float *d, float scale, bool seen, Kept k) {
  *s = seen ? exp2f(*s * (scale * LOG2E) - k.lse) : 0;
  *d = seen ? *s * (*d - k.delta) * scale : 0;
}

template <class A, int W, class M>
__global__ void __launch_bounds__(THREADS, (RESIDENT<W, M>)) k_attention_queries(Pass<A> p) {
  typedef Shape<W> T;
  TILES(T, mine, other, pass);
  Head x = head_of(p, T::ROWS, M::HALVES || p.causal);
  const A *q = queries(p, x.row, x.h), *d_o = gradients(p, x.row, x.h);
  float s[T::R][T::C], d[T::R][T::C], dq[T::R][T::V] = {};
  Kept k[T::R];
  for (int r = 0; r < T::R; r++) k[r] = kept(p, x.kept, x.first + thread_y() * T::R + r, x.length);
  ROLLED
  for (int part = 0; part < key_parts<M>(); part++) {
    Range<M> g = keys_of<M>(p, x, T::ROWS, part);
    const A *from = keys(p, g.row, x.h), *v = values(p, g.row, x.h);
    ROLLED
    for (int key = g.first; key < g.end; key += T::COLS) {
      load_tile<T::ROWS, W>(mine, d_o, p.ld_do, x.first, x.length, p.K, p.wide);
      load_tile<T::COLS, W>(other, v, p.ld_qkv, key, g.end, p.K, p.wide);
      __syncthreads();
      scores<W>(d, mine, other);
      __syncthreads();
      load_tile<T::ROWS, W>(mine, q, p.ld_qkv, x.first, x.length, p.K, p.wide);
      load_tile<T::COLS, W>(other, from, p.ld_qkv, key, g.end, p.K, p.wide);
      __syncthreads();
      scores<W>(s, mine, other);
      for (int r = 0; r < T::R; r++)
        for (int c = 0; c < T::C; c++)
          slope(&s[r][c], &d[r][c], p.scale, g.mask.sees(x.first + thread_y() * T::R + r, key + c * SIDE + thread_x()),
                k[r]);
      add_product<W>(dq, d, pass, other);
      __syncthreads();
    }
  }
  store_rows<W>(p.dqkv, p.ld_dqkv, p, x, dq);
}

template <class A, int W, class M>
__global__ void __launch_bounds__(THREADS, (RESIDENT<W, M>)) k_attention_keys(Pass<A> p) {
  typedef Shape<W> T;
  TILES(T, mine, other, pass);
  Head x = head_of(p, T::ROWS, false);
  float s[T::R][T::C], d[T::R][T::C], dk[T::R][T::V] = {}, dv[T::R][T::V] = {};
  int parts = query_parts<M>(p);
  ROLLED
  for (int part = 0; part < parts; part++) {
    Range<M> g = queries_of<M>(p, x, T::ROWS, T::COLS, part);
    const A *q = queries(p, g.row, x.h), *d_o = gradients(p, g.row, x.h);
    ROLLED
    for (int query = g.first; query < g.end; query += T::COLS) {
      load_tile<T::ROWS, W>(mine, keys(p, x.row, x.h), p.ld_qkv, x.first, x.length, p.K, p.wide);
      load_tile<T::COLS, W>(other, q, p.ld_qkv, query, g.end, p.K, p.wide);
      __syncthreads();
      scores<W>(s, mine, other);
      __syncthreads();
      load_tile<T::ROWS, W>(mine, values(p, x.row, x.h), p.ld_qkv, x.first, x.length, p.K, p.wide);
      load_tile<T::COLS, W>(other, d_o, p.ld_do, query, g.end, p.K, p.wide);
      __syncthreads();
      scores<W>(d, mine, other);
      for (int c = 0; c < T::C; c++) {
        int at = query + c * SIDE + thread_x();
        Kept k = kept(p, g.kept, at, g.end);
        for (int r = 0; r < T::R; r++)
          slope(&s[r][c], &d[r][c], p.scale, g.mask.sees(at, x.first + thread_y() * T::R + r), k);
      }
      add_product<W>(dv, s, pass, other);
      __syncthreads();
      load_tile<T::COLS, W>(other, q, p.ld_qkv, query, g.end, p.K, p.wide);
      __syncthreads();
      add_product<W>(dk, d, pass, other);
      __syncthreads();
    }
  }
  store_rows<W>(p.dqkv + p.H * p.K, p.ld_dqkv, p, x, dk);
  store_rows<W>(p.dqkv + 2 * p.H * p.K, p.ld_dqkv, p, x, dv);
}

/* ---- the ops */
/* Whether every row of every head consists of packs of 16 bytes. */
template <class A> static bool is_wide(Tensor t, int64_t K) {
  return tensor_none(t) || (rows_aligned(t, WIDE<A>) && K % WIDE<A> == 0);
}

template <class A> static Pass<A> pass_of(const Attention *a) {
  Pass<A> p = {};
  p.H = a->heads;
  p.L = a->L;
  p.K = (int)(cols_of(a->o) / a->heads);
  p.B = attention_noisy(a);
  p.block = (int)a->block, p.draws = (int)a->draws;
  p.causal = a->causal;
  p.keys_only = a->keys_only;
  p.scale = 1 / sqrtf((float)p.K);
  p.lengths = (const int32_t *)a->lengths.data;
  p.lse = (float *)a->lse.data;
  p.qkv = (const A *)a->qkv.data, p.ld_qkv = a->qkv.ld;
  p.o = p.out = (A *)a->o.data, p.ld_o = a->o.ld;
  p.d_o = (const A *)a->d_o.data, p.ld_do = a->d_o.ld;
  p.dqkv = (A *)a->dqkv.data, p.ld_dqkv = a->dqkv.ld;
  p.wide = is_wide<A>(a->qkv, p.K) && is_wide<A>(a->o, p.K) && is_wide<A>(a->d_o, p.K) && is_wide<A>(a->dqkv, p.K);
  return p;
}

/* The heads with queries, of all sequences and halves. */
static int64_t heads_of(const Attention *a) {
  return (a->keys_only ? attention_noisy(a) : rows_of(a->o) / a->L) * a->heads;
}

template <class A, int W, class M> static int forward(Device *dev, const Attention *a) {
  return LAUNCH(dev, (k_attention<A, W, M>), heads_of(a) * ceil_div(a->L, Shape<W>::ROWS), pass_of<A>(a));
}

template <class A> static int launch_delta(Device *dev, const Pass<A> &p, int64_t n) {
  int team = 1, pieces = (int)ceil_div(p.K, p.wide ? WIDE<A> : 1);
  while (team < pieces && team < WARP) team *= 2;
  return WITH_PACKS(p.wide, WIDE<A>, LAUNCH(dev, (k_attention_delta<A, N>), ceil_div(n * team, THREADS), p, n, team));
}

template <class A, int W, class M> static int backward(Device *dev, const Attention *a) {
  Pass<A> p = pass_of<A>(a);
  int64_t n = rows_of(a->o) * a->heads, blocks = n / a->L * ceil_div(a->L, Shape<W>::ROWS);
  TRY(cuda_scratch(dev, SCRATCH_ATTENTION, (size_t)n * sizeof(float), &p.delta));
  TRY(launch_delta(dev, p, heads_of(a) * a->L));
  TRY(LAUNCH(dev, (k_attention_keys<A, W, M>), blocks, p));
  return LAUNCH(dev, (k_attention_queries<A, W, M>), blocks, p);
}

template <class A, int W> static int by_mask(Device *dev, const Attention *a, bool back) {
  if (a->block) return back ? backward<A, W, Blocks>(dev, a) : forward<A, W, Blocks>(dev, a);
  return back ? backward<A, W, Whole>(dev, a) : forward<A, W, Whole>(dev, a);
}

/* WITH_WIDTH — evaluate an expression with W as the narrowest of our widths that holds a head of K columns. */
#define WITH_WIDTH(K, ...)                                                                                             \
  ((K) <= 32    ? WITH_INT(W, 32, __VA_ARGS__)                                                                         \
   : (K) <= 64  ? WITH_INT(W, 64, __VA_ARGS__)                                                                         \
   : (K) <= 128 ? WITH_INT(W, 128, __VA_ARGS__)                                                                        \
                : WITH_INT(W, 256, __VA_ARGS__))

/* Record which kernel computes attention. Where the slow one replaces cuDNN's, say so once and give the reason; f32 is
 * the user's choice. */
static void record(Device *dev, const Attention *a, bool fused, const char *reason) {
  bool first = dev->attention == NULL || strcmp(dev->attention, "own") != 0;
  if (!fused && first && a->qkv.type == DT_BF16)
    log_warn("attention uses our own kernel, which is much slower than cuDNN's: %s", reason);
  if (first) dev->attention = fused ? "cudnn" : "own";
}

static int attend(Device *dev, const Attention *a, bool back) {
  bool done;
  char reason[ATTENTION_REASON] = "";
  if (rows_of(a->o) == 0) return OK;
  TRY(attention_fused(dev, a, back, &done, reason));
  record(dev, a, done, reason);
  if (done) return OK;
  int64_t K = cols_of(a->o) / a->heads;
  CHECK(K <= WIDEST, ERR_DEVICE,
        "device.name = cuda: heads of %ld columns are not supported, %d is the limit; use more "
        "heads",
        (long)K, WIDEST);
  return WITH_TYPE(a->qkv.type, WITH_WIDTH(K, by_mask<A, W>(dev, a, back)));
}

int cuda_attention(Device *dev, const Attention *a) { return attend(dev, a, false); }
int cuda_attention_backward(Device *dev, const Attention *a) { return attend(dev, a, true); }
