/* scan — the selective state-space recurrence, forward, with the rows of a chunk spread over the lanes of a warp.
 * Backward is scan_backward.cu; both share scan.cuh.
 *
 *   a_t = exp(Δ_t A),  u = Δ x,  h_t = a_t h_{t−1} + u_t B_t,  y_t = Σ_s C_t h_t + D x_t
 *   dh_t = C_t dy_t + q_{t+1},  q_t = a_t dh_t,  dC_t = Σ_e dy_t h_t,  dB_t = Σ_e dh_t u_t,  du_t = Σ_s dh_t B_t,
 *   g_t = q_t h_{t−1},  dΔ = Σ_s g A + du x,  dA = Σ_t g Δ,  dx = du Δ + D dy,  dA_log = dA·A
 *
 * The floor, per token and channel with S = 16 in bf16. Memory: forward reads x and dt and writes y, 6 bytes, and 1
 * byte of states; backward reads x, dt, dy and states and writes dx and ddt, 11 bytes. A multiprocessor of an H200
 * moves about 20 bytes a clock, so this takes a third of a clock forward and half a clock backward. The S exponentials
 * take 1 clock in either direction, at 16 per clock. Instructions dominate, at 128 lanes per clock: the kernels have 14
 * per state forward and 33 backward, and 120 and 170 outside the loop over states (mostly softplus, its slope, and the
 * copies to and from shared memory): 2.7 clocks forward, 5.5 backward. So B = 32, L = 1024, E = 1536 is predicted to
 * take 0.7 ms and 1.4 ms on an H200.
 *
 * Hence the layout. A thread takes one channel and RUN consecutive rows; RUNS neighbouring threads take a chunk of
 * SCAN_CHUNK rows, and a block takes CHANNELS channels of one sequence. The states are processed in turn: a thread runs
 * through its rows from zero, the threads of a chunk combine their end states by shuffles (the recurrence is
 * associative), and the thread runs through its rows again from its true initial state. So
 *   - each exponential is computed once, in backward too: h and a of a run stay in registers. A thread with all states
 *     of a channel would have to recompute both, from more states than are kept;
 *   - sums over states (y, du, dΔ) stay within a thread, and no register count depends on S;
 *   - a small batch still fills the GPU, since a channel has RUNS threads.
 * The cost is one multiplication and one addition per row, direction and state, and the shuffles: about 4 of the 14.
 *
 * The carry between chunks is kept in global memory, [S,E] per sequence, and stays in cache; that of forward is the
 * `states` from which backward starts. Rows beyond the end have Δ = 0 and u = 0 and leave the state unchanged. */
#include "backend.h"
#include "scan.cuh"

namespace {

/* y += C h over the thread's rows; returns the state after the last. */
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
    Inputs<A, N> next(p, me, start, n, cols);
    __syncthreads(); /* the y of the chunk before has been stored */
    next.spread(x, dt, B, C);
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
    for (int i = 0; i < RUN; i++) x[cell(me.run * RUN + i, me.channel)] = y[i]; /* only this thread reads these */
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
  return WITH_TYPE(a->x.type, WITH_PACKS(usual<A>(a) && in_packs(a->y, WIDE<A>), WIDE<A>, (launch<A, N>(dev, a))));
}
