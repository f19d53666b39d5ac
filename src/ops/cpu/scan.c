/* scan — the selective state-space recurrence, LANES channels side by side.
 *
 * A lane is a channel, so the recurrence needs no sum across a vector: y = Σ_s C_s h_s runs over vectors. The cost is
 * dominated by one exponential per channel, state and row, a = exp(Δ A); forward and backward each compute it once.
 *
 * Forward:
 *   u   = Δ x
 *   h_t = a_t h_{t−1} + u_t B_t
 *   y_t = Σ_s C_t h_t + D x_t
 * Backward:
 *   dh_t = C_t dy_t + a_{t+1} dh_{t+1}
 *   dC_t = Σ_e dy_t h_t
 *   dB_t = Σ_e dh_t u_t
 *   du_t = Σ_s dh_t B_t
 *   g_t  = d(Δ A)_t = dh_t a_t h_{t−1}
 *   dΔ   = Σ_s g A + du x
 *   dA   = Σ_t g Δ,   dA_log = dA·A
 *   dx   = du Δ + D dy
 *
 * A task is GROUP channels of one sequence, in BLOCKS of LANES. It takes the rows chunk by chunk, and its blocks one
 * after the other within a chunk. Backward takes the chunks from last to first: it recomputes a and h of a chunk from
 * the state that forward has stored, into cells that fit in an L2 cache, and then runs back over them. dB and dC are
 * sums over channels: a task adds the vectors of its blocks lane by lane and sums across the lanes once per chunk; the
 * parts of the tasks are added in order. So are the parts of dA and dD, one per sequence.
 *
 * Values that are used together are adjacent in memory (structs instead of one array per quantity): arrays at a
 * distance of a power of two would all fall into the same set of the L1 cache. */
#include "ops/cpu/cpu.h"
#include <omp.h>
#include <string.h>

/* A vector of 64 bytes on every processor: the compiler keeps vectors in registers, but arrays rarely. */
typedef real Lanes __attribute__((vector_size(64), may_alias));
enum { LANES = sizeof(Lanes) / sizeof(real), CHUNK = SCAN_CHUNK, BLOCKS = 8, GROUP = BLOCKS * LANES };
/* Above this exp is a normal number; below, libmvec leaves its fast path, and the state has decayed to nothing
 * anyway. */
static const real LOWEST = REAL_IS_FLOAT ? -80 : -700;

typedef struct Row { /* the inputs of a row for LANES channels; absent channels are zero */
  Lanes x, delta, u, slope, dy;
} Row;
typedef struct Cell { /* one row and one state; dB and dC are sums over the task's blocks */
  Lanes a, h, dB, dC;
} Cell;
typedef struct State { /* A, and what is carried from row to row: h in forward, a dh in backward */
  Lanes A, carry, dA;
} State;
typedef struct Channel {
  Lanes D, dD;
} Channel;

typedef struct Work {
  Row *rows;         /* [CHUNK] */
  Cell *cells;       /* [CHUNK+1][S]; the first S hold the state before the chunk */
  State *states;     /* [BLOCKS][S] */
  Channel *channels; /* [BLOCKS] */
} Work;

typedef struct Task { /* channels first … first+n−1 of sequence b */
  const Scan *a;
  int64_t b, first, n, blocks, S;
  Work w;
} Task;
typedef struct Chunk { /* steps first … first+n−1 of the sequence, in the direction of the scan */
  int64_t first, n;
} Chunk;

/* ---- layout */
static int64_t groups_of(const Scan *a) { return (cols_of(a->x) + GROUP - 1) / GROUP; }
static int64_t chunks_of(const Scan *a) { return (a->L + CHUNK - 1) / CHUNK; }

static size_t work_bytes(int64_t S) {
  return CHUNK * sizeof(Row) + (size_t)((CHUNK + 1) * S) * sizeof(Cell) + (size_t)(BLOCKS * S) * sizeof(State) +
         BLOCKS * sizeof(Channel);
}

/* Task `index`, with the calling thread's part of the scratch. */
static Task task_of(const Scan *a, int64_t index, char *memory) {
  int64_t S = cols_of(a->B), groups = groups_of(a), first = index % groups * GROUP;
  Task k = {.a = a, .b = index / groups, .first = first, .n = min64(GROUP, cols_of(a->x) - first), .S = S};
  k.blocks = (k.n + LANES - 1) / LANES;
  memory += (size_t)omp_get_thread_num() * work_bytes(S);
  k.w.rows = (Row *)memory;
  k.w.cells = (Cell *)(k.w.rows + CHUNK);
  k.w.states = (State *)(k.w.cells + (CHUNK + 1) * S);
  k.w.channels = (Channel *)(k.w.states + BLOCKS * S);
  return k;
}

static Chunk chunk_of(const Task *k, int64_t index) {
  return (Chunk){index * CHUNK, min64(CHUNK, k->a->L - index * CHUNK)};
}

static int64_t row_of(const Task *k, const Chunk *c, int64_t t) {
  int64_t L = k->a->L;
  return k->b * L + (k->a->reverse ? L - 1 - c->first - t : c->first + t);
}
static int64_t first_of(const Task *k, int64_t block) { return k->first + block * LANES; }
static int64_t lanes_of(const Task *k, int64_t block) { return min64(LANES, k->n - block * LANES); }

/* ---- load and store n channels; the other lanes are zero */
static inline void load(Lanes *to, const real *from, int64_t n) {
  if (n == LANES) {
    memcpy(to, from, sizeof *to);
    return;
  }
  *to = (Lanes){0};
  for (int64_t i = 0; i < n; i++) (*to)[i] = from[i];
}
static inline void store(real *to, const Lanes *from, int64_t n) {
  if (n == LANES) {
    memcpy(to, from, sizeof *from);
    return;
  }
  for (int64_t i = 0; i < n; i++) to[i] = (*from)[i];
}

static void load_channels(const Task *k) {
  const Scan *a = k->a;
  for (int64_t block = 0; block < k->blocks; block++) {
    int64_t e = first_of(k, block), n = lanes_of(k, block), S = k->S;
    const real *A_log = (const real *)a->A_log.data + e * S;
    load(&k->w.channels[block].D, (const real *)a->D.data + e, n);
    k->w.channels[block].dD = (Lanes){0};
    for (int64_t s = 0; s < S; s++) {
      State *state = &k->w.states[block * S + s];
      memset(state, 0, sizeof *state);
      for (int64_t i = 0; i < n; i++) state->A[i] = -real_exp(A_log[i * S + s]);
    }
  }
}

/* Δ = softplus(dt) = max(dt, 0) + log(1 + e),  e = exp(−|dt|)
 * With w = 1 + e rounded, log(1 + e) = log(w)·e/(w − 1) is accurate for small e. slope = softplus'(dt), for
 * backward. */
static inline void softplus(Row *row, bool backward) {
  real *delta = (real *)&row->delta, *slope = (real *)&row->slope;
#pragma omp simd
  for (int i = 0; i < LANES; i++) {
    real v = delta[i], e = real_exp(v > 0 ? -v : v), w = 1 + e, log_w = real_log(w);
    delta[i] = (v > 0 ? v : 0) + (w == 1 ? e : log_w * (e / (w - 1)));
    if (backward) slope[i] = (v > 0 ? 1 : e) / w;
  }
  row->u = row->delta * row->x;
}

/* Prefetch the next block's part of a row while this block computes: a task uses one line of a page, so the hardware
 * prefetcher has no stream to follow. */
static inline void prefetch(Tensor x, int64_t at, int64_t e) {
  if (e < cols_of(x)) __builtin_prefetch(row(x, at) + e);
}

static inline void load_row(const Task *k, Row *r, int64_t at, int64_t e, int64_t n, bool backward) {
  load(&r->x, row(k->a->x, at) + e, n);
  load(&r->delta, row(k->a->dt, at) + e, n);
  if (backward) load(&r->dy, row(k->a->dy, at) + e, n);
  softplus(r, backward);
}

/* The state of a block before the chunk: [S][channels of the block]. */
static real *kept_state(const Task *k, const Chunk *c, int64_t block) {
  return row(k->a->states, k->b * chunks_of(k->a) + c->first / CHUNK) + first_of(k, block) * k->S;
}

/* ---- one row */
/* a = exp(max(Δ A, LOWEST)). In two loops: in a single one the compiler takes the maximum after the exponential. */
static inline void decay(Cell *cell, const State *state, const Row *r, int64_t S) {
  const real *delta = (const real *)&r->delta;
  for (int64_t s = 0; s < S; s++) {
    const real *A = (const real *)&state[s].A;
    real *a = (real *)&cell[s].a;
#pragma omp simd
    for (int i = 0; i < LANES; i++) {
      real v = delta[i] * A[i];
      a[i] = LOWEST > v ? LOWEST : v; /* NaN stays NaN */
    }
  }
  for (int64_t s = 0; s < S; s++) {
    real *a = (real *)&cell[s].a;
#pragma omp simd
    for (int i = 0; i < LANES; i++) a[i] = real_exp(a[i]);
  }
}

static inline void step(Lanes *y, const Cell *cell, State *state, const Row *r, const real *B, const real *C,
                        int64_t S) {
  Lanes u = r->u, sum = {0};
  for (int64_t s = 0; s < S; s++) {
    Lanes h = cell[s].a * state[s].carry + u * B[s];
    state[s].carry = h;
    sum += C[s] * h;
  }
  *y = sum;
}

static inline void step_again(Cell *cell, const Cell *before, const Row *r, const real *B, int64_t S) {
  Lanes u = r->u;
  for (int64_t s = 0; s < S; s++) cell[s].h = cell[s].a * before[s].h + u * B[s];
}

/* du = Σ_s dh B, dd = Σ_s g A */
static inline void step_backward(Lanes *du, Lanes *dd, Cell *cell, const Cell *before, State *state, const Row *r,
                                 const real *B, const real *C, int64_t S) {
  Lanes u = r->u, dy = r->dy, delta = r->delta, sum_u = {0}, sum_d = {0};
  for (int64_t s = 0; s < S; s++) {
    Lanes dh = C[s] * dy + state[s].carry, back = dh * cell[s].a, g = back * before[s].h;
    cell[s].dC += dy * cell[s].h;
    cell[s].dB += dh * u;
    state[s].carry = back;
    state[s].dA += g * delta;
    sum_u += dh * B[s];
    sum_d += g * state[s].A;
  }
  *du = sum_u;
  *dd = sum_d;
}

/* ---- forward */
static void block_forward(const Task *k, const Chunk *c, int64_t block) {
  const Scan *a = k->a;
  State *state = k->w.states + block * k->S;
  Lanes D = k->w.channels[block].D;
  int64_t n = lanes_of(k, block);
  for (int64_t t = 0; t < c->n; t++) load_row(k, &k->w.rows[t], row_of(k, c, t), first_of(k, block), n, false);
  if (!tensor_none(a->states))
    for (int64_t s = 0; s < k->S; s++) store(kept_state(k, c, block) + s * n, &state[s].carry, n);
  for (int64_t t = 0; t < c->n; t++) {
    int64_t at = row_of(k, c, t);
    const Row *r = &k->w.rows[t];
    real *y = row(a->y, at) + first_of(k, block);
    Lanes before = {0}, sum;
    if (a->add) load(&before, y, n);
    const Tensor next[] = {a->x, a->dt, a->y};
    for (int i = 0; i < 3; i++) prefetch(next[i], at, first_of(k, block + 1));
    decay(k->w.cells, state, r, k->S);
    step(&sum, k->w.cells, state, r, row(a->B, at), row(a->C, at), k->S);
    sum += before + D * r->x;
    store(y, &sum, n);
  }
}

int FN(scan)(Device *dev, const Scan *a) {
  int64_t tasks = rows_of(a->x) / a->L * groups_of(a);
  char *memory;
  TRY(FN(scratch)(dev, SCRATCH_THREAD, (size_t)dev->threads * work_bytes(cols_of(a->B)), &memory));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t index = 0; index < tasks; index++) {
    Task k = task_of(a, index, memory);
    load_channels(&k);
    for (int64_t i = 0; i < chunks_of(a); i++) {
      Chunk c = chunk_of(&k, i);
      for (int64_t block = 0; block < k.blocks; block++) block_forward(&k, &c, block);
    }
  }
  return OK;
}

/* ---- backward */
typedef struct Parts { /* the sums of each task, still to be added */
  real *rows;          /* [groups][R][2S]: dB | dC          */
  real *dA, *dD;       /* [B][E,S], [B][E]                  */
} Parts;

static void block_backward(const Task *k, const Chunk *c, int64_t block) {
  const Scan *a = k->a;
  Work w = k->w;
  State *state = w.states + block * k->S;
  Channel *channel = &w.channels[block];
  int64_t S = k->S, e = first_of(k, block), n = lanes_of(k, block);
  for (int64_t t = 0; t < c->n; t++) load_row(k, &w.rows[t], row_of(k, c, t), e, n, true);
  for (int64_t s = 0; s < S; s++) load(&w.cells[s].h, kept_state(k, c, block) + s * n, n);
  for (int64_t t = 0; t < c->n; t++) {
    Cell *cell = w.cells + (t + 1) * S;
    decay(cell, state, &w.rows[t], S);
    step_again(cell, cell - S, &w.rows[t], row(a->B, row_of(k, c, t)), S);
  }
  for (int64_t t = c->n - 1; t >= 0; t--) {
    int64_t at = row_of(k, c, t);
    const Row *r = &w.rows[t];
    Cell *cell = w.cells + (t + 1) * S;
    Lanes du, dd;
    const Tensor next[] = {a->x, a->dt, a->dy, a->dx, a->ddt};
    for (int i = 0; i < 5; i++) prefetch(next[i], at, first_of(k, block + 1));
    step_backward(&du, &dd, cell, cell - S, state, r, row(a->B, at), row(a->C, at), S);
    dd = (dd + du * r->x) * r->slope;
    du = du * r->delta + channel->D * r->dy;
    channel->dD += r->dy * r->x;
    store(row(a->dx, at) + e, &du, n);
    store(row(a->ddt, at) + e, &dd, n);
  }
}

/* Across the lanes: to[row][2S] := dB | dC of the chunk's rows. */
static void sum_lanes(const Task *k, const Chunk *c, real *to) {
  int64_t S = k->S;
  for (int64_t t = 0; t < c->n; t++) {
    real *out = to + row_of(k, c, t) * 2 * S;
    for (int64_t s = 0; s < S; s++) {
      const Cell *cell = &k->w.cells[(t + 1) * S + s];
      const real *in_B = (const real *)&cell->dB, *in_C = (const real *)&cell->dC;
      real dB = 0, dC = 0;
#pragma omp simd reduction(+ : dB, dC)
      for (int i = 0; i < LANES; i++) {
        dB += in_B[i];
        dC += in_C[i];
      }
      out[s] = dB;
      out[S + s] = dC;
    }
  }
}

static void clear_sums(const Task *k, const Chunk *c) {
  for (int64_t i = k->S; i < (c->n + 1) * k->S; i++) k->w.cells[i].dB = k->w.cells[i].dC = (Lanes){0};
}

static void task_backward(const Task *k, const Parts *p) {
  int64_t E = cols_of(k->a->x), S = k->S;
  real *rows = p->rows + k->first / GROUP * rows_of(k->a->x) * 2 * S;
  load_channels(k);
  for (int64_t i = chunks_of(k->a) - 1; i >= 0; i--) {
    Chunk c = chunk_of(k, i);
    clear_sums(k, &c);
    for (int64_t block = 0; block < k->blocks; block++) block_backward(k, &c, block);
    sum_lanes(k, &c, rows);
  }
  for (int64_t e = 0; e < k->n; e++) {
    int64_t block = e / LANES, lane = e % LANES, at = k->b * E + k->first + e;
    p->dD[at] = k->w.channels[block].dD[lane];
    for (int64_t s = 0; s < S; s++) p->dA[at * S + s] = k->w.states[block * S + s].dA[lane];
  }
}

static void add_parts(const Scan *a, const Parts *p) {
  int64_t R = rows_of(a->x), E = cols_of(a->x), S = cols_of(a->B), B = R / a->L, groups = groups_of(a);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    real *dB = row(a->dB, r), *dC = row(a->dC, r);
    for (int64_t s = 0; s < S; s++) dB[s] = dC[s] = 0;
    for (int64_t g = 0; g < groups; g++) {
      const real *part = p->rows + (g * R + r) * 2 * S;
      for (int64_t s = 0; s < S; s++) {
        dB[s] += part[s];
        dC[s] += part[S + s];
      }
    }
  }
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < E; e++) {
    const real *A_log = (const real *)a->A_log.data + e * S;
    real *dA_log = (real *)a->dA_log.data + e * S, dD = 0;
    for (int64_t b = 0; b < B; b++) dD += p->dD[b * E + e];
    ((real *)a->dD.data)[e] += dD;
    for (int64_t s = 0; s < S; s++) {
      real dA = 0;
      for (int64_t b = 0; b < B; b++) dA += p->dA[(b * E + e) * S + s];
      dA_log[s] -= dA * real_exp(A_log[s]);
    }
  }
}

int FN(scan_backward)(Device *dev, const Scan *a) {
  int64_t R = rows_of(a->x), E = cols_of(a->x), S = cols_of(a->B), B = R / a->L, groups = groups_of(a);
  int64_t rows = groups * R * 2 * S;
  char *memory;
  Parts p;
  TRY(FN(scratch)(dev, SCRATCH_PARTIAL, (size_t)(rows + B * E * (S + 1)) * sizeof(real), &p.rows));
  TRY(FN(scratch)(dev, SCRATCH_THREAD, (size_t)dev->threads * work_bytes(S), &memory));
  p.dA = p.rows + rows;
  p.dD = p.dA + B * E * S;
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t index = 0; index < B * groups; index++) {
    Task k = task_of(a, index, memory);
    task_backward(&k, &p);
  }
  add_parts(a, &p);
  return OK;
}
