/* attention — softmax(q kᵀ/√K) v in tiles of query rows: each thread holds the [TILE, L] scores of one, and [L,L] is
 * never materialised. attention_blocks.c has the tiles of block diffusion.
 *
 * Backward recomputes the scores from q, k and the saved log-sum-exp:
 *   S = q kᵀ/√K,  P = exp(S − lse)
 *   dV += Pᵀ dO
 *   dP = dO Vᵀ
 *   dS = P ⊙ (dP − δ)/√K  with δ_i = Σ_k dO_ik O_ik
 *   dQ = dS K
 *   dK += dSᵀ Q */
#include "ops/cpu/attention.h"
#include <omp.h>
#include <string.h>

/* The real rows of a sequence; those of a clean one are its first noisy one's. */
static int64_t length_of(const Attention *a, int64_t b) {
  int64_t noisy = attention_noisy(a);
  if (tensor_none(a->lengths)) return a->L;
  return ((const int32_t *)a->lengths.data)[b < noisy ? b : (b - noisy) * a->draws];
}

static Head head_of(const Attention *a, int64_t index) {
  int64_t H = a->heads, D = cols_of(a->o), K = D / H, b = index / H, h = index % H, r = b * a->L;
  const real *qkv = row(a->qkv, r) + h * K;
  Head x = {.q = qkv, .k = qkv + D, .v = qkv + 2 * D, .ld_q = a->qkv.ld, .ld = a->qkv.ld};
  x.length = length_of(a, b);
  x.out = row(a->o, r) + h * K;
  x.o = x.out;
  x.ld_o = a->o.ld;
  x.lse = (real *)a->lse.data + index * a->L;
  if (!tensor_none(a->dqkv)) {
    x.dq = row(a->dqkv, r) + h * K;
    x.dk = x.dq + D;
    x.dv = x.dq + 2 * D;
    x.ld_d = a->dqkv.ld;
    x.d_o = row(a->d_o, r) + h * K;
    x.ld_do = a->d_o.ld;
  }
  return x;
}

/* Not inlined: a clone specialised for some length would sum in another order. */
__attribute__((noinline, noclone)) void FN(softmax_row)(real *p, int64_t seen, int64_t cols, real scale, real *inverse,
                                                        real *lse) {
  real top = p[0], sum = 0;
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < seen; j++) top = p[j] > top ? p[j] : top;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < seen; j++) {
    p[j] = real_exp(scale * (p[j] - top));
    sum += p[j];
  }
  for (int64_t j = seen; j < cols; j++) p[j] = 0;
  *inverse = 1 / sum;
  *lse = scale * top + (real)log((double)sum);
}

static void zero_rows(real *p, int64_t first, int64_t last, int64_t n, int64_t ld) {
  for (int64_t r = first; r < last; r++)
    for (int64_t k = 0; k < n; k++) p[r * ld + k] = 0;
}

/* Masked keys add zeros, so the number of keys does not change the order of the sum. */
void FN(sum_values)(const Head *x, const Head *keys, int64_t K, int64_t i, int64_t n, const real *s, int64_t ld,
                    int64_t first, int64_t last, bool add, real *pack) {
  real *out = x->out + i * x->ld_o;
  for (int64_t j = first; j < last; j += TILE, add = true) {
    const real *v = keys->v + j * keys->ld;
    FN(gemm_serial)
    (false, false, n, K, min64(TILE, last - j), s + j, ld, v, keys->ld, add, out, x->ld_o, pack);
  }
}

void FN(scale_rows)(real *p, int64_t n, int64_t K, int64_t ld, const real *by) {
  for (int64_t r = 0; r < n; r++, p += ld) {
#pragma omp simd
    for (int64_t k = 0; k < K; k++) p[k] *= by[r];
  }
}

/* Queries i … i+n−1; s[n·cols] is scratch. */
static void tile_forward(const Head *x, int64_t K, bool causal, int64_t i, int64_t n, real *s, real *pack) {
  real inverse[TILE], scale = 1 / real_sqrt((real)K);
  int64_t cols = causal ? i + n : x->length, breaks[] = {0, x->cuts[0], x->cuts[1], cols};
  FN(gemm_serial)(false, true, n, cols, K, x->q + i * x->ld_q, x->ld_q, x->k, x->ld, false, s, cols, pack);
  for (int64_t r = 0; r < n; r++)
    FN(softmax_row)(s + r * cols, causal ? i + r + 1 : cols, cols, scale, inverse + r, x->lse + i + r);
  for (int b = 0; b < 3; b++) FN(sum_values)(x, x, K, i, n, s, cols, breaks[b], breaks[b + 1], breaks[b] > 0, pack);
  FN(scale_rows)(x->out + i * x->ld_o, n, K, x->ld_o, inverse);
}

static void head_forward(const Head *x, int64_t K, bool causal, real *s, real *pack) {
  for (int64_t i = 0; i < x->length; i += TILE) tile_forward(x, K, causal, i, min64(TILE, x->length - i), s, pack);
}

/* Scratch of the calling thread: `reals` for scores, and room to pack the factors of products over L keys and K columns
 * of a head. */
typedef struct Room {
  real *scores, *pack;
  size_t reals, packs;
} Room;

static int room_open(Device *dev, size_t reals, int64_t L, int64_t K, Room *r) {
  int64_t most = L > K ? L : K;
  size_t threads = (size_t)dev->threads * sizeof(real);
  r->reals = reals;
  r->packs = FN(gemm_room)(most, most) + FN(blocks_room)(K);
  TRY(FN(scratch)(dev, SCRATCH_THREAD, r->reals * threads, &r->scores));
  return FN(scratch)(dev, SCRATCH_PACK, r->packs * threads, &r->pack);
}
static real *room_scores(const Room *r) { return r->scores + r->reals * (size_t)omp_get_thread_num(); }
static real *room_pack(const Room *r) { return r->pack + r->packs * (size_t)omp_get_thread_num(); }

/* The head of the same tokens, clean. */
static Head clean_of(const Attention *a, int64_t index) {
  int64_t H = a->heads, noisy = attention_noisy(a), b = index / H;
  return head_of(a, b < noisy ? (noisy + b / a->draws) * H + index % H : index);
}

/* The heads whose queries are computed, of all sequences and halves. */
static int64_t heads_of(const Attention *a) {
  return (a->keys_only ? attention_noisy(a) : rows_of(a->o) / a->L) * a->heads;
}

/* The noisy heads of a clean one come one after the other, and then that, since all read the clean keys. */
static int64_t head_index(const Attention *a, int64_t item) {
  if (!a->block) return item;
  int64_t H = a->heads, each = a->keys_only ? a->draws : a->draws + 1, of = item / each, draw = item % each;
  if (draw == a->draws) return attention_noisy(a) * H + of;
  return (of / H * a->draws + draw) * H + of % H;
}

int FN(attention)(Device *dev, const Attention *a) {
  int64_t L = a->L, D = cols_of(a->o), K = D / a->heads, n = heads_of(a);
  Room room;
  TRY(room_open(dev, (size_t)(TILE * L), L, K, &room));
#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
  for (int64_t item = 0; item < n; item++) {
    int64_t i = head_index(a, item);
    Head x = head_of(a, i), clean = a->block ? clean_of(a, i) : x;
    if (a->block)
      FN(blocks_forward)(&x, &clean, K, a->block, room_scores(&room), room_pack(&room));
    else
      head_forward(&x, K, a->causal, room_scores(&room), room_pack(&room));
    zero_rows(x.out, x.length, L, K, x.ld_o);
    zero_rows(x.lse, x.length, L, 1, 1);
  }
  return OK;
}

/* Write the keys and values of the new rows to the cache, and attend to all keys in it. s: scratch, [count] for the
 * log-sum-exps, then scores. */
static void step_forward(const AttentionStep *a, int64_t index, real *s, real *pack) {
  int64_t H = a->heads, D = cols_of(a->o), K = D / H, n = a->count, b = index / H, h = index % H;
  real *cache = row(a->cache, b * a->L) + h * K, *to = cache + a->position * a->cache.ld;
  const real *qkv = row(a->qkv, b * n) + h * K;
  for (int64_t i = 0; i < n; i++) {
    const real *from = qkv + i * a->qkv.ld;
    for (int64_t k = 0; k < K; k++)
      to[i * a->cache.ld + k] = from[D + k], to[i * a->cache.ld + D + k] = from[2 * D + k];
  }
  Head x = {.q = qkv, .k = cache, .v = cache + D, .ld_q = a->qkv.ld, .ld = a->cache.ld, .lse = s};
  x.length = a->position + n;
  x.out = row(a->o, b * n) + h * K;
  x.ld_o = a->o.ld;
  if (a->block) x.cuts[0] = FN(blocks_lead)(a->block, a->position), x.cuts[1] = a->position;
  for (int64_t i = 0; i < n; i += TILE) tile_forward(&x, K, false, i, min64(TILE, n - i), s + n, pack);
}

int FN(attention_step)(Device *dev, const AttentionStep *a) {
  int64_t n = rows_of(a->o) / a->count * a->heads, rows = min64(TILE, a->count);
  Room room;
  TRY(room_open(dev, (size_t)(a->count + rows * a->L), a->L, cols_of(a->o) / a->heads, &room));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t i = 0; i < n; i++) step_forward(a, i, room_scores(&room), room_pack(&room));
  return OK;
}

void FN(deltas)(const Head *x, int64_t K, int64_t i, int64_t n, real *delta) {
  for (int64_t r = 0; r < n; r++) {
    const real *o = x->o + (i + r) * x->ld_o, *d_o = x->d_o + (i + r) * x->ld_do;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < K; k++) sum += o[k] * d_o[k];
    delta[r] = sum;
  }
}

static void zero(real *p, int64_t n) {
  if (n > 0) memset(p, 0, (size_t)n * sizeof *p);
}

void FN(slope_row)(real *p, real *dp, real lse, real delta, int64_t from, int64_t to, int64_t cols, real scale) {
#pragma omp simd
  for (int64_t j = from; j < to; j++) {
    p[j] = real_exp(scale * p[j] - lse);
    dp[j] = p[j] * (dp[j] - delta) * scale;
  }
  zero(p, from), zero(dp, from);
  zero(p + to, cols - to), zero(dp + to, cols - to);
}

static void head_backward(const Head *x, int64_t K, bool causal, real *p, real *dp, real *pack) {
  real scale = 1 / real_sqrt((real)K);
  /* The last tile comes first: it covers all columns even with a causal mask, so it sets dK and dV and the others
   * add. */
  int64_t L = x->length, tiles = (L + TILE - 1) / TILE;
  for (int64_t t = tiles - 1; t >= 0; t--) {
    int64_t i = t * TILE, n = min64(TILE, L - i), cols = causal ? i + n : L;
    bool more = t < tiles - 1;
    real delta[TILE];
    const real *q = x->q + i * x->ld_q, *d_o = x->d_o + i * x->ld_do;
    FN(gemm_serial)(false, true, n, cols, K, q, x->ld_q, x->k, x->ld, false, p, cols, pack);
    FN(gemm_serial)(false, true, n, cols, K, d_o, x->ld_do, x->v, x->ld, false, dp, cols, pack);
    FN(deltas)(x, K, i, n, delta);
    for (int64_t r = 0; r < n; r++)
      FN(slope_row)(p + r * cols, dp + r * cols, x->lse[i + r], delta[r], 0, causal ? i + r + 1 : cols, cols, scale);
    FN(gemm_serial)(true, false, cols, K, n, p, cols, d_o, x->ld_do, more, x->dv, x->ld_d, pack);
    FN(gemm_serial)(false, false, n, K, cols, dp, cols, x->k, x->ld, false, x->dq + i * x->ld_d, x->ld_d, pack);
    FN(gemm_serial)(true, false, cols, K, n, dp, cols, q, x->ld_q, more, x->dk, x->ld_d, pack);
  }
}

static void zero_keys(const Head *x, int64_t first, int64_t L, int64_t K) {
  zero_rows(x->dk, first, L, K, x->ld_d);
  zero_rows(x->dv, first, L, K, x->ld_d);
}

static void zero_gradients(const Head *x, int64_t first, int64_t L, int64_t K) {
  zero_rows(x->dq, first, L, K, x->ld_d);
  zero_keys(x, first, L, K);
}

/* A clean head and its noisy ones. The clean queries come first: they and the noisy ones, in order, add to the gradients
 * of the clean keys. */
static void halves_backward(const Attention *a, int64_t index, int64_t K, real *p, real *dp, real *pack) {
  int64_t H = a->heads, first = index / H * a->draws, noisy = attention_noisy(a);
  Head clean = head_of(a, noisy * H + index);
  zero_keys(&clean, 0, a->L, K);
  zero_rows(clean.dq, a->keys_only ? 0 : clean.length, a->L, K, clean.ld_d);
  if (!a->keys_only) FN(blocks_backward)(&clean, &clean, K, a->block, p, dp, pack);
  for (int64_t b = first; b < first + a->draws; b++) {
    Head x = head_of(a, b * H + index % H);
    zero_gradients(&x, x.length, a->L, K);
    FN(blocks_backward)(&x, &clean, K, a->block, p, dp, pack);
  }
}

int FN(attention_backward)(Device *dev, const Attention *a) {
  int64_t L = a->L, D = cols_of(a->o), K = D / a->heads, noisy = attention_noisy(a) * a->heads;
  int64_t n = a->block ? noisy / a->draws : noisy;
  Room room;
  TRY(room_open(dev, (size_t)(2 * TILE * (L + GROUP)), L, K, &room));
#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
  for (int64_t i = 0; i < n; i++) {
    real *p = room_scores(&room), *dp = p + TILE * (L + GROUP);
    if (a->block) {
      halves_backward(a, i, K, p, dp, room_pack(&room));
      continue;
    }
    Head x = head_of(a, i);
    head_backward(&x, K, a->causal, p, dp, room_pack(&room));
    zero_gradients(&x, x.length, L, K);
  }
  return OK;
}
