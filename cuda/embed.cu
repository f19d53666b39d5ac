/* embed — the gradient of the embedding table: dtable[ids[r]] += dx[r]. Half of all rows may have the same id ([MASK]).
 * With a mixture the entries e of its list take the place of the rows: dtable[ids[e]] += weights[e]·dx[rows[e]].
 *
 * A bitonic network sorts the rows by (id, row). The keys are distinct, so the order is unique. Then a block sums the
 * rows of CHUNK neighbouring entries. The sum of an id that occurs in one chunk only is added to the table. For an id
 * that crosses a chunk boundary, each chunk emits a partial sum, one for its first and one for its last id. The partial
 * sums form a sorted list a sixteenth as long, which is reduced in the same way until one chunk holds it. */
#include "backend.h"
#include "packs.cuh"

enum { SORTED = 2048, CHUNK = 32 };
typedef unsigned long long Key;                  /* id << 32 | row */
static constexpr uint32_t NOTHING = 0xffffffffu; /* as an id or as a row: none */
static __device__ uint32_t id_of(Key k) { return (uint32_t)(k >> 32); }
static __device__ uint32_t row_of(Key k) { return (uint32_t)k; }
static __device__ Key key_of(uint32_t id, uint32_t row) { return (Key)id << 32 | row; }

/* ---- sorting */
/* The index of the first key of pair p, whose keys are `stride` apart. */
static __device__ uint32_t pair(uint32_t p, uint32_t stride) { return 2 * p - (p & (stride - 1)); }

static __device__ void order(Key *a, Key *b, bool up) {
  Key x = *a, y = *b;
  if ((x > y) != up) return;
  *a = y;
  *b = x;
}

/* Merge steps within the block's keys, `part`, which begin at index `base`. Runs of `size` alternate between ascending
 * and descending. */
static __device__ void merge_near(Key *part, uint32_t base, uint32_t size, uint32_t stride) {
  for (; stride > 0; stride /= 2) {
    __syncthreads();
    for (uint32_t p = threadIdx.x; p < SORTED / 2; p += THREADS) {
      uint32_t i = pair(p, stride);
      order(part + i, part + i + stride, ((base + i) & size) == 0);
    }
  }
}

static __device__ void put_back(Key *key, const Key *part, uint32_t base) {
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < SORTED; i += THREADS) key[base + i] = part[i];
}

__global__ void k_sort_start(Key *key, const int32_t *ids, uint32_t n) {
  SHARED(Key, part, SORTED);
  const uint32_t base = blockIdx.x * SORTED;
  for (uint32_t i = threadIdx.x; i < SORTED; i += THREADS)
    part[i] = base + i < n ? key_of((uint32_t)ids[base + i], base + i) : key_of(NOTHING, base + i);
  for (uint32_t size = 2; size <= SORTED; size *= 2) merge_near(part, base, size, size / 2);
  put_back(key, part, base);
}

__global__ void k_sort_near(Key *key, uint32_t size) {
  SHARED(Key, part, SORTED);
  const uint32_t base = blockIdx.x * SORTED;
  for (uint32_t i = threadIdx.x; i < SORTED; i += THREADS) part[i] = key[base + i];
  merge_near(part, base, size, SORTED / 2);
  put_back(key, part, base);
}

__global__ void k_sort_far(Key *key, uint32_t size, uint32_t stride) {
  const uint32_t i = pair((uint32_t)thread_number(), stride);
  order(key + i, key + i + stride, (i & size) == 0);
}

static int sort_rows(Device *dev, Key *key, int64_t room, const int32_t *ids, int64_t n) {
  TRY(LAUNCH(dev, k_sort_start, room / SORTED, key, ids, (uint32_t)n));
  for (int64_t size = 2 * SORTED; size <= room; size *= 2) {
    for (int64_t stride = size / 2; stride >= SORTED; stride /= 2)
      TRY(LAUNCH(dev, k_sort_far, room / (2 * THREADS), key, (uint32_t)size, (uint32_t)stride));
    TRY(LAUNCH(dev, k_sort_near, room / SORTED, key, (uint32_t)size));
  }
  return OK;
}

/* ---- sums */
struct List {
  Rows<float> rows;
  const int32_t *from;  /* of a mixture: the row that each entry adds; NULL: the row of the same number */
  const float *weights; /* of the entries of a mixture; NULL: 1 */
  Key *key;             /* [n] sorted; an entry with row NOTHING contributes nothing */
  uint32_t n;
};
/* Where the running sum goes after an entry: to the next entry, the table, or the first or last partial sum. */
enum Goal { MORE, TABLE, FIRST, LAST };

/* key[1] … key[count] are the chunk's; key[0] and key[count + 1] are their neighbours. */
static __device__ Goal goal_of(const Key *key, int i, int count) {
  uint32_t id = id_of(key[i]);
  bool last = i == count, continues = id_of(key[i + 1]) == id, first = id_of(key[1]) == id;
  if (continues && !last) return MORE;
  if (continues || (first && id_of(key[0]) == id)) return first ? FIRST : LAST;
  return TABLE;
}

template <int N> __global__ void k_embed_sum(Rows<float> table, List in, List out) {
  constexpr int S = 4;
  SHARED(Key, key, CHUNK + 2);
  SHARED(Goal, goal, CHUNK + 2);
  const uint32_t D = (uint32_t)in.rows.cols, slabs = (D + THREADS * N - 1) / (THREADS * N), chunk = blockIdx.x / slabs,
                 first = chunk * CHUNK, col = (blockIdx.x % slabs * THREADS + threadIdx.x) * N;
  const int count = in.n - first < CHUNK ? (int)(in.n - first) : CHUNK, t = (int)threadIdx.x;
  if (t < count + 2) {
    bool outside = (t == 0 && first == 0) || first + t > in.n;
    key[t] = outside ? key_of(NOTHING, NOTHING) : in.key[first + t - 1];
  }
  __syncthreads();
  if (t >= 1 && t <= count) {
    uint32_t id = id_of(key[t]);
    Goal to = goal[t] = goal_of(key, t, count);
    bool writes = blockIdx.x % slabs == 0; /* one block writes the keys of a chunk */
    if (writes && to != MORE && id == id_of(key[1])) out.key[2 * chunk] = key_of(id, to == FIRST ? 2 * chunk : NOTHING);
    if (writes && t == count) out.key[2 * chunk + 1] = key_of(id, to == LAST ? 2 * chunk + 1 : NOTHING);
  }
  __syncthreads();
  if (col >= D) return;
  Pack<float, N> sum = {};
  bool any = false; /* whether a row contributed: some ids of a list of partial sums are already in the table */
  for (int i = 1; i <= count; i += S) {
    Pack<float, N> p[S] = {}, old[S];
    for (int s = 0; s < S; s++) {
      if (i + s > count) continue;
      const uint32_t entry = row_of(key[i + s]);
      if (entry != NOTHING) p[s] = load<N>(in.rows.row(in.from ? in.from[entry] : entry) + col);
      for (int j = 0; j < N && in.weights && entry != NOTHING; j++) p[s].v[j] *= in.weights[entry];
      if (goal[i + s] == TABLE) old[s] = load<N>(table.row(id_of(key[i + s])) + col);
    }
    for (int s = 0; s < S; s++) {
      if (i + s > count) continue;
      for (int j = 0; j < N; j++) sum.v[j] += p[s].v[j];
      any = any || row_of(key[i + s]) != NOTHING;
      if (goal[i + s] == MORE) continue;
      if (goal[i + s] != TABLE) {
        store(out.rows.row(2 * chunk + (goal[i + s] == LAST)) + col, sum);
      } else if (any) {
        for (int j = 0; j < N; j++) sum.v[j] += old[s].v[j];
        store(table.row(id_of(key[i + s])) + col, sum);
      }
      sum = {};
      any = false;
    }
  }
}

/* Bytes of a part of the scratch memory. */
static int64_t part_bytes(int64_t bytes) { return round_up(bytes, 256); }

/* The list of partial sums of n entries, placed at *at, which is advanced past it. */
static List list_of(char **at, int64_t n, int64_t D) {
  List l = {};
  l.n = (uint32_t)(2 * ceil_div(n, CHUNK));
  l.key = (Key *)*at;
  *at += part_bytes(l.n * (int64_t)sizeof(Key));
  l.rows = {(float *)*at, D, l.n, D};
  *at += part_bytes(l.n * D * (int64_t)sizeof(float));
  return l;
}

/* from, weights: see List */
static int backward(Device *dev, Tensor dtable, Tensor dx, Tensor ids, const int32_t *from, const float *weights) {
  const int64_t R = tensor_count(ids), D = cols_of(dx);
  int64_t room = SORTED, bytes = 0;
  while (room < R) room *= 2;
  for (int64_t n = R; n > 0; n = n > CHUNK ? 2 * ceil_div(n, CHUNK) : 0)
    bytes += part_bytes(2 * ceil_div(n, CHUNK) * (int64_t)sizeof(Key)) +
             part_bytes(2 * ceil_div(n, CHUNK) * D * (int64_t)sizeof(float));
  char *at = NULL;
  TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)(part_bytes(room * (int64_t)sizeof(Key)) + bytes), &at));
  List in = {rows<float>(dx), from, weights, (Key *)at, (uint32_t)R};
  at += part_bytes(room * (int64_t)sizeof(Key));
  TRY(sort_rows(dev, in.key, room, (const int32_t *)ids.data, R));
  const bool packs = in_packs(dtable, WIDE<float>) && in_packs(dx, WIDE<float>);
  for (bool more = R > 0; more;) {
    List out = list_of(&at, in.n, D);
    TRY(WITH_PACKS(packs, WIDE<float>,
                   LAUNCH(dev, (k_embed_sum<N>), out.n / 2 * ceil_div(D, THREADS * N), rows<float>(dtable), in, out)));
    more = in.n > CHUNK;
    in = out;
  }
  return OK;
}

int cuda_embed_backward(Device *dev, Tensor dtable, Tensor dx, Tensor ids) {
  return backward(dev, dtable, dx, ids, NULL, NULL);
}

int cuda_embed_mix_backward(Device *dev, Tensor dtable, Tensor dx, const Mixture *m) {
  return backward(dev, dtable, dx, m->ids, (const int32_t *)m->rows.data, (const float *)m->weights.data);
}
