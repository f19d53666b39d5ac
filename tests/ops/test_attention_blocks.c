/* attention of block diffusion, and steps over several positions, against plain loops in double with a mask. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

typedef struct Shape {
  int64_t B, L, H, K, block, draws; /* B: clean sequences; draws: noisy ones to each */
  bool keys_only, strided;
  int32_t lengths[4]; /* of the noisy sequences; lengths[0] = 0: no padding */
} Shape;

/* tiles of 128 query rows, groups of about 32: blocks shorter, of that length, and longer; that divide 128 and do not */
static const Shape shapes[] = {
    {1, 1, 1, 2, 1, 1, false, false, {0}},         {2, 6, 2, 8, 1, 1, false, false, {0}},
    {2, 6, 2, 8, 2, 1, true, false, {0}},          {3, 6, 4, 6, 3, 1, false, true, {0}},
    {2, 6, 2, 8, 6, 1, false, false, {0}},         {1, 6, 2, 8, 6, 1, true, false, {0}},
    {1, 135, 2, 16, 1, 1, false, false, {0}},      {1, 136, 1, 64, 4, 1, false, false, {0}},
    {2, 132, 2, 8, 12, 1, false, true, {0}},       {1, 140, 1, 32, 20, 1, true, false, {0}},
    {1, 192, 1, 16, 48, 1, false, false, {0}},     {1, 256, 2, 8, 128, 1, false, false, {0}},
    {1, 288, 1, 16, 144, 1, false, true, {0}},     {1, 260, 1, 8, 260, 1, false, false, {0}},
    {3, 36, 2, 8, 4, 1, false, true, {1, 34, 36}}, {2, 150, 1, 16, 30, 1, true, false, {31, 129}},
    {2, 150, 2, 16, 5, 1, false, false, {2, 150}}, {1, 280, 1, 8, 140, 1, false, false, {141}},
    {1, 40, 1, 128, 8, 1, false, false, {0}},      {1, 36, 1, 256, 3, 1, false, false, {0}},
    {2, 20, 1, 130, 10, 1, true, true, {17, 20}},  {2, 6, 2, 8, 2, 2, false, false, {0}},
    {1, 136, 1, 16, 4, 3, true, false, {0}},       {2, 40, 1, 8, 10, 2, false, true, {31, 31, 40, 40}},
    {2, 6, 3, 8, 3, 2, true, false, {4, 4, 5, 5}},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static int64_t noisy(const Shape *s) { return s->draws * s->B; }
static int64_t all(const Shape *s) { return noisy(s) + s->B; }

/* Large ones are left out where the device is emulated. */
static bool left_out(const Shape *s) { return check_slow && s->B * s->H * s->L * s->L > 40000; }

static void title(Check *c, const char *op, const Shape *s) {
  check_title(c, "%s B=%d L=%d H=%d K=%d block=%d draws=%d%s%s%s", op, (int)s->B, (int)s->L, (int)s->H, (int)s->K,
              (int)s->block, (int)s->draws, s->keys_only ? " keys only" : "", s->strided ? " strided" : "",
              s->lengths[0] ? " lengths" : "");
}

static int64_t length_of(const Shape *s, int64_t b) {
  return s->lengths[0] ? s->lengths[b < noisy(s) ? b : (b - noisy(s)) * s->draws] : s->L;
}
/* Sequences whose queries count; the clean ones come last. */
static int64_t sequences(const Shape *s) { return s->keys_only ? noisy(s) : all(s); }

static Tensor wide(Check *c, const Shape *s, int64_t R, int64_t cols, bool out) {
  int64_t ld = cols + (s->strided ? 8 : 0), first = s->strided ? 4 : 0;
  return out ? check_act_out_cols(c, R, cols, ld, first) : check_act_cols(c, R, cols, ld, first);
}

static Attention make(Check *c, const Shape *s, double scale) {
  int64_t D = s->H * s->K, R = all(s) * s->L;
  Attention a = {.heads = s->H, .L = s->L, .block = s->block, .draws = s->draws, .keys_only = s->keys_only};
  if (s->lengths[0]) a.lengths = check_ids(c, noisy(s), s->lengths);
  a.qkv = wide(c, s, R, 3 * D, false);
  check_fill(c, a.qkv, scale);
  a.o = wide(c, s, R, D, true);
  a.lse = check_out(c, R, s->H);
  a.d_o = wide(c, s, R, D, false);
  a.dqkv = wide(c, s, R, 3 * D, true);
  return a;
}

/* ---- the reference: one query of one head at a time */
typedef struct Host {
  const Shape *s;
  double *qkv, *d_o, *o, *lse, *dqkv;
} Host;

/* The row of the key at position j that query l of sequence b sees, or −1. */
static int64_t key_row(const Shape *s, int64_t b, int64_t l, int64_t j) {
  int64_t mine = l / s->block, its = j / s->block, clean = b < noisy(s) ? noisy(s) + b / s->draws : b;
  if (its > mine || j >= length_of(s, b)) return -1;
  return (its < mine ? clean : b) * s->L + j;
}

/* probabilities p[L] and lse of query l of head h in sequence b */
static double probabilities(const Host *m, double *p, int64_t b, int64_t h, int64_t l) {
  const Shape *s = m->s;
  int64_t D = s->H * s->K;
  const double *q = m->qkv + ((b * s->L + l) * 3 * D) + h * s->K;
  double most = -INFINITY, sum = 0;
  for (int64_t j = 0; j < s->L; j++) {
    int64_t r = key_row(s, b, l, j);
    p[j] = r < 0 ? -INFINITY : check_dot(q, m->qkv + r * 3 * D + D + h * s->K, s->K) / sqrt((double)s->K);
    most = fmax(most, p[j]);
  }
  for (int64_t j = 0; j < s->L; j++) sum += exp(p[j] - most);
  for (int64_t j = 0; j < s->L; j++) p[j] = exp(p[j] - most) / sum;
  return most + log(sum);
}

static void host_row(Host *m, double *p, int64_t b, int64_t h, int64_t l) {
  const Shape *s = m->s;
  int64_t D = s->H * s->K, r = b * s->L + l, K = s->K;
  double scale = 1 / sqrt((double)K), *o = m->o + r * D + h * K, *g = m->d_o + r * D + h * K, mean = 0;
  m->lse[(b * s->H + h) * s->L + l] = probabilities(m, p, b, h, l);
  for (int64_t j = 0; j < s->L; j++)
    for (int64_t k = 0; k < K && p[j] > 0; k++) o[k] += p[j] * m->qkv[key_row(s, b, l, j) * 3 * D + 2 * D + h * K + k];
  for (int64_t k = 0; k < K; k++) mean += g[k] * o[k];
  for (int64_t j = 0; j < s->L; j++) {
    if (p[j] == 0) continue;
    int64_t at = key_row(s, b, l, j) * 3 * D + h * K, q = r * 3 * D + h * K;
    double ds = p[j] * (check_dot(g, m->qkv + at + 2 * D, K) - mean) * scale;
    for (int64_t k = 0; k < K; k++) {
      m->dqkv[q + k] += ds * m->qkv[at + D + k];
      m->dqkv[at + D + k] += ds * m->qkv[q + k];
      m->dqkv[at + 2 * D + k] += p[j] * g[k];
    }
  }
}

static Host host(Check *c, const Shape *s, const Attention *a) {
  int64_t R = all(s) * s->L, D = s->H * s->K;
  Host m = {s,
            check_read(c, a->qkv),
            check_read(c, a->d_o),
            check_host(c, R * D),
            check_host(c, R * s->H),
            check_host(c, 3 * R * D)};
  double *p = check_host(c, s->L);
  for (int64_t b = 0; b < sequences(s); b++)
    for (int64_t h = 0; h < s->H; h++)
      for (int64_t l = 0; l < length_of(s, b); l++) host_row(&m, p, b, h, l);
  return m;
}

/* ---- values */
static double tolerance_of(const Check *c, const Shape *s) {
  return 4 * c->mode->sum * sqrt((double)(2 * s->L + s->K));
}

static void values(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "attention", s);
  Attention a = make(c, s, 2);
  Host m = host(c, s, &a);
  double tolerance = tolerance_of(c, s), rounded = tolerance + (a.o.type == DT_BF16 ? CHECK_STORED : 0);
  int64_t R = sequences(s) * s->L, rest_rows = all(s) * s->L - R;
  MUST(op_attention(&c->dev, &a));
  check_near(c, "o", tensor_rows(a.o, 0, R), m.o, rounded);
  check_near(c, "lse", tensor_rows(a.lse, 0, R), m.lse, tolerance);
  check_same(c, "qkv afterwards", a.qkv, m.qkv);
  if (s->keys_only) { /* not written, not read */
    double *rest = check_read(c, tensor_rows(a.o, R, rest_rows));
    for (int64_t i = 0; i < rest_rows * s->H * s->K; i++) assert_true(isnan(rest[i]));
    check_poison(c, tensor_rows(a.d_o, R, rest_rows));
  }
  MUST(op_attention_backward(&c->dev, &a));
  check_near(c, "dqkv", a.dqkv, m.dqkv, s->L == 1 ? fmax(rounded, 1e-12) : rounded);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    if (!left_out(&shapes[i])) check_every(values, &shapes[i]);
}

/* The same on a device that need not be deterministic. */
static void unordered(Check *c, const void *shape) {
  c->dev.deterministic = false;
  values(c, shape);
}

static void test_unordered(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i += 3)
    if (!left_out(&shapes[i])) check_once(unordered, &shapes[i], check_last());
}

/* With one block of the whole length, the noisy half is plain attention. */
static void one_block(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "one block", s);
  int64_t R = noisy(s) * s->L;
  Attention a = make(c, s, 2), plain = a;
  plain.block = plain.draws = 0, plain.keys_only = false;
  plain.qkv = tensor_rows(a.qkv, 0, R), plain.o = tensor_rows(a.o, 0, R), plain.lse = tensor_rows(a.lse, 0, R);
  plain.d_o = tensor_rows(a.d_o, 0, R), plain.dqkv = tensor_rows(a.dqkv, 0, R);
  MUST(op_attention(&c->dev, &plain));
  MUST(op_attention_backward(&c->dev, &plain));
  double *o = check_read(c, plain.o), *dqkv = check_read(c, plain.dqkv);
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  if (c->dev.ops->host) check_same(c, "o", plain.o, o);
  check_near(c, "o", plain.o, o, tolerance_of(c, s) + (a.o.type == DT_BF16 ? CHECK_STORED : 0));
  check_near(c, "dqkv", plain.dqkv, dqkv, tolerance_of(c, s) + (a.o.type == DT_BF16 ? CHECK_STORED : 0));
}

static void test_one_block(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    if (shapes[i].block == shapes[i].L && shapes[i].L > 1 && !left_out(&shapes[i])) check_every(one_block, &shapes[i]);
}

/* Padding is not read: it is set to NaN here. In the outputs it becomes zero. */
static void overwrite_padding(Check *c, const Shape *s, Tensor t) {
  double *values = check_read(c, t);
  int64_t n = tensor_count(t) / (all(s) * s->L);
  for (int64_t b = 0; b < all(s); b++)
    for (int64_t i = (b * s->L + length_of(s, b)) * n; i < (b + 1) * s->L * n; i++) values[i] = NAN;
  check_write(c, t, values);
}

static void padding(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "padded attention", s);
  Attention a = make(c, s, 2);
  int64_t R = sequences(s) * s->L;
  Tensor o = tensor_rows(a.o, 0, R), lse = tensor_rows(a.lse, 0, R);
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  double *want_o = check_read(c, o), *want_lse = check_read(c, lse), *dqkv = check_read(c, a.dqkv);
  overwrite_padding(c, s, a.qkv);
  overwrite_padding(c, s, a.d_o);
  check_poison(c, a.o), check_poison(c, a.lse), check_poison(c, a.dqkv);
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  check_same(c, "o of other padding", o, want_o);
  check_same(c, "lse of other padding", lse, want_lse);
  check_same(c, "dqkv of other padding", a.dqkv, dqkv);
}

static void test_padding(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    if (shapes[i].lengths[0] && !left_out(&shapes[i])) check_every(padding, &shapes[i]);
}

/* ---- gradients of Σ k·o by finite differences */
static int run(Device *dev, const void *args) { return op_attention(dev, args); }

static void slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "attention", s);
  Attention a = make(c, s, 2);
  const CheckGradient qkv = {"qkv", a.qkv, a.dqkv};
  int64_t R = sequences(s) * s->L;
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  check_slopes(c, run, &a, tensor_rows(a.o, 0, R), tensor_rows(a.d_o, 0, R), &qkv, 1);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 1; i < SHAPES; i++) check_once(slopes, &shapes[i], CHECK_F64);
}

/* ---- attention_step: block by block, a noisy step and then a clean one, it equals the op on whole sequences. It must not
 * read the cache rows of later positions, which are NaN here, and must write only those of its own positions. */
typedef struct Step {
  AttentionStep a;
  double *qkv, *cache;
} Step;

/* Rows position … position+count−1 of sequences `first` … first+B−1 of x[·,cols]. */
static double *cut(Check *c, const Shape *s, const double *x, int64_t first, int64_t position, int64_t cols) {
  double *part = check_host(c, s->B * s->block * cols);
  for (int64_t b = 0; b < s->B; b++)
    memcpy(part + b * s->block * cols, x + ((first + b) * s->L + position) * cols,
           (size_t)(s->block * cols) * sizeof *part);
  return part;
}

static void check_cache(Check *c, const Shape *s, Tensor cache, const double *want) {
  double *now = check_read(c, cache);
  for (int64_t i = 0, n = 2 * s->H * s->K; i < s->B * s->L * n; i++)
    if (isnan(now[i]) != isnan(want[i]) || now[i] < want[i] || now[i] > want[i])
      fail_msg("%s: the cache of row %d", c->title, (int)(i / n));
}

static void one_step(Check *c, const Shape *s, Step *x, const double *qkv, const double *o, int64_t first) {
  int64_t D = s->H * s->K, p = x->a.position;
  check_write(c, x->a.qkv, cut(c, s, qkv, first, p, 3 * D));
  MUST(op_attention_step(&c->dev, &x->a));
  double *want = cut(c, s, o, first, p, D);
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t i = 0; i < s->block; i++)
      memcpy(x->cache + (b * s->L + p + i) * 2 * D, qkv + ((first + b) * s->L + p + i) * 3 * D + D,
             (size_t)(2 * D) * sizeof *qkv);
  if (c->dev.ops->host) check_same(c, "o of a step", x->a.o, want);
  check_near(c, "o of a step", x->a.o, want, tolerance_of(c, s) + (x->a.o.type == DT_BF16 ? CHECK_STORED : 0));
  check_cache(c, s, x->a.cache, x->cache);
}

static void steps(Check *c, const void *shape) {
  const Shape *s = shape;
  int64_t D = s->H * s->K, B = s->B, n = s->block;
  title(c, "attention_step", s);
  Attention a = make(c, s, 2);
  MUST(op_attention(&c->dev, &a));
  double *qkv = check_read(c, a.qkv), *o = check_read(c, a.o);
  Step x = {.a = {.heads = s->H, .L = s->L, .count = n, .block = n}, .cache = check_host(c, 2 * B * s->L * D)};
  x.a.qkv = wide(c, s, B * n, 3 * D, false);
  x.a.o = wide(c, s, B * n, D, true);
  x.a.cache = wide(c, s, B * s->L, 2 * D, true);
  for (int64_t i = 0; i < 2 * B * s->L * D; i++) x.cache[i] = NAN;
  int64_t far = s->L / n > 8 ? s->L / n / 4 : 1; /* compared: some blocks */
  for (int64_t b = 0; b < s->L / n; b++) {
    x.a.position = b * n;
    if (b % far == 0) one_step(c, s, &x, qkv, o, 0);
    one_step(c, s, &x, qkv, o, B);
  }
}

static void test_steps(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    if (!shapes[i].keys_only && !shapes[i].lengths[0] && shapes[i].draws == 1 && !left_out(&shapes[i]))
      check_every(steps, &shapes[i]);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "attention refusals");
  Attention good = make(c, s, 1);
#define REFUSED(change, what)                                                                                          \
  do {                                                                                                                 \
    Attention a = good;                                                                                                \
    change;                                                                                                            \
    check_refused(op_attention(&c->dev, &a), ERR_SHAPE, what);                                                         \
    check_refused(op_attention_backward(&c->dev, &a), ERR_SHAPE, what);                                                \
  } while (0)
  REFUSED(a.block = 4, "blocks that do not divide the sequences");
  REFUSED(a.block = -1, "a negative block");
  REFUSED(a.causal = true, "causal attention in blocks");
  REFUSED(a.block = a.draws = 0; a.keys_only = true; a.lengths = TENSOR_NONE, "a clean half without blocks");
  REFUSED(a.block = 0; a.lengths = TENSOR_NONE, "draws without blocks");
  REFUSED(a.draws = 0; a.lengths = TENSOR_NONE, "no noisy sequence");
  REFUSED(a.draws = 3; a.lengths = TENSOR_NONE, "sequences that are no whole number of draws");
  REFUSED(a.lengths = check_ids(c, 2 * s->B, NULL), "lengths of both halves");
  REFUSED(a.L = 2 * s->L; a.lengths = TENSOR_NONE, "an odd number of sequences");
#undef REFUSED
  AttentionStep step = {
      .heads = s->H, .L = s->L, .count = s->block, .qkv = check_act(c, s->B * s->block, 3 * s->H * s->K)};
  step.o = check_act(c, s->B * s->block, s->H * s->K), step.cache = check_act(c, s->B * s->L, 2 * s->H * s->K);
#define REFUSED(change, what)                                                                                          \
  do {                                                                                                                 \
    AttentionStep a = step;                                                                                            \
    change;                                                                                                            \
    check_refused(op_attention_step(&c->dev, &a), ERR_SHAPE, what);                                                    \
  } while (0)
  REFUSED(a.count = 0, "no rows");
  REFUSED(a.count = 2, "rows that are no whole steps");
  REFUSED(a.position = s->L - s->block + 1, "rows beyond the sequence");
  REFUSED(a.block = -1, "a negative block");
#undef REFUSED
  check_record(c, good.qkv);
}

static void test_refusals(void **state) {
  (void)state;
  static const Shape some = {3, 9, 4, 6, 3, 1, false, false, {5, 3, 1}};
  check_every(refusals, &some);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),   cmocka_unit_test(test_unordered), cmocka_unit_test(test_one_block),
      cmocka_unit_test(test_padding),  cmocka_unit_test(test_slopes),    cmocka_unit_test(test_steps),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
