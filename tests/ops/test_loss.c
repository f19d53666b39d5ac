/* cross_entropy: values, gradients in place, forbidden token, extreme logits. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "logits.h"

typedef struct Shape {
  int64_t R, V;
  int32_t forbid;
  bool gradient;
  Layout layout;
  double scale; /* of the logits */
} Shape;

static const Shape shapes[] = {
    {1, 11, -1, true, PACKED, 3},        {3, 11, 4, true, STRIDED, 3},     {17, 1003, 0, true, PACKED, 3},
    {67, 1003, 1002, true, STRIDED, 10}, {67, 11, 10, false, PACKED, 3},   {17, 1003, -1, false, STRIDED, 3},
    {3, 2, 0, true, PACKED, 1},          {5, 1003, 7, true, PACKED, 1e4},  {5, 11, -1, true, PACKED, 1e4},
    {5, 11, 3, false, PACKED, 1e4},      {1, 30522, 103, true, PACKED, 5}, {3, 11, 4, true, PADDED, 3},
    {17, 1003, 1002, true, PADDED, 3},   {5, 1024, 1023, true, PADDED, 3}, {5, 1003, 7, true, PADDED, 1e4},
    {3, 50258, 50257, true, PADDED, 5},  {3, 50258, 0, false, PADDED, 5},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct Net {
  Tensor loss, logits, target, weight;
  double *start; /* a copy of the logits, which the op overwrites */
  int32_t forbid;
  int32_t *to;
} Net;

static Net make(Check *c, const Shape *s) {
  check_title(c, "cross_entropy R=%d V=%d forbid=%d%s%s scale=%g", (int)s->R, (int)s->V, (int)s->forbid,
              s->gradient ? " gradient" : "", layout_names[s->layout], s->scale);
  Net n = {.forbid = s->forbid};
  n.logits = logits_random(c, s->R, s->V, s->layout, s->scale);
  n.weight = check_random(c, s->R, 0);
  double *weight = check_read(c, n.weight);
  if (s->R > 2) weight[1] = 0; /* a row that does not count */
  check_write(c, n.weight, weight);
  n.to = (int32_t *)check_host(c, s->R);
  for (int64_t r = 0; r < s->R; r++) {
    n.to[r] = (int32_t)((s->V - 1 + 5 * r) % s->V); /* the last token, then tokens across the vocabulary */
    if (n.to[r] == s->forbid) n.to[r] = (int32_t)((s->forbid + 1) % s->V);
  }
  n.target = check_ids(c, s->R, n.to);
  n.loss = check_out(c, s->R, 0);
  n.start = check_read(c, n.logits);
  return n;
}

/* loss[R] and slope[R,V] */
static void reference(const Net *n, const Shape *s, const double *weight, double *loss, double *slope) {
  for (int64_t r = 0; r < s->R; r++) {
    const double *f = n->start + r * s->V;
    double most = -INFINITY, sum = 0;
    for (int64_t v = 0; v < s->V; v++)
      if (v != s->forbid) most = fmax(most, f[v]);
    for (int64_t v = 0; v < s->V; v++)
      if (v != s->forbid) sum += exp(f[v] - most);
    loss[r] = weight[r] * (most - f[n->to[r]] + log(sum));
    for (int64_t v = 0; v < s->V; v++)
      slope[r * s->V + v] = v == s->forbid ? 0 : weight[r] * (exp(f[v] - most) / sum - (v == n->to[r]));
  }
}

static void values(Check *c, const void *shape) {
  const Shape *s = shape;
  Net n = make(c, s);
  double *loss = check_host(c, s->R), *slope = check_host(c, s->R * s->V), *weight = check_read(c, n.weight);
  reference(&n, s, weight, loss, slope);
  MUST(op_cross_entropy(&c->dev, n.loss, n.logits, n.target, n.weight, s->forbid, s->gradient));
  /* the inputs are exact, so only the rounding of lse − f counts, even where logits are as large as 1e4 */
  double tolerance = c->mode->sum * sqrt((double)s->V);
  check_near(c, "loss", n.loss, loss, tolerance);
  if (!s->gradient) {
    check_same(c, "logits afterwards", n.logits, n.start);
    return;
  }
  check_near(c, "dlogits", n.logits, slope, tolerance * (1 + s->scale / 10));
  double *got = check_read(c, n.logits), *got_loss = check_read(c, n.loss);
  for (int64_t v = 0; s->R > 2 && v < s->V; v++)
    if (got[s->V + v] != 0) fail_msg("%s: the row of weight 0 has a gradient", c->title);
  if (s->R > 2 && got_loss[1] != 0) fail_msg("%s: the row of weight 0 has a loss", c->title);
  for (int64_t r = 0; s->forbid >= 0 && r < s->R; r++)
    if (got[r * s->V + s->forbid] != 0) fail_msg("%s: the forbidden token has a gradient", c->title);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) logits_every(values, &shapes[i]);
}

/* The forbidden logit may have any value, NaN and ±∞ included: it is not used. */
static void forbidden_anything(Check *c, const void *shape) {
  const Shape *s = shape;
  static const double anything[] = {INFINITY, -INFINITY, NAN, 1e30};
  Net n = make(c, s);
  MUST(op_cross_entropy(&c->dev, n.loss, n.logits, n.target, n.weight, s->forbid, true));
  double *loss = check_read(c, n.loss), *slope = check_read(c, n.logits);
  for (int k = 0; k < 4; k++) {
    for (int64_t r = 0; r < s->R; r++) n.start[r * s->V + s->forbid] = anything[k];
    check_write(c, n.logits, n.start);
    MUST(op_cross_entropy(&c->dev, n.loss, n.logits, n.target, n.weight, s->forbid, true));
    check_same(c, "loss", n.loss, loss);
    check_same(c, "dlogits", n.logits, slope);
  }
}

/* All logits but the target's are −∞: the loss is exactly 0. A NaN logit gives a NaN loss in its row only. */
static void edges(Check *c, const void *shape) {
  const Shape *s = shape;
  Net n = make(c, s);
  double *f = check_host(c, s->R * s->V), *loss = check_host(c, s->R), *slope = check_host(c, s->R * s->V);
  for (int64_t i = 0; i < s->R * s->V; i++) f[i] = i % s->V == n.to[i / s->V] ? 2 : -INFINITY;
  check_write(c, n.logits, f);
  MUST(op_cross_entropy(&c->dev, n.loss, n.logits, n.target, n.weight, s->forbid, true));
  check_same(c, "loss", n.loss, loss);
  check_same(c, "dlogits", n.logits, slope);
  n.start[n.to[0] == 0 ? 1 : 0] = NAN;
  check_write(c, n.logits, n.start);
  MUST(op_cross_entropy(&c->dev, n.loss, n.logits, n.target, n.weight, s->forbid, true));
  double *got = check_read(c, n.loss);
  if (!isnan(got[0])) fail_msg("%s: a NaN logit gives a loss of %g", c->title, got[0]);
  for (int64_t r = 1; r < s->R; r++) assert_false(isnan(got[r]));
}

/* The loss of a nearly certain token is small and must not be lost in the rounding of its large logit. */
static void certain(Check *c, const void *shape) {
  const Shape *s = shape;
  Net n = make(c, s);
  check_title(c, "cross_entropy of a certain token");
  double *f = check_host(c, s->R * s->V), *weight = check_host(c, s->R);
  for (int64_t i = 0; i < s->R * s->V; i++) f[i] = i % s->V == n.to[i / s->V] ? 1000 : 988;
  for (int64_t r = 0; r < s->R; r++) weight[r] = 1;
  check_write(c, n.logits, f);
  check_write(c, n.weight, weight);
  MUST(op_cross_entropy(&c->dev, n.loss, n.logits, n.target, n.weight, -1, false));
  double *got = check_read(c, n.loss), want = log1p((double)(s->V - 1) * exp(-12));
  for (int64_t r = 0; r < s->R; r++)
    if (fabs(got[r] - want) > c->mode->point) fail_msg("%s: %.9g, not %.9g", c->title, got[r], want);
  check_record(c, n.loss);
}

static void test_edges(void **state) {
  (void)state;
  static const Shape some = {3, 11, 4, true, PACKED, 3}, many = {3, 1003, 500, true, PADDED, 3};
  logits_every(forbidden_anything, &some);
  logits_every(forbidden_anything, &many);
  logits_every(edges, &some);
  logits_every(certain, &some);
  logits_every(edges, &many);
}

/* ---- gradients of Σ loss by finite differences */
static double net_loss(Check *c, void *state, double *size) {
  Net *n = state;
  MUST(op_cross_entropy(&c->dev, n->loss, n->logits, n->target, n->weight, n->forbid, false));
  return check_terms(NULL, check_read(c, n->loss), tensor_count(n->loss), size);
}

static void slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  Net n = make(c, s);
  MUST(op_cross_entropy(&c->dev, n.loss, n.logits, n.target, n.weight, n.forbid, true));
  double *slope = check_read(c, n.logits);
  check_write(c, n.logits, n.start);
  check_slope(c, "logits", net_loss, &n, n.logits, slope);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 0; i < 7; i++) check_once(slopes, &shapes[i], CHECK_F64);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "cross_entropy refusals");
  Device *d = &c->dev;
  Tensor logits = check_random(c, 3, 11), loss = check_random(c, 3, 0), weight = check_random(c, 3, 0),
         four = check_random(c, 4, 0);
  static const int32_t ids[] = {0, 1, 2, 3};
  Tensor target = check_ids(c, 3, ids), more = check_ids(c, 4, ids);
  check_refused(op_cross_entropy(d, four, logits, target, weight, -1, true), ERR_SHAPE, "loss of other rows");
  check_refused(op_cross_entropy(d, loss, logits, more, weight, -1, true), ERR_SHAPE, "target of other rows");
  check_refused(op_cross_entropy(d, loss, logits, target, four, -1, true), ERR_SHAPE, "weight of other rows");
  check_refused(op_cross_entropy(d, loss, logits, weight, weight, -1, true), ERR_SHAPE, "target that is no integer");
  check_refused(op_cross_entropy(d, loss, logits, target, weight, 11, true), ERR_SHAPE, "forbid beyond V");
  check_record(c, logits);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),
      cmocka_unit_test(test_edges),
      cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
