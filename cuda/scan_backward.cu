/* scan_backward — gradients of the scan; formulas and the reasons for the layout are at the head of scan.cu.
 *
 * A block processes its chunks from the last to the first. Within a chunk, each state runs in both directions at once:
 * h forward from the state kept by the forward pass, q backward from the chunk processed before.
 *
 * dB and dC are sums over channels. A block sums over its own channels through shared memory, state by state, and
 * writes a partial sum to scratch memory; a last kernel adds the partial sums in order. They take 8 S bytes per row and
 * CHANNELS channels, written and read once. dA and dD are summed over sequences in the same way. */
#include "backend.h"
#include "scan.cuh"

namespace {

struct Slopes {
  float dy[RUN], du[RUN], dd[RUN]; /* dd: Σ_s g A·log2(e) */
};

/* One state of the thread's rows: adds to du and dd, and writes dB and dC to `out`. `before` is h before the chunk;
 * *carry is q after the chunk and becomes q before it. Returns Σ g Δ of these rows. */
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

/* part[SUM] := Σ over the block's channels of sums[CHANNELS][SUM_STRIDE], by two threads per element */
static __device__ inline void sum_channels(float *part, const Quad *sums) {
  static_assert(2 * SUM * HALF == THREADS, "two threads per element");
  const float *from = (const float *)sums + threadIdx.x % 2 * SUM_STRIDE * HALF + threadIdx.x / 2;
  float sum = 0;
  for (int c = 0; c < CHANNELS / 2; c++) sum += from[2 * c * SUM_STRIDE * HALF];
  sum += __shfl_xor_sync(~0u, sum, 1);
  if (threadIdx.x % 2 == 0) part[threadIdx.x / 2] = sum;
}

/* Global memory of the current state: the kept states, the carries q and dA, and the block's part of dB, dC. */
struct Stored {
  const float *kept;
  float *q, *dA, *part;
  bool first, reads_dA, reads_q; /* the thread has the chunk's first rows; it reads the carries of a later chunk */
  __device__ void next(int64_t E) {
    kept += E;
    q += E;
    dA += E;
    part += SUM * HALF;
  }
};

/* One state of a chunk. `sums` may hold what the previous state left there. */
static __device__ inline void chunk_state(Slopes *to, const Steps &steps, const Cursor &at, const Stored &state,
                                          const Thread &me, Quad *sums) {
  float before = state.first ? *state.kept : 0, q = state.reads_q ? *state.q : 0, dA = state.reads_dA ? *state.dA : 0;
  __syncthreads(); /* dy and the previous state's sums have been read */
  float mine = state_backward(to, steps, at.B, at.C, *at.A, before, &q, me.run, sums + me.channel * SUM_STRIDE);
  mine = sum_of_runs(mine);
  if (state.first) *state.q = q;
  if (state.first) *state.dA = dA + mine;
  __syncthreads();
  sum_channels(state.part, sums);
}

/* dx and ddt of the thread's rows, in place of x and dt; *dD += its part. */
static __device__ inline void finish_rows(float *x, float *dt, float *dD, const Slopes &to, const Steps &steps,
                                          const Thread &me, float D) {
  for (int i = 0; i < RUN; i++) {
    int here = cell(me.run * RUN + i, me.channel);
    float slope = __fdividef(1, 1 + expf(-dt[here]));
    *dD += to.dy[i] * x[here];
    dt[here] = (to.dd[i] * LN2 + to.du[i] * x[here]) * slope;
    x[here] = to.du[i] * steps.delta[i] + D * to.dy[i];
  }
}

template <class A, int N> __global__ void __launch_bounds__(THREADS, N > 1 ? 2 : 1) k_scan_backward(ScanArgs<A> p) {
  SHARED(float, x, TILE);
  SHARED(float, dt, TILE);
  SHARED(Quad, sums, CHANNELS * SUM_STRIDE); /* holds dy first */
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
    ShareOfTile<A, N> next_dy(me.line(p, p.dy, start, column), n, cols);
    Inputs<A, N> next(p, me, start, n, cols);
    __syncthreads(); /* the gradients of the chunk before have been stored */
    next_dy.spread(dy);
    next.spread(x, dt, B, C);
    if (N == 1) load_A(decay, p, me, 0);
    __syncthreads();
    Steps steps(x, dt, me, n);
    Slopes to;
    for (int i = 0; i < RUN; i++) {
      to.dy[i] = dy[cell(me.run * RUN + i, me.channel)];
      to.du[i] = to.dd[i] = 0;
    }
    int64_t part = (int64_t)(me.group * (gridDim.x / (unsigned)p.groups)) * p.chunks + slot;
    Stored state = {p.states + slot * p.S * p.E + me.e,
                    carry,
                    carry + p.S * p.E,
                    p.rows + part * p.S * SUM * HALF,
                    first,
                    first && more,
                    last && more};
    Cursor at = {B, C, decay + me.channel};
    for (int s = 0; s < p.S; s++) {
      if (N == 1 && s > 0 && s % GROUP == 0) {
        __syncthreads(); /* the group before has been read */
        load_group<A>(B, C, decay, p, me, start, n, s);
        at = {B, C, decay + me.channel};
      }
      chunk_state(&to, steps, at, state, me, sums);
      state.next(p.E);
      at.next();
    }
    finish_rows(x, dt, &dD, to, steps, me, D);
    __syncthreads();
    store_tile<A, N>(me.line(p, p.dx, start, column), x, n, cols, false);
    store_tile<A, N>(me.line(p, p.ddt, start, column), dt, n, cols, false);
  }
  dD = sum_of_runs(dD);
  if (first) carry[2 * p.S * p.E] = dD;
}

/* dB and dC: the sum of the groups' partial sums, in order. A thread takes one element. */
template <class A> __global__ void k_scan_rows(ScanArgs<A> p, Rows<A> dB, Rows<A> dC, int64_t n) {
  int64_t i = thread_number();
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

/* dA_log and dD: the sum over sequences, in order. A thread takes a channel and a state, or a channel's D. */
static __global__ void k_scan_channels(const float *carry, int64_t sequences, int64_t E, int64_t S, const float *A_log,
                                       float *dA_log, float *dD) {
  int64_t i = thread_number(), s = i / E, e = i % E;
  if (s > S) return;
  float sum = 0;
  for (int64_t b = 0; b < sequences; b++) sum += carry[(b * (2 * S + 1) + S + s) * E + e];
  if (s == S)
    dD[e] += sum;
  else
    dA_log[e * S + s] -= sum * expf(A_log[e * S + s]);
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

} /* namespace */

int cuda_scan_backward(Device *dev, const Scan *a) {
  return WITH_TYPE(a->x.type, WITH_PACKS(usual<A>(a) && in_packs(a->dy, WIDE<A>) && in_packs(a->dx, WIDE<A>) &&
                                             in_packs(a->ddt, WIDE<A>),
                                         WIDE<A>, (launch_backward<A, N>(dev, a))));
}
