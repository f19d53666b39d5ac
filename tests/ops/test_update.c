/* add, blend, squares, sum_terms, adamw, to_bf16: the ops on flat buffers at the end of a step. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

typedef struct Flat {
  int64_t n, skip; /* skip: offset of the buffers, in elements, from an address aligned to 256 bytes */
} Flat;
static const Flat sizes[] = {{1, 0}, {7, 0}, {7, 4}, {64, 0}, {1003, 0}, {1003, 1}, {1003, 4}, {100003, 0}, {40003, 3}};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* n elements of the type, filled as check_random does */
static Tensor flat(Check *c, DType type, int64_t n, int64_t skip) {
  Tensor t = check_tensor(c, type, n + skip, 0, 0, 0),
         part = tensor_rows(tensor_2d(t.data, type, n + skip, 1), skip, n);
  check_fill(c, t, 1);
  return tensor_1d(part.data, type, n);
}

/* x rounded to the device's type */
static double held(const Check *c, double x) { return c->dev.real == DT_F32 ? (double)(float)x : x; }

/* ---- add */
static void add_case(Check *c, const void *shape) {
  const Flat *s = shape;
  int64_t n = s->n;
  check_title(c, "add n=%d skip=%d", (int)n, (int)s->skip);
  Tensor y = flat(c, c->dev.real, n, s->skip), x = flat(c, c->dev.real, n, s->skip);
  double *want = check_read(c, y), *by = check_read(c, x);
  for (int64_t i = 0; i < n; i++) want[i] = held(c, want[i] + by[i]);
  MUST(op_add(&c->dev, y, x));
  check_same(c, "y", y, want);
  check_same(c, "x afterwards", x, by);
}

/* ---- blend: the sum in f64 rounded once, but for its last bit, which a fused product may change */
typedef struct Blend {
  double a, b;
} Blend;
static const Blend blends[] = {{0, 1}, {1, 0}, {-1, 1}, {0.9, 0.1}, {1 - 7.9e-6, 7.9e-6}};

static void blend_by(Check *c, const Flat *s, Blend w) {
  int64_t n = s->n;
  check_title(c, "blend n=%d skip=%d a=%g b=%g", (int)n, (int)s->skip, w.a, w.b);
  Tensor y = flat(c, c->dev.real, n, s->skip), x = flat(c, c->dev.real, n, s->skip);
  double *want = check_read(c, y), *by = check_read(c, x);
  for (int64_t i = 0; i < n; i++) want[i] = w.a * want[i] + w.b * by[i];
  MUST(op_blend(&c->dev, y, w.a, w.b, x));
  check_near(c, "y", y, want, c->mode->point);
  check_same(c, "x afterwards", x, by);
}

static void blend_case(Check *c, const void *shape) {
  for (size_t i = 0; i < sizeof blends / sizeof *blends; i++) blend_by(c, shape, blends[i]);
}

/* A constant stays what it is, bit for bit, however long the average is. */
static void still_case(Check *c, const void *shape) {
  (void)shape;
  enum { N = 1003, STEPS = 200 };
  check_title(c, "blend of a constant");
  Tensor x = check_random(c, N, 0), y = check_tensor(c, c->dev.real, N, 0, 0, 0);
  double *v = check_read(c, x);
  MUST(op_blend(&c->dev, y, 0, 1, x));
  for (int t = 2; t < STEPS; t++) MUST(op_blend(&c->dev, y, 1 - 8.0 / (1000 + t), 8.0 / (1000 + t), x));
  check_near(c, "y", y, v, c->dev.real == DT_F32 ? 0 : STEPS * c->mode->point);
}

static void test_blend(void **state) {
  (void)state;
  for (int i = 0; i < SIZES; i++) check_every(blend_case, &sizes[i]);
  check_every(still_case, NULL);
}

/* ---- squares, sum_terms: f64 sums in every mode */
static Tensor terms_of(Check *c, int64_t n) {
  int64_t chunk = c->dev.ops->chunk;
  return check_tensor(c, DT_F64, (n + chunk - 1) / chunk, 0, 0, 0);
}

static void sum_squares(Check *c, Tensor sum, Tensor terms, Tensor x) {
  MUST(op_squares(&c->dev, terms, x));
  MUST(op_sum_terms(&c->dev, sum, terms));
}

static void squares_case(Check *c, const void *shape) {
  const Flat *s = shape;
  int64_t n = s->n;
  check_title(c, "squares n=%d skip=%d", (int)n, (int)s->skip);
  Tensor x = flat(c, c->dev.real, n, s->skip);
  check_fill(c, x, 1e3);
  Tensor squares = check_tensor(c, DT_F64, 1, 0, 0, 0), terms = terms_of(c, n);
  double *v = check_read(c, x), want = 0;
  for (int64_t i = 0; i < n; i++) want += v[i] * v[i];
  check_poison(c, squares);
  check_poison(c, terms);
  sum_squares(c, squares, terms, x);
  check_near(c, "squares", squares, &want, 1e-15 * sqrt((double)n));
  v[n / 2] = NAN; /* a NaN gradient must show in the sum */
  check_write(c, x, v);
  sum_squares(c, squares, terms, x);
  assert_true(isnan(*check_read(c, squares)));
}

/* The terms of a part that begins with a chunk are those of the whole, bit for bit. */
static void parts_case(Check *c, const void *shape) {
  const Flat *s = shape;
  int64_t n = s->n, first = n / 3 / c->dev.ops->chunk * c->dev.ops->chunk;
  check_title(c, "squares of a part n=%d skip=%d", (int)n, (int)s->skip);
  Tensor x = flat(c, c->dev.real, n, s->skip), whole = terms_of(c, n), part = terms_of(c, n - first);
  MUST(op_squares(&c->dev, whole, x));
  MUST(op_squares(&c->dev, part, tensor_rows(x, first, n - first)));
  check_same(c, "terms", part, check_read(c, whole) + first / c->dev.ops->chunk);
}

/* the op adds to total */
static void sum_case(Check *c, const void *shape) {
  int64_t n = *(const int64_t *)shape;
  check_title(c, "sum n=%d", (int)n);
  Tensor x = check_random(c, n, 0), total = check_tensor(c, DT_F64, 1, 0, 0, 0);
  double *v = check_read(c, x), want = 1000, size = 1000;
  check_write(c, total, &want);
  for (int64_t i = 0; i < n; i++) want += v[i], size += fabs(v[i]);
  MUST(op_sum(&c->dev, total, x));
  check_near(c, "total", total, &want, 1e-15 * size / fabs(want) * sqrt((double)n));
}

static void test_sums(void **state) {
  (void)state;
  for (int i = 0; i < SIZES; i++) {
    check_every(add_case, &sizes[i]);
    check_every(sum_case, &sizes[i]);
    check_every(squares_case, &sizes[i]);
    check_every(parts_case, &sizes[i]);
  }
}

/* ---- adamw */
typedef struct Recipe {
  int64_t n, skip;
  bool low;
  double scale, clip, lr, eps, weight_decay, ema_decay;
  int steps;
} Recipe;

/* one is clipped; another has a norm below the bound */
static const Recipe recipes[] = {
    {7, 0, true, 1, 0, 0.1, 1e-8, 0, 0.9, 3},           {1003, 0, true, 0.25, 0, 0.1, 1e-3, 0.5, 0.5, 3},
    {1003, 0, false, 3, 0, 0.01, 1e-8, 0.1, 0, 2},      {64, 0, true, 1, 0, 0, 1e-8, 0.5, 0.9999, 2},
    {100003, 0, true, 0.5, 0, 0.1, 1e-8, 0.01, 0.9, 2}, {1003, 0, true, 2, 0.5, 0.1, 1e-8, 0, 0.9, 3},
    {1003, 4, true, 0.01, 5, 0.1, 1e-8, 0, 0.9, 2},     {1003, 1, true, 0.5, 0, 0.1, 1e-8, 0.1, 0.9, 2},
};

typedef struct Host {
  double *p, *g, *m, *v, *ema;
} Host;

static double norm_of(const Host *h, int64_t n) { return sqrt(check_dot(h->g, h->g, n)); }

static void reference(const Host *h, const AdamW *a, int64_t n) {
  double clip = a->clip > 0 ? fmin(1, a->clip / (a->scale * norm_of(h, n) + 1e-6)) : 1;
  for (int64_t i = 0; i < n; i++) {
    double g = a->scale * clip * h->g[i];
    h->m[i] = a->beta1 * h->m[i] + (1 - a->beta1) * g;
    h->v[i] = a->beta2 * h->v[i] + (1 - a->beta2) * g * g;
    double step = h->m[i] / a->correct1 / (sqrt(h->v[i] / a->correct2) + a->eps);
    h->p[i] = h->p[i] * (1 - a->lr * a->weight_decay) - a->lr * step;
    h->ema[i] = a->ema_decay * h->ema[i] + (1 - a->ema_decay) * h->p[i];
  }
}

static void adamw_case(Check *c, const void *shape) {
  const Recipe *s = shape;
  check_title(c, "adamw n=%d skip=%d scale=%g clip=%g lr=%g decay=%g", (int)s->n, (int)s->skip, s->scale, s->clip,
              s->lr, s->weight_decay);
  AdamW a = {.scale = s->scale,
             .clip = s->clip,
             .lr = s->lr,
             .beta1 = 0.9,
             .beta2 = 0.999,
             .eps = s->eps,
             .weight_decay = s->weight_decay,
             .ema_decay = s->ema_decay};
  Tensor *all[] = {&a.p, &a.g, &a.m, &a.v, &a.ema};
  Host h;
  double **host[] = {&h.p, &h.g, &h.m, &h.v, &h.ema};
  for (int i = 0; i < 5; i++) *all[i] = flat(c, c->dev.real, s->n, s->skip);
  check_write(c, a.m, check_host(c, s->n));
  check_write(c, a.v, check_host(c, s->n));
  if (s->ema_decay > 0.99) check_write(c, a.ema, check_host(c, s->n)); /* so that an error in 1 − decay shows */
  a.squares = check_tensor(c, DT_F64, 1, 0, 0, 0);
  Tensor terms = terms_of(c, s->n);
  if (s->low) a.low = flat(c, DT_BF16, s->n, s->skip), check_poison(c, a.low);
  for (int i = 0; i < 5; i++) *host[i] = check_read(c, *all[i]);
  h.g[0] = 0; /* 0/(0 + eps) at the first step */
  for (int step = 1; step <= s->steps; step++) {
    a.correct1 = 1 - pow(a.beta1, step), a.correct2 = 1 - pow(a.beta2, step);
    check_write(c, a.g, h.g);
    reference(&h, &a, s->n);
    sum_squares(c, a.squares, terms, a.g);
    MUST(op_adamw(&c->dev, &a));
    for (int64_t i = 0; i < s->n; i++) h.g[i] = (float)(-0.7 * h.g[i] + 0.1); /* another gradient */
  }
  /* lr is 0.1, so that an error of the update is not hidden by the size of p */
  check_near(c, "p", a.p, h.p, 4 * c->mode->point);
  check_near(c, "m", a.m, h.m, c->mode->point);
  check_near(c, "v", a.v, h.v, c->mode->point);
  check_near(c, "ema", a.ema, h.ema, 4 * c->mode->point);
  if (!s->low) return;
  double *p = check_read(c, a.p);
  for (int64_t i = 0; i < s->n; i++) p[i] = check_bf16(p[i]);
  check_same(c, "low", a.low, p);
}

/* A gradient that is NaN or infinite changes nothing. */
static void broken_case(Check *c, const void *shape) {
  const Flat *s = shape;
  int64_t n = s->n;
  check_title(c, "adamw of a broken gradient, n=%d skip=%d", (int)n, (int)s->skip);
  AdamW a = {.scale = 1, .clip = 1, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .correct1 = 1, .correct2 = 1};
  Tensor *all[] = {&a.p, &a.m, &a.v, &a.ema, &a.low, &a.g};
  double *before[5];
  for (int i = 0; i < 6; i++) {
    *all[i] = flat(c, i == 4 ? DT_BF16 : c->dev.real, n, s->skip);
    if (i < 5) before[i] = check_read(c, *all[i]);
  }
  a.squares = check_tensor(c, DT_F64, 1, 0, 0, 0);
  Tensor terms = terms_of(c, n);
  double *g = check_read(c, a.g);
  for (int kind = 0; kind < 2; kind++) {
    g[n - 1] = kind ? INFINITY : NAN;
    check_write(c, a.g, g);
    sum_squares(c, a.squares, terms, a.g);
    MUST(op_adamw(&c->dev, &a));
    for (int i = 0; i < 5; i++) check_same(c, "what must not change", *all[i], before[i]);
  }
}

static void test_broken(void **state) {
  (void)state;
  for (int i = 0; i < SIZES; i++) check_every(broken_case, &sizes[i]);
}

static void test_adamw(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) check_every(adamw_case, &recipes[i]);
}

/* ---- to_bf16: every upper half, with lower halves around the tie */
static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}

static void bits_case(Check *c, const void *shape) {
  (void)shape;
  static const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
  enum { N = 65536 * 6 };
  check_title(c, "to_bf16");
  Tensor x = check_tensor(c, c->dev.real, N, 0, 0, 0), y = check_tensor(c, DT_BF16, N, 0, 0, 0);
  double *v = check_host(c, N);
  for (int i = 0; i < N; i++) v[i] = from_bits((uint32_t)(i / 6) << 16 | lower[i % 6]);
  check_write(c, x, v);
  uint32_t *bits = (uint32_t *)check_host(c, N); /* conversion through double would make every NaN quiet */
  for (int i = 0; i < N; i++) bits[i] = (uint32_t)(i / 6) << 16 | lower[i % 6];
  if (x.type == DT_F32) MUST(tensor_upload(&c->dev, x, bits));
  check_poison(c, y);
  MUST(op_to_bf16(&c->dev, y, x));
  check_record(c, y);
  uint16_t *got = check_raw(c, y);
  for (int i = 0; i < N; i++) {
    double value = from_bits((uint32_t)got[i] << 16), want = check_bf16(v[i]);
    bool same = isnan(want) ? isnan(value) : value == want && signbit(value) == signbit(want);
    /* a NaN keeps its sign and upper bits and becomes quiet: the same on every device */
    if (isnan(want) && x.type == DT_F32) same = got[i] == (bits[i] >> 16 | 0x40);
    if (!same) fail_msg("%s: %08x gives %04x", c->title, bits[i], got[i]);
  }
}

typedef struct Pair {
  uint32_t from;
  uint16_t to;
} Pair;

static void pairs_case(Check *c, const void *shape) {
  (void)shape;
  static const Pair pairs[] = {
      {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82}, {0x3f817fff, 0x3f81},
      {0xbf818000, 0xbf82}, {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x7f7fffff, 0x7f80}, {0xff7fffff, 0xff80},
      {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x7f7f7fff, 0x7f7f}, {0x00008000, 0x0000}, {0x00018000, 0x0002},
      {0x00000001, 0x0000}, {0x007fffff, 0x0080}, {0x3fffffff, 0x4000},
  };
  enum { N = sizeof pairs / sizeof *pairs };
  check_title(c, "to_bf16 by hand");
  Tensor x = check_tensor(c, c->dev.real, N, 0, 0, 0), y = check_tensor(c, DT_BF16, N, 0, 0, 0);
  double *v = check_host(c, N);
  for (int i = 0; i < N; i++) v[i] = from_bits(pairs[i].from);
  check_write(c, x, v);
  MUST(op_to_bf16(&c->dev, y, x));
  check_record(c, y);
  uint16_t *got = check_raw(c, y);
  for (int i = 0; i < N; i++) assert_int_equal(got[i], pairs[i].to);
}

static void test_to_bf16(void **state) {
  (void)state;
  check_every(bits_case, NULL);
  check_every(pairs_case, NULL);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "update refusals");
  Device *d = &c->dev;
  Tensor a = check_random(c, 8, 0), b = check_random(c, 9, 0), low = check_tensor(c, DT_BF16, 9, 0, 0, 0),
         ids = check_ids(c, 8, NULL);
  Tensor sum1 = check_tensor(c, DT_F64, 1, 0, 0, 0), two = check_tensor(c, DT_F64, 2, 0, 0, 0);
  check_refused(op_add(d, a, b), ERR_SHAPE, "x of another length");
  check_refused(op_add(d, ids, a), ERR_SHAPE, "y of integers");
  check_refused(op_blend(d, a, 1, 1, b), ERR_SHAPE, "x of another length");
  check_refused(op_blend(d, a, 1, 1, ids), ERR_SHAPE, "x of integers");
  check_refused(op_squares(d, sum1, ids), ERR_SHAPE, "squares of integers");
  check_refused(op_squares(d, two, a), ERR_SHAPE, "two terms of one chunk");
  check_refused(op_sum(d, two, a), ERR_SHAPE, "two totals");
  check_refused(op_sum(d, sum1, ids), ERR_SHAPE, "sum of integers");
  check_refused(op_sum_terms(d, two, sum1), ERR_SHAPE, "two sums");
  check_refused(op_to_bf16(d, low, a), ERR_SHAPE, "y of another length");
  check_refused(op_to_bf16(d, a, a), ERR_SHAPE, "y that is not bf16");
  AdamW w = {.p = a, .g = a, .m = a, .v = b, .ema = a, .squares = sum1};
  check_refused(op_adamw(d, &w), ERR_SHAPE, "v of another length");
  w.v = a, w.squares = TENSOR_NONE;
  check_refused(op_adamw(d, &w), ERR_SHAPE, "no squares");
  w.squares = sum1, w.low = low;
  check_refused(op_adamw(d, &w), ERR_SHAPE, "low of another length");
  check_record(c, a);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sums),    cmocka_unit_test(test_adamw),    cmocka_unit_test(test_broken),
      cmocka_unit_test(test_to_bf16), cmocka_unit_test(test_refusals), cmocka_unit_test(test_blend),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
