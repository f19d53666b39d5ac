/* test_interval — Student's t against published values and closed forms; standard errors of small cases by hand; how
 * often the intervals cover the true value, over simulated data sets. */
#include "check.h"

#include <math.h>

#include "base/rng.h"
#include "measure/interval.h"
#include "measure/student.h"

static void near(double got, double want, double relative) {
  if (!(fabs(got - want) <= relative * fabs(want))) fail_msg("%.15g, not %.15g", got, want);
}

/* ---- Student's t */
static const double PI = 3.14159265358979323846;

static void test_quantiles(void **state) {
  (void)state;
  /* published: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, to its three decimals */
  const double table[][3] = {{0.05, 1, 12.706}, {0.05, 2, 4.303},   {0.05, 5, 2.571},   {0.05, 10, 2.228},
                             {0.05, 30, 2.042}, {0.05, 100, 1.984}, {0.01, 4, 4.604},   {0.01, 24, 2.797},
                             {0.1, 3, 2.353},   {0.002, 7, 4.785},  {0.002, 60, 3.232}, {0.2, 19, 1.328}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    assert_true(fabs(student_quantile(table[i][0], table[i][1]) - table[i][2]) < 5.01e-4);
  near(student_quantile(0.05, 1), tan(PI / 2 * 0.95), 1e-9); /* Cauchy */
  near(student_quantile(0.05, 2), sqrt(2 / (0.05 * 1.95) - 2), 1e-9);
  near(student_quantile(0.05, 1e9), 1.959963984540054, 1e-8); /* the normal distribution */
  assert_true(isnan(student_quantile(0.05, 0)) && isnan(student_quantile(0.05, NAN)));
}

/* Closed forms for ν = 1, 2, 3 and 4, from the middle far into the tails; the normal distribution for large ν. */
static void test_tails(void **state) {
  (void)state;
  for (double t = 1e-3; t < 1e6; t *= 3) {
    double r2 = sqrt(2 + t * t), u = atan2(sqrt(3), t);
    near(student_p(t, 1), 2 / PI * atan2(1, t), 1e-12);
    near(student_p(t, 2), 2 / (r2 * (r2 + t)), 1e-12);
    if (t < 10) near(student_p(t, 3), 2 / PI * (u - sqrt(3) * t / (3 + t * t)), 1e-10); /* the difference cancels */
    if (t < 100) {
      double c = t / sqrt(4 + t * t);
      near(student_p(t, 4), (1 - c) * (1 - c) * (2 + c) / 2, 1e-10);
    }
    assert_true(student_p(-t, 7.5) == student_p(t, 7.5) && student_p(2 * t, 7.5) < student_p(t, 7.5));
  }
  for (double t = 0.1; t < 12; t += 0.7) near(student_p(t, 1e8), erfc(t / sqrt(2)), 1e-6 + 1e-8 * t * t * t * t);
  for (double t = 0.1; t < 15; t *= 1.5) /* the formulas for few and for many degrees of freedom meet */
    near(student_p(t, 1000 * (1 + 1e-13)), student_p(t, 1000), 1e-9);
  assert_true(student_p(0, 3) == 1 && student_p(INFINITY, 3) == 0 && isnan(student_p(NAN, 3)));
}

static void test_inverse(void **state) {
  (void)state;
  for (double freedom = 0.5; freedom < 1e7; freedom *= 2.3)
    for (double p = 0.9; p > 1e-6; p /= 5) near(student_p(student_quantile(p, freedom), freedom), p, 1e-7);
}

/* ---- by hand */
static void test_one_interval(void **state) {
  (void)state;
  const double loss[] = {2, 9, 4};
  const int64_t tokens[] = {1, 5, 4};
  Interval r = interval_of(loss, tokens, 3);
  double half = 4.302652729749464 * sqrt(1.5 * (0.5 * 0.5 + 1.5 * 1.5 + 2 * 2)) / 10; /* t of 2 degrees of freedom */
  assert_int_equal(r.tokens, 10);
  near(r.nll, 1.5, 1e-15);
  near(r.high - r.nll, half, 1e-8);
  near(r.nll - r.low, half, 1e-8);
  r = interval_of(loss, tokens, 1);
  assert_true(r.nll == 2 && isnan(r.low) && isnan(r.high));
  r = interval_of((double[]){4, 0}, (int64_t[]){2, 0}, 2); /* a row without scored tokens does not count */
  assert_true(r.nll == 2 && isnan(r.low) && isnan(r.high));
}

static void test_blocks(void **state) {
  (void)state;
  const double loss[] = {2, 9, 4, 5, 0}; /* blocks of 2 and a short last one: 11, 9, 0 of 6, 4 and 0 tokens */
  const int64_t tokens[] = {1, 5, 4, 0, 0};
  Losses l = {.n = 5, .loss = loss, .tokens = tokens, .draws = 1};
  Spread s = interval_sequences(&l, 2);
  assert_int_equal(s.blocks, 2);
  near(s.value, 2, 1e-15);
  near(s.se, sqrt(2 * (1 + 1)) / 10, 1e-14);
  near(s.high - s.value, 12.706204736174696 * s.se, 1e-8);
  assert_true(isnan(interval_sequences(&l, 5).se));
  assert_true(isnan(interval_masks(&l).se) && isnan(interval_masks(&l).low) && interval_masks(&l).value == 2);
}

static void test_masks(void **state) {
  (void)state;
  const double loss[] = {2, 9, 4}, square[] = {3, 0, 9}; /* v = square/(3·2) */
  const int64_t tokens[] = {1, 5, 4};
  Losses l = {.n = 3, .loss = loss, .square = square, .tokens = tokens, .draws = 3};
  Spread s = interval_masks(&l);
  near(s.se, sqrt(0.5 + 1.5) / 10, 1e-15);
  near(s.freedom, 4 / (2.5 / 4) - 2, 1e-14);
  near(s.high - s.value, s.se * student_quantile(0.05, s.freedom), 1e-14);
  l.n = 1;
  near(interval_masks(&l).freedom, 2, 1e-14); /* of one sequence: draws − 1 */
  l.draws = 0;
  s = interval_masks(&l);
  assert_true(s.se == 0 && s.low == s.value && s.high == s.value);
  l.draws = 2;
  l.square = (double[]){0};
  s = interval_masks(&l);
  assert_true(s.se == 0 && s.low == s.value);
}

/* Two rows of equal length, by hand; then what is known with one draw, and of exact losses. */
static void test_split(void **state) {
  (void)state;
  const double loss[] = {3, 7}, square[] = {2, 4}; /* of 3 draws */
  const int64_t tokens[] = {2, 2};
  Losses l = {.n = 2, .loss = loss, .square = square, .tokens = tokens, .draws = 3};
  Split s = interval_split(&l);
  near(s.draws, (2.0 / 2 + 4.0 / 2) / 2, 1e-15);
  near(s.rows, (2 * 2 + 2 * 2) / 1.0 - 1.5 / 3, 1e-15);
  near(interval_sequences(&l, 1).se, sqrt(2 * (s.rows + s.draws / 3)) / 4, 1e-15); /* the formula of the header */
  l.draws = 1;
  s = interval_split(&l);
  assert_true(isnan(s.rows) && isnan(s.draws));
  l.draws = 0, l.square = NULL;
  s = interval_split(&l);
  assert_true(s.rows == 8 && s.draws == 0);
  l.n = 1;
  assert_true(isnan(interval_split(&l).rows));
}

static void test_difference(void **state) {
  (void)state;
  const double a[] = {2, 9, 4}, b[] = {3, 9, 6};
  const int64_t tokens[] = {1, 5, 4};
  Losses A = {.n = 3, .loss = a, .tokens = tokens}, B = {.n = 3, .loss = b, .tokens = tokens};
  Difference d = interval_difference(&A, &B, 1);
  double se = sqrt(1.5 * (0.7 * 0.7 + 1.5 * 1.5 + 0.8 * 0.8)) / 10;
  near(d.spread.value, 0.3, 1e-15);
  near(d.spread.se, se, 1e-14);
  near(d.spread.low, 0.3 - 4.302652729749464 * se, 1e-7);
  near(d.p, student_p(0.3 / se, 2), 1e-12);
  near(interval_difference(&B, &A, 1).spread.value, -0.3, 1e-15);
  d = interval_difference(&A, &A, 3);
  assert_true(d.spread.value == 0 && d.spread.low == 0 && d.spread.high == 0 && d.p == 1);
  d = interval_difference(&A, &B, 3); /* one block tells nothing */
  assert_true(isnan(d.spread.se) && isnan(d.p));
  d = interval_difference(&A, &(Losses){.n = 3, .loss = (double[]){3, 14, 8}, .tokens = tokens}, 1);
  assert_true(d.spread.value == 1 && d.spread.low == 1 && d.p == 0); /* every token alike */
}

static void test_block_size(void **state) {
  (void)state;
  assert_int_equal(interval_block(100000, false), 1);
  assert_int_equal(interval_block(100000, true), 50);
  assert_int_equal(interval_block(1250, true), 50);
  assert_int_equal(interval_block(1000, true), 40);
  assert_int_equal(interval_block(63, true), 2);
  assert_int_equal(interval_block(10, true), 1);
  assert_int_equal(interval_block(1, true), 1);
}

/* ---- coverage: how many of SEEDS simulated data sets have the true value in their interval */
enum { SEEDS = 1000, ROWS = 1510, SET = 200 };
static double loss[ROWS], other[ROWS], squares[ROWS];
static int64_t tokens[ROWS];

static uint64_t at; /* of the stream of random numbers */
static double uniform(void) {
  at++;
  return rng_uniform(rng_key(11, RNG_TEST, 0, at >> 32, 0), at & 0xffffffff) + 0x1p-54;
}
static double normal(void) {
  double radius = sqrt(-2 * log(uniform()));
  return radius * cos(2 * PI * uniform());
}

static int seeds(void) { return check_statistics() ? SEEDS : 3; }

/* Within 93 and 97 %: 1,000 trials of 95 % have a standard deviation of 0.7 %. */
static void covered(const char *what, int count, bool as_said) {
  if (!check_statistics()) return;
  bool covers = count >= 0.93 * SEEDS && count <= 0.97 * SEEDS;
  if (covers != as_said) fail_msg("%s covers %.1f %%", what, 100.0 * count / SEEDS);
}

static bool inside(const Spread *s, double truth) { return s->low <= truth && truth <= s->high; }

/* A loss of sequence i: its known mean and a skewed noise as that of masks, whose size differs between sequences. */
static double noisy(int64_t i, double mean) { return mean + (1 + (double)(i % 5)) * (-log(uniform()) - 1); }

/* The value of the set itself, with `draws` draws. */
static void masks_cover(int64_t draws) {
  double mean[SET], truth = 0;
  int of_set = 0, of_text = 0;
  Losses l = {.n = SET, .loss = loss, .square = squares, .tokens = tokens, .draws = draws};
  int64_t sum = 0;
  for (int64_t i = 0; i < SET; i++) {
    tokens[i] = 20 + i % 13;
    mean[i] = (double)tokens[i] * (3 + 0.3 * normal());
    truth += mean[i];
    sum += tokens[i];
  }
  truth /= (double)sum;
  for (int seed = 0; seed < seeds(); seed++) {
    for (int64_t i = 0; i < SET; i++) {
      double x[4];
      loss[i] = squares[i] = 0;
      for (int64_t d = 0; d < draws; d++) loss[i] += (x[d] = noisy(i, mean[i])) / (double)draws;
      for (int64_t d = 0; d < draws; d++) squares[i] += (x[d] - loss[i]) * (x[d] - loss[i]);
    }
    Spread masks = interval_masks(&l), sequences = interval_sequences(&l, 1);
    of_set += inside(&masks, truth);
    of_text += inside(&sequences, truth);
  }
  covered("the masks' interval", of_set, true);
  covered("the sequences' interval, of the set's own value,", of_text, false);
}

static void test_masks_cover(void **state) {
  (void)state;
  masks_cover(2);
  masks_cover(4);
}

/* The value of a text of nll 3. Rows drift with a topic, which decays by 0.8 from row to row: neighbours correlate by 0.13. */
static void test_sequences_cover(void **state) {
  (void)state;
  int by_blocks = 0, by_rows = 0, of_difference = 0, found = 0;
  Losses a = {.n = ROWS, .loss = loss, .tokens = tokens}, b = {.n = ROWS, .loss = other, .tokens = tokens};
  for (int64_t i = 0; i < ROWS; i++) tokens[i] = 32;
  tokens[ROWS - 1] = 7;
  for (int seed = 0; seed < seeds(); seed++) {
    double topic = normal();
    for (int64_t i = 0; i < ROWS; i++) {
      topic = 0.8 * topic + 0.6 * normal();
      double n = (double)tokens[i] / 32;
      loss[i] = n * (96 + 4 * topic + 6 * normal() + 5 * (-log(uniform()) - 1)); /* the text, the row, the masks */
      other[i] = loss[i] - n * (0.5 - 2 * topic + 4 * normal());
    }
    Spread blocks = interval_sequences(&a, interval_block(ROWS, true)), rows = interval_sequences(&a, 1);
    Difference d = interval_difference(&a, &b, interval_block(ROWS, true));
    by_blocks += inside(&blocks, 3);
    by_rows += inside(&rows, 3);
    of_difference += inside(&d.spread, -0.5 / 32);
    found += d.p < 0.05;
    assert_true((d.p < 0.05) == !inside(&d.spread, 0));
  }
  covered("the interval by blocks", by_blocks, true);
  covered("the interval by rows", by_rows, false);
  covered("the interval of the difference", of_difference, true);
  assert_true(found > 0.2 * SEEDS ||
              !check_statistics()); /* while half the difference is less than a standard error of either */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_quantiles),    cmocka_unit_test(test_tails),           cmocka_unit_test(test_inverse),
      cmocka_unit_test(test_one_interval), cmocka_unit_test(test_blocks),          cmocka_unit_test(test_masks),
      cmocka_unit_test(test_split),        cmocka_unit_test(test_difference),      cmocka_unit_test(test_block_size),
      cmocka_unit_test(test_masks_cover),  cmocka_unit_test(test_sequences_cover),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
