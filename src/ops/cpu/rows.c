/* rows — embedding, gather and scatter of rows, SiLU and the SiLU gate. */
#include "ops/cpu/cpu.h"
#include <string.h>

enum { COLS = 64 };

int FN(embed)(Device *dev, Tensor x, Tensor ids, Tensor table) { return FN(gather_rows)(dev, x, table, ids); }

int FN(gather_rows)(Device *dev, Tensor y, Tensor x, Tensor rows) {
  (void)dev;
  int64_t n = tensor_count(rows), D = cols_of(x);
  const int32_t *r = rows.data;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; i++) memcpy(row(y, i), row(x, r[i]), (size_t)D * sizeof(real));
  return OK;
}

/* Rows may share an id, so each thread owns a range of columns and adds the rows in order. */
int FN(embed_backward)(Device *dev, Tensor dtable, Tensor dx, Tensor ids) {
  (void)dev;
  int64_t R = tensor_count(ids), D = cols_of(dx);
  const int32_t *id = ids.data;
#pragma omp parallel for schedule(static)
  for (int64_t d0 = 0; d0 < D; d0 += COLS) {
    int64_t n = min64(COLS, D - d0);
    for (int64_t r = 0; r < R; r++) {
      real *to = row(dtable, id[r]) + d0;
      const real *from = row(dx, r) + d0;
#pragma omp simd
      for (int64_t d = 0; d < n; d++) to[d] += from[d];
    }
  }
  return OK;
}

int FN(embed_mix)(Device *dev, Tensor x, const Mixture *m, Tensor table) {
  (void)dev;
  int64_t R = rows_of(x), D = cols_of(x);
  const int32_t *begin = m->begin.data, *id = m->ids.data;
  const real *weight = m->weights.data;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    real *to = row(x, r);
    memset(to, 0, (size_t)D * sizeof(real));
    for (int32_t e = begin[r]; e < begin[r + 1]; e++) {
      const real *from = row(table, id[e]), w = weight[e];
#pragma omp simd
      for (int64_t d = 0; d < D; d++) to[d] += w * from[d];
    }
  }
  return OK;
}

int FN(embed_mix_backward)(Device *dev, Tensor dtable, Tensor dx, const Mixture *m) {
  (void)dev;
  int64_t n = tensor_count(m->ids), D = cols_of(dx);
  const int32_t *id = m->ids.data, *of = m->rows.data;
  const real *weight = m->weights.data;
#pragma omp parallel for schedule(static)
  for (int64_t d0 = 0; d0 < D; d0 += COLS) {
    int64_t cols = min64(COLS, D - d0);
    for (int64_t e = 0; e < n; e++) {
      real *to = row(dtable, id[e]) + d0;
      const real *from = row(dx, of[e]) + d0, w = weight[e];
#pragma omp simd
      for (int64_t d = 0; d < cols; d++) to[d] += w * from[d];
    }
  }
  return OK;
}

int FN(scatter_rows)(Device *dev, Tensor y, Tensor x, Tensor rows) {
  (void)dev;
  int64_t R = rows_of(y), n = tensor_count(rows), D = cols_of(y);
  const int32_t *r = rows.data;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < R; i++) memset(row(y, i), 0, (size_t)D * sizeof(real));
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; i++) memcpy(row(y, r[i]), row(x, i), (size_t)D * sizeof(real));
  return OK;
}

int FN(silu)(Device *dev, Tensor y, Tensor x) {
  (void)dev;
  const real *in = x.data;
  real *out = y.data;
  int64_t n = tensor_count(x);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) out[i] = in[i] / (1 + real_exp(-in[i]));
  return OK;
}

int FN(silu_backward)(Device *dev, Tensor dx, Tensor dy, Tensor x) {
  (void)dev;
  const real *in = x.data, *d = dy.data;
  real *out = dx.data;
  int64_t n = tensor_count(x);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    real s = 1 / (1 + real_exp(-in[i]));
    out[i] = d[i] * s * (1 + in[i] * (1 - s));
  }
  return OK;
}

int FN(gate)(Device *dev, Tensor o, Tensor y, Tensor z) {
  (void)dev;
  int64_t R = rows_of(y), E = cols_of(y);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    real *to = row(o, r);
    const real *v = row(y, r), *g = row(z, r);
#pragma omp simd
    for (int64_t e = 0; e < E; e++) to[e] = v[e] * g[e] / (1 + real_exp(-g[e]));
  }
  return OK;
}

int FN(gate_backward)(Device *dev, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z) {
  (void)dev;
  int64_t R = rows_of(y), E = cols_of(y);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < R; r++) {
    real *to_y = row(dy, r), *to_z = row(dz, r);
    const real *v = row(y, r), *g = row(z, r), *d = row(d_o, r);
#pragma omp simd
    for (int64_t e = 0; e < E; e++) {
      real s = 1 / (1 + real_exp(-g[e])), de = d[e];
      to_y[e] = de * g[e] * s;
      to_z[e] = de * v[e] * s * (1 + g[e] * (1 - s));
    }
  }
  return OK;
}
