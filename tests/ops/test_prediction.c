/* prediction: −log p of the target, the largest p, the entropy; forbidden token, extreme logits. */
#include "check.h"

#include <math.h>

#include "base/err.h"
#include "logits.h"

typedef struct Shape {
  int64_t R, V;
  int32_t forbid;
  Layout layout;
  double scale; /* of the logits */
} Shape;

static const Shape shapes[] = {{1, 11, -1, PACKED, 3},       {3, 11, 4, STRIDED, 3},       {17, 1003, 0, PACKED, 3},
                               {67, 1003, 1002, STRIDED, 8}, {3, 2, 0, PACKED, 1},         {5, 1003, 7, PACKED, 1e4},
                               {5, 1024, 1023, PADDED, 3},   {3, 50258, 50257, PADDED, 5}, {3, 50258, -1, PADDED, 0}};

/* out[R,3] */
static void reference(const double *f, const Shape *s, const int32_t *to, double *out) {
  for (int64_t r = 0; r < s->R; r++, f += s->V) {
    double most = -INFINITY, sum = 0, entropy = 0;
    for (int64_t v = 0; v < s->V; v++)
      if (v != s->forbid) most = fmax(most, f[v]);
    for (int64_t v = 0; v < s->V; v++)
      if (v != s->forbid) sum += exp(f[v] - most);
    for (int64_t v = 0; v < s->V; v++) {
      double log_p = f[v] - most - log(sum);
      if (v != s->forbid) entropy -= exp(log_p) * fmax(log_p, -1e300);
    }
    out[3 * r] = most - f[to[r]] + log(sum), out[3 * r + 1] = 1 / sum, out[3 * r + 2] = entropy;
  }
}

static int32_t *targets(Check *c, const Shape *s) {
  int32_t *to = (int32_t *)check_host(c, s->R);
  for (int64_t r = 0; r < s->R; r++) {
    to[r] = (int32_t)((s->V - 1 + 5 * r) % s->V);
    if (to[r] == s->forbid) to[r] = (int32_t)((s->forbid + 1) % s->V);
  }
  return to;
}

/* Each column by itself: they differ in size. */
static void columns(Check *c, Tensor out, const double *want, int64_t R, double tolerance) {
  static const char *const names[] = {"−log p", "max p", "entropy"};
  double *got = check_read(c, out), *a = check_host(c, R), *b = check_host(c, R);
  check_record(c, out);
  for (int k = 0; k < 3; k++) {
    for (int64_t r = 0; r < R; r++) a[r] = got[3 * r + k], b[r] = want[3 * r + k];
    double off = check_error(a, b, R), most = k == 1 ? 4 * tolerance : tolerance;
    if (!(off <= most)) fail_msg("%s: %s is off by %g, more than %g", c->title, names[k], off, most);
  }
}

static void values(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "prediction R=%d V=%d forbid=%d%s scale=%g", (int)s->R, (int)s->V, (int)s->forbid,
              layout_names[s->layout], s->scale);
  Tensor f = logits_random(c, s->R, s->V, s->layout, s->scale), out = check_out(c, s->R, 3);
  int32_t *to = targets(c, s);
  Tensor target = check_ids(c, s->R, to);
  double *start = check_read(c, f), *want = check_host(c, 3 * s->R), tolerance = c->mode->sum * sqrt((double)s->V);
  for (int64_t r = 0; s->forbid >= 0 && r < s->R; r++) start[r * s->V + s->forbid] = r % 2 ? INFINITY : 30000;
  check_write(c, f, start);
  if (s->forbid >= 0) start = check_read(c, f); /* as bf16 stores it */
  reference(start, s, to, want);
  MUST(op_prediction(&c->dev, out, f, target, s->forbid));
  columns(c, out, want, s->R, tolerance);
  check_same(c, "logits afterwards", f, start);
}

static void test_values(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) logits_every(values, &shapes[i]);
}

/* A certain target: all three numbers are exact. A uniform row; −∞ but for two; a NaN, in its row only. */
static void edges(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "prediction at the edges");
  enum { R = 4, V = 5 };
  const double none = -INFINITY, one = log(2);
  const double x[R * V] = {none, 3, none, none, none, 2, 2, 2, 2, 9, none, 1, 1, none, 9, 0, NAN, 0, 0, 9};
  const double want[R * 3] = {0, 1, 0, log(4), 0.25, log(4), one, 0.5, one};
  static const int32_t ids[] = {1, 0, 2, 0};
  Tensor f = check_tensor(c, logits_type(c), R, V, V, 0), out = check_out(c, R, 3), target = check_ids(c, R, ids);
  check_write(c, f, x);
  MUST(op_prediction(&c->dev, out, f, target, V - 1));
  double *got = check_read(c, out);
  for (int i = 0; i < 3; i++)
    if (got[i] != want[i]) fail_msg("%s: a certain token has %g, not %g", c->title, got[i], want[i]);
  columns(c, tensor_rows(out, 0, 3), want, 3, c->mode->point);
  for (int i = 9; i < 12; i++) assert_true(isnan(got[i]));
}

static void test_edges(void **state) {
  (void)state;
  logits_every(edges, NULL);
}

static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "prediction refusals");
  Device *d = &c->dev;
  static const int32_t ids[] = {0, 1, 2, 3};
  Tensor f = check_random(c, 3, 11), out = check_random(c, 3, 3), two = check_random(c, 3, 2);
  Tensor target = check_ids(c, 3, ids), more = check_ids(c, 4, ids), gaps = check_random_cols(c, 3, 3, 5, 0);
  check_refused(op_prediction(d, two, f, target, -1), ERR_SHAPE, "two columns");
  check_refused(op_prediction(d, gaps, f, target, -1), ERR_SHAPE, "rows with gaps");
  check_refused(op_prediction(d, out, f, more, -1), ERR_SHAPE, "target of other rows");
  check_refused(op_prediction(d, out, f, target, 11), ERR_SHAPE, "forbid beyond V");
  check_record(c, f);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_edges),
                                     cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
