/* draw and argmax: the exact inverse of the cumulative distribution, down to its smallest steps. */
#include "check.h"

#include <math.h>

#include "base/err.h"
#include "base/rng.h"
#include "logits.h"

static const double ALMOST_ONE = 1 - 0x1p-53;

static DrawRule plain(int32_t forbid) { return (DrawRule){.forbid = forbid, .temperature = 1, .nucleus = 1}; }
static int draw_plain(Device *dev, Tensor ids, Tensor logits, Tensor uniform, int32_t forbid) {
  DrawRule rule = plain(forbid);
  return op_draw(dev, ids, logits, uniform, TENSOR_NONE, &rule);
}

/* The logits, rounded as the device stores them. */
static double *held(Check *c, const double *logits, int64_t V) {
  Tensor t = check_tensor(c, logits_type(c), V, 0, 0, 0);
  check_write(c, t, logits);
  return check_read(c, t);
}

/* Draw n tokens from the same logits, one for each uniform. */
static int32_t *draws_from(Check *c, const double *logits, int64_t V, Layout layout, const double *u, int64_t n,
                           int32_t forbid) {
  double *rows = check_host(c, n * V);
  for (int64_t i = 0; i < n * V; i++) rows[i] = logits[i % V];
  Tensor f = logits_random(c, n, V, layout, 1), uniform = check_tensor(c, DT_F64, n, 0, 0, 0),
         ids = check_ids(c, n, NULL);
  check_write(c, f, rows);
  check_write(c, uniform, u);
  MUST(draw_plain(&c->dev, ids, f, uniform, forbid));
  check_record(c, ids);
  return check_raw(c, ids);
}

/* The same with strided rows at unaligned addresses. */
static int32_t *draws(Check *c, const double *logits, int64_t V, const double *u, int64_t n, int32_t forbid) {
  return draws_from(c, logits, V, STRIDED, u, n, forbid);
}

/* the probabilities p[V] of the logits that `held` returned */
static double *law(Check *c, const double *logits, int64_t V, int32_t forbid) {
  double *p = check_host(c, V), most = -INFINITY, sum = 0;
  for (int64_t v = 0; v < V; v++)
    if (v != forbid) most = fmax(most, logits[v]);
  for (int64_t v = 0; v < V; v++) sum += p[v] = v == forbid ? 0 : exp(logits[v] - most);
  for (int64_t v = 0; v < V; v++) p[v] /= sum;
  return p;
}

/* ---- a grid of uniforms; those within 1e-12 of a step of the cumulative distribution are not compared, because the
 * rounding of the reference decides there */
typedef struct Law {
  int V;
  int32_t forbid;
  double logits[6];
} Law;
static const Law laws[] = {
    {5, -1, {0.5, -1, 2, 0, 1}},
    {5, 2, {0.5, -1, 2, 0, 1}},
    {5, 0, {9, -1, 2, 0, 1}},
    {5, 4, {0.5, -1, 2, 0, 1}},
    {5, 4, {-20, 3, -INFINITY, 2, 90}},
    {5, -1, {-1000, -1000.5, -1001, -1000, -999}},
    {2, 0, {0, 5}},
    {1, -1, {3}},
    {5, 1, {-INFINITY, 0, -INFINITY, 4, -INFINITY}},
};

static void grid(Check *c, const void *shape) {
  const Law *l = shape;
  const int N = check_slow ? 101 : 2011;
  check_title(c, "draw law %d", (int)(l - laws));
  double *p = law(c, held(c, l->logits, l->V), l->V, l->forbid), *u = check_host(c, N);
  for (int i = 0; i < N; i++) u[i] = i / (double)N;
  u[N - 1] = ALMOST_ONE;
  int32_t *got = draws(c, l->logits, l->V, u, N, l->forbid);
  for (int i = 0; i < N; i++) {
    double sum = 0;
    int want = -1, last = -1, close = 0;
    for (int v = 0; v < l->V; v++) {
      sum += p[v];
      if (p[v] > 0) last = v;
      if (u[i] > 0 && u[i] < ALMOST_ONE && fabs(sum - u[i]) < 1e-12) close = 1;
      if (want < 0 && sum > u[i]) want = v;
    }
    if (want < 0) want = last; /* rounding left the reference's sum below 1 */
    if (!close && got[i] != want) fail_msg("%s: u = %.17g gives token %d, not %d", c->title, u[i], got[i], want);
    if (p[got[i]] == 0) fail_msg("%s: u = %.17g gives token %d of probability 0", c->title, u[i], got[i]);
  }
}

static void test_grid(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) logits_every(grid, &laws[i]);
}

/* Four equally likely tokens: all sums are exact, and a uniform exactly on a step gives the next token. */
static void steps(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "draw at a step");
  static const double logits[] = {7, 7, 7, 7};
  double u[8];
  for (int k = 0; k < 4; k++) {
    u[2 * k] = k / 4.0;
    u[2 * k + 1] = k == 3 ? ALMOST_ONE : nextafter((k + 1) / 4.0, 0);
  }
  int32_t *got = draws(c, logits, 4, u, 8, -1);
  for (int i = 0; i < 8; i++)
    if (got[i] != i / 2) fail_msg("%s: u = %.17g gives token %d, not %d", c->title, u[i], got[i], i / 2);
}

/* A token of probability about q/2 between two of about ½: it is drawn for uniforms in its interval and no others. */
static void slot(Check *c, const void *shape) {
  (void)shape;
  static const double rare[] = {-20.75, -23, -27.5};
  for (int k = 0; k < 3; k++) {
    check_title(c, "draw of e^%g", rare[k]);
    double logits[] = {0, rare[k], 0}, q = exp(rare[k]), total = 2 + q;
    double u[] = {(1 - q / 2) / total, (1 + q / 4) / total, (1 + q / 2) / total, (1 + 3 * q / 4) / total,
                  (1 + 3 * q / 2) / total};
    static const int32_t want[] = {0, 1, 1, 1, 2};
    int32_t *got = draws(c, logits, 3, u, 5, -1);
    for (int i = 0; i < 5; i++)
      if (got[i] != want[i]) fail_msg("%s: u[%d] gives token %d, not %d", c->title, i, got[i], want[i]);
  }
}

/* The same in a large vocabulary, where sums in f32 would be too inaccurate: a rare token among 30,000 equal ones. */
static void slot_among_many(Check *c, const void *shape) {
  (void)shape;
  enum { V = 30001, AT = 15000 };
  check_title(c, "draw among many");
  double *logits = check_host(c, V), q = exp(-9.0), total = V - 1 + q;
  logits[AT] = -9; /* p = 4e-9 */
  double u[] = {0, (AT - 0.5) / total, (AT + q / 2) / total, (AT + q + 0.5) / total, ALMOST_ONE};
  static const int32_t want[] = {0, AT - 1, AT, AT + 1, V - 1};
  int32_t *got = draws(c, logits, V, u, 5, -1);
  for (int i = 0; i < 5; i++)
    if (got[i] != want[i]) fail_msg("%s: u[%d] gives token %d, not %d", c->title, i, got[i], want[i]);
}

static void test_exact(void **state) {
  (void)state;
  logits_every(steps, NULL);
  logits_every(slot, NULL);
  logits_every(slot_among_many, NULL);
}

/* Random rows of many lengths. One token has more than half of the probability. The weights may be f32, and their
 * rounding shifts the steps a little: u must lie in the interval of the drawn token or within `near` of it. */
typedef struct Many {
  int64_t V;
  int32_t forbid;
  Layout layout;
} Many;

static void many(Check *c, const void *shape) {
  const Many *s = shape;
  const int64_t N = check_long() || s->V < 10000 ? 40 : check_slow ? 5 : 10;
  check_title(c, "draw V=%d forbid=%d%s", (int)s->V, (int)s->forbid, layout_names[s->layout]);
  int64_t V = s->V;
  double *logits = check_host(c, V), *u = check_host(c, N), near = c->dev.real == DT_F64 ? 1e-12 : 1e-6;
  RngKey k = rng_key(3, RNG_TEST, 5, (uint64_t)V, 0);
  for (int64_t v = 0; v < V; v++) logits[v] = 6 * rng_uniform(k, (uint64_t)v);
  logits[V / 3] = log((double)V) + 4;
  for (int64_t i = 0; i < N; i++) u[i] = i == 0 ? 0 : i == N - 1 ? ALMOST_ONE : rng_uniform(k, (uint64_t)(V + i));
  logits = held(c, logits, V);
  double *p = law(c, logits, V, s->forbid), *below = check_host(c, V + 1);
  for (int64_t v = 0; v < V; v++) below[v + 1] = below[v] + p[v];
  int32_t *got = draws_from(c, logits, V, s->layout, u, N, s->forbid);
  for (int64_t i = 0; i < N; i++) {
    if (got[i] < 0 || got[i] >= V || got[i] == s->forbid) fail_msg("%s: u = %g gives %d", c->title, u[i], got[i]);
    if (u[i] < below[got[i]] - near || u[i] > below[got[i] + 1] + near)
      fail_msg("%s: u = %.17g gives token %d, from %.17g to %.17g", c->title, u[i], got[i], below[got[i]],
               below[got[i] + 1]);
  }
}

static void test_many(void **state) {
  (void)state;
  static const Many shapes[] = {{255, -1, PACKED}, {256, 255, PADDED},     {257, 0, STRIDED},   {1003, 7, PADDED},
                                {8192, 1, PADDED}, {50258, 50257, PADDED}, {50258, 0, STRIDED}, {70001, 70000, PADDED}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) logits_every(many, &shapes[i]);
}

/* Rows that define no distribution: a logit is NaN or +∞, or all are −∞. */
static void lawless(Check *c, const void *shape) {
  (void)shape;
  enum { V = 1003 };
  static const double spoilt[] = {NAN, INFINITY, -INFINITY}, u[] = {0, 0.5, ALMOST_ONE};
  double *logits = check_host(c, V);
  for (int k = 0; k < 3; k++) {
    check_title(c, "draw of %g", spoilt[k]);
    for (int v = 0; v < V; v++) logits[v] = k == 2 || v == 700 ? spoilt[k] : 0;
    int32_t *got = draws_from(c, logits, V, PADDED, u, 3, 5);
    for (int i = 0; i < 3; i++) assert_int_equal(got[i], -1);
    if (k == 2) continue;
    got = draws_from(c, logits, V, PADDED, u, 3, 700); /* the forbidden logit may have any value */
    assert_int_equal(got[0], 0);
    assert_int_equal(got[2], V - 1);
  }
}

/* A single NaN among the logits is reported (id −1) by every variant of draw and by argmax. */
static void one_nan(Check *c, const void *shape) {
  (void)shape;
  enum { V = 1003, M = 5 };
  static const DrawRule ways[] = {{.nucleus = 1},
                                  {.nucleus = 0.9},
                                  {.nucleus = 1e-6},
                                  {.nucleus = 0.9, .within = true},
                                  {.nucleus = 1, .f32 = true},
                                  {.nucleus = 0.9, .f32 = true}};
  static const KeepRule keeps[2][3] = {{KEEP_NEVER, KEEP_SCORE, KEEP_ODDS}, {KEEP_NEVER, KEEP_CHANCE, KEEP_ODDS}};
  double *logits = check_host(c, V), half = 0.5, none = 0;
  for (int at = 0; at < V; at += 501) {
    check_title(c, "draw with NaN at %d", at);
    for (int v = 0; v < V; v++) logits[v] = v == at ? NAN : v % 10;
    Tensor f = check_tensor(c, logits_type(c), 1, V, V, 0), u = check_tensor(c, DT_F64, 1, 0, 0, 0),
           keep = check_tensor(c, DT_F64, 1, 0, 0, 0), ids = check_ids(c, 1, NULL);
    check_write(c, f, logits);
    check_write(c, u, &half);
    check_write(c, keep, &none);
    for (size_t i = 0; i < 3 * sizeof ways / sizeof *ways; i++) {
      DrawRule rule = ways[i / 3];
      rule.forbid = M, rule.temperature = 1, rule.keep = keeps[rule.f32][i % 3];
      MUST(op_draw(&c->dev, ids, f, u, rule.keep == KEEP_NEVER ? TENSOR_NONE : keep, &rule));
      assert_int_equal(*(int32_t *)check_raw(c, ids), -1);
    }
    MUST(op_argmax(&c->dev, ids, f, M));
    assert_int_equal(*(int32_t *)check_raw(c, ids), -1);
    MUST(op_argmax(&c->dev, ids, f, at)); /* the forbidden logit may have any value */
    assert_true(*(int32_t *)check_raw(c, ids) % 10 == 9);
    check_record(c, ids);
  }
}

static void test_lawless(void **state) {
  (void)state;
  logits_every(lawless, NULL);
  logits_every(one_nan, NULL);
}

/* Uniforms at either end of [0,1) never give an impossible token: the forbidden one, one with logit −∞, or one whose
 * exponential underflows to 0. */
static void ends(Check *c, const void *shape) {
  (void)shape;
  enum { V = 1003 };
  static const double u[] = {0, 0x1p-53, 0.5, ALMOST_ONE - 0x1p-53, ALMOST_ONE};
  for (int k = 0; k < 3; k++) {
    check_title(c, "draw at the ends, %d", k);
    double *logits = check_host(c, V);
    int32_t forbid = k == 1 ? 0 : V - 1;
    for (int v = 0; v < V; v++) logits[v] = v > 300 && v < 700 ? sin(v) : k == 2 ? -1e4 : -INFINITY;
    logits[forbid] = 50; /* would nearly always be drawn */
    int32_t *got = draws(c, logits, V, u, 5, forbid);
    for (int i = 0; i < 5; i++)
      if (got[i] <= 300 || got[i] >= 700) fail_msg("%s: u = %.17g gives token %d", c->title, u[i], got[i]);
    assert_int_equal(got[0], 301);
    assert_int_equal(got[4], 699);
  }
}

static void test_ends(void **state) {
  (void)state;
  logits_every(ends, NULL);
}

/* Chi-square test with 200,000 draws, with a million for LONG=1. */
static void chi_square(Check *c, const void *shape) {
  (void)shape;
  enum { V = 11, CALLS = 10 };
  const int64_t N = check_slow ? 200 : check_watched() ? 1000 : check_long() ? 100000 : 20000;
  check_title(c, "draw χ²");
  double *logits = check_host(c, V), *u = check_host(c, N), *rows = check_host(c, N * V), seen[V] = {0}, chi = 0;
  for (int v = 0; v < V; v++) logits[v] = (float)(3 * sin(v * v));
  logits = held(c, logits, V);
  for (int64_t i = 0; i < N * V; i++) rows[i] = logits[i % V];
  Tensor f = check_tensor(c, logits_type(c), N, V, V, 0), uniform = check_tensor(c, DT_F64, N, 0, 0, 0),
         ids = check_ids(c, N, NULL);
  check_write(c, f, rows);
  for (uint64_t call = 0; call < CALLS; call++) {
    RngKey k = rng_key(1, RNG_TEST, 3, call, 0);
    for (int i = 0; i < N; i++) u[i] = rng_uniform(k, (uint64_t)i);
    check_write(c, uniform, u);
    MUST(draw_plain(&c->dev, ids, f, uniform, 3));
    int32_t *got = check_raw(c, ids);
    for (int i = 0; i < N; i++) seen[got[i]]++;
  }
  double *p = law(c, logits, V, 3);
  assert_true(seen[3] == 0);
  for (int v = 0; v < V; v++)
    if (v != 3) chi += pow(seen[v] - p[v] * CALLS * (double)N, 2) / (p[v] * CALLS * (double)N);
  if (chi > 33.7) fail_msg("%s is %.1f", c->title, chi); /* 9 degrees of freedom; exceeded once in 10,000 */
  check_record(c, ids);
}

static void test_chi_square(void **state) {
  (void)state;
  check_case(chi_square, NULL, CHECK_F64, CHECK_F32);
}

/* ---- argmax */
typedef struct Shape {
  int64_t R, V;
  Layout layout;
} Shape;

static void argmax_case(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "argmax R=%d V=%d%s", (int)s->R, (int)s->V, layout_names[s->layout]);
  for (int32_t forbid = -1; forbid < s->V; forbid += (int32_t)s->V) {
    Tensor f = logits_random(c, s->R, s->V, s->layout, 1), ids = check_ids(c, s->R, NULL);
    double *x = check_read(c, f), *want = check_host(c, s->R);
    for (int64_t i = 0; i < s->R * s->V; i++) x[i] = s->V > 1 ? floor(x[i] * 4) : x[i]; /* many ties */
    check_write(c, f, x);
    for (int64_t r = 0; r < s->R; r++) {
      int64_t best = -1;
      for (int64_t v = 0; v < s->V; v++)
        if (v != forbid && (best < 0 || x[r * s->V + v] > x[r * s->V + best])) best = v;
      want[r] = (double)best;
    }
    MUST(op_argmax(&c->dev, ids, f, forbid));
    check_same(c, "ids", ids, want);
  }
}

static void argmax_ends(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "argmax at the ends");
  enum { R = 5, V = 6 };
  static const double x[R * V] = {1,         2,         9,   2,     1,         0,         /* forbidden wins */
                                  -INFINITY, -INFINITY, 0,   -1e38, -INFINITY, -INFINITY, /* one finite     */
                                  5,         5,         5,   5,     5,         5,         /* ties           */
                                  -1e4,      -1e4,      1e4, 1e4,   -1e4,      1e4,       /* the first      */
                                  -3,        -3,        -3,  -3,    -3,        -2};       /* the last       */
  static const double want[R] = {1, 3, 0, 3, 5};
  Tensor f = check_tensor(c, logits_type(c), R, V, V, 0), ids = check_ids(c, R, NULL);
  check_write(c, f, x);
  MUST(op_argmax(&c->dev, ids, f, 2));
  check_same(c, "ids", ids, want);
}

static void test_argmax(void **state) {
  (void)state;
  static const Shape shapes[] = {{1, 11, PACKED}, {3, 11, STRIDED},   {67, 1003, STRIDED},
                                 {17, 2, PACKED}, {67, 1003, PADDED}, {3, 50258, PADDED}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) logits_every(argmax_case, &shapes[i]);
  logits_every(argmax_ends, NULL);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "draw refusals");
  Device *d = &c->dev;
  Tensor f = check_random(c, 3, 11), ids = check_ids(c, 3, NULL), more = check_ids(c, 4, NULL);
  Tensor u = check_tensor(c, DT_F64, 3, 0, 0, 0), u4 = check_tensor(c, DT_F64, 4, 0, 0, 0),
         u32 = check_tensor(c, DT_F32, 3, 0, 0, 0);
  check_refused(draw_plain(d, more, f, u, -1), ERR_SHAPE, "more ids than rows");
  check_refused(draw_plain(d, ids, f, u4, -1), ERR_SHAPE, "more uniforms than rows");
  check_refused(draw_plain(d, ids, f, u32, -1), ERR_SHAPE, "uniforms of 24 bits");
  check_refused(draw_plain(d, ids, f, u, 11), ERR_SHAPE, "forbid beyond V");
  check_refused(draw_plain(d, ids, ids, u, -1), ERR_SHAPE, "logits of integers");
  const Tensor none = TENSOR_NONE;
  DrawRule odd = plain(4);
  odd.temperature = 0;
  check_refused(op_draw(d, ids, f, u, none, &odd), ERR_SHAPE, "temperature 0");
  odd.temperature = 1, odd.nucleus = 0;
  check_refused(op_draw(d, ids, f, u, none, &odd), ERR_SHAPE, "nucleus 0");
  odd.nucleus = 1, odd.keep = KEEP_SCORE;
  check_refused(op_draw(d, ids, f, u, u4, &odd), ERR_SHAPE, "keep of another length");
  check_refused(op_draw(d, ids, f, u, none, &odd), ERR_SHAPE, "a keep rule without keep");
  odd.forbid = -1;
  check_refused(op_draw(d, ids, f, u, u, &odd), ERR_SHAPE, "a keep rule without a mask");
  odd.forbid = 4, odd.f32 = true;
  check_refused(op_draw(d, ids, f, u, u, &odd), ERR_SHAPE, "a score in f32");
  odd.f32 = false, odd.keep = KEEP_CHANCE;
  check_refused(op_draw(d, ids, f, u, u, &odd), ERR_SHAPE, "a chance in f64");
  odd.keep = KEEP_NEVER;
  check_refused(op_draw(d, ids, f, u, u, &odd), ERR_SHAPE, "keep without a rule");
  check_refused(op_argmax(d, more, f, -1), ERR_SHAPE, "more ids than rows");
  check_refused(op_argmax(d, u, f, -1), ERR_SHAPE, "ids that are no integers");
  check_refused(op_argmax(d, ids, f, 11), ERR_SHAPE, "forbid beyond V");
  check_record(c, f);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_grid),   cmocka_unit_test(test_exact),    cmocka_unit_test(test_ends),
      cmocka_unit_test(test_many),   cmocka_unit_test(test_lawless),  cmocka_unit_test(test_chi_square),
      cmocka_unit_test(test_argmax), cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
