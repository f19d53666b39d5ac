#include "network/power.h"
#include "base/err.h"
#include "base/mem.h"
#include <math.h>
#include <stdbool.h>

double power_gamma(double sigma) {
  double low = 0, high = 1 / sigma; /* σ falls with γ, and is below 1/γ */
  for (int i = 0; i < 200; i++) {
    double g = (low + high) / 2;
    if ((g + 1) / ((g + 2) * (g + 2) * (g + 3)) > sigma * sigma)
      low = g;
    else
      high = g;
  }
  return (low + high) / 2;
}

double power_fresh(double gamma, int64_t step) { return -expm1((gamma + 1) * log1p(-1 / (double)step)); }

double power_product(Power a, Power b) {
  Power late = a.step > b.step ? a : b, early = a.step > b.step ? b : a;
  return (a.gamma + 1) * (b.gamma + 1) / (a.gamma + b.gamma + 1) * pow(early.step / late.step, late.gamma) / late.step;
}

/* ---- A = L Lᵀ, the rows of L one after the other; a row without a pivot is left out */

typedef struct Factor {
  int n;
  double *L;  /* [n,n] lower */
  bool *used; /* [n] */
} Factor;

static void factor_destroy(Factor *f) {
  mem_free(&f->L);
  mem_free(&f->used);
}

static double dot(const double *a, const double *b, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

static void factor_row(Factor *f, const Power *p, int i) {
  const double DEPENDENT = 1e-12;
  double *row = f->L + (int64_t)i * f->n, whole = power_product(p[i], p[i]);
  for (int j = 0; j < i; j++) {
    const double *other = f->L + (int64_t)j * f->n;
    row[j] = f->used[j] ? (power_product(p[i], p[j]) - dot(row, other, j)) / other[j] : 0;
  }
  double pivot = whole - dot(row, row, i);
  f->used[i] = pivot > DEPENDENT * whole;
  row[i] = f->used[i] ? sqrt(pivot) : 0;
}

static int factor_create(Factor *f, const Power *p, int n) {
  *f = (Factor){.n = n};
  TRY(mem_alloc(&f->L, (size_t)n * (size_t)n * sizeof *f->L));
  TRY(mem_alloc(&f->used, (size_t)n * sizeof *f->used));
  for (int i = 0; i < n; i++) factor_row(f, p, i);
  return OK;
}

/* x := A⁻¹ x on the rows that are used, 0 on the others. */
static void factor_solve(const Factor *f, double *x) {
  for (int i = 0; i < f->n; i++) {
    const double *row = f->L + (int64_t)i * f->n;
    x[i] = f->used[i] ? (x[i] - dot(row, x, i)) / row[i] : 0;
  }
  for (int i = f->n - 1; i >= 0; i--) {
    const double *row = f->L + (int64_t)i * f->n;
    if (!f->used[i]) continue;
    x[i] /= row[i];
    for (int j = 0; j < i; j++) x[j] -= row[j] * x[i];
  }
  for (int i = 0; i < f->n; i++)
    if (!f->used[i]) x[i] = 0;
}

/* ‖Σ w_i p_i − wanted‖² */
static double distance_squared(const Power *p, int n, Power wanted, const double *w) {
  double sum = power_product(wanted, wanted);
  for (int i = 0; i < n; i++) {
    double row = -2 * power_product(p[i], wanted);
    for (int j = 0; j < n; j++) row += w[j] * power_product(p[i], p[j]);
    sum += w[i] * row;
  }
  return sum;
}

int power_solve(const Power *p, int n, Power wanted, double *weight, double *distance) {
  Factor f;
  double *ones = NULL, sum = 0, all = 0;
  int err = factor_create(&f, p, n);
  if (err == OK) err = mem_alloc(&ones, (size_t)n * sizeof *ones);
  for (int i = 0; i < n && err == OK; i++) {
    weight[i] = power_product(p[i], wanted);
    ones[i] = 1;
  }
  if (err == OK) {
    factor_solve(&f, weight);
    factor_solve(&f, ones);
    for (int i = 0; i < n; i++) sum += weight[i], all += ones[i];
    for (int i = 0; i < n; i++) weight[i] += (1 - sum) / all * ones[i];
    *distance = sqrt(fmax(0, distance_squared(p, n, wanted, weight) / power_product(wanted, wanted)));
  }
  factor_destroy(&f);
  mem_free(&ones);
  return err;
}
