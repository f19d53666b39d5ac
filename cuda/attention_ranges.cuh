/* attention_ranges — for a tile of rows of one head: which rows of the other kind it needs, and which pairs of a query and
 * a key count. */
#pragma once
#include "cuda.cuh"

static __device__ int least(int a, int b) { return a < b ? a : b; }

/* Pass — the tensors as arguments of the kernels. wide: rows may be accessed 16 bytes at a time. */
template <class A> struct Pass {
  const A *qkv, *o, *d_o;
  A *out, *dqkv;
  float *lse, *delta;
  const int32_t *lengths;                        /* [B] or NULL */
  int64_t ld_qkv, ld_o, ld_do, ld_dqkv, L, H, B; /* B: sequences; in block diffusion B/draws clean ones follow */
  int K, block, draws;
  bool causal, keys_only, wide;
  float scale;
};

/* Where a sequence that begins at `row` has its queries, keys, values and gradients of the output, of head h. */
template <class A> static __device__ const A *queries(const Pass<A> &p, int64_t row, int64_t h) {
  return p.qkv + row * p.ld_qkv + h * p.K;
}
template <class A> static __device__ const A *keys(const Pass<A> &p, int64_t row, int64_t h) {
  return queries(p, row, p.H + h);
}
template <class A> static __device__ const A *values(const Pass<A> &p, int64_t row, int64_t h) {
  return queries(p, row, 2 * p.H + h);
}
template <class A> static __device__ const A *gradients(const Pass<A> &p, int64_t row, int64_t h) {
  return p.d_o + row * p.ld_do + h * p.K;
}
template <class A> static __device__ int length_of(const Pass<A> &p, int64_t b) {
  return p.lengths ? p.lengths[b < p.B ? b : (b - p.B) * p.draws] : (int)p.L;
}

/* Head — one head of one sequence, of whose L rows `length` are real; the block's tile begins at row `first`. */
struct Head {
  int64_t b, row, h; /* the sequence, its first row, number of the head in it */
  int64_t kept;      /* offset of the head in lse and delta */
  int length, first;
};

/* Consecutive blocks take the tiles of a head, then those of the next head. last_first: the tiles with the most keys come
 * first. */
template <class A> static __device__ Head head_of(const Pass<A> &p, int tile_rows, bool last_first) {
  int64_t tiles = (p.L + tile_rows - 1) / tile_rows, tile = blockIdx.x % tiles, head = blockIdx.x / tiles;
  Head x;
  x.b = head / p.H;
  x.row = x.b * p.L;
  x.h = head % p.H;
  x.kept = head * p.L;
  x.length = length_of(p, x.b);
  x.first = (int)((last_first ? tiles - 1 - tile : tile) * tile_rows);
  return x;
}

/* Range — rows first … end−1 of a sequence; M says which pairs count. */
template <class M> struct Range {
  int64_t row, kept; /* of the head in that sequence, as in Head */
  int first, end;
  M mask;
};

/* Whole — the keys of the sequence; causal: up to the query. */
struct Whole {
  static constexpr bool HALVES = false;
  int length;
  bool causal;
  __device__ bool sees(int query, int key) const { return query < length && key < length && (!causal || key <= query); }
};

/* Blocks — block diffusion: the keys before the query's block, those of its block, or both. */
struct Blocks {
  static constexpr bool HALVES = true;
  int length, block;
  bool past, own;
  __device__ bool sees(int query, int key) const {
    int begin = query / block * block;
    return query < length && key < length && (past || key >= begin) && key < (own ? begin + block : begin);
  }
};

/** key_parts, query_parts — the number of parts of keys_of and of queries_of. */
template <class M> static __device__ constexpr int key_parts() { return M::HALVES ? 2 : 1; }
template <class M, class A> static __device__ int query_parts(const Pass<A> &p) { return M::HALVES ? 1 + p.draws : 1; }

/** keys_of — the keys of a tile of `rows` queries. */
template <class M, class A> static __device__ Range<M> keys_of(const Pass<A> &p, const Head &x, int rows, int part) {
  Range<M> g = {};
  g.row = x.row, g.mask.length = x.length;
  if (x.first >= x.length) return g;
  int last = least(x.first + rows, x.length);
  if constexpr (!M::HALVES) {
    g.mask.causal = p.causal;
    g.end = p.causal ? last : x.length;
  } else {
    bool clean = x.b >= p.B;
    int begin = (last - 1) / p.block * p.block, end = least(begin + p.block, x.length);
    if (clean && (part > 0 || p.keys_only)) return g;
    g.mask.block = p.block, g.mask.past = part == 0, g.mask.own = part > 0 || clean;
    if (part > 0) g.first = x.first / p.block * p.block;
    if (part == 0 && !clean) g.row = (p.B + x.b / p.draws) * p.L; /* of the clean sequence */
    g.end = g.mask.own ? end : begin;
  }
  return g;
}

/** queries_of — the queries of a tile of `rows` keys, which are read `cols` at a time. In block diffusion the clean ones
 *  are part 0; the others follow, of a clean sequence those of its noisy ones in order. */
template <class M, class A>
static __device__ Range<M> queries_of(const Pass<A> &p, const Head &x, int rows, int cols, int part) {
  Range<M> g = {};
  g.row = x.row, g.kept = x.kept, g.mask.length = x.length;
  if (x.first >= x.length) return g;
  g.end = x.length;
  if constexpr (!M::HALVES) {
    g.mask.causal = p.causal;
    g.first = p.causal ? x.first / cols * cols : 0;
  } else {
    bool clean = x.b >= p.B;
    int last = least(x.first + rows, x.length) - 1, begin = x.first / p.block * p.block;
    g.mask.block = p.block, g.mask.past = clean, g.mask.own = !clean || part == 0;
    g.first = g.mask.own ? begin : begin + p.block;
    if (!clean) g.end = least(last / p.block * p.block + p.block, x.length);
    if (clean && part > 0) {
      int64_t noisy = (x.b - p.B) * p.draws + part - 1;
      g.row = noisy * p.L, g.kept = (noisy * p.H + x.h) * p.L;
    }
    if (clean ? part == 0 && p.keys_only : part != 1) g.end = 0;
  }
  return g;
}
