/* conv — causal convolution of each channel, followed by SiLU.
 *
 * A task is COLS channels of one sequence; its taps are copied into a small table, channel fastest. Each row of dx
 * needs the slope of SiLU at W rows: backward first writes d(pre) of the whole sequence to the thread's scratch, then
 * gathers from it. The sums over a sequence (dweight, dbias) are added in the order of the sequences. */
#include "ops/cpu/cpu.h"
#include <omp.h>

enum { COLS = 64 };

typedef struct Task { /* channels first … first+n−1 of sequence b */
  const Conv *a;
  int64_t b, first, n, W;
  real w[CONV_TAPS][COLS], bias[COLS];
} Task;

static void task_of(Task *k, const Conv *a, int64_t index) {
  int64_t E = cols_of(a->x), W = cols_of(a->weight), blocks = (E + COLS - 1) / COLS;
  k->a = a;
  k->b = index / blocks;
  k->first = index % blocks * COLS;
  k->n = min64(COLS, E - k->first);
  k->W = W;
  const real *w = (const real *)a->weight.data + k->first * W, *bias = (const real *)a->bias.data + k->first;
  for (int64_t i = 0; i < k->n; i++) {
    for (int64_t j = 0; j < W; j++) k->w[j][i] = w[i * W + j];
    k->bias[i] = bias[i];
  }
}

/* The row of step t, in the task's direction, in a [R,E] tensor. */
static real *at(const Task *k, Tensor x, int64_t t) {
  int64_t L = k->a->L;
  return row(x, k->b * L + (k->a->reverse ? L - 1 - t : t)) + k->first;
}

/* pre[n] at step t; tap j is applied to step t−(W−1)+j. */
static void convolve(const Task *k, real *restrict pre, int64_t t) {
  int64_t n = k->n, W = k->W;
  for (int64_t i = 0; i < n; i++) pre[i] = k->bias[i];
  for (int64_t j = W - 1 > t ? W - 1 - t : 0; j < W; j++) {
    const real *restrict x = at(k, k->a->x, t - (W - 1) + j), *restrict w = k->w[j];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) pre[i] += w[i] * x[i];
  }
}

int FN(conv)(Device *dev, const Conv *a) {
  (void)dev;
  int64_t tasks = rows_of(a->x) / a->L * ((cols_of(a->x) + COLS - 1) / COLS);
#pragma omp parallel for schedule(static)
  for (int64_t index = 0; index < tasks; index++) {
    Task k;
    task_of(&k, a, index);
    for (int64_t t = 0; t < a->L; t++) {
      real pre[COLS], *restrict y = at(&k, a->y, t);
      convolve(&k, pre, t);
#pragma omp simd
      for (int64_t i = 0; i < k.n; i++) y[i] = pre[i] / (1 + real_exp(-pre[i]));
    }
  }
  return OK;
}

/* d[L][COLS] := gradient of pre; sum[W+1][COLS] := the sums over the sequence, dweight followed by dbias. */
static void pre_backward(const Task *k, real *d, real *sum) {
  int64_t n = k->n, W = k->W;
  for (int64_t i = 0; i < (W + 1) * COLS; i++) sum[i] = 0;
  for (int64_t t = 0; t < k->a->L; t++) {
    real *restrict to = d + t * COLS, *restrict dbias = sum + W * COLS;
    const real *restrict dy = at(k, k->a->dy, t);
    convolve(k, to, t);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      real s = 1 / (1 + real_exp(-to[i]));
      to[i] = dy[i] * s * (1 + to[i] * (1 - s));
      dbias[i] += to[i];
    }
    for (int64_t j = W - 1 > t ? W - 1 - t : 0; j < W; j++) {
      const real *restrict x = at(k, k->a->x, t - (W - 1) + j);
      real *restrict dw = sum + j * COLS;
#pragma omp simd
      for (int64_t i = 0; i < n; i++) dw[i] += to[i] * x[i];
    }
  }
}

static void input_backward(const Task *k, const real *d) {
  int64_t n = k->n, W = k->W, L = k->a->L;
  for (int64_t t = 0; t < L; t++) {
    real *restrict dx = at(k, k->a->dx, t);
    if (!k->a->add)
      for (int64_t i = 0; i < n; i++) dx[i] = 0;
    for (int64_t j = W - 1; j >= 0 && t + W - 1 - j < L; j--) {
      const real *restrict from = d + (t + W - 1 - j) * COLS, *restrict w = k->w[j];
#pragma omp simd
      for (int64_t i = 0; i < n; i++) dx[i] += w[i] * from[i];
    }
  }
}

static void add_sums(const Conv *a, const real *sums, int64_t blocks) {
  int64_t E = cols_of(a->x), W = cols_of(a->weight), B = rows_of(a->x) / a->L;
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < E; e++) {
    real *dw = (real *)a->dweight.data + e * W, *dbias = (real *)a->dbias.data + e;
    for (int64_t j = 0; j <= W; j++) {
      real total = 0;
      for (int64_t b = 0; b < B; b++) total += sums[((b * blocks + e / COLS) * (W + 1) + j) * COLS + e % COLS];
      *(j < W ? dw + j : dbias) += total;
    }
  }
}

int FN(conv_backward)(Device *dev, const Conv *a) {
  int64_t W = cols_of(a->weight), blocks = (cols_of(a->x) + COLS - 1) / COLS, tasks = rows_of(a->x) / a->L * blocks;
  real *sums, *thread_rows;
  TRY(FN(scratch)(dev, SCRATCH_PARTIAL, (size_t)(tasks * (W + 1) * COLS) * sizeof(real), &sums));
  TRY(FN(scratch)(dev, SCRATCH_THREAD, (size_t)(dev->threads * a->L * COLS) * sizeof(real), &thread_rows));
#pragma omp parallel for schedule(static) num_threads(dev->threads)
  for (int64_t index = 0; index < tasks; index++) {
    Task k;
    task_of(&k, a, index);
    real *d = thread_rows + omp_get_thread_num() * a->L * COLS;
    pre_backward(&k, d, sums + index * (W + 1) * COLS);
    input_backward(&k, d);
  }
  add_sums(a, sums, blocks);
  return OK;
}
