/* conv and gate, forward and backward, against plain loops in double. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

typedef struct Shape {
  int64_t B, L, E, W;
  bool reverse, strided;
} Shape;
/* the last three: more rows than a GPU block processes, and channels in packs */
static const Shape shapes[] = {{1, 1, 1, 1, false, false},  {1, 1, 8, 4, true, false},   {3, 2, 8, 4, false, true},
                               {3, 2, 8, 4, true, true},    {2, 7, 64, 4, false, false}, {2, 7, 65, 3, true, true},
                               {3, 33, 70, 4, false, true}, {2, 33, 140, 8, true, true}, {2, 145, 68, 4, false, false},
                               {1, 260, 6, 4, true, false}, {2, 130, 3, 3, true, true}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void title(Check *c, const char *op, const Shape *s) {
  check_title(c, "%s B=%d L=%d E=%d W=%d%s%s", op, (int)s->B, (int)s->L, (int)s->E, (int)s->W,
              s->reverse ? " reverse" : "", s->strided ? " strided" : "");
}

static Tensor wide(Check *c, const Shape *s, bool out) {
  int64_t R = s->B * s->L, ld = s->E + (s->strided ? 9 : 0), first = s->strided ? 5 : 0;
  return out ? check_act_out_cols(c, R, s->E, ld, first) : check_act_cols(c, R, s->E, ld, first);
}

static Conv make(Check *c, const Shape *s) {
  Conv a = {.L = s->L, .reverse = s->reverse};
  a.x = wide(c, s, false);
  a.weight = check_random(c, s->E, s->W);
  a.bias = check_random(c, s->E, 0);
  a.y = wide(c, s, true);
  a.dy = wide(c, s, false);
  a.dx = wide(c, s, true);
  a.dweight = check_random(c, s->E, s->W);
  a.dbias = check_random(c, s->E, 0);
  check_fill(c, a.x, 2);
  return a;
}

typedef struct Host {
  double *x, *w, *b, *dy, *y, *dx, *dw, *db;
} Host;

/* A reverse convolution flips the sequence, convolves, and flips back: position p of the flipped one is row L−1−p. */
static int64_t place(const Shape *s, int64_t b, int64_t p) { return b * s->L + (s->reverse ? s->L - 1 - p : p); }

static void host_channel(const Host *h, const Shape *s, int64_t b, int64_t e) {
  for (int64_t p = 0; p < s->L; p++) {
    double pre = h->b[e];
    for (int64_t j = 0; j < s->W; j++) {
      int64_t q = p - (s->W - 1) + j;
      if (q >= 0) pre += h->w[e * s->W + j] * h->x[place(s, b, q) * s->E + e];
    }
    int64_t at = place(s, b, p) * s->E + e;
    double g = 1 / (1 + exp(-pre)), d = h->dy[at] * g * (1 + pre * (1 - g));
    h->y[at] = pre * g;
    h->db[e] += d;
    for (int64_t j = 0; j < s->W; j++) {
      int64_t q = p - (s->W - 1) + j;
      if (q < 0) continue;
      h->dw[e * s->W + j] += d * h->x[place(s, b, q) * s->E + e];
      h->dx[place(s, b, q) * s->E + e] += d * h->w[e * s->W + j];
    }
  }
}

static Host host(Check *c, const Shape *s, const Conv *a) {
  int64_t n = s->B * s->L * s->E;
  Host h = {check_read(c, a->x), check_read(c, a->weight), check_read(c, a->bias),    check_read(c, a->dy),
            check_host(c, n),    check_host(c, n),         check_read(c, a->dweight), check_read(c, a->dbias)};
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t e = 0; e < s->E; e++) host_channel(&h, s, b, e);
  return h;
}

static void values(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "conv", s);
  Conv a = make(c, s);
  Host h = host(c, s, &a);
  double point = 4 * c->mode->point, sum = 8 * c->mode->sum * sqrt((double)(s->B * s->L));
  MUST(op_conv(&c->dev, &a));
  check_near(c, "y", a.y, h.y, point);
  MUST(op_conv_backward(&c->dev, &a));
  check_near(c, "dx", a.dx, h.dx, point);
  check_near(c, "dweight", a.dweight, h.dw, sum);
  check_near(c, "dbias", a.dbias, h.db, sum);
  a.add = true; /* the second direction's gradient is added to that of the first */
  for (int64_t i = 0; i < s->B * s->L * s->E; i++) h.dx[i] *= 2;
  MUST(op_conv_backward(&c->dev, &a));
  check_near(c, "dx of two", a.dx, h.dx, point);
  check_same(c, "x afterwards", a.x, h.x);
  check_same(c, "dy afterwards", a.dy, h.dy);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(values, &shapes[i]);
}

/* ---- gradients by finite differences */
static int run(Device *dev, const void *args) { return op_conv(dev, args); }

static void slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "conv", s);
  Conv a = make(c, s);
  const CheckGradient all[] = {{"x", a.x, a.dx}, {"weight", a.weight, a.dweight}, {"bias", a.bias, a.dbias}};
  MUST(tensor_zero(&c->dev, a.dweight));
  MUST(tensor_zero(&c->dev, a.dbias));
  MUST(op_conv_backward(&c->dev, &a));
  check_slopes(c, run, &a, a.y, a.dy, all, 3);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 4; i < SHAPES; i++) check_once(slopes, &shapes[i], CHECK_F64);
}

/* ---- gate */
static void gate_case(Check *c, const void *shape) {
  const Shape *s = shape;
  int64_t n = s->B * s->L * s->E;
  title(c, "gate", s);
  Tensor y = wide(c, s, false), z = wide(c, s, false), d_o = wide(c, s, false);
  Tensor o = wide(c, s, true), dy = wide(c, s, true), dz = wide(c, s, true);
  check_fill(c, z, 6);
  double *v = check_read(c, y), *g = check_read(c, z), *d = check_read(c, d_o);
  double *want = check_host(c, n), *want_y = check_host(c, n), *want_z = check_host(c, n);
  for (int64_t i = 0; i < n; i++) {
    double q = 1 / (1 + exp(-g[i]));
    want[i] = v[i] * g[i] * q;
    want_y[i] = d[i] * g[i] * q;
    want_z[i] = d[i] * v[i] * q * (1 + g[i] * (1 - q));
  }
  MUST(op_gate(&c->dev, o, y, z));
  check_near(c, "o", o, want, c->mode->point);
  MUST(op_gate_backward(&c->dev, dy, dz, d_o, y, z));
  check_near(c, "dy", dy, want_y, c->mode->point);
  check_near(c, "dz", dz, want_z, 2 * c->mode->point);
  MUST(op_gate_backward(&c->dev, d_o, dz, d_o, y, z)); /* dy may overwrite d_o */
  check_near(c, "dy in place", d_o, want_y, c->mode->point);
}

static void test_gate(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(gate_case, &shapes[i]);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  static const Shape s = {2, 3, 8, 4, false, false};
  check_title(c, "conv refusals");
  Conv good = make(c, &s), a = good;
  Tensor narrow = check_random(c, 6, 7), taps = check_random(c, 8, 9), strided = check_random_cols(c, 8, 4, 6, 1);
  a.L = 4;
  check_refused(op_conv(&c->dev, &a), ERR_SHAPE, "rows that are no whole sequences");
  a = good, a.weight = taps;
  check_refused(op_conv(&c->dev, &a), ERR_SHAPE, "nine taps");
  a = good, a.weight = strided;
  check_refused(op_conv(&c->dev, &a), ERR_SHAPE, "a strided weight");
  a = good, a.y = narrow;
  check_refused(op_conv(&c->dev, &a), ERR_SHAPE, "y of another width");
  a = good, a.bias = narrow;
  check_refused(op_conv(&c->dev, &a), ERR_SHAPE, "a bias of another size");
  a = good, a.dx = narrow;
  check_refused(op_conv_backward(&c->dev, &a), ERR_SHAPE, "dx of another width");
  a = good, a.dweight = TENSOR_NONE;
  check_refused(op_conv_backward(&c->dev, &a), ERR_SHAPE, "no dweight");
  check_refused(op_gate(&c->dev, good.y, good.x, narrow), ERR_SHAPE, "z of another width");
  check_refused(op_gate_backward(&c->dev, good.dx, narrow, good.dy, good.x, good.x), ERR_SHAPE, "dz of another width");
  check_record(c, good.x);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),
      cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_gate),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
