/* embed, embed_backward, gather_rows, scatter_rows: copies are exact, sums agree within rounding. */
#include "check.h"

#include <math.h>

#include "base/err.h"
#include "base/rng.h"

typedef struct Shape {
  int64_t R, V, D;
  bool strided, half; /* half: every second row has the same id, as in a masked batch */
} Shape;

static const Shape shapes[] = {
    {1, 11, 8, false, false},    {3, 11, 24, true, false},   {17, 3, 40, false, false},
    {67, 1003, 72, true, false}, {67, 2, 72, false, false},  {1000, 11, 24, false, false},
    {33, 1, 1032, false, false}, {5000, 3, 8, false, false}, {2500, 700, 20, false, true},
    {130, 9, 13, true, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static Tensor typed(Check *c, DType type, int64_t rows, const Shape *s, bool out) {
  Tensor t = check_tensor(c, type, rows, s->D, s->D + (s->strided ? 3 : 0), s->strided ? 2 : 0);
  if (out)
    check_poison(c, t);
  else
    check_fill(c, t, 1);
  return t;
}

static Tensor wide(Check *c, int64_t rows, const Shape *s, bool out) { return typed(c, c->dev.real, rows, s, out); }

/* with repetitions; the first and the last row of the table occur */
static int32_t *random_ids(Check *c, const Shape *s) {
  int32_t *ids = (int32_t *)check_host(c, s->R);
  RngKey k = rng_key(5, RNG_TEST, 2, 0, 0);
  for (int64_t i = 0; i < s->R; i++) ids[i] = (int32_t)(rng_uniform(k, (uint64_t)i) * (double)s->V);
  for (int64_t i = 1; i < s->R && s->half; i += 2) ids[i] = (int32_t)(s->V / 2);
  ids[0] = (int32_t)(s->V - 1);
  ids[s->R - 1] = s->R > 1 ? 0 : ids[0];
  return ids;
}

static void embed_case(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "embed R=%d V=%d D=%d%s", (int)s->R, (int)s->V, (int)s->D, s->half ? " half of one id" : "");
  int32_t *ids = random_ids(c, s);
  Tensor table = check_random(c, s->V, s->D), dtable = check_random(c, s->V, s->D), id = check_ids(c, s->R, ids);
  Tensor x = wide(c, s->R, s, true), dx = wide(c, s->R, s, false);
  double *t = check_read(c, table), *want = check_host(c, s->R * s->D), *d = check_read(c, dx),
         *sum = check_read(c, dtable);
  for (int64_t i = 0; i < s->R * s->D; i++) {
    int64_t at = ids[i / s->D] * s->D + i % s->D;
    want[i] = t[at];
    sum[at] += d[i];
  }
  MUST(op_embed(&c->dev, x, id, table));
  check_same(c, "x", x, want);
  MUST(op_embed_backward(&c->dev, dtable, dx, id));
  check_near(c, "dtable", dtable, sum, c->mode->sum * sqrt((double)(1 + s->R / s->V)));
  check_same(c, "dx afterwards", dx, d);
}

/* Row r has r mod 4 entries, so some have none. */
static void mix_case(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "embed_mix R=%d V=%d D=%d", (int)s->R, (int)s->V, (int)s->D);
  int64_t n = 0, most = 3 * s->R;
  int32_t *begin = (int32_t *)check_host(c, s->R + 1), *ids = (int32_t *)check_host(c, most),
          *of = (int32_t *)check_host(c, most);
  RngKey k = rng_key(5, RNG_TEST, 3, 0, 0);
  for (int64_t r = 0; r < s->R; r++) {
    begin[r] = (int32_t)n;
    for (int64_t i = 0; i < (r + 1) % 4; i++, n++)
      ids[n] = (int32_t)(rng_uniform(k, (uint64_t)n) * (double)s->V), of[n] = (int32_t)r;
  }
  begin[s->R] = (int32_t)n;
  Mixture m = {check_ids(c, s->R + 1, begin), check_ids(c, n, ids), check_ids(c, n, of), check_random(c, n, 0)};
  Tensor table = check_random(c, s->V, s->D), dtable = check_random(c, s->V, s->D);
  Tensor x = wide(c, s->R, s, true), dx = wide(c, s->R, s, false);
  double *t = check_read(c, table), *want = check_host(c, s->R * s->D), *d = check_read(c, dx),
         *sum = check_read(c, dtable), *w = check_read(c, m.weights);
  for (int64_t e = 0; e < n; e++)
    for (int64_t i = 0; i < s->D; i++) {
      want[of[e] * s->D + i] += w[e] * t[ids[e] * s->D + i];
      sum[ids[e] * s->D + i] += w[e] * d[of[e] * s->D + i];
    }
  MUST(op_embed_mix(&c->dev, x, &m, table));
  check_near(c, "x", x, want, c->mode->sum * 4);
  MUST(op_embed_mix_backward(&c->dev, dtable, dx, &m));
  check_near(c, "dtable", dtable, sum, c->mode->sum * sqrt((double)(1 + n / s->V)));
  check_same(c, "dx afterwards", dx, d);
  Tensor thin = check_random(c, s->V, s->D + 1);
  check_refused(op_embed_mix(&c->dev, x, &m, thin), ERR_SHAPE, "table of another width");
  check_refused(op_embed_mix_backward(&c->dev, thin, dx, &m), ERR_SHAPE, "dtable of another width");
  m.rows = m.begin;
  if (n != s->R + 1) check_refused(op_embed_mix(&c->dev, x, &m, table), ERR_SHAPE, "rows of other entries");
}

static void test_embed(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(embed_case, &shapes[i]);
  for (int i = 0; i < SHAPES; i++) check_every(mix_case, &shapes[i]);
}

/* ---- gather and scatter: all rows, every second, every third */
static void rows_of_type(Check *c, const Shape *s, DType type) {
  for (int64_t step = 1; step <= 3; step++) {
    int64_t n = (s->R + step - 1) / step;
    check_title(c, "rows R=%d D=%d of %d %s", (int)n, (int)s->D, (int)s->R, dtype_name(type));
    int32_t *rows = (int32_t *)check_host(c, n);
    for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)(s->R - 1 - (n - 1 - i) * step);
    Tensor x = typed(c, type, s->R, s, false), some = typed(c, type, n, s, true), back = typed(c, type, s->R, s, true),
           id = check_ids(c, n, rows);
    double *all = check_read(c, x), *want = check_host(c, n * s->D), *want_back = check_host(c, s->R * s->D);
    for (int64_t i = 0; i < n * s->D; i++) {
      int64_t at = rows[i / s->D] * s->D + i % s->D;
      want[i] = want_back[at] = all[at];
    }
    MUST(op_gather_rows(&c->dev, some, x, id));
    check_same(c, "gathered", some, want);
    MUST(op_scatter_rows(&c->dev, back, some, id));
    check_same(c, "scattered", back, want_back);
  }
}

static void rows_case(Check *c, const void *shape) {
  rows_of_type(c, shape, c->dev.real);
  if (c->dev.act != c->dev.real) rows_of_type(c, shape, c->dev.act);
}

static void test_rows(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(rows_case, &shapes[i]);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "embed refusals");
  Device *d = &c->dev;
  static const int32_t two[] = {0, 2}, four[] = {0, 1, 2, 3};
  Tensor table = check_random(c, 4, 8), thin = check_random(c, 4, 7), x = check_random(c, 2, 8);
  Tensor ids = check_ids(c, 2, two), more = check_ids(c, 4, four), real = check_random(c, 2, 0);
  check_refused(op_embed(d, x, ids, thin), ERR_SHAPE, "table of another width");
  check_refused(op_embed(d, x, more, table), ERR_SHAPE, "more ids than rows");
  check_refused(op_embed(d, x, real, table), ERR_SHAPE, "ids that are no integers");
  check_refused(op_embed_backward(d, thin, x, ids), ERR_SHAPE, "dtable of another width");
  check_refused(op_embed_backward(d, table, x, more), ERR_SHAPE, "more ids than rows");
  check_refused(op_gather_rows(d, x, thin, ids), ERR_SHAPE, "x of another width");
  check_refused(op_gather_rows(d, x, table, more), ERR_SHAPE, "more rows than y has");
  check_refused(op_gather_rows(d, x, table, real), ERR_SHAPE, "rows that are no integers");
  check_refused(op_scatter_rows(d, thin, x, ids), ERR_SHAPE, "y of another width");
  check_refused(op_scatter_rows(d, table, x, more), ERR_SHAPE, "more rows than x has");
  check_refused(op_scatter_rows(d, table, x, real), ERR_SHAPE, "rows that are no integers");
  check_record(c, table);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_embed), cmocka_unit_test(test_rows),
                                     cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
