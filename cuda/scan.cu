/* scan — the selective state-space recurrence, with the rows of a chunk spread over the lanes of a warp; forward. Back
 * is scan_backward.cu, what both share scan.cuh.
 *
 *   a_t = exp(Δ_t A),  u = Δ x,  h_t = a_t h_{t−1} + u_t B_t,  y_t = Σ_s C_t h_t + D x_t
 *   dh_t = C_t dy_t + q_{t+1},  q_t = a_t dh_t,  dC_t = Σ_e dy_t h_t,  dB_t = Σ_e dh_t u_t,  du_t = Σ_s dh_t B_t,
 *   g_t = q_t h_{t−1},  dΔ = Σ_s g A + du x,  dA = Σ_t g Δ,  dx = du Δ + D dy,  dA_log = dA·A
 *
 * The floor, a token and channel, S = 16, bf16: forward reads x and dt and writes y, 6 bytes, and 1 more of states;
 * backward reads x, dt, dy and states and writes dx and ddt, 11 bytes. An H200's multiprocessor moves about 20 bytes a
 * clock: a third of a clock forward, half a clock backward. The S exponentials in either direction take 1 clock, for 16
 * are made in one. Instructions cost most, 128 lanes doing one each: the kernels have 14 a state forward and 33
 * backward, and 120 and 170 for what happens once (softplus and its slope above all, and the way to and from shared
 * memory): 2.7 clocks forward, 5.5 backward. So B = 32, L = 1024, E = 1536 should take 0.7 ms and 1.4 ms of an H200: a
 * prediction.
 *
 * Hence the layout. A thread is one channel and RUN rows one after the other; RUNS threads side by side make a chunk of
 * SCAN_CHUNK rows, a block CHANNELS channels of one sequence. The states are taken in turn: a thread goes through its
 * rows from zero, the threads of a chunk put their ends together by shuffles (the recurrence is associative), and the
 * thread goes through its rows again from the state they hand it. So
 *   - each exponential is made once, in backward as well: h and a of a run stand in registers, where a thread with all
 *     the states of a channel would have to compute both again, from more states than are kept;
 *   - sums over the states (y, du, dΔ) stay in a thread, and S is a number like any other: no register depends on it;
 *   - a small batch still fills the GPU: RUNS threads a channel.
 * It costs a multiplication and an addition a row, direction and state, and the shuffles: about 4 of the 14.
 *
 * The carry between chunks lies in global memory, [S,E] of each sequence, where the caches keep it; that of forward is
 * the very `states` backward starts from. Rows beyond the end have Δ = 0 and u = 0, and leave the state as it is. */
#include "backend.h"
#include "scan.cuh"

namespace {

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
  float D = me.e < p.E ? p.D[me.e] : 0, *kept = p.states + (int64_t)me.b * (p.keep ? p.chunks : 2) * p.S * p.E + me.e;
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
    float *from = kept, *to = p.keep || k % 2 == 0 ? kept + p.S * p.E : kept - p.S * p.E;
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

template <class A, int N> static int launch(Device *dev, const Scan *a) {
  ScanArgs<A> p = args_of<A>(a);
  int64_t sequences = rows_of(a->x) / a->L;
  if (!p.keep) TRY(cuda_scratch(dev, SCRATCH_PARTIAL, (size_t)(2 * sequences * p.S * p.E) * sizeof(float), &p.states));
  return LAUNCH(dev, (k_scan<A, N>), sequences * p.groups, p);
}

} /* namespace */

int cuda_scan(Device *dev, const Scan *a) {
  int64_t n = 16 / (int64_t)dtype_size(a->x.type);
  bool packs = usual(a, n) && in_packs(a->y, n);
  return WITH_TYPE(a->x.type, packs ? launch<A, 16 / (int)sizeof(A)>(dev, a) : launch<A, 1>(dev, a));
}
