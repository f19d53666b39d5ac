/* scan_backward — the scan's gradients; what they are and why the layout is as it is heads scan.cu.
 *
 * A block goes through its chunks from the last to the first and, of each state, both ways at once: the state from the
 * one that forward has kept, q from the chunk before.
 * dB and dC are sums over channels: a block adds its own through shared memory, state by state, and leaves its part in
 * scratch, which a last kernel adds in order: 8 S bytes a row of CHANNELS channels, written and read once. So are the
 * parts of dA and dD, one of each sequence. */
#include "backend.h"
#include "scan.cuh"

namespace {

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
  int64_t n = 16 / (int64_t)dtype_size(a->x.type);
  bool packs = usual(a, n) && in_packs(a->dy, n) && in_packs(a->dx, n) && in_packs(a->ddt, n);
  return WITH_TYPE(a->x.type, packs ? launch_backward<A, 16 / (int)sizeof(A)>(dev, a) : launch_backward<A, 1>(dev, a));
}
