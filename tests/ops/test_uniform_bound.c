/* uniform_bound: values against the published sum over all tokens, gradients in place, its zero, extreme terms. */
#include "check.h"

#include <math.h>

#include "base/err.h"
#include "logits.h"

typedef struct Shape {
  int64_t R, V;
  int32_t mask;
  bool gradient;
  Layout layout;
  double scale; /* of the logits */
} Shape;

static const Shape shapes[] = {{4, 3, 0, true, PACKED, 2},         {6, 11, 4, true, STRIDED, 3},
                               {17, 1003, 0, true, PACKED, 3},     {67, 1003, 1002, true, STRIDED, 5},
                               {67, 11, 10, false, PACKED, 3},     {5, 30522, 103, true, PACKED, 4},
                               {17, 1003, 1002, true, PADDED, 3},  {4, 50258, 50257, true, PADDED, 5},
                               {5, 1024, 1023, false, PADDED, 10}, {4, 50258, 0, false, PACKED, 5}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct Net {
  const Shape *s;
  Tensor loss, logits, target, terms;
  double *start, *term; /* the logits; [R,3]: weight, 1 − alpha, the token that was seen */
  int32_t *to;
} Net;

/* Number i of the tokens besides the mask. */
static int32_t token(const Shape *s, int64_t i) {
  i %= s->V - 1;
  return (int32_t)(i + (i >= s->mask));
}

/* Every other row saw its target; 1 − alpha goes from 1e-3 to 1. */
static Net make(Check *c, const Shape *s) {
  static const double noise[] = {1e-3, 0.2, 0.7, 0.999, 1};
  check_title(c, "uniform_bound R=%d V=%d mask=%d%s%s", (int)s->R, (int)s->V, (int)s->mask,
              s->gradient ? " gradient" : "", layout_names[s->layout]);
  Net n = {.s = s, .term = check_host(c, 3 * s->R), .to = (int32_t *)check_host(c, s->R)};
  n.logits = logits_random(c, s->R, s->V, s->layout, s->scale);
  for (int64_t r = 0; r < s->R; r++) {
    n.to[r] = token(s, s->V - 2 + 5 * r);
    n.term[3 * r] = 0.3 + (double)(r % 5);
    n.term[3 * r + 1] = noise[r / 2 % 5];
    n.term[3 * r + 2] = r % 2 ? n.to[r] : token(s, s->V - 1 + 5 * r);
  }
  n.terms = check_random(c, s->R, 3);
  check_write(c, n.terms, n.term);
  n.term = check_read(c, n.terms);
  n.target = check_ids(c, s->R, n.to);
  n.loss = check_out(c, s->R, 0);
  n.start = check_read(c, n.logits);
  return n;
}

static int call(Check *c, const Net *n, bool gradient) {
  return op_uniform_bound(&c->dev, n->loss, n->logits, n->target, n->terms, n->s->mask, gradient);
}

/* Published: w/K·[Σ_j x_j/x_z·log(y_z x_j/(y_j x_z)) − K/x_z + K/y_z] */
static double published_row(const double *f, const Shape *s, int32_t x0, const double *k) {
  double K = (double)s->V - 1, b = k[1], a = K * (1 - b), top = -INFINITY, total = 0, sum = 0;
  int32_t z = (int32_t)k[2];
  for (int64_t v = 0; v < s->V; v++)
    if (v != s->mask) top = fmax(top, f[v]);
  for (int64_t v = 0; v < s->V; v++)
    if (v != s->mask) total += exp(f[v] - top);
  double x_z = a * (z == x0) + b, y_z = a * exp(f[z] - top) / total + b;
  for (int64_t v = 0; v < s->V; v++) {
    double x = a * (v == x0) + b, y = a * exp(f[v] - top) / total + b;
    if (v != s->mask) sum += x / x_z * log(y_z * x / (y * x_z));
  }
  return k[0] / K * (sum - K / x_z + K / y_z);
}

static void values(Check *c, const void *shape) {
  Net n = make(c, shape);
  const Shape *s = n.s;
  double *want = check_host(c, s->R), tolerance = c->mode->sum * sqrt((double)s->V);
  for (int64_t r = 0; r < s->R; r++) want[r] = published_row(n.start + r * s->V, s, n.to[r], n.term + 3 * r);
  MUST(call(c, &n, s->gradient));
  /* the published sum cancels: in f64 it is the less precise side */
  check_near(c, "loss", n.loss, want, c->mode->sum < 1e-10 ? 1e-12 : tolerance);
  double *loss = check_read(c, n.loss), *d = check_read(c, n.logits);
  for (int64_t r = 0; r < s->R; r++)
    if (!(loss[r] >= 0)) fail_msg("%s: the loss of row %d is %g", c->title, (int)r, loss[r]);
  if (!s->gradient) {
    check_same(c, "logits afterwards", n.logits, n.start);
    return;
  }
  if (n.logits.type == DT_BF16) tolerance += CHECK_STORED;
  for (int64_t r = 0; r < s->R; r++) { /* a shift of all logits changes nothing */
    double sum = 0, size = 0;
    for (int64_t v = 0; v < s->V; v++) sum += d[r * s->V + v], size += fabs(d[r * s->V + v]);
    if (!(fabs(sum) <= tolerance * size)) fail_msg("%s: gradients of row %d sum to %g", c->title, (int)r, sum);
    if (d[r * s->V + s->mask] != 0) fail_msg("%s: the mask token has a gradient", c->title);
  }
  check_record(c, n.logits);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) logits_every(values, &shapes[i]);
}

/* ---- gradients */
static double net_loss(Check *c, void *state, double *size) {
  Net *n = state;
  MUST(call(c, n, false));
  return check_terms(NULL, check_read(c, n->loss), n->s->R, size);
}

static void slopes(Check *c, const void *shape) {
  Net n = make(c, shape);
  MUST(call(c, &n, true));
  double *slope = check_read(c, n.logits);
  check_write(c, n.logits, n.start);
  check_slope(c, "logits", net_loss, &n, n.logits, slope);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) check_once(slopes, &shapes[i], CHECK_F64);
}

/* The gradients of the device under test are those of f64, row by row: their sizes differ by orders of magnitude. */
static const double *exact;
static void keep_slopes(Check *c, const void *shape) {
  Net n = make(c, shape);
  static double kept[67 * 1003];
  MUST(call(c, &n, true));
  const double *d = check_read(c, n.logits);
  for (int64_t i = 0; i < n.s->R * n.s->V; i++) kept[i] = d[i];
  exact = kept;
  check_record(c, n.logits);
}

static void near_slopes(Check *c, const void *shape) {
  Net n = make(c, shape);
  MUST(call(c, &n, true));
  const double *d = check_read(c, n.logits);
  double tolerance = c->mode->sum * sqrt((double)n.s->V);
  for (int64_t r = 0; r < n.s->R; r++) {
    double off = check_error(d + r * n.s->V, exact + r * n.s->V, n.s->V);
    if (!(off <= tolerance)) fail_msg("%s: gradients of row %d are off by %g", c->title, (int)r, off);
  }
}

static void test_f32_slopes(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    check_once(keep_slopes, &shapes[i], CHECK_F64);
    check_once(near_slopes, &shapes[i], CHECK_F32);
  }
}

/* ---- the zero at p = x, whatever was seen; a row without weight */
static void zero(Check *c, const void *shape) {
  Net n = make(c, shape);
  int64_t R = n.s->R, V = n.s->V;
  double *f = check_host(c, R * V);
  for (int64_t i = 0; i < R * V; i++) f[i] = i % V == n.s->mask ? NAN : i % V == n.to[i / V] ? 3 : -INFINITY;
  check_write(c, n.logits, f);
  MUST(call(c, &n, true));
  double *loss = check_read(c, n.loss), *d = check_read(c, n.logits);
  for (int64_t r = 0; r < R; r++)
    if (!(loss[r] >= 0 && loss[r] <= c->mode->point)) fail_msg("%s: the loss of a certain x0 is %g", c->title, loss[r]);
  for (int64_t i = 0; i < R * V; i++)
    if (!(fabs(d[i]) <= 10 * c->mode->point)) fail_msg("%s: its gradient is %g", c->title, d[i]);
  for (int64_t r = 0; r < R; r++) n.term[3 * r] = n.term[3 * r + 1] = n.term[3 * r + 2] = 0;
  check_write(c, n.terms, n.term);
  check_write(c, n.logits, n.start);
  MUST(call(c, &n, true));
  check_same(c, "the loss without weight", n.loss, check_host(c, R));
  check_same(c, "its gradient", n.logits, check_host(c, R * V));
}

/* A NaN logit gives a NaN loss in its row only. */
static void nan_logit(Check *c, const void *shape) {
  Net n = make(c, shape);
  n.start[token(n.s, 0)] = NAN;
  check_write(c, n.logits, n.start);
  MUST(call(c, &n, true));
  double *loss = check_read(c, n.loss);
  for (int64_t r = 0; r < n.s->R; r++) assert_true(isnan(loss[r]) == (r == 0));
  check_record(c, n.loss);
}

static void test_ends(void **state) {
  (void)state;
  for (int i = 1; i < 7; i += 5) {
    logits_every(zero, &shapes[i]);
    logits_every(nan_logit, &shapes[i]);
  }
}

static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "refusals");
  Device *d = &c->dev;
  static const int32_t ids[] = {0, 1, 2};
  Tensor logits = check_random(c, 3, 11), loss = check_random(c, 3, 0), three = check_random(c, 3, 3);
  Tensor target = check_ids(c, 3, ids);
  check_refused(op_uniform_bound(d, loss, logits, target, loss, 4, true), ERR_SHAPE, "one term a row");
  check_refused(op_uniform_bound(d, loss, logits, target, three, -1, true), ERR_SHAPE, "no mask token");
  check_refused(op_uniform_bound(d, loss, logits, target, three, 11, true), ERR_SHAPE, "a mask token beyond V");
  check_record(c, logits);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_slopes),
                                     cmocka_unit_test(test_f32_slopes), cmocka_unit_test(test_ends),
                                     cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
