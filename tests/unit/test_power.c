/* power — power-law averages: widths and products by quadrature; averages put together from others, beside those kept
 * directly. */
#include "base/rng.h"
#include "check.h"
#include "network/power.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ∫₀^end τ^m p_a(τ) p_b(τ) dτ by Gauss-Legendre, in halves that shrink towards 0, each in parts; without b, p_b is 1. */
static double density(Power p, double tau) {
  return tau > p.step ? 0 : (p.gamma + 1) / p.step * pow(tau / p.step, p.gamma);
}

static double integral(Power a, const Power *b, int m, double end) {
  static const double x[] = {0.1252334085114689, 0.3678314989981802, 0.5873179542866175,
                             0.7699026741943047, 0.9041172563704749, 0.9815606342467192};
  static const double w[] = {0.2491470458134028, 0.2334925365383548, 0.2031674267230659,
                             0.1600783285433462, 0.1069393259953184, 0.0471753363865118};
  enum { HALVES = 40, PARTS = 16 };
  double sum = 0;
  for (int i = 0; i < HALVES * PARTS; i++) {
    double whole = ldexp(end, -1 - i / PARTS), half = whole / PARTS / 2, middle = whole + (2 * (i % PARTS) + 1) * half;
    for (int k = 0; k < 12; k++) {
      double tau = middle + (k % 2 ? half : -half) * x[k / 2];
      sum += half * w[k / 2] * pow(tau, m) * density(a, tau) * (b ? density(*b, tau) : 1);
    }
  }
  return sum;
}

static void near(double a, double b, double bound) {
  if (!(fabs(a - b) <= bound * fabs(b))) fail_msg("%.12g is not %.12g to %g", a, b, bound);
}

static void widths(void **state) {
  (void)state;
  static const double sigma[] = {POWER_NARROW, 0.05, 0.10, 0.2, POWER_WIDE};
  for (int i = 0; i < 5; i++) {
    Power p = {1, power_gamma(sigma[i])};
    double mean = integral(p, NULL, 1, 1), square = integral(p, NULL, 2, 1);
    near(integral(p, NULL, 0, 1), 1, 1e-9);
    near(sqrt(square - mean * mean), sigma[i], 1e-7);
  }
  near(power_gamma(0.05), 16.97, 1e-3); /* as published */
  near(power_gamma(0.10), 6.94, 1e-3);
}

static void products(void **state) {
  (void)state;
  static const Power p[] = {{1000, 16.97}, {1000, 6.94}, {700, 16.97}, {700, 6.94}, {30, 0.5}, {1e6, 100}, {9e5, 3}};
  for (int i = 0; i < 7; i++)
    for (int j = 0; j < 7; j++) {
      double size = sqrt(power_product(p[i], p[i]) * power_product(p[j], p[j]));
      double want = integral(p[i], &p[j], 0, fmin(p[i].step, p[j].step));
      assert_true(fabs(power_product(p[i], p[j]) - want) < 1e-9 * size);
      assert_true(power_product(p[i], p[j]) == power_product(p[j], p[i]));
    }
}

/* The recurrence has the profile's mass in each step, from the first one on. */
static void recurrence(void **state) {
  (void)state;
  enum { T = 40 };
  double gamma = power_gamma(0.1), mass[T + 1] = {0};
  for (int t = 1; t <= T; t++) {
    double fresh = power_fresh(gamma, t);
    for (int k = 1; k < t; k++) mass[k] *= 1 - fresh;
    mass[t] = fresh;
  }
  assert_true(power_fresh(gamma, 1) == 1);
  for (int k = 1; k <= T; k++)
    near(mass[k], pow(k / (double)T, gamma + 1) - pow((k - 1) / (double)T, gamma + 1), 1e-10);
}

/* ---- a walk of many parameters, its averages, and snapshots of two of them */
enum { STEPS = 3000, EVERY = 50, MOVING = 200, KEPT = STEPS / EVERY, WIDTHS = 6 };
static const double wanted_widths[WIDTHS] = {0.03, 0.05, 0.07, 0.10, 0.15, 0.2};

static void walk_step(double *theta, int t) {
  for (int i = 0; i < MOVING; i++) {
    RngKey key = rng_key(3, RNG_INIT, (uint32_t)i, 0, 0);
    double noise = rng_uniform(key, (uint64_t)t) - 0.5, drift = 3.0 * i / MOVING / (1 + t / 300.0);
    theta[i] += drift / 10 + 0.3 * noise;
  }
  theta[0] = 0.125; /* one that does not move */
}

typedef struct Averages {
  Power profile[2 * KEPT];
  double snapshot[2 * KEPT][MOVING], direct[WIDTHS][MOVING], last[MOVING];
} Averages;

static void average(double *to, const double *theta, double fresh) {
  for (int i = 0; i < MOVING; i++) to[i] += fresh * (theta[i] - to[i]);
}

static void averages_of_walk(Averages *a) {
  static const double kept[2] = {0.05, 0.10};
  double theta[MOVING] = {0}, trace[2][MOVING] = {{0}}, gamma[WIDTHS], kept_gamma[2];
  int n = 0;
  memset(a, 0, sizeof *a);
  for (int w = 0; w < WIDTHS; w++) gamma[w] = power_gamma(wanted_widths[w]);
  for (int k = 0; k < 2; k++) kept_gamma[k] = power_gamma(kept[k]);
  for (int t = 1; t <= STEPS; t++) {
    walk_step(theta, t);
    for (int w = 0; w < WIDTHS; w++) average(a->direct[w], theta, power_fresh(gamma[w], t));
    for (int k = 0; k < 2; k++) average(trace[k], theta, power_fresh(kept_gamma[k], t));
    for (int k = 0; k < 2 && t % EVERY == 0; k++, n++) {
      a->profile[n] = (Power){t, kept_gamma[k]};
      memcpy(a->snapshot[n], trace[k], sizeof trace[k]);
    }
  }
  memcpy(a->last, theta, sizeof theta);
}

static double apart(const double *a, const double *b) {
  double difference = 0, size = 0;
  for (int i = 0; i < MOVING; i++) difference += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
  return sqrt(difference / size);
}

static void put_together(void **state) {
  (void)state;
  static Averages a;
  averages_of_walk(&a);
  for (int w = 0; w < WIDTHS; w++) {
    double weight[2 * KEPT], distance, sum = 0, made[MOVING] = {0};
    Power wanted = {STEPS, power_gamma(wanted_widths[w])};
    MUST(power_solve(a.profile, 2 * KEPT, wanted, weight, &distance));
    for (int n = 0; n < 2 * KEPT; n++) {
      sum += weight[n];
      for (int i = 0; i < MOVING; i++) made[i] += weight[n] * a.snapshot[n][i];
    }
    printf("# width %g: profile to %.2g, weights to %.2g, last weights at %.2g\n", wanted_widths[w], distance,
           apart(made, a.direct[w]), apart(a.last, a.direct[w]));
    near(sum, 1, 1e-9);
    near(made[0], 0.125, 1e-9);
    assert_true(apart(made, a.direct[w]) < 1e-4);
    assert_true(apart(a.last, a.direct[w]) > 1e-2); /* the bound tells averages apart */
    for (int other = 0; other < WIDTHS; other++)
      if (other != w) assert_true(apart(made, a.direct[other]) > 2e-3);
  }
}

/* A width that was kept is that snapshot alone; a snapshot given twice counts once. */
static void kept_width(void **state) {
  (void)state;
  Power p[] = {{100, power_gamma(0.05)}, {200, power_gamma(0.05)}, {200, power_gamma(0.1)}, {200, power_gamma(0.05)}};
  double weight[4], distance;
  MUST(power_solve(p, 4, p[2], weight, &distance));
  near(weight[2], 1, 1e-9);
  assert_true(fabs(weight[0]) < 1e-9 && fabs(weight[1]) < 1e-9 && weight[3] == 0);
  assert_true(distance < 1e-6);
  MUST(power_solve(p, 1, p[2], weight, &distance)); /* one snapshot is taken as it is */
  near(weight[0], 1, 1e-12);
  assert_true(distance > 0.1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(widths), cmocka_unit_test(products), cmocka_unit_test(recurrence),
                                     cmocka_unit_test(put_together), cmocka_unit_test(kept_width)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
