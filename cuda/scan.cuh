/* scan — shared by the forward and the backward scan: the layout, loading a chunk into shared memory, a thread's rows
 * of one state, and combining the threads of a chunk. The reasons for the layout are at the head of scan.cu. */
#pragma once
#include "sequence.cuh"

namespace { /* each file instantiates its own */

static constexpr int RUN = 8, RUNS = SCAN_CHUNK / RUN, CHANNELS = THREADS / RUNS;
static constexpr int GROUP = 16;                /* states whose B, C and A are in shared memory at a time */
static constexpr int HALF = RUN / 2;            /* rows of a Quad */
static constexpr int QUADS = SCAN_CHUNK / HALF; /* per chunk and state, of B, C, dB or dC */
static constexpr int COLUMN = QUADS + 1;        /* stride between states */
static constexpr int SUM = 2 * QUADS;           /* Quads of dB and dC */
static constexpr int SUM_STRIDE = SUM + HALF;   /* stride between channels */
static constexpr int TILE = SCAN_CHUNK * (CHANNELS + 1) + (RUNS - 1) * HALF; /* f32 of a chunk: see cell */
static_assert(HALF == 4 && RUNS == 8 && CHANNELS == 32, "the padding below assumes these sizes");
static constexpr float LOG2E = 1.44269504f, LN2 = 0.693147181f;
/* exp(−80) is a normal number, and small enough to erase a state */
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
  float *states; /* keep: [sequences·chunks][S,E]; else [sequences][2][S,E]: carries, one read and one written */
  float *carry;  /* backward: [sequences][2S+1][E]: q, dA, dD */
  float *rows;   /* backward: [groups][sequences·chunks][S][SUM quads] */
};

/* The place of a thread: run `run` of a chunk, RUN steps of one channel. Neighbouring blocks take the channel groups of
 * one sequence. */
struct Thread {
  int run, channel, b, group, e;
  template <class A> __device__ explicit Thread(const ScanArgs<A> &p) {
    run = threadIdx.x % RUNS;
    channel = threadIdx.x / RUNS;
    b = (int)blockIdx.x / p.groups;
    group = (int)blockIdx.x % p.groups;
    e = group * CHANNELS + channel;
  }
  /* The rows of its sequence from step `start` on, in a tensor of channels or of states. */
  template <class A> __device__ Line<A> line(const ScanArgs<A> &p, const Rows<A> &m, int64_t start, int column) const {
    return Line<A>(m, b, p.L, p.reverse, start, column);
  }
};

/* ---- a chunk in shared memory */
/* Index in a chunk's tile of f32. The RUNS lanes of a channel and the channels of a warp map to different banks. */
static __device__ inline int cell(int row, int channel) { return row * (CHANNELS + 1) + row / RUN * HALF + channel; }
/* Index of a row in a state's column of Quads: the lanes of a channel load contiguous memory. */
static __device__ inline int quad_of(int run, int half) { return half * RUNS + run; }
static __device__ inline int place_of(int row) { return quad_of(row / RUN, row % RUN / HALF) * HALF + row % HALF; }

/* A thread's share of loading a chunk of COLS columns, N neighbours at a time: all loads are issued by the constructor,
 * and spread() stores the values to shared memory later. */
template <class A, int N, int COLS> struct Share {
  static constexpr int ACROSS = COLS / N, PASSES = SCAN_CHUNK * ACROSS / THREADS;
  Held<A, N> held[PASSES];
  __device__ static int row(int pass) { return (pass * THREADS + (int)threadIdx.x) / ACROSS; }
  __device__ static int col() { return (int)threadIdx.x % ACROSS * N; }
  /* The line has n rows of `cols` columns; the rest is zero. */
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

/* The chunk's inputs. */
template <class A, int N> struct Inputs {
  ShareOfTile<A, N> x, dt;
  ShareOfStates<A, N> B, C;
  __device__ Inputs(const ScanArgs<A> &p, const Thread &me, int64_t start, int n, int cols)
      : x(me.line(p, p.x, start, me.group * CHANNELS), n, cols),
        dt(me.line(p, p.dt, start, me.group * CHANNELS), n, cols), B(me.line(p, p.B, start, 0), n, p.S),
        C(me.line(p, p.C, start, 0), n, p.S) {}
  __device__ void spread(float *to_x, float *to_dt, Quad *to_B, Quad *to_C) const {
    x.spread(to_x);
    dt.spread(to_dt);
    B.spread(to_B);
    C.spread(to_C);
  }
};

/* Store the tile to n rows of `cols` columns, or add it to them. */
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

/* A[GROUP][CHANNELS+1] := A·log2(e) of the block's channels and the states from `first` on; zero beyond the last. */
template <class T> static __device__ inline void load_A(float *A, const ScanArgs<T> &p, const Thread &me, int first) {
  int e = me.group * CHANNELS;
  for (int pass = 0; pass < CHANNELS * GROUP / THREADS; pass++) {
    int i = pass * THREADS + (int)threadIdx.x, c = i / GROUP, s = i % GROUP;
    bool there = e + c < p.E && first + s < p.S;
    A[s * (CHANNELS + 1) + c] = there ? -expf(p.A_log[(int64_t)(e + c) * p.S + first + s]) * LOG2E : 0;
  }
}

/* B, C and A of the group of states from `first` on, for a chunk. */
template <class T>
static __device__ inline void load_group(Quad *B, Quad *C, float *A, const ScanArgs<T> &p, const Thread &me,
                                         int64_t start, int n, int first) {
  Share<T, 1, GROUP>(me.line(p, p.B, start, first), n, p.S - first).spread(B);
  Share<T, 1, GROUP>(me.line(p, p.C, start, first), n, p.S - first).spread(C);
  load_A(A, p, me, first);
}

/* ---- one thread's rows of one state */
/* max(v,0) + log(1 + e), e = exp(−|v|). The rounding error of w = 1 + e is added back, so that small results are
 * accurate. */
static __device__ inline float softplus(float v) {
  float e = expf(-fabsf(v)), w = 1 + e;
  return fmaxf(v, 0) + (logf(w) + (e - (w - 1)));
}

/* 2^v in one instruction, if the result is a normal number. */
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

/* A thread's rows as one step of the recurrence: the state they end in from zero, and the factor of the incoming state.
 * The lanes of a channel combine theirs by a scan of log2(RUNS) steps. BACK: from the last lane to the first. */
template <bool BACK> struct Link {
  float end, product;
  int before; /* number of lanes before this one */
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
  /* The state before this thread's rows. */
  __device__ float in(float carry) const {
    float e = from(end, 1);
    return before == 0 ? carry : e;
  }
};

struct Steps { /* of a thread's rows: Δ, Δ x */
  float delta[RUN], u[RUN];
  __device__ Steps(const float *x, const float *dt, const Thread &me, int n) {
    for (int i = 0; i < RUN; i++) {
      int at = cell(me.run * RUN + i, me.channel);
      float step = softplus(dt[at]);
      delta[i] = me.run * RUN + i < n ? step : 0;
      u[i] = delta[i] * x[at];
    }
  }
  /* a of each row. fmaxf drops NaN: a NaN of Δ remains in u, and spoilt() keeps one of A. */
  __device__ void decay(float *a, float A) const {
    for (int i = 0; i < RUN; i++) a[i] = power_of_2(fmaxf(delta[i] * A, LOWEST));
  }
};
static __device__ inline float spoilt(float carry, float A) { return isnan(A) ? A : carry; }

/* A state's B, C and A in shared memory; next() moves to the next state. */
struct Cursor {
  const Quad *B, *C;
  const float *A;
  __device__ void next() {
    B += COLUMN;
    C += COLUMN;
    A += CHANNELS + 1;
  }
};

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

/* Whether the inputs consist of packs, and all states form one group. */
template <class A> static bool usual(const Scan *a) {
  return cols_of(a->B) <= GROUP && in_packs(a->B, HALF) && in_packs(a->C, HALF) && in_packs(a->x, WIDE<A>) &&
         in_packs(a->dt, WIDE<A>);
}

} /* namespace */
