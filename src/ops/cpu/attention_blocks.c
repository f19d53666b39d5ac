/* attention_blocks — attention of block diffusion: a query sees the clean keys before its block, and the keys of its
 * block in its own half.
 *
 * A tile of queries is made of whole blocks, or is a part of one. Its scores come from three kinds of products, so that
 * few of them are masked, however short the blocks are:
 *   lead   all queries of the tile, and the clean keys before its first block: no mask
 *   rest   a group of whole blocks, and the clean keys from there up to its last block
 *   own    the same group, and the keys of its blocks in its own half
 * Groups are short, so what their products share is packed once for the tile. Where the queries are clean too, the rest
 * goes on to the end of the group, and there is no own part.
 *
 * The scores of a query lie side by side, those of its block behind those of the keys before it: the softmax of a row has
 * the same bits as in a step with a cache. The sum over the values breaks behind the lead and before the block, in a step
 * too. */
#include "ops/cpu/attention.h"
#include <string.h>

typedef struct Packed {           /* factors of the rest's products, for gemm_packed */
  real *keys;                     /* columns: keys */
  real *values;                   /* columns: of the head. Backward: keys */
  real *key_rows, *queries, *d_o; /* backward; columns: of the head */
} Packed;

typedef struct Tile {
  const Head *x, *clean; /* the queries, with the keys of their blocks; the keys before these */
  int64_t K, block;
  int64_t i, n, lead, cols; /* queries i … i+n−1; keys before their first block; up to the end of their last one */
  bool merged;              /* the rest has the keys of the own part */
  int64_t rest;             /* keys of the rest of the last group */
  real *pack;
  Packed packed;
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

static size_t packed_reals(int64_t K) {
  size_t keys = FN(gemm_pack_room)(TILE, K), columns = FN(gemm_pack_room)(K, TILE);
  return keys > columns ? keys : columns;
}

size_t FN(blocks_room)(int64_t K) { return packed_reals(K) * (sizeof(Packed) / sizeof(real *)); }

static Tile tile_at(const Head *x, const Head *clean, int64_t K, int64_t block, int64_t i, real *pack) {
  size_t each = packed_reals(K);
  Tile t = {.x = x, .clean = clean, .K = K, .block = block, .i = i, .pack = pack + FN(blocks_room)(K)};
  t.packed = (Packed){pack, pack + each, pack + 2 * each, pack + 3 * each, pack + 4 * each};
  t.lead = FN(blocks_lead)(block, i);
  t.n = min64(TILE, min64(t.lead + whole_blocks(block, TILE), x->length) - i);
  t.cols = block_end(&t, i + t.n - 1);
  t.merged = x->k == clean->k && block < TILE;
  t.rest = (t.merged ? t.cols : block_begin(&t, i + t.n - 1)) - t.lead;
  return t;
}

static Group group_at(const Tile *t, int64_t i) {
  Group g = {.i = i, .n = min64(whole_blocks(t->block, GROUP), t->i + t->n - i)};
  int64_t last = i + g.n - 1;
  g.own = block_begin(t, i), g.rest = block_begin(t, last), g.end = block_end(t, last);
  return g;
}

static int64_t rest_of(const Tile *t, const Group *g) { return (t->merged ? g->end : g->rest) - t->lead; }

/* Columns: the keys of the rest; k: their keys or their values. */
static void pack_keys(const Tile *t, const real *k, real *to) {
  FN(gemm_pack)(true, t->rest, t->K, k + t->lead * t->clean->ld, t->clean->ld, to);
}
/* Columns: those of the head; n rows of x from row i on. */
static void pack_rows(const Tile *t, int64_t n, const real *x, int64_t ld, int64_t i, real *to) {
  FN(gemm_pack)(false, t->K, n, x + i * ld, ld, to);
}

/* ---- forward */

/* s[n,ld] = the scores of queries i … and keys first … last−1 */
static void scores(const Tile *t, const Head *keys, int64_t i, int64_t n, int64_t first, int64_t last, real *s,
                   int64_t ld) {
  const Head *x = t->x;
  if (last > first) FN(gemm_serial)
  (false, true, n, last - first, t->K, x->q + i * x->ld_q, x->ld_q, keys->k + first * keys->ld, keys->ld, false, s, ld,
   t->pack);
}

/* The same of the rest of a group. */
static void rest_scores(const Tile *t, const Group *g, real *s, int64_t ld) {
  const Head *x = t->x;
  FN(gemm_packed)
  (false, g->n, rest_of(t, g), t->K, x->q + g->i * x->ld_q, x->ld_q, t->packed.keys, t->K, 0, false, s, ld);
}

/* The scores of a group of several blocks, where those of the rest overlap the own ones: these go to own[n,GROUP] first,
 * and after the softmax move there again. */
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
  rest_scores(t, g, s + t->lead, t->cols);
  if (!t->merged) {
    scores(t, t->x, g->i, g->n, g->own, g->end, several ? own : s + g->own, several ? GROUP : t->cols);
    if (several) move_own(t, g, s, own, false);
  }
  for (int64_t r = 0; r < g->n; r++) {
    int64_t seen = block_end(t, g->i + r);
    FN(softmax_row)(s + r * t->cols, seen, seen, scale, inverse + r, t->x->lse + g->i + r);
  }
  if (several) move_own(t, g, s, own, true);
}

static void group_values(const Tile *t, const Group *g, const real *s, const real *own) {
  const Head *x = t->x;
  bool several = g->rest > g->own;
  int64_t ld = several ? GROUP : t->cols, n = g->end - g->own, rest = g->rest - t->lead;
  real *out = x->out + g->i * x->ld_o;
  own = several ? own : s + g->own;
  if (rest > 0) FN(gemm_packed)
  (false, g->n, t->K, rest, s + t->lead, t->cols, t->packed.values, t->rest, 0, t->lead > 0, out, x->ld_o);
  if (t->merged) FN(gemm_packed)
  (false, g->n, t->K, n, own, ld, t->packed.values, t->rest, g->own - t->lead, g->rest > 0, out, x->ld_o);
  else if (several)
      FN(gemm_serial)(false, false, g->n, t->K, n, own, ld, x->v + g->own * x->ld, x->ld, true, out, x->ld_o, t->pack);
  else FN(sum_values)(x, x, t->K, g->i, g->n, s, t->cols, g->own, g->end, g->own > 0, t->pack);
}

static void tile_forward(const Tile *t, real *s) {
  real inverse[TILE], own[TILE * GROUP];
  const Head *clean = t->clean;
  scores(t, clean, t->i, t->n, 0, t->lead, s, t->cols);
  pack_keys(t, clean->k, t->packed.keys);
  pack_rows(t, t->rest, clean->v, clean->ld, t->lead, t->packed.values);
  for (int64_t r = 0; r < t->n;) {
    Group g = group_at(t, t->i + r);
    group_softmax(t, &g, s + r * t->cols, own + r * GROUP, inverse + r);
    r += g.n;
  }
  FN(sum_values)(t->x, clean, t->K, t->i, t->n, s, t->cols, 0, t->lead, false, t->pack);
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

/* ---- backward */

/* The lead or an own part: from the queries i … i+n−1 and the keys first … last−1. */
static void part_backward(const Tile *t, bool own, int64_t i, int64_t n, int64_t first, int64_t last, const real *delta,
                          real *p, real *dp) {
  const Head *x = t->x, *keys = own ? x : t->clean;
  int64_t K = t->K, cols = last - first;
  real scale = 1 / real_sqrt((real)K);
  const real *q = x->q + i * x->ld_q, *d_o = x->d_o + i * x->ld_do, *k = keys->k + first * keys->ld;
  bool more = own && block_begin(t, i + n - 1) > 0; /* other keys have given a part of dq */
  bool keys_more = !own || i > first;
  if (cols == 0) return;
  scores(t, keys, i, n, first, last, p, cols);
  FN(gemm_serial)
  (false, true, n, cols, K, d_o, x->ld_do, keys->v + first * keys->ld, keys->ld, false, dp, cols, t->pack);
  for (int64_t r = 0; r < n; r++) {
    int64_t from = own ? block_begin(t, i + r) : first, to = own ? block_end(t, i + r) : last;
    FN(slope_row)(p + r * cols, dp + r * cols, x->lse[i + r], delta[r], from - first, to - first, cols, scale);
  }
  FN(gemm_serial)
  (true, false, cols, K, n, p, cols, d_o, x->ld_do, keys_more, keys->dv + first * keys->ld_d, keys->ld_d, t->pack);
  FN(gemm_serial)(false, false, n, K, cols, dp, cols, k, keys->ld, more, x->dq + i * x->ld_d, x->ld_d, t->pack);
  FN(gemm_serial)
  (true, false, cols, K, n, dp, cols, q, x->ld_q, keys_more, keys->dk + first * keys->ld_d, keys->ld_d, t->pack);
}

/* p, dp [n,t->rest]: rows of a group in those of the rest. They are set up to the end of the group; dq += */
static void rest_rows(const Tile *t, const Group *g, const real *delta, real *p, real *dp) {
  const Head *x = t->x;
  int64_t K = t->K, cols = rest_of(t, g), ld = t->rest, end = min64(g->end - t->lead, ld);
  real scale = 1 / real_sqrt((real)K);
  rest_scores(t, g, p, ld);
  FN(gemm_packed)
  (false, g->n, cols, K, x->d_o + g->i * x->ld_do, x->ld_do, t->packed.values, K, 0, false, dp, ld);
  for (int64_t r = 0; r < g->n; r++) {
    int64_t l = g->i + r, to = (t->merged ? block_end(t, l) : block_begin(t, l)) - t->lead;
    FN(slope_row)(p + r * ld, dp + r * ld, x->lse[l], delta[r], 0, to, end, scale);
  }
  FN(gemm_packed)
  (false, g->n, K, cols, dp, ld, t->packed.key_rows, ld, 0, t->lead > 0, x->dq + g->i * x->ld_d, x->ld_d);
}

/* dk and dv of the keys of the rest in a group: from the queries of the group that see them, and of those behind. */
static void rest_keys(const Tile *t, const Group *g, const real *p, const real *dp) {
  const Head *c = t->clean;
  int64_t first = t->merged || g->rest > g->own ? g->i : g->i + g->n, key = g->own - t->lead;
  int64_t keys = min64(g->end - t->lead, t->rest) - key, n = t->i + t->n - first, at = (first - t->i) * t->rest + key;
  if (keys <= 0) return;
  FN(gemm_packed)
  (true, keys, t->K, n, p + at, t->rest, t->packed.d_o, t->n, first - t->i, true, c->dv + g->own * c->ld_d, c->ld_d);
  FN(gemm_packed)
  (true, keys, t->K, n, dp + at, t->rest, t->packed.queries, t->n, first - t->i, true, c->dk + g->own * c->ld_d,
   c->ld_d);
}

static void rest_pack(const Tile *t) {
  const Head *x = t->x, *clean = t->clean;
  pack_keys(t, clean->k, t->packed.keys);
  pack_keys(t, clean->v, t->packed.values);
  pack_rows(t, t->rest, clean->k, clean->ld, t->lead, t->packed.key_rows);
  pack_rows(t, t->n, x->q, x->ld_q, t->i, t->packed.queries);
  pack_rows(t, t->n, x->d_o, x->ld_do, t->i, t->packed.d_o);
}

static void tile_backward(const Tile *t, real *p, real *dp) {
  int64_t all = t->n * t->rest; /* own parts lie behind the rest */
  real delta[TILE];
  FN(deltas)(t->x, t->K, t->i, t->n, delta);
  part_backward(t, false, t->i, t->n, 0, t->lead, delta, p, dp);
  if (t->rest > 0) rest_pack(t);
  for (int64_t r = 0; r < t->n;) {
    Group g = group_at(t, t->i + r);
    if (rest_of(t, &g) > 0) rest_rows(t, &g, delta + r, p + r * t->rest, dp + r * t->rest);
    if (!t->merged) part_backward(t, true, g.i, g.n, g.own, g.end, delta + r, p + all, dp + all);
    r += g.n;
  }
  for (int64_t r = 0; r < t->n && t->rest > 0;) {
    Group g = group_at(t, t->i + r);
    rest_keys(t, &g, p, dp);
    r += g.n;
  }
}

void FN(blocks_backward)(const Head *x, const Head *clean, int64_t K, int64_t block, real *p, real *dp, real *pack) {
  for (int64_t i = 0; i < x->length;) {
    Tile t = tile_at(x, clean, K, block, i, pack);
    tile_backward(&t, p, dp);
    i += t.n;
  }
}
