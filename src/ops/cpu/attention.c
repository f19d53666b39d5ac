/* attention — softmax(q kᵀ/√K) v in blocks of query rows: each thread holds one [BLOCK, L] piece of scores, and [L,L]
 * is never materialised.
 *
 * Backward recomputes the scores from q, k and the saved log-sum-exp:
 *   S = q kᵀ/√K,  P = exp(S − lse)
 *   dV += Pᵀ dO
 *   dP = dO Vᵀ
 *   dS = P ⊙ (dP − δ)/√K  with δ_i = Σ_k dO_ik O_ik
 *   dQ = dS K
 *   dK += dSᵀ Q */
#include "ops/cpu/cpu.h"
#include <omp.h>
#include <string.h>

enum { BLOCK = 128 };

typedef struct Head { /* one head of one sequence: views into the packed tensors */
  const real *q, *k, *v, *o, *d_o;
  real *dq, *dk, *dv, *out, *lse;
  int64_t ld, ld_o, ld_do, ld_d, length; /* length: real rows of the sequence */
} Head;

static Head head_of(const Attention *a, int64_t index) {
  int64_t H = a->heads, D = cols_of(a->o), K = D / H, b = index / H, h = index % H, r = b * a->L;
  const real *qkv = row(a->qkv, r) + h * K;
  Head x = {.q = qkv, .k = qkv + D, .v = qkv + 2 * D, .ld = a->qkv.ld};
  x.length = tensor_none(a->lengths) ? a->L : ((const int32_t *)a->lengths.data)[b];
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

/* s[n,cols] ← exp(scale·(s − max)) row by row; inverse[n] := 1/(sum of the row), which later scales the output. Not
 * inlined: a clone specialised for one row would sum in another order. */
static __attribute__((noinline, noclone)) void softmax_rows(real *s, int64_t n, int64_t cols, int64_t ld, real scale,
                                                            int64_t first, bool causal, real *inverse, real *lse) {
  for (int64_t i = 0; i < n; i++) {
    real *p = s + i * ld;
    int64_t seen = causal ? min64(cols, first + i + 1) : cols;
    real top = p[0];
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < seen; j++) top = p[j] > top ? p[j] : top;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < seen; j++) {
      p[j] = real_exp(scale * (p[j] - top));
      sum += p[j];
    }
    for (int64_t j = seen; j < cols; j++) p[j] = 0;
    inverse[i] = 1 / sum;
    lse[i] = scale * top + (real)log((double)sum);
  }
}

static void zero_rows(real *p, int64_t first, int64_t last, int64_t n, int64_t ld) {
  for (int64_t r = first; r < last; r++)
    for (int64_t k = 0; k < n; k++) p[r * ld + k] = 0;
}

/* Queries i … i+n−1; s[n·cols] is scratch. The sum over keys is taken in pieces of BLOCK keys: masked keys add zeros, so
 * the number of keys does not change the order of the sum. */
static void block_forward(const Head *x, int64_t K, bool causal, int64_t i, int64_t n, real *s, real *pack) {
  real inverse[BLOCK], scale = 1 / real_sqrt((real)K), *out = x->out + i * x->ld_o;
  int64_t cols = causal ? i + n : x->length;
  FN(gemm_serial)(false, true, n, cols, K, x->q + i * x->ld, x->ld, x->k, x->ld, false, s, cols, pack);
  softmax_rows(s, n, cols, cols, scale, i, causal, inverse, x->lse + i);
  for (int64_t j = 0; j < cols; j += BLOCK) {
    const real *v = x->v + j * x->ld;
    FN(gemm_serial)
    (false, false, n, K, min64(BLOCK, cols - j), s + j, cols, v, x->ld, j > 0, out, x->ld_o, pack);
  }
  for (int64_t r = 0; r < n; r++) {
    real *o = out + r * x->ld_o;
#pragma omp simd
    for (int64_t k = 0; k < K; k++) o[k] *= inverse[r];
  }
}

static void head_forward(const Head *x, int64_t K, bool causal, real *s, real *pack) {
  for (int64_t i = 0; i < x->length; i += BLOCK) block_forward(x, K, causal, i, min64(BLOCK, x->length - i), s, pack);
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
  r->packs = FN(gemm_room)(most, most);
  TRY(FN(scratch)(dev, SCRATCH_THREAD, r->reals * threads, &r->scores));
  return FN(scratch)(dev, SCRATCH_PACK, r->packs * threads, &r->pack);
}
static real *room_scores(const Room *r) { return r->scores + r->reals * (size_t)omp_get_thread_num(); }
static real *room_pack(const Room *r) { return r->pack + r->packs * (size_t)omp_get_thread_num(); }

int FN(attention)(Device *dev, const Attention *a) {
  int64_t L = a->L, D = cols_of(a->o), K = D / a->heads, n = rows_of(a->o) / L * a->heads;
  Room room;
  TRY(room_open(dev, (size_t)(BLOCK * L), L, K, &room));
#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
  for (int64_t i = 0; i < n; i++) {
    Head x = head_of(a, i);
    head_forward(&x, K, a->causal, room_scores(&room), room_pack(&room));
    zero_rows(x.out, x.length, L, K, x.ld_o);
    zero_rows(x.lse, x.length, L, 1, 1);
  }
  return OK;
}

/* Append the key and value of one query to the cache, and attend to all keys in it. */
static void step_forward(const AttentionStep *a, int64_t index, real *s, real *pack) {
  int64_t H = a->heads, D = cols_of(a->o), K = D / H, b = index / H, h = index % H, seen = a->position + 1;
  real *cache = row(a->cache, b * a->L) + h * K, *mine = cache + a->position * a->cache.ld, lse;
  const real *qkv = row(a->qkv, b) + h * K;
  for (int64_t k = 0; k < K; k++) mine[k] = qkv[D + k], mine[D + k] = qkv[2 * D + k];
  Head x = {.q = qkv, .k = cache, .v = cache + D, .ld = a->cache.ld, .length = seen, .lse = &lse};
  x.out = row(a->o, b) + h * K;
  x.ld_o = a->o.ld;
  block_forward(&x, K, false, 0, 1, s, pack);
}

int FN(attention_step)(Device *dev, const AttentionStep *a) {
  int64_t n = rows_of(a->o) * a->heads;
  Room room;
  TRY(room_open(dev, (size_t)a->L, a->L, cols_of(a->o) / a->heads, &room));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t i = 0; i < n; i++) step_forward(a, i, room_scores(&room), room_pack(&room));
  return OK;
}

/* p ← exp(scale·p − lse);  dp ← p ⊙ (dp − δ)·scale */
static void score_gradient(real *p, real *dp, const Head *x, int64_t i0, int64_t n, int64_t cols, int64_t K, real scale,
                           bool causal) {
  for (int64_t i = 0; i < n; i++) {
    const real *o = x->o + (i0 + i) * x->ld_o, *d_o = x->d_o + (i0 + i) * x->ld_do;
    real lse = x->lse[i0 + i], delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t k = 0; k < K; k++) delta += o[k] * d_o[k];
    real *pi = p + i * cols, *di = dp + i * cols;
    int64_t seen = causal ? min64(cols, i0 + i + 1) : cols;
#pragma omp simd
    for (int64_t j = 0; j < seen; j++) {
      pi[j] = real_exp(scale * pi[j] - lse);
      di[j] = pi[j] * (di[j] - delta) * scale;
    }
    for (int64_t j = seen; j < cols; j++) pi[j] = di[j] = 0;
  }
}

static void head_backward(const Head *x, int64_t K, bool causal, real *p, real *dp, real *pack) {
  real scale = 1 / real_sqrt((real)K);
  /* The last block comes first: it covers all columns even with a causal mask, so it sets dK and dV and the others
   * add. */
  int64_t L = x->length, blocks = (L + BLOCK - 1) / BLOCK;
  for (int64_t b = blocks - 1; b >= 0; b--) {
    int64_t i = b * BLOCK, n = min64(BLOCK, L - i), cols = causal ? i + n : L;
    bool more = b < blocks - 1;
    const real *q = x->q + i * x->ld, *d_o = x->d_o + i * x->ld_do;
    FN(gemm_serial)(false, true, n, cols, K, q, x->ld, x->k, x->ld, false, p, cols, pack);
    FN(gemm_serial)(false, true, n, cols, K, d_o, x->ld_do, x->v, x->ld, false, dp, cols, pack);
    score_gradient(p, dp, x, i, n, cols, K, scale, causal);
    FN(gemm_serial)(true, false, cols, K, n, p, cols, d_o, x->ld_do, more, x->dv, x->ld_d, pack);
    FN(gemm_serial)(false, false, n, K, cols, dp, cols, x->k, x->ld, false, x->dq + i * x->ld_d, x->ld_d, pack);
    FN(gemm_serial)(true, false, cols, K, n, dp, cols, q, x->ld, more, x->dk, x->ld_d, pack);
  }
}

int FN(attention_backward)(Device *dev, const Attention *a) {
  int64_t L = a->L, D = cols_of(a->o), K = D / a->heads, n = rows_of(a->o) / L * a->heads;
  Room room;
  TRY(room_open(dev, (size_t)(2 * BLOCK * L), L, K, &room));
#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
  for (int64_t i = 0; i < n; i++) {
    Head x = head_of(a, i);
    real *p = room_scores(&room);
    head_backward(&x, K, a->causal, p, p + BLOCK * L, room_pack(&room));
    real *out[] = {x.dq, x.dk, x.dv};
    for (int j = 0; j < 3; j++) zero_rows(out[j], x.length, L, K, x.ld_d);
  }
  return OK;
}
