/* attention — what the files of attention on the CPU share. */
#pragma once
#include "ops/cpu/cpu.h"

enum {
  TILE = 128,
  GROUP = 16
}; /* query rows of a tile, and keys of a piece of a sum; rows of a group of short blocks */

typedef struct Head { /* one head of one sequence: views into the packed tensors */
  const real *q, *k, *v, *o, *d_o;
  real *dq, *dk, *dv, *out, *lse;
  int64_t ld_q, ld, ld_o, ld_do, ld_d, length; /* ld: of k and v; length: real rows of the sequence */
  int64_t cuts[2];                             /* the sum over keys also breaks here; ascending, 0: nowhere */
} Head;

/** softmax_row — p[0 … seen) ← exp(scale·(p − max p)), 0 up to cols; *inverse := 1/Σ p, which later scales the output;
 *  *lse := log Σ exp(scale·p) of the scores. */
void FN(softmax_row)(real *p, int64_t seen, int64_t cols, real scale, real *inverse, real *lse);
/** sum_values — out[n,K] of the queries i … := or, with add, += s[n,ld] v over the keys first … last−1, in pieces of
 *  TILE. */
void FN(sum_values)(const Head *x, const Head *keys, int64_t K, int64_t i, int64_t n, const real *s, int64_t ld,
                    int64_t first, int64_t last, bool add, real *pack);
/** scale_rows — p[n,K] ← by[n] ⊙ p. */
void FN(scale_rows)(real *p, int64_t n, int64_t K, int64_t ld, const real *by);
/** deltas — delta[n] := Σ_k o_k do_k of the queries i … */
void FN(deltas)(const Head *x, int64_t K, int64_t i, int64_t n, real *delta);
/** slope_row — for one query and the keys from … to−1 of cols:
 *    p ← exp(scale·p − lse),  dp ← p ⊙ (dp − delta)·scale
 *  and 0 for the other keys. */
void FN(slope_row)(real *p, real *dp, real lse, real delta, int64_t from, int64_t to, int64_t cols, real scale);

/** blocks_lead — of the keys before the block at `position`, how many are summed before the next break. */
int64_t FN(blocks_lead)(int64_t block, int64_t position);
/** blocks_room — reals of `pack` that attention in blocks needs besides gemm_room. */
size_t FN(blocks_room)(int64_t K);
/** blocks_forward — attention in blocks, of the queries of one head in half x. s: scratch, [TILE,L]. */
void FN(blocks_forward)(const Head *x, const Head *clean, int64_t K, int64_t block, real *s, real *pack);
/** blocks_backward — dq of half x, dk and dv of both halves += from these queries. p, dp: scratch, [TILE,L+GROUP] each. */
void FN(blocks_backward)(const Head *x, const Head *clean, int64_t K, int64_t block, real *p, real *dp, real *pack);
