/* draw by its rules: temperature, nucleus, masks that are kept, f32. test_draw has the plain draw. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "logits.h"

/* ---- temperature, nucleus, keep: the same as a plain draw from a modified distribution */
typedef struct Other {
  double temperature, nucleus;
  KeepRule keep; /* every other row keeps its mask */
  bool within;
} Other;
static const Other others[] = {
    {0.5, 1, KEEP_NEVER, false},   {2, 1, KEEP_NEVER, false},    {1, 0.6, KEEP_NEVER, false},
    {0.7, 0.9, KEEP_NEVER, false}, {1, 1e-6, KEEP_NEVER, false}, {1, 1, KEEP_SCORE, false},
    {1.5, 0.5, KEEP_SCORE, false}, {1, 1, KEEP_ODDS, false},     {1.5, 0.5, KEEP_ODDS, false},
    {1, 0.6, KEEP_NEVER, true},    {0.7, 0.9, KEEP_NEVER, true}, {1, 1e-6, KEEP_NEVER, true},
    {1.5, 0.5, KEEP_ODDS, true}};
enum { OTHERS = sizeof others / sizeof *others };

static int falling(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x < y) - (x > y);
}

enum { MOST = 1200 };
static void sort_falling(double sorted[MOST], const double *p, int64_t V) {
  assert_true(V <= MOST);
  memcpy(sorted, p, (size_t)V * sizeof *p);
  qsort(sorted, (size_t)V, sizeof *sorted, falling);
}

/* The smallest probability in the nucleus. A token is left out if the more likely ones already sum to `nucleus`. */
static double smallest_kept(const double *p, int64_t V, double nucleus) {
  double sorted[MOST], above = 0, sum = 0;
  sort_falling(sorted, p, V);
  for (int64_t v = 0; v < V; v++) {
    if (v > 0 && sorted[v] < sorted[v - 1]) above = sum; /* tied tokens do not count as more likely */
    if (above >= nucleus) return sorted[v - 1];
    sum += sorted[v];
  }
  return sorted[V - 1];
}

/* The same with `within`: equal tokens are left out if the sum exceeds `nucleus` with them. */
static double smallest_within(const double *p, int64_t V, double nucleus) {
  double sorted[MOST], sum = 0, least = 0;
  sort_falling(sorted, p, V);
  for (int64_t v = 0, end = 0; v < V; v = end) {
    while (end < V && sorted[end] == sorted[v]) sum += sorted[end++];
    if (v > 0 && sum > nucleus) break;
    least = sorted[v];
  }
  return least;
}

/* The expected distribution p[V] of a row of logits; token m is forbidden. */
static void other_law(double *p, const double *f, int64_t V, int32_t m, const Other *o) {
  double sum = 0, top = -INFINITY;
  for (int64_t v = 0; v < V; v++)
    if (v != m) top = fmax(top, f[v]);
  for (int64_t v = 0; v < V; v++) sum += p[v] = v == m ? 0 : exp((f[v] - top) / o->temperature);
  for (int64_t v = 0; v < V; v++) p[v] /= sum;
  double least = (o->within ? smallest_within : smallest_kept)(p, V, o->nucleus);
  sum = 0;
  for (int64_t v = 0; v < V; v++) sum += p[v] = p[v] < least ? 0 : p[v];
  for (int64_t v = 0; v < V; v++) p[v] /= sum;
}

static void other_case(Check *c, const void *shape) {
  const Other *o = shape;
  enum { V = 1003, M = 7 };
  int64_t n = check_slow ? 16 : 101;
  check_title(c, "draw temperature=%g nucleus=%g%s%s", o->temperature, o->nucleus, o->within ? " within" : "",
              o->keep == KEEP_ODDS    ? " odds"
              : o->keep == KEEP_SCORE ? " score"
                                      : "");
  Tensor f = logits_random(c, n, V, STRIDED, 3), u = check_tensor(c, DT_F64, n, 0, 0, 0),
         keep = check_tensor(c, DT_F64, n, 0, 0, 0), ids = check_ids(c, n, NULL);
  double *logits = check_read(c, f), *number = check_host(c, n), *limit = check_host(c, n), p[V];
  for (int64_t i = 0; i < n; i++) {
    number[i] = ((double)i + 0.5) / (double)n;
    double base = o->keep == KEEP_ODDS ? exp(logits[i * V + M]) : V - 1;
    for (int v = 0; v < V; v++) limit[i] += v == M ? 0 : (i % 2 ? 1.2 : 0.8) * exp(logits[i * V + v]) / base;
  }
  check_write(c, u, number);
  check_write(c, keep, limit);
  DrawRule rule = {
      .temperature = o->temperature, .nucleus = o->nucleus, .keep = o->keep, .forbid = M, .within = o->within};
  MUST(op_draw(&c->dev, ids, f, u, o->keep == KEEP_NEVER ? TENSOR_NONE : keep, &rule));
  check_record(c, ids);
  int32_t *got = check_raw(c, ids);
  for (int64_t i = 0; i < n; i++) {
    double below = 0;
    if (o->keep != KEEP_NEVER && i % 2) {
      assert_int_equal(got[i], M);
      continue;
    }
    other_law(p, logits + i * V, V, M, o);
    assert_in_range(got[i], 0, V - 1);
    for (int v = 0; v < got[i]; v++) below += p[v];
    if (!(p[got[i]] > 0 && number[i] > below - 1e-5 && number[i] < below + p[got[i]] + 1e-5))
      fail_msg("%s: row %d: token %d has [%.7g, %.7g), the number is %.7g", c->title, (int)i, got[i], below,
               below + p[got[i]], number[i]);
  }
}

static void test_others(void **state) {
  (void)state;
  for (int i = 0; i < OTHERS; i++) check_every(other_case, &others[i]);
}

/* Which tokens of probabilities 0.5, 0.3, 0.15, 0.05 are drawn, by both rules. */
static void nucleus_case(Check *c, const void *shape) {
  (void)shape;
  enum { V = 4, N = 24 };
  static const struct {
    double nucleus;
    int usual, within;
  } cases[] = {{0.4, 1, 1}, {0.6, 2, 1}, {0.75, 2, 1}, {0.85, 3, 2}, {0.94, 3, 2}, {0.97, 4, 3}, {1, 4, 4}};
  const double p[V] = {0.5, 0.3, 0.15, 0.05};
  check_title(c, "draw within the nucleus");
  Tensor f = check_tensor(c, logits_type(c), N, V, V, 0), u = check_tensor(c, DT_F64, N, 0, 0, 0),
         ids = check_ids(c, N, NULL);
  double *logits = check_host(c, N * V), *number = check_host(c, N);
  for (int i = 0; i < N; i++) {
    number[i] = (i + 0.5) / N;
    for (int v = 0; v < V; v++) logits[i * V + v] = log(p[v]);
  }
  check_write(c, f, logits);
  check_write(c, u, number);
  for (size_t k = 0; k < 2 * sizeof cases / sizeof *cases; k++) {
    DrawRule rule = {.temperature = 1, .nucleus = cases[k / 2].nucleus, .within = k % 2, .forbid = -1};
    int64_t count[V] = {0};
    MUST(op_draw(&c->dev, ids, f, u, TENSOR_NONE, &rule));
    check_record(c, ids);
    int32_t *got = check_raw(c, ids);
    for (int i = 0; i < N; i++) count[got[i]]++;
    for (int v = 0; v < V; v++)
      assert_true((count[v] > 0) == (v < (rule.within ? cases[k / 2].within : cases[k / 2].usual)));
  }
}

static void test_nucleus(void **state) {
  (void)state;
  check_every(nucleus_case, NULL);
}

/* ---- f32: noise of limited range. A token far below the most likely one is never drawn; the mask is kept at the right
 * rate. */
static void f32_case(Check *c, const void *shape) {
  const bool *odds = shape;
  enum { V = 5, M = 2 };
  int64_t n = check_slow ? 400 : check_watched() ? 2000 : check_long() ? 200000 : 50000;
  check_title(c, "draw in f32%s", *odds ? " odds" : "");
  const double logits[V] = {0, -1, 0, -18.5, -2}; /* e^-18.5 = 9e-9 */
  double *row = check_host(c, n * V), *number = check_host(c, n), *kept = check_host(c, n), want[V], sum = 0;
  int64_t count[V] = {0};
  for (int64_t i = 0; i < n * V; i++) row[i] = logits[i % V];
  for (int64_t i = 0; i < n; i++) number[i] = rng_uniform(rng_key(3, RNG_TEST, 5, 0, 0), (uint64_t)i), kept[i] = 0.25;
  Tensor f = check_tensor(c, logits_type(c), n, V, V, 0), u = check_tensor(c, DT_F64, n, 0, 0, 0),
         keep = check_tensor(c, DT_F64, n, 0, 0, 0), ids = check_ids(c, n, NULL);
  check_write(c, f, row);
  check_write(c, u, number);
  check_write(c, keep, kept);
  DrawRule rule = {.forbid = M, .temperature = 1, .nucleus = 1, .f32 = true, .keep = *odds ? KEEP_ODDS : KEEP_CHANCE};
  MUST(op_draw(&c->dev, ids, f, u, keep, &rule));
  check_record(c, ids);
  int32_t *got = check_raw(c, ids);
  for (int64_t i = 0; i < n; i++) {
    assert_in_range(got[i], 0, V - 1);
    count[got[i]]++;
  }
  for (int v = 0; v < V; v++) sum += want[v] = v == M && !*odds ? 0 : exp(logits[v]);
  double whole = 0.25 + 0.75 * (1 - want[M] / sum);
  for (int v = 0; v < V; v++) {
    double p = (v == M ? 0.25 : 0.75 * want[v] / sum) / whole, off = (double)count[v] - p * (double)n;
    if (!(fabs(off) <= 4.5 * sqrt((double)n * p * (1 - p)) + 0.01))
      fail_msg("%s: token %d comes %d times", c->title, v, (int)count[v]);
  }
}

static void test_f32(void **state) {
  (void)state;
  static const bool odds[] = {false, true};
  for (int i = 0; i < 2; i++) check_every(f32_case, &odds[i]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_others),
      cmocka_unit_test(test_nucleus),
      cmocka_unit_test(test_f32),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
