/* embed, embed_backward, gather_rows, scatter_rows: copies are exact, sums are near. */
#include "check.h"

#include <math.h>

#include "base/err.h"
#include "base/rng.h"

typedef struct Shape {
  int64_t R, V, D;
  bool strided;
} Shape;

static const Shape shapes[] = {
    {1, 11, 8, false},    {3, 11, 24, true},  {17, 3, 40, false},
    {67, 1003, 72, true}, {67, 2, 72, false}, {1000, 11, 24, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static Tensor wide(Check *c, int64_t rows, const Shape *s, bool out) {
  int64_t ld = s->D + (s->strided ? 3 : 0), first = s->strided ? 2 : 0;
  return out ? check_out_cols(c, rows, s->D, ld, first) : check_random_cols(c, rows, s->D, ld, first);
}

static int32_t *random_ids(Check *c, const Shape *s) { /* with repetitions; the first and the last of the table occur */
  int32_t *ids = (int32_t *)check_host(c, s->R);
  RngKey k = rng_key(5, RNG_TEST, 2, 0, 0);
  for (int64_t i = 0; i < s->R; i++) ids[i] = (int32_t)(rng_uniform(k, (uint64_t)i) * (double)s->V);
  ids[0] = (int32_t)(s->V - 1);
  ids[s->R - 1] = s->R > 1 ? 0 : ids[0];
  return ids;
}

static void embed_case(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "embed R=%d V=%d D=%d", (int)s->R, (int)s->V, (int)s->D);
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
  MUST(embed(&c->dev, x, id, table));
  check_same(c, "x", x, want);
  MUST(embed_backward(&c->dev, dtable, dx, id));
  check_near(c, "dtable", dtable, sum, c->mode->sum * sqrt((double)(1 + s->R / s->V)));
  check_same(c, "dx afterwards", dx, d);
}

static void test_embed(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(embed_case, &shapes[i]);
}

/* ---- gather and scatter: every third row, or all, or none but the last */
static void rows_case(Check *c, const void *shape) {
  const Shape *s = shape;
  for (int64_t step = 1; step <= 3; step++) {
    int64_t n = (s->R + step - 1) / step;
    check_title(c, "rows R=%d D=%d of %d", (int)n, (int)s->D, (int)s->R);
    int32_t *rows = (int32_t *)check_host(c, n);
    for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)(s->R - 1 - (n - 1 - i) * step);
    Tensor x = wide(c, s->R, s, false), some = wide(c, n, s, true), back = wide(c, s->R, s, true),
           id = check_ids(c, n, rows);
    double *all = check_read(c, x), *want = check_host(c, n * s->D), *want_back = check_host(c, s->R * s->D);
    for (int64_t i = 0; i < n * s->D; i++) {
      int64_t at = rows[i / s->D] * s->D + i % s->D;
      want[i] = want_back[at] = all[at];
    }
    MUST(gather_rows(&c->dev, some, x, id));
    check_same(c, "gathered", some, want);
    MUST(scatter_rows(&c->dev, back, some, id));
    check_same(c, "scattered", back, want_back);
  }
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
  check_refused(embed(d, x, ids, thin), ERR_SHAPE, "table of another width");
  check_refused(embed(d, x, more, table), ERR_SHAPE, "more ids than rows");
  check_refused(embed(d, x, real, table), ERR_SHAPE, "ids that are no integers");
  check_refused(embed_backward(d, thin, x, ids), ERR_SHAPE, "dtable of another width");
  check_refused(embed_backward(d, table, x, more), ERR_SHAPE, "more ids than rows");
  check_refused(gather_rows(d, x, thin, ids), ERR_SHAPE, "x of another width");
  check_refused(gather_rows(d, x, table, more), ERR_SHAPE, "more rows than y has");
  check_refused(gather_rows(d, x, table, real), ERR_SHAPE, "rows that are no integers");
  check_refused(scatter_rows(d, thin, x, ids), ERR_SHAPE, "y of another width");
  check_refused(scatter_rows(d, table, x, more), ERR_SHAPE, "more rows than x has");
  check_refused(scatter_rows(d, table, x, real), ERR_SHAPE, "rows that are no integers");
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
