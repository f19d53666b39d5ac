/* confidence and exclude: probabilities, margins and entropies of rows against plain loops in double. */
#include "logits.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"

typedef struct Shape {
  int64_t R, V;
  Layout layout;
  double scale;
} Shape;

static const Shape shapes[] = {{1, 11, PACKED, 1},  {3, 11, STRIDED, 8},   {67, 1003, STRIDED, 3},
                               {17, 2, PACKED, 30}, {67, 1003, PADDED, 1}, {3, 50258, PADDED, 12}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* p₁ − p₂ and the entropy of the row's softmax, and the probability of a token */
static void reference(const double *f, int64_t V, int32_t id, int32_t forbid, double out[3]) {
  double first = -INFINITY, second = -INFINITY, sum = 0, entropy = 0;
  for (int64_t v = 0; v < V; v++) {
    if (v == forbid) continue;
    if (f[v] > first)
      second = first, first = f[v];
    else if (f[v] > second)
      second = f[v];
  }
  for (int64_t v = 0; v < V; v++) sum += v == forbid ? 0 : exp(f[v] - first);
  for (int64_t v = 0; v < V; v++) {
    double p = v == forbid ? 0 : exp(f[v] - first) / sum;
    entropy -= p > 0 ? p * log(p) : 0;
  }
  out[0] = exp(f[id] - first) / sum;
  out[1] = (1 - exp(second - first)) / sum;
  out[2] = entropy;
}

/* Each of the three columns within its bound, relative to the largest of the column. */
static void compare(Check *c, Tensor out, const double *want, int64_t R, int64_t V) {
  static const char *const names[] = {"p", "margin", "entropy"};
  double *got = check_read(c, out), a[3000], b[3000];
  check_record(c, out);
  for (int k = 0; k < 3; k++) {
    for (int64_t r = 0; r < R; r++) a[r] = got[3 * r + k], b[r] = want[3 * r + k];
    double error = check_error(a, b, R), bound = c->mode->sum * sqrt((double)V) * (k == 2 ? 4 : 1);
    if (!(error <= bound)) fail_msg("%s: the %s is off by %g, not %g", c->title, names[k], error, bound);
  }
}

static void confidence_case(Check *c, const void *shape) {
  const Shape *s = shape;
  int64_t R = s->R, V = s->V;
  for (int32_t forbid = -1; forbid < V; forbid += (int32_t)(V > 2 ? V / 2 + 1 : 2)) {
    check_title(c, "confidence R=%d V=%d%s forbid %d", (int)R, (int)V, layout_names[s->layout], (int)forbid);
    Tensor f = logits_random(c, R, V, s->layout, s->scale), out = check_tensor(c, DT_F64, R, 3, 3, 0);
    double *x = check_read(c, f), *want = check_host(c, 3 * R);
    int32_t *ids = (int32_t *)check_host(c, R);
    RngKey k = rng_key(5, RNG_TEST, 3, 0, 0);
    for (int64_t r = 0; r < R; r++) {
      ids[r] = (int32_t)(rng_uniform(k, (uint64_t)r) * (double)V);
      if (ids[r] == forbid) ids[r] = (forbid + 1) % (int32_t)V;
      reference(x + r * V, V, ids[r], forbid, want + 3 * r);
    }
    check_poison(c, out);
    MUST(op_confidence(&c->dev, out, f, check_ids(c, R, ids), forbid));
    compare(c, out, want, R, V);
    check_same(c, "the logits", f, x); /* unchanged */
  }
}

static void test_confidence(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) logits_every(confidence_case, &shapes[i]);
}

/* Ties, a certain token, excluded tokens, a forbidden token above all others, and a NaN. */
static void ends(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "confidence at the ends");
  enum { R = 5, V = 6 };
  static const double x[R * V] = {5,         5,         5,   9000, 5,         5,         /* uniform over five */
                                  -INFINITY, -INFINITY, 0,   7,    -INFINITY, -INFINITY, /* certain */
                                  -1e4,      -1e4,      1e4, 0,    -1e4,      -1e4,      /* certain by its size */
                                  2,         2,         -90, 0,    -90,       -INFINITY, /* two of ½ */
                                  0,         0,         NAN, 0,    0,         0};
  static const int32_t ids[R] = {4, 2, 2, 1, -1};
  static const double want[4][3] = {{0.2, 0, 0}, {1, 1, 0}, {1, 1, 0}, {0.5, 0, 0}};
  Tensor f = check_tensor(c, logits_type(c), R, V, V, 0), out = check_tensor(c, DT_F64, R, 3, 3, 0);
  check_write(c, f, x);
  MUST(op_confidence(&c->dev, out, f, check_ids(c, R, ids), 3));
  double *got = check_read(c, out), tolerance = 4 * c->mode->point, entropies[4] = {log(5), 0, 0, log(2)};
  for (int r = 0; r < 4; r++)
    for (int k = 0; k < 3; k++) {
      double wanted = k == 2 ? entropies[r] : want[r][k];
      if (!(fabs(got[3 * r + k] - wanted) <= tolerance))
        fail_msg("%s: row %d column %d is %.17g, not %.17g", c->title, r, k, got[3 * r + k], wanted);
    }
  for (int k = 0; k < 3; k++) assert_true(isnan(got[3 * 4 + k]));
  check_record(c, out);
}

static void test_ends(void **state) {
  (void)state;
  logits_every(ends, NULL);
}

static void exclude_case(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "exclude R=%d V=%d%s", (int)s->R, (int)s->V, layout_names[s->layout]);
  for (int64_t id = 0; id < s->V; id += s->V - 1) {
    Tensor f = logits_random(c, s->R, s->V, s->layout, 1);
    double *want = check_read(c, f);
    for (int64_t r = 0; r < s->R; r++) want[r * s->V + id] = -INFINITY;
    MUST(op_exclude(&c->dev, f, (int32_t)id));
    double *got = check_read(c, f);
    check_record(c, f);
    assert_memory_equal(got, want, (size_t)(s->R * s->V) * sizeof *got);
  }
}

static void test_exclude(void **state) {
  (void)state;
  static const Shape more = {700, 5, STRIDED, 1};
  for (int i = 0; i < SHAPES; i++) logits_every(exclude_case, &shapes[i]);
  logits_every(exclude_case, &more);
}

static void refusals(Check *c, const void *shape) {
  (void)shape;
  Device *d = &c->dev;
  check_title(c, "confidence, refusals");
  Tensor f = check_random(c, 3, 11), ids = check_ids(c, 3, NULL), more = check_ids(c, 4, NULL);
  Tensor out = check_tensor(c, DT_F64, 3, 3, 3, 0), two = check_tensor(c, DT_F64, 3, 2, 2, 0);
  check_refused(op_confidence(d, two, f, ids, -1), ERR_SHAPE, "two columns");
  check_refused(op_confidence(d, out, f, more, -1), ERR_SHAPE, "more ids than rows");
  check_refused(op_confidence(d, out, f, ids, 11), ERR_SHAPE, "forbid beyond V");
  check_refused(op_exclude(d, f, 11), ERR_SHAPE, "a token beyond V");
  check_refused(op_exclude(d, f, -1), ERR_SHAPE, "no token");
  check_record(c, f);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_confidence), cmocka_unit_test(test_ends),
                                     cmocka_unit_test(test_exclude), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
