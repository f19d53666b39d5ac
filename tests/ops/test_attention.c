/* attention, attention_backward and rotary against plain loops in double. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

typedef struct Shape {
  int64_t B, L, H, K;
  bool causal, strided;
  int32_t lengths[3]; /* lengths[0] = 0: no padding */
} Shape;

/* blocks of 128 query rows: below, at and above one, and above two */
static const Shape shapes[] = {
    {1, 1, 1, 2, false, false, {0}},
    {1, 1, 2, 8, true, false, {0}},
    {3, 5, 4, 6, false, false, {0}},
    {3, 5, 4, 6, true, false, {0}},
    {2, 37, 3, 8, false, true, {0}},
    {2, 37, 3, 8, true, true, {0}},
    {1, 130, 2, 64, false, false, {0}},
    {1, 130, 2, 64, true, false, {0}},
    {2, 64, 1, 64, false, true, {0}},
    {1, 128, 2, 32, true, false, {0}},
    {2, 129, 1, 16, true, true, {0}},
    {1, 257, 2, 8, true, false, {0}},
    {1, 257, 2, 8, false, false, {0}},
    {5, 3, 12, 2, false, false, {0}},
    {3, 5, 4, 6, false, false, {5, 3, 1}},
    {3, 37, 2, 8, false, true, {1, 36, 37}},
    {3, 150, 2, 16, false, false, {128, 129, 2}},
    {2, 260, 1, 8, false, true, {257, 131}},
    {3, 150, 2, 16, true, false, {7, 129, 150}},
    {2, 70, 1, 64, true, false, {70, 33}},
    {2, 35, 1, 96, false, true, {35, 9}},
    {1, 37, 2, 128, true, false, {0}},
    {1, 33, 1, 256, false, false, {0}},
    {5, 21, 2, 8, false, false, {0}}, /* several slices of sequences, where there are any, and a rest */
    {4, 9, 3, 16, true, false, {0}},
    {2, 18, 1, 130, true, true, {17, 18}},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void title(Check *c, const char *op, const Shape *s) {
  check_title(c, "%s B=%d L=%d H=%d K=%d%s%s%s", op, (int)s->B, (int)s->L, (int)s->H, (int)s->K,
              s->causal ? " causal" : "", s->strided ? " strided" : "", s->lengths[0] ? " lengths" : "");
}

static int64_t length_of(const Shape *s, int64_t b) { return s->lengths[0] ? s->lengths[b] : s->L; }

static Tensor wide(Check *c, const Shape *s, int64_t cols, bool out) {
  int64_t R = s->B * s->L, ld = cols + (s->strided ? 8 : 0), first = s->strided ? 4 : 0;
  return out ? check_act_out_cols(c, R, cols, ld, first) : check_act_cols(c, R, cols, ld, first);
}

static Attention make(Check *c, const Shape *s, double scale) {
  int64_t D = s->H * s->K;
  Attention a = {.heads = s->H, .L = s->L, .causal = s->causal};
  if (s->lengths[0]) a.lengths = check_ids(c, s->B, s->lengths);
  a.qkv = wide(c, s, 3 * D, false);
  check_fill(c, a.qkv, scale);
  a.o = wide(c, s, D, true);
  a.lse = check_out(c, s->B * s->L, s->H);
  a.d_o = wide(c, s, D, false);
  a.dqkv = wide(c, s, 3 * D, true);
  return a;
}

/* ---- the reference: one row of one head at a time */
typedef struct Host {
  const Shape *s;
  double *qkv, *d_o, *o, *lse, *dqkv;
} Host;

/* probabilities p[L] and lse of query l of head h in sequence b */
static double probabilities(const Host *m, double *p, int64_t b, int64_t h, int64_t l) {
  const Shape *s = m->s;
  int64_t D = s->H * s->K, last = s->causal ? l : length_of(s, b) - 1;
  const double *q = m->qkv + ((b * s->L + l) * 3 * D) + h * s->K;
  double most = -INFINITY, sum = 0;
  for (int64_t j = 0; j <= last; j++) {
    p[j] = check_dot(q, m->qkv + (b * s->L + j) * 3 * D + D + h * s->K, s->K) / sqrt((double)s->K);
    most = fmax(most, p[j]);
  }
  for (int64_t j = 0; j <= last; j++) sum += exp(p[j] - most);
  for (int64_t j = 0; j < s->L; j++) p[j] = j <= last ? exp(p[j] - most) / sum : 0;
  return most + log(sum);
}

static void host_row(Host *m, double *p, int64_t b, int64_t h, int64_t l) {
  const Shape *s = m->s;
  int64_t D = s->H * s->K, r = b * s->L + l, K = s->K;
  double scale = 1 / sqrt((double)K), *o = m->o + r * D + h * K, *g = m->d_o + r * D + h * K, mean = 0;
  m->lse[(b * s->H + h) * s->L + l] = probabilities(m, p, b, h, l);
  for (int64_t j = 0; j < s->L; j++)
    for (int64_t k = 0; k < K; k++) o[k] += p[j] * m->qkv[(b * s->L + j) * 3 * D + 2 * D + h * K + k];
  for (int64_t k = 0; k < K; k++) mean += g[k] * o[k];
  for (int64_t j = 0; j < s->L; j++) {
    int64_t at = (b * s->L + j) * 3 * D + h * K, q = r * 3 * D + h * K;
    double ds = p[j] * (check_dot(g, m->qkv + at + 2 * D, K) - mean) * scale;
    for (int64_t k = 0; k < K; k++) {
      m->dqkv[q + k] += ds * m->qkv[at + D + k];
      m->dqkv[at + D + k] += ds * m->qkv[q + k];
      m->dqkv[at + 2 * D + k] += p[j] * g[k];
    }
  }
}

static Host host(Check *c, const Shape *s, const Attention *a) {
  int64_t R = s->B * s->L, D = s->H * s->K;
  Host m = {s,
            check_read(c, a->qkv),
            check_read(c, a->d_o),
            check_host(c, R * D),
            check_host(c, R * s->H),
            check_host(c, 3 * R * D)};
  double *p = check_host(c, s->L);
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t h = 0; h < s->H; h++)
      for (int64_t l = 0; l < length_of(s, b); l++) host_row(&m, p, b, h, l);
  return m;
}

/* ---- values */
static void values(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "attention", s);
  Attention a = make(c, s, 2);
  Host m = host(c, s, &a);
  double tolerance = 4 * c->mode->sum * sqrt((double)(s->L + s->K));
  /* bf16: probabilities and their gradients may be rounded, by up to 2⁻⁸ of their value, before they are summed */
  double rounded = tolerance + (a.o.type == DT_BF16 ? CHECK_STORED : 0);
  MUST(op_attention(&c->dev, &a));
  check_near(c, "o", a.o, m.o, rounded);
  check_near(c, "lse", a.lse, m.lse, tolerance);
  check_same(c, "qkv afterwards", a.qkv, m.qkv);
  MUST(op_attention_backward(&c->dev, &a));
  if (s->L > 1) check_near(c, "dqkv", a.dqkv, m.dqkv, rounded);
  /* with one key dq and dk are 0; their rounding errors are compared with the size of dv */
  if (s->L == 1) check_near(c, "dqkv", a.dqkv, m.dqkv, fmax(rounded, 1e-12));
  check_same(c, "d_o afterwards", a.d_o, m.d_o);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(values, &shapes[i]);
}

/* The same on a device that need not be deterministic. */
static void unordered(Check *c, const void *shape) {
  c->dev.deterministic = false;
  values(c, shape);
}

static void test_unordered(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_once(unordered, &shapes[i], check_last());
}

/* Scores of a few thousand must not overflow, and the key with the largest score must win. */
static void steep(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "steep attention", s);
  Attention a = make(c, s, 60);
  Host m = host(c, s, &a);
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  double *o = check_read(c, a.o), *dqkv = check_read(c, a.dqkv);
  for (int64_t i = 0; i < tensor_count(a.o); i++) assert_true(fabs(o[i]) <= 60.5);
  for (int64_t i = 0; i < tensor_count(a.dqkv); i++) assert_true(isfinite(dqkv[i]));
  /* a score of 5000 has an absolute error of 5000 roundings, which the exponential turns into a relative error */
  check_near(c, "o", a.o, m.o, 1e5 * c->mode->sum);
  check_record(c, a.o);
  check_record(c, a.dqkv);
}

static void test_steep(void **state) {
  (void)state;
  static const Shape full = {2, 37, 2, 8, false, false, {0}}, causal = {2, 130, 1, 64, true, false, {0}};
  check_every(steep, &full);
  check_every(steep, &causal);
}

/* A causal row does not see later positions: changing the last position leaves all other rows bitwise unchanged. */
static void blind(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "causal attention", s);
  Attention a = make(c, s, 2);
  MUST(op_attention(&c->dev, &a));
  int64_t D = s->H * s->K, n = (s->L - 1) * D;
  double *before = check_read(c, a.o), *qkv = check_read(c, a.qkv);
  for (int64_t i = 0; i < 3 * D; i++) qkv[(s->L - 1) * 3 * D + i] = 100 * (i % 2 ? 1 : -1);
  check_write(c, a.qkv, qkv);
  MUST(op_attention(&c->dev, &a));
  double *after = check_read(c, a.o);
  for (int64_t i = 0; i < n; i++)
    if (before[i] != after[i]) fail_msg("%s: row %d sees the last position", c->title, (int)(i / D));
  check_record(c, a.o);
}

static void test_causal(void **state) {
  (void)state;
  static const Shape one = {1, 37, 2, 8, true, false, {0}}, wide_head = {1, 130, 1, 64, true, false, {0}},
                     long_one = {1, 257, 1, 8, true, false, {0}};
  check_every(blind, &one);
  check_every(blind, &wide_head);
  check_every(blind, &long_one);
}

/* Padding is not read: it is set to NaN here. In the outputs it becomes zero. */
static void overwrite_padding(Check *c, const Shape *s, Tensor t) {
  double *values = check_read(c, t);
  int64_t n = tensor_count(t) / (s->B * s->L);
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t i = (b * s->L + length_of(s, b)) * n; i < (b + 1) * s->L * n; i++) values[i] = NAN;
  check_write(c, t, values);
}

static void zero_padding(Check *c, const Shape *s, const char *what, Tensor t) {
  double *values = check_read(c, t);
  int64_t n = tensor_count(t) / (s->B * s->L);
  for (int64_t b = 0; b < s->B; b++)
    for (int64_t i = (b * s->L + length_of(s, b)) * n; i < (b + 1) * s->L * n; i++)
      if (values[i] != 0) fail_msg("%s: %s is %g in padding row %d", c->title, what, values[i], (int)(i / n));
}

static void padding(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "padded attention", s);
  Attention a = make(c, s, 2);
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  double *o = check_read(c, a.o), *lse = check_read(c, a.lse), *dqkv = check_read(c, a.dqkv);
  overwrite_padding(c, s, a.qkv);
  overwrite_padding(c, s, a.d_o);
  check_poison(c, a.o), check_poison(c, a.lse), check_poison(c, a.dqkv);
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  check_same(c, "o of other padding", a.o, o);
  check_same(c, "lse of other padding", a.lse, lse);
  check_same(c, "dqkv of other padding", a.dqkv, dqkv);
  zero_padding(c, s, "o", a.o);
  for (int64_t i = 0; i < s->B * s->H; i++)
    for (int64_t l = length_of(s, i / s->H); l < s->L; l++) assert_true(lse[i * s->L + l] == 0);
  zero_padding(c, s, "dqkv", a.dqkv);
}

static void test_padding(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    if (shapes[i].lengths[0]) check_every(padding, &shapes[i]);
}

/* ---- gradients of Σ k·o by finite differences */
static int run(Device *dev, const void *args) { return op_attention(dev, args); }

static void slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "attention", s);
  Attention a = make(c, s, 2);
  const CheckGradient qkv = {"qkv", a.qkv, a.dqkv};
  MUST(op_attention(&c->dev, &a));
  MUST(op_attention_backward(&c->dev, &a));
  check_slopes(c, run, &a, a.o, a.d_o, &qkv, 1);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 2; i < SHAPES; i++) check_once(slopes, &shapes[i], CHECK_F64);
}

/* ---- rotary: positions count from `first` in each sequence, ω_k = 10000^(−2k/K), element k is rotated with k + K/2 */
static void turn_heads(double *qkv, const Shape *s, int64_t from, int64_t to, int64_t first, double direction) {
  int64_t D = s->H * s->K, half = s->K / 2;
  for (int64_t r = 0; r < s->B * s->L; r++)
    for (int64_t h = from; h < to; h++)
      for (int64_t k = 0; k < half; k++) {
        double *x = qkv + r * 3 * D + h * s->K + k,
               angle = direction * (double)(first + r % s->L) * pow(10000, -2.0 * (double)k / (double)s->K);
        double x1 = x[0], x2 = x[half];
        x[0] = x1 * cos(angle) - x2 * sin(angle);
        x[half] = x2 * cos(angle) + x1 * sin(angle);
      }
}

/* The heads of q, then those of k. */
static void turn(double *qkv, const Shape *s, int64_t first, double direction) {
  turn_heads(qkv, s, 0, 2 * s->H, first, direction);
}

static int rotate(Check *c, const Shape *s, Tensor qkv, int64_t L, int64_t first, bool inverse) {
  return op_rotary(&c->dev, tensor_cols(qkv, 0, 2 * s->H * s->K), 2 * s->H, L, first, inverse);
}

static void rotary_case(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, "rotary", s);
  Tensor qkv = wide(c, s, 3 * s->H * s->K, false);
  double *start = check_read(c, qkv), *want = check_read(c, qkv);
  turn(want, s, 0, 1);
  MUST(rotate(c, s, qkv, s->L, 0, false));
  /* the angle, which is at most L, is rounded once in f32 */
  double tolerance = c->mode->point * (1 + (double)s->L / 10);
  check_near(c, "turned", qkv, want, tolerance);
  MUST(rotate(c, s, qkv, s->L, 0, true));
  /* bf16: the rotated values were rounded too, and both halves can be √2 times as large */
  check_near(c, "turned back", qkv, start, 2 * tolerance + (qkv.type == DT_BF16 ? CHECK_STORED : 0));
  double *back = check_read(c, qkv);
  turn(back, s, 0, -1);
  MUST(rotate(c, s, qkv, s->L, 0, true));
  check_near(c, "turned the other way", qkv, back, tolerance);
}

/* As for the clean half of the last block of block diffusion. */
static void rotary_of_keys(Check *c, const void *shape) {
  const Shape *s = shape;
  int64_t D = s->H * s->K;
  title(c, "rotary of keys only", s);
  Tensor qkv = wide(c, s, 3 * D, false);
  double *want = check_read(c, qkv);
  turn_heads(want, s, s->H, 2 * s->H, 0, 1);
  MUST(op_rotary(&c->dev, tensor_cols(qkv, D, D), s->H, s->L, 0, false));
  check_near(c, "turned", qkv, want, c->mode->point * (1 + (double)s->L / 10));
}

static void test_rotary(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(rotary_case, &shapes[i]);
  for (int i = 0; i < SHAPES; i++) check_every(rotary_of_keys, &shapes[i]);
}

/* Other first positions. The order is such that the table of angles grows in some calls and not in others. */
static void rotary_places(Check *c, const void *shape) {
  const Shape *s = shape, one = {s->B * s->L, 1, s->H, s->K, false, s->strided, {0}};
  static const int64_t places[] = {0, 3, 1, 40, 39};
  title(c, "rotary elsewhere", s);
  for (int i = 0; i < 5; i++) {
    Tensor at = wide(c, &one, 3 * s->H * s->K, false), whole = wide(c, s, 3 * s->H * s->K, false);
    double *want = check_read(c, at), *both = check_read(c, whole), tolerance = c->mode->point * 6;
    turn(want, &one, places[i], 1);
    turn(both, s, places[i], 1);
    MUST(rotate(c, s, at, 1, places[i], false));
    check_near(c, "one position", at, want, tolerance);
    MUST(rotate(c, s, whole, s->L, places[i], false));
    check_near(c, "sequences from a position on", whole, both, tolerance);
  }
}

static void test_rotary_places(void **state) {
  (void)state;
  check_every(rotary_places, &shapes[3]);
  check_every(rotary_places, &shapes[5]);
}

/* ---- attention_step: position by position it equals causal attention. It must not read the cache rows of later
 * positions, which are NaN here, and must write only the row of its own position. */
static void steps(Check *c, const void *shape) {
  const Shape *s = shape;
  int64_t D = s->H * s->K, B = s->B, L = s->L;
  title(c, "attention_step", s);
  Attention a = make(c, s, 2);
  Host m = host(c, s, &a);
  double tolerance = 4 * c->mode->sum * sqrt((double)(L + s->K)) + (a.o.type == DT_BF16 ? CHECK_STORED : 0);
  const Shape row = {B, 1, s->H, s->K, true, s->strided, {0}};
  AttentionStep x = {
      .heads = s->H, .L = L, .count = 1, .qkv = wide(c, &row, 3 * D, false), .cache = wide(c, s, 2 * D, true)};
  x.o = wide(c, &row, D, true);
  double *qkv = check_host(c, 3 * B * D), *o = check_host(c, B * D), *cache = check_host(c, 2 * B * L * D);
  for (int64_t i = 0; i < 2 * B * L * D; i++) cache[i] = NAN;
  for (x.position = 0; x.position < L; x.position++) {
    for (int64_t b = 0; b < B; b++) {
      int64_t r = b * L + x.position;
      memcpy(qkv + b * 3 * D, m.qkv + r * 3 * D, (size_t)(3 * D) * sizeof *qkv);
      memcpy(o + b * D, m.o + r * D, (size_t)D * sizeof *o);
      memcpy(cache + r * 2 * D, m.qkv + r * 3 * D + D, (size_t)(2 * D) * sizeof *cache);
    }
    bool compared = x.position % 16 <= 2 || x.position >= L - 2;
    if (!compared && check_slow) { /* write the cache as the step would have */
      check_write(c, x.cache, cache);
      continue;
    }
    check_write(c, x.qkv, qkv);
    MUST(op_attention_step(&c->dev, &x));
    if (!compared) continue;
    check_near(c, "o", x.o, o, tolerance);
    double *now = check_read(c, x.cache);
    for (int64_t i = 0; i < 2 * B * L * D; i++)
      if (isnan(now[i]) != isnan(cache[i]) || now[i] < cache[i] || now[i] > cache[i])
        fail_msg("%s: the cache of row %d at position %d", c->title, (int)(i / (2 * D)), (int)x.position);
  }
}

static void test_steps(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    if (shapes[i].causal && !shapes[i].lengths[0]) check_every(steps, &shapes[i]);
}

static void step_refusals(Check *c, const void *shape) {
  const Shape *s = shape, row = {s->B, 1, s->H, s->K, true, false, {0}};
  int64_t D = s->H * s->K;
  title(c, "attention_step refusals", s);
  AttentionStep good = {
      .heads = s->H, .L = s->L, .count = 1, .qkv = wide(c, &row, 3 * D, false), .cache = wide(c, s, 2 * D, false)};
  good.o = wide(c, &row, D, false);
  Tensor other = check_act(c, s->B + 1, D);
#define REFUSED(change, what)                                                                                          \
  do {                                                                                                                 \
    AttentionStep a = good;                                                                                            \
    change;                                                                                                            \
    check_refused(op_attention_step(&c->dev, &a), ERR_SHAPE, what);                                                    \
  } while (0)
  REFUSED(a.heads = 5, "heads that do not divide D");
  REFUSED(a.position = s->L, "a position beyond the sequence");
  REFUSED(a.position = -1, "a position before it");
  REFUSED(a.L = s->L + 1, "a cache of other sequences");
  REFUSED(a.qkv = good.o, "qkv of width D");
  REFUSED(a.o = other, "o of other sequences");
  REFUSED(a.cache = good.qkv, "a cache of other rows");
#undef REFUSED
  check_record(c, good.qkv);
}

static void test_step_refusals(void **state) {
  (void)state;
  check_every(step_refusals, &shapes[3]);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "attention refusals");
  Attention good = make(c, s, 1);
  Tensor odd = check_act(c, s->B * s->L + 1, s->H * s->K), real = check_out(c, s->B * s->L, s->H * s->K);
#define REFUSED(op, change, what)                                                                                      \
  do {                                                                                                                 \
    Attention a = good;                                                                                                \
    change;                                                                                                            \
    check_refused(op(&c->dev, &a), ERR_SHAPE, what);                                                                   \
  } while (0)
  REFUSED(op_attention, a.heads = 0, "no heads");
  REFUSED(op_attention, a.heads = 5, "heads that do not divide D");
  REFUSED(op_attention, a.L = 0, "no length");
  REFUSED(op_attention, a.L = s->L + 1, "rows that are no whole sequences");
  REFUSED(op_attention, a.qkv = good.o, "qkv of width D");
  REFUSED(op_attention, a.o = odd, "o of other rows");
  REFUSED(op_attention, a.lse = real, "lse of another width");
  REFUSED(op_attention, a.lengths = tensor_rows(a.lengths, 0, 2), "lengths of other sequences");
  REFUSED(op_attention, a.lengths = check_random(c, s->B, 0), "lengths that are no integers");
  REFUSED(op_attention_backward, a.d_o = odd, "d_o of other rows");
  REFUSED(op_attention_backward, a.dqkv = good.o, "dqkv of width D");
#undef REFUSED
  check_refused(op_rotary(&c->dev, good.o, 5, s->L, 0, false), ERR_SHAPE, "heads that do not divide the width");
  check_refused(op_rotary(&c->dev, good.qkv, s->H, s->L + 1, 0, false), ERR_SHAPE, "rows that are no whole sequences");
  check_refused(op_rotary(&c->dev, good.qkv, 0, s->L, 0, false), ERR_SHAPE, "no heads");
  check_refused(op_rotary(&c->dev, good.qkv, s->H, 0, 0, false), ERR_SHAPE, "no length");
  check_refused(op_rotary(&c->dev, good.qkv, s->H, s->L, -1, false), ERR_SHAPE, "a position before the first");
  if (!c->dev.ops->host) {
    Attention wide = make(c, &(Shape){1, 2, 1, 258, false, false, {0}}, 1);
    check_refused(op_attention(&c->dev, &wide), ERR_DEVICE, "a head wider than the kernels know");
  }
  check_record(c, good.qkv);
}

static void test_refusals(void **state) {
  (void)state;
  static const Shape some = {3, 5, 4, 6, false, false, {5, 3, 1}};
  check_every(refusals, &some);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values), cmocka_unit_test(test_unordered),     cmocka_unit_test(test_steep),
      cmocka_unit_test(test_causal), cmocka_unit_test(test_padding),       cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_rotary), cmocka_unit_test(test_refusals),      cmocka_unit_test(test_rotary_places),
      cmocka_unit_test(test_steps),  cmocka_unit_test(test_step_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
