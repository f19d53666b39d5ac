/* attention_blocks — attention of block diffusion: a query sees the clean keys before its block, and the keys of its
 * block in its own half.
 *
 * A tile of queries is made of whole blocks, or is a part of one. Its scores come from three kinds of products, so that
 * few of them are masked, however short the blocks are:
 *   lead   all queries of the tile, and the clean keys before its first block: no mask
 *   rest   a group of whole blocks, and the clean keys from there up to its last block
 *   own    the same group, and the keys of its blocks in its own half
 * The scores of a query lie side by side, those of its block behind those of the keys before it: the softmax of a row has
 * the same bits as in a step with a cache. The sum over the values breaks behind the lead and before the block, in a step
 * too. */
#include "ops/cpu/attention.h"
#include <string.h>

enum { GROUP = 32 }; /* rows of a group of short blocks, at most */

typedef struct Tile {
  const Head *x, *clean; /* the queries, with the keys of their blocks; the keys before these */
  int64_t K, block;
  int64_t i, n, lead, cols; /* queries i … i+n−1; keys before their first block; up to the end of their last one */
  real *pack;
} Tile;

typedef struct Group { /* queries i … i+n−1 of a tile, of one block or several */
  int64_t i, n;
  int64_t own, rest, end; /* the first key of the first block and of the last one, and the end of that */
} Group;

static int64_t block_begin(const Tile *t, int64_t query) { return query / t->block * t->block; }
static int64_t block_end(const Tile *t, int64_t query) { return min64(block_begin(t, query) + t->block, t->x->length); }

/* The largest multiple of `block` up to `most`, at least `block`. */
static int64_t whole_blocks(int64_t block, int64_t most) { return block < most ? most / block * block : block; }

int64_t FN(blocks_lead)(int64_t block, int64_t position) {
  int64_t rows = whole_blocks(block, TILE);
  return position / rows * rows;
}

static Tile tile_at(const Head *x, const Head *clean, int64_t K, int64_t block, int64_t i, real *pack) {
  Tile t = {.x = x, .clean = clean, .K = K, .block = block, .i = i, .pack = pack};
  t.lead = FN(blocks_lead)(block, i);
  t.n = min64(TILE, min64(t.lead + whole_blocks(block, TILE), x->length) - i);
  t.cols = block_end(&t, i + t.n - 1);
  return t;
}

static Group group_at(const Tile *t, int64_t i) {
  Group g = {.i = i, .n = min64(whole_blocks(t->block, GROUP), t->i + t->n - i)};
  int64_t last = i + g.n - 1;
  g.own = block_begin(t, i), g.rest = block_begin(t, last), g.end = block_end(t, last);
  return g;
}

/* s[n,ld] = the scores of queries i … and keys first … last−1 */
static void scores(const Tile *t, const Head *keys, int64_t i, int64_t n, int64_t first, int64_t last, real *s,
                   int64_t ld) {
  const Head *x = t->x;
  if (last > first) FN(gemm_serial)
  (false, true, n, last - first, t->K, x->q + i * x->ld_q, x->ld_q, keys->k + first * keys->ld, keys->ld, false, s, ld,
   t->pack);
}

/* The rest and the own scores of a group of several blocks, where the former overlap the latter: those go to own[n,GROUP]
 * first, and after the softmax move there again. */
static void move_own(const Tile *t, const Group *g, real *s, real *own, bool back) {
  for (int64_t r = 0; r < g->n; r++) {
    int64_t b = block_begin(t, g->i + r), n = block_end(t, g->i + r) - b;
    real *in_row = s + r * t->cols + b, *apart = own + r * GROUP + b - g->own;
    if (!back) {
      memcpy(in_row, apart, (size_t)n * sizeof *s);
      continue;
    }
    memset(own + r * GROUP, 0, GROUP * sizeof *own);
    memcpy(apart, in_row, (size_t)n * sizeof *s);
    if (g->rest > b) memset(in_row, 0, (size_t)(g->rest - b) * sizeof *s);
  }
}

/* The probabilities of a group, up to the factors `inverse`; s: its rows of the tile. */
static void group_softmax(const Tile *t, const Group *g, real *s, real *own, real *inverse) {
  bool several = g->rest > g->own;
  real scale = 1 / real_sqrt((real)t->K);
  scores(t, t->clean, g->i, g->n, t->lead, g->rest, s + t->lead, t->cols);
  scores(t, t->x, g->i, g->n, g->own, g->end, several ? own : s + g->own, several ? GROUP : t->cols);
  if (several) move_own(t, g, s, own, false);
  for (int64_t r = 0; r < g->n; r++) {
    int64_t seen = block_end(t, g->i + r);
    FN(softmax_row)(s + r * t->cols, seen, seen, scale, inverse + r, t->x->lse + g->i + r);
  }
  if (several) move_own(t, g, s, own, true);
}

static void group_values(const Tile *t, const Group *g, const real *s, const real *own) {
  const Head *x = t->x;
  FN(sum_values)(x, t->clean, t->K, g->i, g->n, s, t->cols, t->lead, g->rest, t->lead > 0, t->pack);
  if (g->rest == g->own)
    FN(sum_values)(x, x, t->K, g->i, g->n, s, t->cols, g->own, g->end, g->own > 0, t->pack);
  else
    FN(gemm_serial)
  (false, false, g->n, t->K, g->end - g->own, own, GROUP, x->v + g->own * x->ld, x->ld, true, x->out + g->i * x->ld_o,
   x->ld_o, t->pack);
}

static void tile_forward(const Tile *t, real *s) {
  real inverse[TILE], own[TILE * GROUP];
  scores(t, t->clean, t->i, t->n, 0, t->lead, s, t->cols);
  for (int64_t r = 0; r < t->n;) {
    Group g = group_at(t, t->i + r);
    group_softmax(t, &g, s + r * t->cols, own + r * GROUP, inverse + r);
    r += g.n;
  }
  FN(sum_values)(t->x, t->clean, t->K, t->i, t->n, s, t->cols, 0, t->lead, false, t->pack);
  for (int64_t r = 0; r < t->n;) {
    Group g = group_at(t, t->i + r);
    group_values(t, &g, s + r * t->cols, own + r * GROUP);
    r += g.n;
  }
  FN(scale_rows)(t->x->out + t->i * t->x->ld_o, t->n, t->K, t->x->ld_o, inverse);
}

void FN(blocks_forward)(const Head *x, const Head *clean, int64_t K, int64_t block, real *s, real *pack) {
  for (int64_t i = 0; i < x->length;) {
    Tile t = tile_at(x, clean, K, block, i, pack);
    tile_forward(&t, s);
    i += t.n;
  }
}

/* From the queries i … i+n−1 and the keys first … last−1: keys of the queries' blocks if own, else keys before these. */
static void piece_backward(const Tile *t, bool own, int64_t i, int64_t n, int64_t first, int64_t last, real *p,
                           real *dp) {
  const Head *x = t->x, *keys = own ? x : t->clean;
  int64_t K = t->K, cols = last - first;
  real scale = 1 / real_sqrt((real)K);
  const real *q = x->q + i * x->ld_q, *d_o = x->d_o + i * x->ld_do, *k = keys->k + first * keys->ld;
  if (cols == 0) return;
  scores(t, keys, i, n, first, last, p, cols);
  FN(gemm_serial)
  (false, true, n, cols, K, d_o, x->ld_do, keys->v + first * keys->ld, keys->ld, false, dp, cols, t->pack);
  for (int64_t r = 0; r < n; r++) {
    int64_t b = block_begin(t, i + r), from = own ? b : first, to = own ? block_end(t, i + r) : min64(b, last);
    FN(slope_row)(p + r * cols, dp + r * cols, x, i + r, from - first, to - first, cols, K, scale);
  }
  FN(gemm_serial)
  (true, false, cols, K, n, p, cols, d_o, x->ld_do, true, keys->dv + first * keys->ld_d, keys->ld_d, t->pack);
  FN(gemm_serial)(false, false, n, K, cols, dp, cols, k, keys->ld, true, x->dq + i * x->ld_d, x->ld_d, t->pack);
  FN(gemm_serial)
  (true, false, cols, K, n, dp, cols, q, x->ld_q, true, keys->dk + first * keys->ld_d, keys->ld_d, t->pack);
}

void FN(blocks_backward)(const Head *x, const Head *clean, int64_t K, int64_t block, real *p, real *dp, real *pack) {
  for (int64_t i = 0; i < x->length;) {
    Tile t = tile_at(x, clean, K, block, i, pack);
    piece_backward(&t, false, i, t.n, 0, t.lead, p, dp);
    for (int64_t r = i; r < i + t.n;) {
      Group g = group_at(&t, r);
      piece_backward(&t, false, g.i, g.n, t.lead, g.rest, p, dp);
      piece_backward(&t, true, g.i, g.n, g.own, g.end, p, dp);
      r += g.n;
    }
    i += t.n;
  }
}
