/* scan — the selective state-space recurrence, with the rows of a chunk spread over the lanes of a warp.
 *
 *   a_t = exp(Δ_t A),  u = Δ x,  h_t = a_t h_{t−1} + u_t B_t,  y_t = Σ_s C_t h_t + D x_t
 *   dh_t = C_t dy_t + q_{t+1},  q_t = a_t dh_t,  dC_t = Σ_e dy_t h_t,  dB_t = Σ_e dh_t u_t,  du_t = Σ_s dh_t B_t,
 *   g_t = q_t h_{t−1},  dΔ = Σ_s g A + du x,  dA = Σ_t g Δ,  dx = du Δ + D dy,  dA_log = dA·A
 *
 * The floor, a token and channel, S = 16, bf16: forward reads x and dt and writes y, 6 bytes, and 1 more of states;
 * backward reads x, dt, dy and states and writes dx and ddt, 11 bytes. Beside them stand S exponentials in either
 * direction, of which a multiprocessor makes 16 a clock: 1 clock, where 6 bytes take about a third of one on an H200.
 * Forward asks for about 11 instructions a state besides, backward for about 28, and 128 lanes do one each a clock: so
 * instructions are what costs, then exponentials, memory last.
 *
 * Hence the layout. A thread is one channel and RUN rows in a row; RUNS threads side by side make a chunk of SCAN_CHUNK
 * rows, a block CHANNELS channels of one sequence. The states are taken one after the other: a thread goes through its
 * rows from zero, the threads of a chunk put their ends together by shuffles (the recurrence is associative), and the
 * thread goes through its rows again from the state they hand it. So
 *   - each exponential is made once, in backward as well: h and a of a run stand in registers, where one thread for all
 *     states of a channel would have to compute both again, from parts of a chunk smaller than the one kept;
 *   - sums over the states (y, du, dΔ) stay in a thread, and S is a number like any other: no register depends on it;
 *   - a small batch still fills the GPU: SCAN_CHUNK/RUN threads a channel.
 * It costs a multiplication and an addition a row, direction and state, and the shuffles.
 *
 * The carry between chunks lies in global memory, [S,E] of each sequence, where the caches keep it; that of forward is
 * the very `states` backward starts from. Rows beyond the end have Δ = 0 and u = 0, and leave the state as it is.
 *
 * dB and dC are sums over channels: a block adds its channels through shared memory, state by state, and leaves its
 * part in scratch; a last kernel adds the parts in order. So are the parts of dA and dD, one of each sequence. */
#include "backend.h"
#include "sequence.cuh"

static constexpr int RUN = 8, RUNS = SCAN_CHUNK / RUN, CHANNELS = THREADS / RUNS;
static constexpr int GROUP = 16;                /* states whose B, C and A are at hand at a time */
static constexpr int HALF = RUN / 2;            /* rows of a Quad                                */
static constexpr int QUADS = SCAN_CHUNK / HALF; /* of a chunk's B, C, dB or dC of a state        */
static constexpr int COLUMN = QUADS + 1;        /* from a state's to the next                    */
static constexpr int SUM = 2 * QUADS;           /* of dB and dC                                  */
static constexpr int SUM_STRIDE = SUM + HALF;   /* from a channel's to the next                  */
static constexpr int TILE = SCAN_CHUNK * (CHANNELS + 1) + (RUNS - 1) * HALF; /* f32 of a chunk: see cell */
static_assert(HALF == 4 && RUNS == 8 && CHANNELS == 32, "the paddings below are made for these");
static constexpr float LOG2E = 1.44269504f, LN2 = 0.693147181f;
/* exp(−80) is a normal number; a state that shrinks so much in one row is gone either way */
static constexpr float LOWEST = -80 * LOG2E;

struct alignas(16) Quad { /* HALF rows of a state */
  float v[HALF];
};

template <class A> struct ScanArgs {
  int64_t L, E;
  int S, chunks, groups; /* groups of CHANNELS channels */
  bool reverse, add, keep;
  Rows<A> x, dt, B, C, y, dy, dx, ddt;
  const float *A_log, *D;
  float *states; /* [sequences·chunks][S,E]; without keep a carry, [sequences][S,E] */
  float *carry;  /* backward: [sequences][2S+1][E]: q, dA, dD */
  float *rows;   /* backward: [groups][sequences·chunks][S][SUM quads] */
};

/* What a thread has: RUN steps of one channel. Blocks beside each other share the rows of a sequence. */
struct Thread {
  int run, channel, b, group, e;
  template <class A> __device__ explicit Thread(const ScanArgs<A> &p) {
    run = threadIdx.x % RUNS;
    channel = threadIdx.x / RUNS;
    b = (int)blockIdx.x / p.groups;
    group = (int)blockIdx.x % p.groups;
    e = group * CHANNELS + channel;
  }
  /* Its sequence from step `start` on, in a tensor of channels or of states. */
  template <class A> __device__ Line<A> line(const ScanArgs<A> &p, const Rows<A> &m, int64_t start, int column) const {
    return Line<A>(m, b, p.L, p.reverse, start, column);
  }
};

/* ---- a chunk in shared memory */
/* A chunk's rows and channels in f32; the RUNS lanes of a channel and the channels of a warp fall into different banks.
 */
static __device__ inline int cell(int row, int channel) { return row * (CHANNELS + 1) + row / RUN * HALF + channel; }
/* Where a row stands in a state's column of Quads: one load of the lanes of a channel is contiguous. */
static __device__ inline int quad_of(int run, int half) { return half * RUNS + run; }
static __device__ inline int place_of(int row) { return quad_of(row / RUN, row % RUN / HALF) * HALF + row % HALF; }

/* What a thread takes of a chunk's rows, COLS wide, N neighbours at a time: asked for at once, put down later. */
template <class A, int N, int COLS> struct Share {
  static constexpr int ACROSS = COLS / N, PASSES = SCAN_CHUNK * ACROSS / THREADS;
  Held<A, N> held[PASSES];
  __device__ static int row(int pass) { return (pass * THREADS + (int)threadIdx.x) / ACROSS; }
  __device__ static int col() { return (int)threadIdx.x % ACROSS * N; }
  /* n rows from the line's first on and `cols` columns of them are there. */
  __device__ Share(Line<A> from, int n, int64_t cols) {
    for (int i = 0; i < PASSES; i++) {
      held[i] = {};
      if (row(i) < n && col() < cols) held[i].load(from.at(row(i)) + col());
    }
  }
  __device__ void spread(float *tile) const {
    for (int i = 0; i < PASSES; i++) {
      float v[N];
      held[i].unpack(v);
      for (int k = 0; k < N; k++) tile[cell(row(i), col() + k)] = v[k];
    }
  }
  __device__ void spread(Quad *column) const {
    for (int i = 0; i < PASSES; i++) {
      float v[N];
      held[i].unpack(v);
      for (int k = 0; k < N; k++) ((float *)column)[(col() + k) * COLUMN * HALF + place_of(row(i))] = v[k];
    }
  }
};
template <class A, int N> using ShareOfTile = Share<A, N, CHANNELS>;
template <class A, int N> using ShareOfStates = Share<A, (N > 1 ? HALF : 1), GROUP>;

/* The tile, or what is there and the tile, to n rows of `cols` columns. */
template <class A, int N>
static __device__ inline void store_tile(Line<A> to, const float *tile, int n, int cols, bool add) {
  typedef ShareOfTile<A, N> Mine;
  for (int i = 0; i < Mine::PASSES; i++) {
    int row = Mine::row(i), c = Mine::col();
    if (row >= n || c >= cols) continue;
    Held<A, N> old = {};
    float v[N];
    if (add) old.load(to.at(row) + c);
    old.unpack(v);
    for (int k = 0; k < N; k++) v[k] += tile[cell(row, c + k)];
    Held<A, N>::store(to.at(row) + c, v);
  }
}

/* A·log2(e) of the block's channels and the states from `first` on to A[GROUP][CHANNELS+1]; zero where there are none.
 */
template <class T> static __device__ inline void load_A(float *A, const ScanArgs<T> &p, const Thread &me, int first) {
  int e = me.group * CHANNELS;
  for (int pass = 0; pass < CHANNELS * GROUP / THREADS; pass++) {
    int i = pass * THREADS + (int)threadIdx.x, c = i / GROUP, s = i % GROUP;
    bool there = e + c < p.E && first + s < p.S;
    A[s * (CHANNELS + 1) + c] = there ? -expf(p.A_log[(int64_t)(e + c) * p.S + first + s]) * LOG2E : 0;
  }
}

/* All of the states from `first` on, for a chunk. */
template <class T>
static __device__ inline void load_group(Quad *B, Quad *C, float *A, const ScanArgs<T> &p, const Thread &me,
                                         int64_t start, int n, int first) {
  Share<T, 1, GROUP>(me.line(p, p.B, start, first), n, p.S - first).spread(B);
  Share<T, 1, GROUP>(me.line(p, p.C, start, first), n, p.S - first).spread(C);
  load_A(A, p, me, first);
}

/* ---- one thread's rows of one state */
/* max(v,0) + log(1 + e), e = exp(−|v|). What rounding takes from w = 1 + e is added again, so that small ones are
 * exact. */
static __device__ inline float softplus(float v) {
  float e = expf(-fabsf(v)), w = 1 + e;
  return fmaxf(v, 0) + (logf(w) + (e - (w - 1)));
}

/* 2^v of a v whose power is a normal number, in one instruction. */
static __device__ inline float power_of_2(float v) {
#ifdef __CUDACC__
  float p;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(p) : "f"(v));
  return p;
#else
  return exp2f(v);
#endif
}

struct Column { /* the B or C of a thread's rows */
  Quad half[2];
  __device__ Column(const Quad *column, int run) : half{column[quad_of(run, 0)], column[quad_of(run, 1)]} {}
  __device__ float at(int i) const { return half[i / HALF].v[i % HALF]; }
};

/* A thread's share of going through a chunk: what it makes of zero, and how much of what comes in it lets through.
 * The lanes of a channel link theirs in log2(RUNS) steps; BACK: the last lane comes first. */
template <bool BACK> struct Link {
  float end, product;
  int before; /* lanes that come first */
  __device__ static float from(float v, int d) {
    return BACK ? __shfl_down_sync(~0u, v, d) : __shfl_up_sync(~0u, v, d);
  }
  __device__ Link(float made, float through, float carry, int run)
      : end(made), product(through), before(BACK ? RUNS - 1 - run : run) {
    if (before == 0) end += product * carry;
  }
  __device__ void step(int d) {
    float e = from(end, d), through = d < RUNS / 2 ? from(product, d) : 1;
    if (before < d) return;
    end += product * e;
    product *= through;
  }
  /* What comes into this thread's rows. */
  __device__ float in(float carry) const {
    float e = from(end, 1);
    return before == 0 ? carry : e;
  }
};

struct Steps { /* a thread's rows: Δ, Δ x */
  float delta[RUN], u[RUN];
  __device__ Steps(const float *x, const float *dt, const Thread &me, int n) {
    for (int i = 0; i < RUN; i++) {
      int at = cell(me.run * RUN + i, me.channel);
      float step = softplus(dt[at]);
      delta[i] = me.run * RUN + i < n ? step : 0;
      u[i] = delta[i] * x[at];
    }
  }
  /* a of each row. fmaxf drops what is no number: of Δ, u keeps it; of A, spoilt() does. */
  __device__ void decay(float *a, float A) const {
    for (int i = 0; i < RUN; i++) a[i] = power_of_2(fmaxf(delta[i] * A, LOWEST));
  }
};
static __device__ inline float spoilt(float carry, float A) { return isnan(A) ? A : carry; }

/* y += C h; the state after the last row. */
static __device__ inline float state_forward(float *y, const Steps &steps, const Quad *B, const Quad *C, float A,
                                             float carry, int run) {
  float a[RUN], product = 1, end = 0;
  Column b(B, run), c(C, run);
  carry = spoilt(carry, A);
  steps.decay(a, A);
  for (int i = 0; i < RUN; i++) {
    product *= a[i];
    end = a[i] * end + steps.u[i] * b.at(i);
  }
  Link<false> link(end, product, carry, run);
  for (int d = 1; d < RUNS; d *= 2) link.step(d);
  float h = link.in(carry);
  for (int i = 0; i < RUN; i++) {
    h = a[i] * h + steps.u[i] * b.at(i);
    y[i] += c.at(i) * h;
  }
  return h;
}

/* Where a thread finds what belongs to a state; on to the next by next(). */
struct Cursor {
  const Quad *B, *C;
  const float *A;
  __device__ void next() {
    B += COLUMN;
    C += COLUMN;
    A += CHANNELS + 1;
  }
};

template <class A, int N> __global__ void __launch_bounds__(THREADS, N > 1 ? 3 : 2) k_scan(ScanArgs<A> p) {
  SHARED(float, x, TILE);
  SHARED(float, dt, TILE);
  SHARED(Quad, B, GROUP * COLUMN);
  SHARED(Quad, C, GROUP * COLUMN);
  SHARED(float, decay, GROUP *(CHANNELS + 1));
  Thread me(p);
  if (N > 1) load_A(decay, p, me, 0);
  int column = me.group * CHANNELS, cols = (int)(p.E - column);
  bool first = me.run == 0 && me.e < p.E, last = me.run == RUNS - 1 && me.e < p.E;
  float D = me.e < p.E ? p.D[me.e] : 0, *kept = p.states + (int64_t)me.b * (p.keep ? p.chunks : 1) * p.S * p.E + me.e;
  if (first && p.keep)
    for (int s = 0; s < p.S; s++) kept[s * p.E] = 0;
  for (int k = 0; k < p.chunks; k++) {
    int64_t start = (int64_t)k * SCAN_CHUNK;
    int n = (int)min_of(SCAN_CHUNK, p.L - start);
    bool reads = first && k > 0, writes = last && k + 1 < p.chunks;
    ShareOfTile<A, N> new_x(me.line(p, p.x, start, column), n, cols), new_dt(me.line(p, p.dt, start, column), n, cols);
    ShareOfStates<A, N> new_B(me.line(p, p.B, start, 0), n, p.S), new_C(me.line(p, p.C, start, 0), n, p.S);
    __syncthreads(); /* the last chunk's y has been stored */
    new_x.spread(x);
    new_dt.spread(dt);
    new_B.spread(B);
    new_C.spread(C);
    if (N == 1) load_A(decay, p, me, 0);
    __syncthreads();
    Steps steps(x, dt, me, n);
    float y[RUN];
    for (int i = 0; i < RUN; i++) y[i] = D * x[cell(me.run * RUN + i, me.channel)];
    float *from = kept, *to = p.keep ? kept + p.S * p.E : kept;
    kept = to;
    Cursor at = {B, C, decay + me.channel};
    for (int s = 0; s < p.S; s++) {
      if (N == 1 && s > 0 && s % GROUP == 0) {
        __syncthreads();
        load_group<A>(B, C, decay, p, me, start, n, s);
        __syncthreads();
        at = {B, C, decay + me.channel};
      }
      float h = state_forward(y, steps, at.B, at.C, *at.A, reads ? *from : 0, me.run);
      if (writes) *to = h;
      from += p.E;
      to += p.E;
      at.next();
    }
    for (int i = 0; i < RUN; i++) x[cell(me.run * RUN + i, me.channel)] = y[i]; /* where only this thread has read */
    __syncthreads();
    store_tile<A, N>(me.line(p, p.y, start, column), x, n, cols, p.add);
  }
}

/* ---- backward */
struct Slopes {
  float dy[RUN], du[RUN], dd[RUN]; /* dd: Σ_s g A·log2(e) */
};

/* A state's rows back; dB and dC of the channel's rows go to `out`. *state: h before the chunk, q after it; *state := q
 * before the chunk. Returns Σ g Δ of these rows. */
static __device__ inline float state_backward(Slopes *to, const Steps &steps, const Quad *B, const Quad *C, float A,
                                              float before, float *carry, int run, Quad *out) {
  float a[RUN], h[RUN + 1], product = 1, end = 0, back = 0, dA = 0;
  Column b(B, run), c(C, run);
  before = spoilt(before, A), *carry = spoilt(*carry, A);
  steps.decay(a, A);
  for (int i = 0; i < RUN; i++) {
    product *= a[i];
    end = a[i] * end + steps.u[i] * b.at(i);
  }
  for (int i = RUN - 1; i >= 0; i--) back = a[i] * (c.at(i) * to->dy[i] + back);
  Link<false> link(end, product, before, run);
  Link<true> link_back(back, product, *carry, run);
  for (int d = 1; d < RUNS; d *= 2) {
    link.step(d);
    link_back.step(d);
  }
  h[0] = link.in(before);
  for (int i = 0; i < RUN; i++) h[i + 1] = a[i] * h[i] + steps.u[i] * b.at(i);
  float q = link_back.in(*carry);
  for (int half = 1; half >= 0; half--) {
    Quad dB, dC;
    for (int j = HALF - 1; j >= 0; j--) {
      int i = half * HALF + j;
      float dh = c.at(i) * to->dy[i] + q;
      q = a[i] * dh;
      float g = q * h[i];
      to->du[i] += dh * b.at(i);
      to->dd[i] += g * A;
      dA += g * steps.delta[i];
      dB.v[j] = dh * steps.u[i];
      dC.v[j] = to->dy[i] * h[i + 1];
    }
    out[quad_of(run, half)] = dB;
    out[QUADS + quad_of(run, half)] = dC;
  }
  *carry = q;
  return dA;
}

static __device__ inline float sum_of_runs(float v) {
  for (int d = 1; d < RUNS; d *= 2) v += __shfl_xor_sync(~0u, v, d);
  return v;
}

/* Σ over the block's channels of sums[CHANNELS][SUM_STRIDE] to part[SUM]: two threads a number. */
static __device__ inline void sum_channels(float *part, const Quad *sums) {
  static_assert(2 * SUM * HALF == THREADS, "two threads a number");
  const float *from = (const float *)sums + threadIdx.x % 2 * SUM_STRIDE * HALF + threadIdx.x / 2;
  float sum = 0;
  for (int c = 0; c < CHANNELS / 2; c++) sum += from[2 * c * SUM_STRIDE * HALF];
  sum += __shfl_xor_sync(~0u, sum, 1);
  if (threadIdx.x % 2 == 0) part[threadIdx.x / 2] = sum;
}

template <class A, int N> __global__ void __launch_bounds__(THREADS, N > 1 ? 2 : 1) k_scan_backward(ScanArgs<A> p) {
  SHARED(float, x, TILE);
  SHARED(float, dt, TILE);
  SHARED(Quad, sums, CHANNELS * SUM_STRIDE); /* and dy before them */
  SHARED(Quad, B, GROUP * COLUMN);
  SHARED(Quad, C, GROUP * COLUMN);
  SHARED(float, decay, GROUP *(CHANNELS + 1));
  static_assert(sizeof(float) * TILE <= sizeof(Quad) * CHANNELS * SUM_STRIDE, "dy fits");
  Thread me(p);
  if (N > 1) load_A(decay, p, me, 0);
  int column = me.group * CHANNELS, cols = (int)(p.E - column);
  bool first = me.run == 0 && me.e < p.E, last = me.run == RUNS - 1 && me.e < p.E;
  float D = me.e < p.E ? p.D[me.e] : 0, dD = 0, *dy = (float *)sums;
  float *carry = p.carry + (int64_t)me.b * (2 * p.S + 1) * p.E + me.e;
  for (int k = p.chunks - 1; k >= 0; k--) {
    int64_t start = (int64_t)k * SCAN_CHUNK, slot = (int64_t)me.b * p.chunks + k;
    int n = (int)min_of(SCAN_CHUNK, p.L - start);
    bool more = k < p.chunks - 1;
    ShareOfTile<A, N> new_x(me.line(p, p.x, start, column), n, cols), new_dt(me.line(p, p.dt, start, column), n, cols),
        new_dy(me.line(p, p.dy, start, column), n, cols);
    ShareOfStates<A, N> new_B(me.line(p, p.B, start, 0), n, p.S), new_C(me.line(p, p.C, start, 0), n, p.S);
    __syncthreads(); /* the last chunk's gradients have been stored */
    new_x.spread(x);
    new_dt.spread(dt);
    new_dy.spread(dy);
    new_B.spread(B);
    new_C.spread(C);
    if (N == 1) load_A(decay, p, me, 0);
    __syncthreads();
    Steps steps(x, dt, me, n);
    Slopes to;
    for (int i = 0; i < RUN; i++) {
      to.dy[i] = dy[cell(me.run * RUN + i, me.channel)];
      to.du[i] = to.dd[i] = 0;
    }
    const float *kept = p.states + slot * p.S * p.E + me.e;
    float *part =
        p.rows + ((int64_t)(me.group * (gridDim.x / (unsigned)p.groups)) * p.chunks + slot) * p.S * SUM * HALF;
    float *q = carry, *dA = carry + p.S * p.E;
    Cursor at = {B, C, decay + me.channel};
    for (int s = 0; s < p.S; s++) {
      float before = first ? *kept : 0, after = last && more ? *q : 0, other_dA = first && more ? *dA : 0;
      __syncthreads(); /* dy and the sums of the last state have been read */
      if (N == 1 && s > 0 && s % GROUP == 0) {
        load_group<A>(B, C, decay, p, me, start, n, s);
        __syncthreads();
        at = {B, C, decay + me.channel};
      }
      float mine =
          state_backward(&to, steps, at.B, at.C, *at.A, before, &after, me.run, sums + me.channel * SUM_STRIDE);
      mine = sum_of_runs(mine);
      if (first) *q = after;
      if (first) *dA = other_dA + mine;
      __syncthreads();
      sum_channels(part, sums);
      kept += p.E;
      q += p.E;
      dA += p.E;
      part += SUM * HALF;
      at.next();
    }
    for (int i = 0; i < RUN; i++) { /* where only this thread has read */
      int here = cell(me.run * RUN + i, me.channel);
      float slope = __fdividef(1, 1 + expf(-dt[here]));
      dD += to.dy[i] * x[here];
      dt[here] = (to.dd[i] * LN2 + to.du[i] * x[here]) * slope;
      x[here] = to.du[i] * steps.delta[i] + D * to.dy[i];
    }
    __syncthreads();
    store_tile<A, N>(me.line(p, p.dx, start, column), x, n, cols, false);
    store_tile<A, N>(me.line(p, p.ddt, start, column), dt, n, cols, false);
  }
  dD = sum_of_runs(dD);
  if (first) carry[2 * p.S * p.E] = dD;
}

/* The groups' parts of dB and dC, in their order. A thread is a number of the parts. */
template <class A> __global__ void k_scan_rows(ScanArgs<A> p, Rows<A> dB, Rows<A> dC, int64_t n) {
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  int place = (int)(i % (SUM * HALF)), quad = place / HALF % QUADS;
  int64_t column = i / (SUM * HALF), s = column % p.S, slots = column / p.S;
  int64_t t = slots % p.chunks * SCAN_CHUNK + quad % RUNS * RUN + quad / RUNS * HALF + place % HALF;
  if (t >= p.L) return;
  float sum = 0;
  for (int64_t g = 0; g < p.groups; g++) sum += p.rows[g * n + i];
  Line<A> line(place < QUADS * HALF ? dB : dC, slots / p.chunks, p.L, p.reverse, t, s);
  put(line.at(0), sum);
}

/* The sequences' parts of dA and dD, in their order. A thread is a channel and a state, or a channel's D. */
static __global__ void k_scan_channels(const float *carry, int64_t sequences, int64_t E, int64_t S, const float *A_log,
                                       float *dA_log, float *dD) {
  int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, s = i / E, e = i % E;
  if (s > S) return;
  float sum = 0;
  for (int64_t b = 0; b < sequences; b++) sum += carry[(b * (2 * S + 1) + S + s) * E + e];
  if (s == S)
    dD[e] += sum;
  else
    dA_log[e * S + s] -= sum * expf(A_log[e * S + s]);
}

template <class A> static ScanArgs<A> args_of(const Scan *a) {
  ScanArgs<A> p = {};
  p.L = a->L;
  p.E = cols_of(a->x);
  p.S = (int)cols_of(a->B);
  p.chunks = (int)ceil_div(a->L, SCAN_CHUNK);
  p.groups = (int)ceil_div(p.E, CHANNELS);
  p.reverse = a->reverse;
  p.add = a->add;
  p.keep = !tensor_none(a->states);
  p.x = rows<A>(a->x);
  p.dt = rows<A>(a->dt);
  p.B = rows<A>(a->B);
  p.C = rows<A>(a->C);
  p.y = rows<A>(a->y);
  p.dy = rows<A>(a->dy);
  p.dx = rows<A>(a->dx);
  p.ddt = rows<A>(a->ddt);
  p.A_log = (const float *)a->A_log.data;
  p.D = (const float *)a->D.data;
  p.states = (float *)a->states.data;
  return p;
}

/* Whether the channels fall into packs, and the states are few enough to be at hand all the time. */
static bool usual(const Scan *a, int64_t n) {
  return cols_of(a->B) <= GROUP && in_packs(a->B, HALF) && in_packs(a->C, HALF) && in_packs(a->x, n) &&
         in_packs(a->dt, n);
}

template <class A, int N> static int launch(Device *dev, const Scan *a) {
  ScanArgs<A> p = args_of<A>(a);
  int64_t sequences = rows_of(a->x) / a->L;
  if (!p.keep) TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)(sequences * p.S * p.E) * sizeof(float), &p.states));
  return LAUNCH(dev, (k_scan<A, N>), sequences * p.groups, p);
}

int cuda_scan(Device *dev, const Scan *a) {
  int64_t n = 16 / (int64_t)dtype_size(a->x.type);
  bool packs = usual(a, n) && in_packs(a->y, n);
  return WITH_TYPE(a->x.type, packs ? launch<A, 16 / (int)sizeof(A)>(dev, a) : launch<A, 1>(dev, a));
}

template <class A, int N> static int launch_backward(Device *dev, const Scan *a) {
  ScanArgs<A> p = args_of<A>(a);
  int64_t sequences = rows_of(a->x) / a->L, carry = sequences * (2 * p.S + 1) * p.E,
          rows_count = sequences * p.chunks * p.S * SUM * HALF;
  TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)(carry + p.groups * rows_count) * sizeof(float), &p.carry));
  p.rows = p.carry + carry;
  TRY(LAUNCH(dev, (k_scan_backward<A, N>), sequences * p.groups, p));
  TRY(LAUNCH(dev, k_scan_rows<A>, ceil_div(rows_count, THREADS), p, rows<A>(a->dB), rows<A>(a->dC), rows_count));
  return LAUNCH(dev, k_scan_channels, ceil_div((p.S + 1) * p.E, THREADS), p.carry, sequences, p.E, p.S, p.A_log,
                (float *)a->dA_log.data, (float *)a->dD.data);
}

int cuda_scan_backward(Device *dev, const Scan *a) {
  int64_t n = 16 / (int64_t)dtype_size(a->x.type);
  bool packs = usual(a, n) && in_packs(a->dy, n) && in_packs(a->dx, n) && in_packs(a->ddt, n);
  return WITH_TYPE(a->x.type, packs ? launch_backward<A, 16 / (int)sizeof(A)>(dev, a) : launch_backward<A, 1>(dev, a));
}
