/* scan and scan_backward against the recurrence in double, one channel and state at a time. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

typedef struct Shape {
  int64_t B, L, E, S;
  bool reverse, strided;
} Shape;
/* lengths around the chunk of rows, widths around the vector width and the groups of channels; the last three: whole
 * packs of channels over several chunks, and more states than a GPU kernel keeps at a time */
static const Shape shapes[] = {
    {1, 1, 1, 1, false, false},    {2, 1, 8, 16, true, true},     {3, 2, 5, 3, false, true},
    {3, 7, 16, 16, true, false},   {2, 7, 130, 5, false, true},   {2, 33, 24, 16, false, false},
    {2, 33, 24, 16, true, true},   {1, 64, 17, 4, true, false},   {2, 65, 9, 16, false, true},
    {1, 193, 33, 2, true, false},  {1, 140, 200, 3, false, true}, {2, 130, 40, 16, false, false},
    {1, 193, 40, 16, true, false}, {1, 70, 40, 20, true, false}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void title(Check *c, const char *op, const Shape *s) {
  check_title(c, "%s B=%d L=%d E=%d S=%d%s%s", op, (int)s->B, (int)s->L, (int)s->E, (int)s->S,
              s->reverse ? " reverse" : "", s->strided ? " strided" : "");
}

static Tensor wide(Check *c, const Shape *s, int64_t cols, bool out) {
  int64_t R = s->B * s->L, ld = cols + (s->strided ? 9 : 0), first = s->strided ? 5 : 0;
  return out ? check_act_out_cols(c, R, cols, ld, first) : check_act_cols(c, R, cols, ld, first);
}

static Scan make(Check *c, const Shape *s) {
  Scan a = {.L = s->L, .reverse = s->reverse};
  a.x = wide(c, s, s->E, false);
  a.dt = wide(c, s, s->E, false);
  a.B = wide(c, s, s->S, false);
  a.C = wide(c, s, s->S, false);
  a.A_log = check_random(c, s->E, s->S);
  a.D = check_random(c, s->E, 0);
  a.y = wide(c, s, s->E, true);
  a.states = check_out(c, s->B * ((s->L + SCAN_CHUNK - 1) / SCAN_CHUNK), s->E * s->S);
  a.dy = wide(c, s, s->E, false);
  a.dx = wide(c, s, s->E, true);
  a.ddt = wide(c, s, s->E, true);
  a.dB = wide(c, s, s->S, true);
  a.dC = wide(c, s, s->S, true);
  a.dA_log = check_random(c, s->E, s->S);
  a.dD = check_random(c, s->E, 0);
  check_fill(c, a.dt, 4); /* steps from 0.02 to 4: slow and fast decay of the states */
  return a;
}

typedef struct Host {
  double *x, *dt, *B, *C, *A_log, *D, *dy; /* in */
  double *y, *dx, *ddt, *dB, *dC, *dA_log, *dD, *h;
} Host;

/* Position p of the flipped sequence is row L−1−p. */
static int64_t place(const Shape *s, int64_t b, int64_t p) { return b * s->L + (s->reverse ? s->L - 1 - p : p); }
static double softplus(double v) { return v > 30 ? v : log1p(exp(v)); }

/* One state of one channel of one sequence: h[p+1] after position p. */
static void host_state(const Host *m, const Shape *s, int64_t b, int64_t e, int64_t i) {
  double A = -exp(m->A_log[e * s->S + i]), carry = 0, dA = 0, *h = m->h;
  h[0] = 0;
  for (int64_t p = 0; p < s->L; p++) {
    int64_t r = place(s, b, p), at = r * s->E + e;
    double step = softplus(m->dt[at]);
    h[p + 1] = exp(step * A) * h[p] + step * m->B[r * s->S + i] * m->x[at];
    m->y[at] += m->C[r * s->S + i] * h[p + 1];
  }
  for (int64_t p = s->L - 1; p >= 0; p--) {
    int64_t r = place(s, b, p), at = r * s->E + e, k = r * s->S + i;
    double step = softplus(m->dt[at]), slope = 1 / (1 + exp(-m->dt[at])), a = exp(step * A);
    double dh = m->C[k] * m->dy[at] + carry;
    carry = dh * a;
    m->dC[k] += m->dy[at] * h[p + 1];
    m->dB[k] += dh * step * m->x[at];
    m->dx[at] += dh * step * m->B[k];
    m->ddt[at] += (carry * h[p] * A + dh * m->B[k] * m->x[at]) * slope;
    dA += carry * h[p] * step;
  }
  m->dA_log[e * s->S + i] += dA * A;
}

static Host host(Check *c, const Shape *s, const Scan *a) {
  int64_t R = s->B * s->L, n = R * s->E;
  Host m = {.x = check_read(c, a->x), .dt = check_read(c, a->dt), .B = check_read(c, a->B), .C = check_read(c, a->C)};
  m.A_log = check_read(c, a->A_log), m.D = check_read(c, a->D), m.dy = check_read(c, a->dy);
  m.y = check_host(c, n), m.dx = check_host(c, n), m.ddt = check_host(c, n), m.h = check_host(c, s->L + 1);
  m.dB = check_host(c, R * s->S), m.dC = check_host(c, R * s->S);
  m.dA_log = check_read(c, a->dA_log), m.dD = check_read(c, a->dD);
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t e = 0; e < s->E; e++)
      for (int64_t i = 0; i < s->S; i++) host_state(&m, s, b, e, i);
  for (int64_t k = 0; k < n; k++) {
    m.y[k] += m.D[k % s->E] * m.x[k];
    m.dx[k] += m.D[k % s->E] * m.dy[k];
    m.dD[k % s->E] += m.dy[k] * m.x[k];
  }
  return m;
}

static void compare_gradients(Check *c, const Shape *s, const Scan *a, const Host *m) {
  double tolerance = 16 * c->mode->sum * sqrt((double)(s->L + s->S)), over = sqrt((double)s->B);
  check_near(c, "dx", a->dx, m->dx, tolerance);
  check_near(c, "ddt", a->ddt, m->ddt, tolerance);
  check_near(c, "dB", a->dB, m->dB, tolerance * sqrt((double)s->E));
  check_near(c, "dC", a->dC, m->dC, tolerance * sqrt((double)s->E));
  check_near(c, "dA_log", a->dA_log, m->dA_log, tolerance * over);
  check_near(c, "dD", a->dD, m->dD, tolerance * over);
}

static void values(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "scan", s);
  Scan a = make(c, s);
  Host m = host(c, s, &a);
  double tolerance = 8 * c->mode->sum * sqrt((double)(s->L + s->S));
  MUST(op_scan(&c->dev, &a));
  check_near(c, "y", a.y, m.y, tolerance);
  MUST(op_scan_backward(&c->dev, &a));
  compare_gradients(c, s, &a, &m);
  check_same(c, "x afterwards", a.x, m.x);
  check_same(c, "dt afterwards", a.dt, m.dt);
  check_same(c, "B afterwards", a.B, m.B);
  check_same(c, "C afterwards", a.C, m.C);
  check_same(c, "dy afterwards", a.dy, m.dy);
  Tensor states = a.states;
  a.add = true; /* the second direction adds to the first; y does not depend on whether states are stored */
  a.states = TENSOR_NONE;
  for (int64_t i = 0; i < s->B * s->L * s->E; i++) m.y[i] *= 2;
  MUST(op_scan(&c->dev, &a));
  check_near(c, "y of two", a.y, m.y, tolerance);
  check_record(c, states);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(values, &shapes[i]);
}

/* ---- gradients by finite differences */
static int run(Device *dev, const void *args) { return op_scan(dev, args); }

static void slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "scan", s);
  Scan a = make(c, s);
  const CheckGradient all[] = {{"x", a.x, a.dx}, {"dt", a.dt, a.ddt},          {"B", a.B, a.dB},
                               {"C", a.C, a.dC}, {"A_log", a.A_log, a.dA_log}, {"D", a.D, a.dD}};
  MUST(tensor_zero(&c->dev, a.dA_log));
  MUST(tensor_zero(&c->dev, a.dD));
  MUST(op_scan(&c->dev, &a));
  MUST(op_scan_backward(&c->dev, &a));
  check_slopes(c, run, &a, a.y, a.dy, all, 6);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 1; i < 9; i++) check_once(slopes, &shapes[i], CHECK_F64);
}

/* ---- extreme steps: so small that 1 + exp(dt) rounds to 1, and so large that every state decays at once; and a NaN */
static void ends(Check *c, const void *shape) {
  (void)shape;
  static const Shape s = {1, 3, 4, 2, false, false};
  check_title(c, "scan at the ends");
  Scan a = make(c, &s);
  const double dt[] = {-40, -9, 60, 400, -40, -9, 60, 400, -40, -9, 60, 400};
  check_write(c, a.dt, dt);
  Host m = host(c, &s, &a);
  MUST(op_scan(&c->dev, &a));
  MUST(op_scan_backward(&c->dev, &a));
  check_record(c, a.y);
  for (int e = 0; e < 4; e++) { /* each channel by itself: large values would hide errors of small ones */
    double got[3], want[3], got_ddt[3], want_ddt[3], *y = check_read(c, a.y), *ddt = check_read(c, a.ddt);
    for (int p = 0; p < 3; p++) {
      got[p] = y[p * 4 + e] - m.D[e] * m.x[p * 4 + e], want[p] = m.y[p * 4 + e] - m.D[e] * m.x[p * 4 + e];
      got_ddt[p] = ddt[p * 4 + e], want_ddt[p] = m.ddt[p * 4 + e];
    }
    /* y contains D x of order one. The contribution of the smallest step is lost in its rounding; in bf16 that of the
     * second smallest, too. */
    double stored = a.y.type == DT_BF16 ? CHECK_STORED : 0;
    if (e > (stored > 0)) assert_true(check_error(got, want, 3) <= (e == 1 ? 1e4 : 10) * c->mode->point + stored);
    assert_true(check_error(got_ddt, want_ddt, 3) <= 10 * c->mode->point + stored);
  }
  double spoilt[8], *A_log = check_read(c, a.A_log);
  memcpy(spoilt, A_log, sizeof spoilt);
  spoilt[3] = NAN; /* a state of channel 1: y becomes NaN in this channel only */
  check_write(c, a.A_log, spoilt);
  MUST(op_scan(&c->dev, &a));
  double *y = check_read(c, a.y);
  for (int i = 0; i < 12; i++) assert_true((i % 4 == 1) == isnan(y[i]));
}

static void test_ends(void **state) {
  (void)state;
  check_every(ends, NULL);
}

/* A row does not see later positions in its direction: changing the last one leaves the others bitwise unchanged. */
static void blind(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "blind scan", s);
  Scan a = make(c, s);
  MUST(op_scan(&c->dev, &a));
  double *before = check_read(c, a.y), *x = check_read(c, a.x);
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t e = 0; e < s->E; e++) x[place(s, b, s->L - 1) * s->E + e] = 3;
  check_write(c, a.x, x);
  MUST(op_scan(&c->dev, &a));
  check_record(c, a.y);
  double *after = check_read(c, a.y);
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t p = 0; p < s->L; p++)
      for (int64_t e = 0; e < s->E; e++) {
        int64_t i = place(s, b, p) * s->E + e;
        assert_true((before[i] == after[i]) == (p < s->L - 1));
      }
}

static void test_blind(void **state) {
  (void)state;
  for (int i = 4; i < 9; i++) check_every(blind, &shapes[i]);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  static const Shape s = {2, 3, 8, 4, false, false};
  check_title(c, "scan refusals");
  Scan good = make(c, &s), a = good;
  Tensor narrow = check_random(c, 6, 7), three = check_random(c, 6, 3), strided = check_random_cols(c, 8, 4, 6, 1);
  a.L = 4;
  check_refused(op_scan(&c->dev, &a), ERR_SHAPE, "rows that are no whole sequences");
  a = good, a.dt = narrow;
  check_refused(op_scan(&c->dev, &a), ERR_SHAPE, "dt of another width");
  a = good, a.C = three;
  check_refused(op_scan(&c->dev, &a), ERR_SHAPE, "C of another width than B");
  a = good, a.A_log = strided;
  check_refused(op_scan(&c->dev, &a), ERR_SHAPE, "a strided A_log");
  a = good, a.D = narrow;
  check_refused(op_scan(&c->dev, &a), ERR_SHAPE, "D of another size");
  a = good, a.states = three;
  check_refused(op_scan(&c->dev, &a), ERR_SHAPE, "room for too few states");
  a = good, a.y = narrow;
  check_refused(op_scan(&c->dev, &a), ERR_SHAPE, "y of another width");
  a = good, a.states = TENSOR_NONE;
  check_refused(op_scan_backward(&c->dev, &a), ERR_SHAPE, "backward without states");
  a = good, a.dB = three;
  check_refused(op_scan_backward(&c->dev, &a), ERR_SHAPE, "dB of another width");
  a = good, a.ddt = narrow;
  check_refused(op_scan_backward(&c->dev, &a), ERR_SHAPE, "ddt of another width");
  a = good, a.dA_log = TENSOR_NONE;
  check_refused(op_scan_backward(&c->dev, &a), ERR_SHAPE, "no dA_log");
  check_record(c, good.x);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values), cmocka_unit_test(test_slopes),   cmocka_unit_test(test_ends),
      cmocka_unit_test(test_blind),  cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
