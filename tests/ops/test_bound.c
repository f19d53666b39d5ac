/* absorbing_bound and score_entropy: values against their published forms, gradients in place, extreme logits. */
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

static const Shape shapes[] = {{1, 2, 0, true, PACKED, 2},        {3, 11, 4, true, STRIDED, 3},
                               {17, 1003, 0, true, PACKED, 3},    {67, 1003, 1002, true, STRIDED, 5},
                               {67, 11, 10, false, PACKED, 3},    {5, 30522, 103, true, PACKED, 4},
                               {17, 1003, 1002, true, PADDED, 3}, {3, 50258, 50257, true, PADDED, 5}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct Net {
  const Shape *s;
  Tensor loss, logits, target, factors;
  double *start, *factor;
  int32_t *to;
  bool absorbing;
} Net;

/* absorbing_bound: factors for the times of T = 4 steps, from the first to the last. score_entropy: weights. */
static void fill_factors(Check *c, Net *n) {
  for (int64_t r = 0; r < n->s->R; r++) {
    double T = 4, t = fmin((double)(1 + r % 4) / T, 1 - 1e-4), s = t - 1 / T, *f = n->factor + 4 * r;
    if (!n->absorbing) {
      n->factor[r] = 0.3 + (double)(r % 5);
      continue;
    }
    f[0] = 1 / t, f[2] = (1 - t) / t;
    f[1] = s > 0 ? T * (1 - 1 / T / t) : 0, f[3] = s > 0 ? (1 - s) / s - f[2] : 0;
  }
  check_write(c, n->factors, n->factor);
  n->factor = check_read(c, n->factors);
}

static Net make(Check *c, const Shape *s, bool absorbing) {
  check_title(c, "%s R=%d V=%d mask=%d%s%s", absorbing ? "absorbing_bound" : "score_entropy", (int)s->R, (int)s->V,
              (int)s->mask, s->gradient ? " gradient" : "", layout_names[s->layout]);
  Net n = {.s = s, .absorbing = absorbing, .factor = check_host(c, 4 * s->R), .to = (int32_t *)check_host(c, s->R)};
  n.logits = logits_random(c, s->R, s->V, s->layout, s->scale);
  n.factors = absorbing ? check_random(c, s->R, 4) : check_random(c, s->R, 0);
  fill_factors(c, &n);
  for (int64_t r = 0; r < s->R; r++) {
    n.to[r] = (int32_t)((s->V - 1 + 5 * r) % s->V);
    if (n.to[r] == s->mask) n.to[r] = (int32_t)((s->mask + 1) % s->V);
  }
  n.target = check_ids(c, s->R, n.to);
  n.loss = check_out(c, s->R, 0);
  n.start = check_read(c, n.logits);
  return n;
}

static int call(Check *c, const Net *n, bool gradient) {
  return n->absorbing ? op_absorbing_bound(&c->dev, n->loss, n->logits, n->target, n->factors, n->s->mask, gradient)
                      : op_score_entropy(&c->dev, n->loss, n->logits, n->target, n->factors, n->s->mask, gradient);
}

static double bound_row(const double *f, int64_t V, int32_t x0, int32_t m, const double *k) {
  double sum = 0;
  for (int64_t v = 0; v < V; v++) sum += exp(f[v]);
  double a = 1 + k[2] * exp(f[m]) / sum, b = 1 + (k[2] + k[3]) * exp(f[m]) / sum;
  return k[0] * (log(a) - f[x0] + log(sum)) + k[1] * (log(a) - log(b));
}

/* σ'·[Σ_{y≠m} s_y − r log s_x0 + r(log r − 1)], s_y = r e^f_y/(V − 1), weight = σ'·r. The result is the same for any
 * r = 1/(e^σ − 1). */
static double entropy_row(const double *f, int64_t V, int32_t x0, int32_t m, double weight) {
  double r = 0.37, rate = weight / r, sum = 0;
  for (int64_t v = 0; v < V; v++)
    if (v != m) sum += r * exp(f[v]) / (double)(V - 1);
  return rate * (sum - r * (log(r) + f[x0] - log((double)(V - 1))) + r * (log(r) - 1));
}

/* Near its zero the score entropy is a difference of larger terms. The CPU's exponentials are accurate enough for a
 * tolerance relative to the difference. A GPU's are off by one or two units in the last place, so there the tolerance
 * is relative to the terms. */
static double cancels(const Net *n, const double *loss) {
  double term = 0, largest = 0;
  if (check_first() == CHECK_F64) return 1;
  for (int64_t r = 0; r < n->s->R; r++) {
    double g = n->start[r * n->s->V + n->to[r]] - log((double)n->s->V - 1);
    term = fmax(term, n->factor[r] * fmax(1, fabs(g)));
    largest = fmax(largest, fabs(loss[r]));
  }
  return fmax(1, term / largest);
}

static void values(Check *c, const Net *n) {
  const Shape *s = n->s;
  double *loss = check_host(c, s->R), tolerance = c->mode->sum * sqrt((double)s->V);
  for (int64_t r = 0; r < s->R; r++) {
    const double *f = n->start + r * s->V;
    loss[r] = n->absorbing ? bound_row(f, s->V, n->to[r], s->mask, n->factor + 4 * r)
                           : entropy_row(f, s->V, n->to[r], s->mask, n->factor[r]);
  }
  MUST(call(c, n, s->gradient));
  check_near(c, "loss", n->loss, loss, n->absorbing ? tolerance : tolerance * cancels(n, loss));
  if (!s->gradient) check_same(c, "logits afterwards", n->logits, n->start);
  double *d = check_read(c, n->logits);
  for (int64_t r = 0; r < s->R && s->gradient && !n->absorbing; r++)
    if (d[r * s->V + s->mask] != 0) fail_msg("%s: the mask token has a gradient", c->title);
  /* softmax is invariant to a common shift of the logits, so each row of the gradient sums to 0, up to the rounding of
   * its elements when they are stored */
  if (n->logits.type == DT_BF16) tolerance += CHECK_STORED;
  for (int64_t r = 0; r < s->R && s->gradient && n->absorbing; r++) {
    double sum = 0, size = 0;
    for (int64_t v = 0; v < s->V; v++) sum += d[r * s->V + v], size += fabs(d[r * s->V + v]);
    if (!(fabs(sum) <= tolerance * size)) fail_msg("%s: gradients of row %lld sum to %g", c->title, (long long)r, sum);
  }
  check_record(c, n->logits);
}

static void bound_values(Check *c, const void *shape) {
  Net n = make(c, shape, true);
  values(c, &n);
}
static void entropy_values(Check *c, const void *shape) {
  Net n = make(c, shape, false);
  values(c, &n);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    logits_every(bound_values, &shapes[i]);
    logits_every(entropy_values, &shapes[i]);
  }
}

/* ---- gradients */
static double net_loss(Check *c, void *state, double *size) {
  Net *n = state;
  MUST(call(c, n, false));
  return check_terms(NULL, check_read(c, n->loss), n->s->R, size);
}

static void slopes(Check *c, Net n) {
  MUST(call(c, &n, true));
  double *slope = check_read(c, n.logits);
  check_write(c, n.logits, n.start);
  check_slope(c, "logits", net_loss, &n, n.logits, slope);
}

static void bound_slopes(Check *c, const void *shape) { slopes(c, make(c, shape, true)); }
static void entropy_slopes(Check *c, const void *shape) { slopes(c, make(c, shape, false)); }

static void test_slopes(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    check_once(bound_slopes, &shapes[i], CHECK_F64);
    check_once(entropy_slopes, &shapes[i], CHECK_F64);
  }
}

/* gradients in f32 agree with finite differences of the reference in double */
static void f32_slopes(Check *c, const void *shape) {
  for (int absorbing = 0; absorbing < 2; absorbing++) {
    Net n = make(c, shape, absorbing);
    MUST(call(c, &n, true));
    double *got = check_read(c, n.logits), sum[2] = {0};
    for (int64_t r = 0; r < n.s->R; r++) {
      const double *f = n.start + r * n.s->V, h = 1e-5;
      for (int64_t v = 0; v < n.s->V && v < 40; v++) {
        double ends[2], *moved = check_host(c, n.s->V);
        for (int side = 0; side < 2; side++) {
          for (int64_t i = 0; i < n.s->V; i++) moved[i] = f[i] + (i == v) * (side ? h : -h);
          ends[side] = absorbing ? bound_row(moved, n.s->V, n.to[r], n.s->mask, n.factor + 4 * r)
                                 : entropy_row(moved, n.s->V, n.to[r], n.s->mask, n.factor[r]);
        }
        double want = (ends[1] - ends[0]) / (2 * h), off = got[r * n.s->V + v] - want;
        sum[0] += off * off, sum[1] += want * want;
      }
    }
    if (!(sqrt(sum[0] / sum[1]) < 1e-5)) fail_msg("%s: gradients are off by %g", c->title, sqrt(sum[0] / sum[1]));
  }
}

static void test_f32_slopes(void **state) {
  (void)state;
  check_once(f32_slopes, &shapes[1], CHECK_F32);
}

/* ---- extreme values: p(m) = 0 and 1, a target of probability 1, the zero of the score entropy */
static void ends(Check *c, const void *shape) {
  Net n = make(c, shape, true);
  int64_t R = n.s->R, V = n.s->V;
  double *f = check_host(c, R * V), *want = check_host(c, R);
  for (int64_t i = 0; i < R * V; i++) f[i] = i % V == n.s->mask ? -INFINITY : i % V == n.to[i / V] ? 3 : -INFINITY;
  check_write(c, n.logits, f);
  MUST(call(c, &n, true));
  check_same(c, "a certain target", n.loss, want);
  check_same(c, "its gradient", n.logits, check_host(c, R * V));
  for (int64_t i = 0; i < R * V; i++) f[i] = i % V == n.s->mask ? 60 : 0; /* p(m) is nearly 1 */
  check_write(c, n.logits, f);
  MUST(call(c, &n, true));
  for (int64_t r = 0; r < R; r++) want[r] = bound_row(f + r * V, V, n.to[r], n.s->mask, n.factor + 4 * r);
  check_near(c, "everything is the mask", n.loss, want, c->mode->sum * 10);

  Net e = make(c, shape, false); /* e^g = 1 at the target, 0 elsewhere: the loss is 0 there */
  double shift = log((double)V - 1);
  for (int64_t i = 0; i < R * V; i++) f[i] = i % V == e.to[i / V] ? shift : i % V == e.s->mask ? NAN : -INFINITY;
  check_write(c, e.logits, f);
  MUST(call(c, &e, true));
  double *loss = check_read(c, e.loss), *d = check_read(c, e.logits);
  /* rounding moves the logit this far from the minimum, where the slope is 0 */
  double off = e.logits.type == DT_BF16 ? fabs(check_bf16(shift) - shift) : 0;
  for (int64_t r = 0; r < R; r++) assert_true(fabs(loss[r]) <= (c->mode->point + off * off) * e.factor[r]);
  for (int64_t i = 0; i < R * V; i++) assert_true(fabs(d[i]) <= c->mode->point * 10 + 2 * off * e.factor[i / V]);
}

static void test_ends(void **state) {
  (void)state;
  logits_every(ends, &shapes[1]);
}

/* With T = 2^30 steps d is tiny and w2 is large, but w2·d must stay accurate in f32, too. The limit of the loss is
 * w1 (log a − log p) − w2 d p/a. */
static void many_steps(Check *c, const void *shape) {
  Net n = make(c, shape, true);
  double *want = check_host(c, n.s->R);
  for (int64_t r = 0; r < n.s->R; r++) {
    double T = 0x1p30, t = 0.1 + 0.25 * (double)r, *k = n.factor + 4 * r, sum = 0;
    const double *f = n.start + r * n.s->V;
    k[0] = 1 / t, k[1] = T * (1 - 1 / T / t), k[2] = (1 - t) / t, k[3] = 1 / T / (t * (t - 1 / T));
    for (int64_t v = 0; v < n.s->V; v++) sum += exp(f[v]);
    double p = exp(f[n.s->mask]) / sum, a = 1 + k[2] * p;
    want[r] = k[0] * (log(a) - f[n.to[r]] + log(sum)) - k[1] * k[3] * p / a;
  }
  check_write(c, n.factors, n.factor);
  MUST(call(c, &n, false));
  check_near(c, "loss of 2^30 steps", n.loss, want, 1e-5);
}

static void test_many_steps(void **state) {
  (void)state;
  logits_every(many_steps, &shapes[1]);
}

static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "refusals");
  Device *d = &c->dev;
  static const int32_t ids[] = {0, 1, 2};
  Tensor logits = check_random(c, 3, 11), loss = check_random(c, 3, 0), four = check_random(c, 3, 4);
  Tensor target = check_ids(c, 3, ids);
  check_refused(op_absorbing_bound(d, loss, logits, target, loss, 4, true), ERR_SHAPE, "one factor a row");
  check_refused(op_absorbing_bound(d, loss, logits, target, four, -1, true), ERR_SHAPE, "no mask token");
  check_refused(op_score_entropy(d, loss, logits, target, four, 4, true), ERR_SHAPE, "four factors a row");
  check_refused(op_score_entropy(d, loss, logits, target, loss, 11, true), ERR_SHAPE, "a mask token beyond V");
  check_record(c, logits);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),     cmocka_unit_test(test_slopes),
                                     cmocka_unit_test(test_f32_slopes), cmocka_unit_test(test_ends),
                                     cmocka_unit_test(test_many_steps), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
