/* dense, dense_backward, gelu_backward, dense_gelu_backward against triple loops in double. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

typedef struct Shape {
  int64_t R, K, N;
  bool bias, pre; /* with b, with pre */
  bool strided;   /* row strides of x, y, pre and their gradients exceed their widths */
  bool low;       /* w is bf16 and the other tensors have type act; otherwise all are real */
  bool wide;      /* with low: y and pre are real nevertheless */
} Shape;

static const Shape shapes[] = {
    {1, 8, 11, true, false, false, false, false},     {3, 24, 24, false, false, false, false, false},
    {17, 40, 72, true, true, false, false, false},    {67, 72, 1003, false, false, true, false, false},
    {67, 72, 40, true, true, true, false, false},     {1, 1, 1, true, false, false, false, false},
    {2048, 24, 20, true, true, false, false, false},  {300, 8, 1100, true, true, true, false, false},
    {17000, 8, 10, true, false, false, false, false}, {40, 1, 37, true, true, false, false, false},
    {3, 8, 22, true, true, false, false, false},
};
static const Shape low_shapes[] = {
    {1, 8, 11, true, false, false, true, false},     {3, 72, 11, false, true, true, true, false},
    {17, 24, 8, true, true, false, true, false},     {67, 40, 1003, true, false, true, true, false},
    {1, 1, 1, false, true, false, true, false},      {2048, 24, 20, true, true, false, true, false},
    {300, 8, 1100, false, false, true, true, false}, {5000, 8, 11, true, false, false, true, false},
    {3, 4200, 5, true, true, false, true, false},    {3, 5, 4200, false, false, false, true, false},
    {67, 72, 40, true, false, false, true, true},    {67, 72, 41, true, true, true, true, true},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, LOW_SHAPES = sizeof low_shapes / sizeof *low_shapes };

static void title(Check *c, const Shape *s) {
  check_title(c, "dense R=%d K=%d N=%d%s%s%s%s%s", (int)s->R, (int)s->K, (int)s->N, s->bias ? " bias" : "",
              s->pre ? " gelu" : "", s->strided ? " strided" : "", s->low ? " w bf16" : "", s->wide ? " y real" : "");
}

static Tensor input(Check *c, const Shape *s, int64_t rows, int64_t cols) {
  int64_t ld = cols + (s->strided ? 5 : 0), first = s->strided ? 2 : 0;
  return s->low ? check_act_cols(c, rows, cols, ld, first) : check_random_cols(c, rows, cols, ld, first);
}
static Tensor output(Check *c, const Shape *s, int64_t rows, int64_t cols, bool low) {
  int64_t ld = cols + (s->strided ? 5 : 0), first = s->strided ? 3 : 0;
  return low ? check_act_out_cols(c, rows, cols, ld, first) : check_out_cols(c, rows, cols, ld, first);
}
static Tensor bias_of(Check *c, const Shape *s) {
  if (!s->bias) return TENSOR_NONE;
  return s->low ? check_act(c, s->N, 0) : check_random(c, s->N, 0);
}
static Tensor weight(Check *c, const Shape *s) {
  Tensor w = check_tensor(c, s->low ? DT_BF16 : c->dev.real, s->N, s->K, s->K, 0);
  check_fill(c, w, 1);
  return w;
}

/* ---- the reference */
static double gelu(double x) { return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))); }
static double gelu_slope(double x) {
  double t = tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x);
}

static double *factors(Check *c, Tensor t, bool low) {
  double *v = check_read(c, t);
  for (int64_t i = 0; low && i < tensor_count(t); i++) v[i] = check_bf16(v[i]);
  return v;
}

/* out[m,n] += Σ_k a[m,k] b[k,n]; am, ak, bk, bn are the strides of the factors */
static void product(double *out, const double *a, int64_t am, int64_t ak, const double *b, int64_t bk, int64_t bn,
                    int64_t M, int64_t K, int64_t N) {
  for (int64_t m = 0; m < M; m++)
    for (int64_t k = 0; k < K; k++)
      for (int64_t n = 0; n < N; n++) out[m * N + n] += a[m * am + k * ak] * b[k * bk + n * bn];
}

/* ---- forward */
static void forward(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  bool low = s->low && !s->wide;
  Tensor x = input(c, s, s->R, s->K), w = weight(c, s), b = bias_of(c, s);
  Tensor y = output(c, s, s->R, s->N, low), pre = s->pre ? output(c, s, s->R, s->N, low) : TENSOR_NONE;
  double *want = check_host(c, s->R * s->N), *bias = s->bias ? check_read(c, b) : NULL;
  for (int64_t i = 0; i < s->R * s->N; i++) want[i] = bias ? bias[i % s->N] : 0;
  product(want, factors(c, x, s->low), s->K, 1, factors(c, w, s->low), 1, s->K, s->R, s->K, s->N);

  MUST(op_dense(&c->dev, y, pre, x, w, b));
  double tolerance = c->mode->sum * sqrt((double)s->K);
  if (s->pre) {
    check_near(c, "pre", pre, want, tolerance);
    for (int64_t i = 0; i < s->R * s->N; i++) want[i] = gelu(want[i]);
  }
  check_near(c, "y", y, want, tolerance);
  if (!s->pre) return;
  Tensor alone = output(c, s, s->R, s->N, low);
  MUST(op_dense(&c->dev, alone, alone, x, w, b));
  check_near(c, "y without pre", alone, want, tolerance);
}

/* ---- backward: which of dx, dw, db are computed, and whether dx accumulates */
typedef struct Backward {
  Shape shape;
  bool dx, dx_add, dw, db;
} Backward;

static void backward(Check *c, const void *arg) {
  const Backward *a = arg;
  const Shape *s = &a->shape;
  title(c, s);
  size_t end = strlen(c->title);
  if (a->dx_add) snprintf(c->title + end, sizeof c->title - end, ", dx added to");
  Tensor x = input(c, s, s->R, s->K), w = weight(c, s), dy = input(c, s, s->R, s->N);
  Tensor dx = !a->dx ? TENSOR_NONE : a->dx_add ? input(c, s, s->R, s->K) : output(c, s, s->R, s->K, s->low);
  Tensor dw = a->dw ? check_random(c, s->N, s->K) : TENSOR_NONE, db = a->db ? check_random(c, s->N, 0) : TENSOR_NONE;
  double *fx = factors(c, x, s->low), *fw = factors(c, w, s->low), *fdy = factors(c, dy, s->low),
         *plain_dy = check_read(c, dy);
  double *want_dx = a->dx && a->dx_add ? check_read(c, dx) : check_host(c, s->R * s->K);
  double *want_dw = a->dw ? check_read(c, dw) : NULL, *want_db = a->db ? check_read(c, db) : NULL;
  if (a->dx) product(want_dx, fdy, s->N, 1, fw, s->K, 1, s->R, s->N, s->K);
  if (a->dw) product(want_dw, fdy, 1, s->N, fx, s->K, 1, s->N, s->R, s->K);
  for (int64_t i = 0; a->db && i < s->R * s->N; i++) want_db[i % s->N] += plain_dy[i];

  MUST(op_dense_backward(&c->dev, dx, a->dx_add, dw, db, dy, a->dw ? x : TENSOR_NONE,
                         a->dx || !a->dw || s->low ? w : TENSOR_NONE));
  /* a library may round a product to bf16 before it adds it to dx */
  double twice_stored = a->dx_add && dx.type == DT_BF16 ? CHECK_STORED : 0;
  if (a->dx) check_near(c, "dx", dx, want_dx, c->mode->sum * sqrt((double)s->N) + twice_stored);
  if (a->dw) check_near(c, "dw", dw, want_dw, c->mode->sum * sqrt((double)s->R));
  if (a->db) check_near(c, "db", db, want_db, c->mode->sum * sqrt((double)s->R));
  check_same(c, "dy afterwards", dy, plain_dy);
}

/* check_every, or another function that runs a case */
typedef void (*Run)(CheckCase run, const void *shape);

static void both_ways(const Shape *s, Run run) {
  run(forward, s);
  for (int add = 0; add < 2; add++) {
    Backward all = {*s, true, add, true, true};
    run(backward, &all);
  }
}

static void test_products(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) both_ways(&shapes[i], check_every);
}

/* The f64 backend has no bf16 weights. */
static void in_f32_and_bf16(CheckCase run, const void *shape) { check_case(run, shape, CHECK_F32, check_last()); }

static void test_products_bf16(void **state) {
  (void)state;
  for (int i = 0; i < LOW_SHAPES; i++) both_ways(&low_shapes[i], in_f32_and_bf16);
}

static void test_left_out(void **state) {
  (void)state;
  for (int some = 1; some < 7; some++) {
    Backward a = {{17, 24, 40, false, false, false, false, false}, some & 1, false, some & 2, some & 4};
    check_every(backward, &a);
    a.shape.low = true;
    in_f32_and_bf16(backward, &a);
  }
}

/* ---- deterministic = false: the backend may time algorithms and choose the fastest. The results stay correct, and the
 * choice is made once: later calls give the same bits and allocate nothing. */
typedef struct Free {
  CheckCase run;
  const void *shape;
} Free;

static void freely(Check *c, const void *arg) {
  const Free *f = arg;
  c->dev.deterministic = false;
  f->run(c, f->shape);
}
static void once_freely(CheckCase run, const void *shape) {
  Free f = {run, shape};
  for (int m = CHECK_F32; m <= check_last(); m++) check_once(freely, &f, m);
}

static void twice(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  Tensor x = input(c, s, s->R, s->K), w = weight(c, s), b = bias_of(c, s);
  Tensor y = output(c, s, s->R, s->N, s->low), pre = output(c, s, s->R, s->N, s->low);
  Tensor dx = output(c, s, s->R, s->K, s->low), dy = input(c, s, s->R, s->N);
  double *want[3] = {NULL, NULL, NULL};
  size_t held = 0;
  for (int i = 0; i < 4; i++) {
    Tensor out[] = {y, pre, dx};
    for (int k = 0; k < 3; k++) check_poison(c, out[k]);
    MUST(op_dense(&c->dev, y, pre, x, w, b));
    MUST(op_dense_backward(&c->dev, dx, false, TENSOR_NONE, TENSOR_NONE, dy, TENSOR_NONE, w));
    if (i > 0) assert_int_equal(c->dev.allocated, held);
    held = c->dev.allocated;
    for (int k = 0; k < 3; k++) {
      if (want[k]) check_same(c, "a result of a later call", out[k], want[k]);
      want[k] = check_read(c, out[k]);
    }
  }
}

static void test_choice(void **state) {
  (void)state;
  static const Shape plain = {67, 72, 40, true, true, false, false, false},
                     low = {67, 72, 40, true, true, false, true, false};
  both_ways(&plain, once_freely);
  once_freely(twice, &plain);
  both_ways(&low, once_freely);
  once_freely(twice, &low);
}

/* ---- other row strides and offsets: a library may use other algorithms for them, but the results must agree */
typedef struct Lie {
  int64_t pitch, first; /* extra columns per row, and the column where the view begins */
} Lie;
enum { OF_X = 1, OF_W = 2, OF_DY = 4, OF_OUT = 8, OF_BIAS = 16, OF_PRE = 32 }; /* the tensors with this layout */

static Tensor laid(Check *c, DType type, int64_t rows, int64_t cols, Lie lie, bool so, const double *values) {
  Tensor t = check_tensor(c, type, rows, cols, cols + (so ? lie.pitch : 0), so ? lie.first : 0);
  check_write(c, t, values);
  return t;
}

static Tensor laid_bias(Check *c, DType type, int64_t n, int64_t first, const double *values) {
  Tensor whole = check_tensor(c, type, n + first, 0, 0, 0);
  Tensor b = tensor_1d((char *)whole.data + (size_t)first * dtype_size(type), type, n);
  check_write(c, b, values);
  return b;
}

typedef struct Places {
  const Shape *shape;
  int of;
} Places;

/* y, pre, dx, dw, db of every layout, compared with those of contiguous rows on the same device. In bf16 both have been
 * rounded. */
static void places(Check *c, const void *arg) {
  static const Lie lies[] = {{0, 0}, {8, 8}, {4, 0}, {4, 4}, {5, 3}};
  static const char *const names[] = {"y", "pre", "dx", "dw", "db"};
  enum { LIES = sizeof lies / sizeof *lies, OUTS = sizeof names / sizeof *names };
  const Places *p = arg;
  const Shape *s = p->shape;
  int of = p->of;
  const int64_t terms[OUTS] = {s->K, s->K, s->N, s->R, s->R};
  double *x = check_read(c, input(c, s, s->R, s->K)), *w = check_read(c, weight(c, s)), *want[OUTS] = {NULL};
  double *b = check_read(c, bias_of(c, s)), *dy = check_read(c, input(c, s, s->R, s->N));
  double *none = check_host(c, s->R * s->N + s->R * s->K + s->N * s->K);
  DType type = s->low ? c->dev.act : c->dev.real, wtype = s->low ? DT_BF16 : c->dev.real;
  for (int i = 0; i < LIES; i++) {
    Lie l = lies[i];
    check_title(c, "dense%s, pitch +%d from %d of %d", s->low ? " w bf16" : "", (int)l.pitch, (int)l.first, of);
    Tensor X = laid(c, type, s->R, s->K, l, of & OF_X, x), W = laid(c, wtype, s->N, s->K, l, of & OF_W, w);
    Tensor DY = laid(c, type, s->R, s->N, l, of & OF_DY, dy);
    Tensor B = laid_bias(c, type, s->N, of & OF_BIAS ? l.first : 0, b);
    Tensor out[OUTS] = {
        laid(c, type, s->R, s->N, l, of & OF_OUT, none), laid(c, type, s->R, s->N, l, of & OF_PRE, none),
        laid(c, type, s->R, s->K, l, of & OF_OUT, none), laid(c, c->dev.real, s->N, s->K, l, of & OF_OUT, none),
        laid_bias(c, c->dev.real, s->N, 0, none)};
    MUST(op_dense(&c->dev, out[0], out[1], X, W, B));
    MUST(op_dense_backward(&c->dev, out[2], false, out[3], out[4], DY, X, W));
    for (int k = 0; k < OUTS; k++) {
      double other_stored = out[k].type == DT_BF16 ? CHECK_STORED : 0;
      if (want[k]) check_near(c, names[k], out[k], want[k], c->mode->sum * sqrt((double)terms[k]) + other_stored);
      if (!want[k]) want[k] = check_read(c, out[k]);
    }
  }
}

static void test_places(void **state) {
  (void)state;
  static const int whose[] = {
      OF_X | OF_W | OF_DY | OF_OUT | OF_BIAS | OF_PRE, OF_X, OF_W, OF_DY, OF_OUT, OF_BIAS, OF_PRE};
  static const Shape plain = {19, 24, 40, true, true, false, false, false},
                     low = {19, 24, 40, true, true, false, true, false};
  for (size_t i = 0; i < sizeof whose / sizeof *whose; i++) {
    Places real = {&plain, whose[i]}, act = {&low, whose[i]};
    check_every(places, &real);
    in_f32_and_bf16(places, &act);
  }
}

/* ---- a row has the same bits whatever the number of rows, where that is promised; elsewhere it is nearly the same */
/* Values of many magnitudes, so that the rounding of a sum shows the order of its terms. */
static void uneven(Check *c, Tensor t, double seed) {
  double *x = check_read(c, t);
  for (int64_t i = 0, n = tensor_count(t); i < n; i++)
    x[i] = sin(seed + (double)i * (double)i) * exp(2 * sin(3 * seed + 7 * (double)i));
  check_write(c, t, x);
}

static void rows_alone(Check *c, const void *shape) {
  static const int64_t few[] = {1, 2, 3, 15, 16, 17, 33, 65};
  const Shape *s = shape;
  bool exact = strcmp(check_device, "cpu") == 0;
  Tensor x = input(c, s, s->R, s->K), w = weight(c, s), b = bias_of(c, s), y = input(c, s, s->R, s->N);
  uneven(c, x, 1);
  uneven(c, w, 2);
  MUST(op_dense(&c->dev, y, TENSOR_NONE, x, w, b));
  double *want = check_read(c, y);
  for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
    check_title(c, "dense%s, %d of %d rows", s->low ? " w bf16" : "", (int)few[i], (int)s->R);
    Tensor part = input(c, s, few[i], s->N);
    MUST(op_dense(&c->dev, part, TENSOR_NONE, tensor_rows(x, 0, few[i]), w, b));
    if (exact)
      check_same(c, "y", part, want);
    else
      check_near(c, "y", part, want, c->mode->sum * sqrt((double)s->K));
  }
}

static void test_rows_alone(void **state) {
  (void)state;
  static const Shape real = {66, 64, 2304, true, false, false, false, false},
                     low = {66, 64, 2304, true, false, false, true, false};
  check_every(rows_alone, &real);
  in_f32_and_bf16(rows_alone, &low);
}

/* ---- gelu_backward */
static void gelu_case(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "gelu_backward R=%d N=%d%s", (int)s->R, (int)s->N, s->strided ? " strided" : "");
  Shape low = *s;
  low.low = true;
  Tensor dy = input(c, &low, s->R, s->N), pre = input(c, &low, s->R, s->N);
  check_fill(c, pre, 4);
  double *p = check_read(c, pre), *want = check_read(c, dy);
  p[0] = -1e4, p[s->R * s->N - 1] = 1e4; /* tanh saturates; no NaN may appear */
  check_write(c, pre, p);
  p = check_read(c, pre);
  for (int64_t i = 0; i < s->R * s->N; i++) want[i] *= gelu_slope(p[i]);
  Tensor again = input(c, &low, s->R, s->N), db = check_random(c, s->N, 0);
  check_write(c, again, check_read(c, dy));
  MUST(op_gelu_backward(&c->dev, dy, pre, TENSOR_NONE));
  check_near(c, "dy", dy, want, 4 * c->mode->point);
  check_same(c, "pre afterwards", pre, p);
  double *sum = check_read(c, db);
  MUST(op_gelu_backward(&c->dev, again, pre, db));
  check_near(c, "dy with db", again, want, 4 * c->mode->point);
  double *got = check_read(c, again);
  for (int64_t i = 0; i < s->R * s->N; i++) sum[i % s->N] += got[i];
  check_near(c, "db", db, sum, c->mode->sum * sqrt((double)s->R));
}

static void test_gelu_backward(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(gelu_case, &shapes[i]);
}

/* ---- dense_gelu_backward; dx is written, and rounded, once or twice */
static void gelu_product(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "dense_gelu_backward R=%d K=%d N=%d%s%s", (int)s->R, (int)s->K, (int)s->N,
              s->strided ? " strided" : "", s->low ? " w bf16" : "");
  int64_t size = s->R * s->K, more = s->strided ? 8 : 0;
  Tensor dy = check_act_cols(c, s->R, s->N, s->N + more, 0), dx = check_act_out_cols(c, s->R, s->K, s->K + more, 0);
  Tensor pre = check_act_cols(c, s->R, s->K, s->K + 2 * more, 0), db = check_random(c, s->K, 0), w = weight(c, s);
  check_fill(c, pre, 4);
  double *p = check_read(c, pre), *plain_dy = check_read(c, dy), *want = check_host(c, size), *sum = check_read(c, db);
  product(want, factors(c, dy, s->low), s->N, 1, factors(c, w, s->low), s->K, 1, s->R, s->N, s->K);
  for (int64_t i = 0; i < size; i++) want[i] *= gelu_slope(p[i]);

  double tolerance = 1.2 * (c->mode->sum * sqrt((double)s->N) + (dx.type == DT_BF16 ? CHECK_STORED : 0));
  for (int turn = 0; turn < 2; turn++) {
    MUST(op_dense_gelu_backward(&c->dev, dx, dy, w, pre, turn == 0 ? TENSOR_NONE : db));
    check_near(c, "dx", dx, want, tolerance);
  }
  double *got = check_read(c, dx);
  for (int64_t i = 0; i < size; i++) sum[i % s->K] += got[i];
  check_near(c, "db", db, sum, c->mode->sum * sqrt((double)s->R));
  check_same(c, "pre afterwards", pre, p);
  check_same(c, "dy afterwards", dy, plain_dy);
}

/* Also with deterministic = false, where the backend may choose by time; several shapes, so that each way is chosen for
 * some on an emulated device. */
static void test_gelu_product(void **state) {
  (void)state;
  static const Shape of_w[] = {{67, 40, 72, false, false, false, false, false},
                               {19, 11, 24, false, false, true, false, false}},
                     low[] = {{67, 40, 72, false, false, false, true, false},
                              {300, 64, 24, false, false, true, true, false},
                              {19, 11, 24, false, false, false, true, false},
                              {3, 4200, 5, false, false, false, true, false}};
  for (size_t i = 0; i < sizeof of_w / sizeof *of_w; i++) check_case(gelu_product, &of_w[i], check_first(), CHECK_F32);
  for (size_t i = 0; i < sizeof low / sizeof *low; i++) {
    in_f32_and_bf16(gelu_product, &low[i]);
    for (Shape s = low[i]; s.R < low[i].R + 4; s.R++) once_freely(gelu_product, &s);
  }
}

/* ---- bias gradients: rows in whole packs, in packs and a rest, and in none give the same bits */
typedef struct Sums {
  int64_t R, N;
} Sums;

static Tensor pitched(Check *c, const Sums *s, int64_t pitch, int64_t first, const double *values) {
  Tensor t = check_act_cols(c, s->R, s->N, s->N + pitch, first);
  check_write(c, t, values);
  return t;
}

static void sums_case(Check *c, const void *arg) {
  const Sums *s = arg;
  int64_t fit = 64 - s->N % 64; /* columns after the view, so that every row is aligned */
  const int64_t layouts[][2] = {{fit, 0}, {0, 0}, {fit, 1}, {fit - 6, 0}, {fit - 6, 4}};
  double *dy = check_read(c, check_act(c, s->R, s->N)), *pre = check_read(c, check_act(c, s->R, s->N));
  double *start = check_read(c, check_random(c, s->N, 0)), *sum = NULL, *slope = NULL, *with_gelu = NULL;
  double *want = check_host(c, s->N);
  for (int64_t i = 0; i < s->N; i++) want[i] = start[i];
  for (int64_t i = 0; i < s->R * s->N; i++) want[i % s->N] += dy[i];
  for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
    int64_t pitch = layouts[i][0], first = layouts[i][1];
    check_title(c, "column sums R=%d N=%d, pitch +%d from %d", (int)s->R, (int)s->N, (int)pitch, (int)first);
    Tensor d = pitched(c, s, pitch, first, dy), x = pitched(c, s, pitch, first, pre);
    Tensor db = check_random(c, s->N, 0), gelu_db = check_random(c, s->N, 0);
    check_write(c, db, start);
    check_write(c, gelu_db, start);
    MUST(op_dense_backward(&c->dev, TENSOR_NONE, false, TENSOR_NONE, db, d, TENSOR_NONE, TENSOR_NONE));
    MUST(op_gelu_backward(&c->dev, d, x, gelu_db));
    check_near(c, "db", db, want, c->mode->sum * sqrt((double)s->R));
    if (sum) check_same(c, "db", db, sum);
    if (slope) check_same(c, "dy", d, slope);
    if (with_gelu) check_same(c, "db with gelu", gelu_db, with_gelu);
    sum = check_read(c, db), slope = check_read(c, d), with_gelu = check_read(c, gelu_db);
  }
}

static void test_column_sums(void **state) {
  (void)state;
  static const Sums shapes_of_sums[] = {{3, 5}, {700, 30}, {130, 270}, {1, 1003}, {70, 64}};
  for (size_t i = 0; i < sizeof shapes_of_sums / sizeof *shapes_of_sums; i++)
    check_every(sums_case, &shapes_of_sums[i]);
}

/* ---- gradients of Σ k·gelu(x wᵀ + b) by finite differences */
typedef struct Net {
  Tensor y, pre, x, w, b;
  double *k;
} Net;

static double net_loss(Check *c, void *state, double *size) {
  Net *n = state;
  MUST(op_dense(&c->dev, n->y, n->pre, n->x, n->w, n->b));
  return check_terms(n->k, check_read(c, n->y), tensor_count(n->y), size);
}

static void slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  Net n = {check_out(c, s->R, s->N),    check_out(c, s->R, s->N),
           check_random(c, s->R, s->K), weight(c, s),
           check_random(c, s->N, 0),    NULL};
  Tensor dy = check_random(c, s->R, s->N), dx = check_out(c, s->R, s->K);
  Tensor dw = check_tensor(c, c->dev.real, s->N, s->K, s->K, 0), db = check_tensor(c, c->dev.real, s->N, 0, 0, 0);
  n.k = check_read(c, dy);
  MUST(op_dense(&c->dev, n.y, n.pre, n.x, n.w, n.b));
  MUST(op_gelu_backward(&c->dev, dy, n.pre, db));
  MUST(op_dense_backward(&c->dev, dx, false, dw, TENSOR_NONE, dy, n.x, n.w));
  check_slope(c, "x", net_loss, &n, n.x, check_read(c, dx));
  check_slope(c, "w", net_loss, &n, n.w, check_read(c, dw));
  check_slope(c, "b", net_loss, &n, n.b, check_read(c, db));
}

static void test_slopes(void **state) {
  (void)state;
  static const Shape small = {3, 8, 11, true, true, false, false, false},
                     larger = {17, 24, 40, true, true, false, false, false};
  check_once(slopes, &small, CHECK_F64);
  check_once(slopes, &larger, CHECK_F64);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "dense refusals");
  Device *d = &c->dev;
  Tensor x = check_random(c, 3, 8), w = check_random(c, 5, 8), b = check_random(c, 5, 0), y = check_random(c, 3, 5);
  Tensor w7 = check_random(c, 5, 7), y4 = check_random(c, 4, 5), b4 = check_random(c, 4, 0), dw = check_random(c, 5, 8);
  Tensor none = TENSOR_NONE, dx = check_random(c, 3, 8), ids = check_tensor(c, DT_I32, 3, 5, 5, 0);
  check_refused(op_dense(d, y, none, x, w7, b), ERR_SHAPE, "w of another K");
  check_refused(op_dense(d, y4, none, x, w, b), ERR_SHAPE, "y of other rows");
  check_refused(op_dense(d, y, y4, x, w, b), ERR_SHAPE, "pre of other rows");
  check_refused(op_dense(d, y, none, x, w, b4), ERR_SHAPE, "b of another length");
  check_refused(op_dense(d, ids, none, x, w, b), ERR_SHAPE, "y of integers");
  check_refused(op_dense(d, none, none, x, w, b), ERR_SHAPE, "no y");
  check_refused(op_dense_backward(d, dx, false, dw, b, y, x, w7), ERR_SHAPE, "w of another K");
  check_refused(op_dense_backward(d, dx, false, dw, b, y4, x, w), ERR_SHAPE, "dy of other rows");
  check_refused(op_dense_backward(d, dx, false, w7, b, y, x, w), ERR_SHAPE, "dw of another K");
  check_refused(op_dense_backward(d, dx, false, dw, b4, y, x, w), ERR_SHAPE, "db of another length");
  check_refused(op_dense_backward(d, y, false, dw, b, y, x, w), ERR_SHAPE, "dx of another K");
  check_refused(op_dense_backward(d, none, false, dw, b, y, none, w), ERR_SHAPE, "dw without x");
  check_refused(op_dense_backward(d, dx, false, none, b, y, x, none), ERR_SHAPE, "dx without w");
  Tensor act = check_act(c, 3, 5), act4 = check_act(c, 4, 5);
  check_refused(op_gelu_backward(d, act, act4, none), ERR_SHAPE, "pre of other rows");
  check_refused(op_gelu_backward(d, ids, act, none), ERR_SHAPE, "dy of integers");
  check_refused(op_gelu_backward(d, act, act, b4), ERR_SHAPE, "db of another length");
  if (c->dev.act == c->dev.real) {
    Tensor wide = check_random(c, 3, 8), wide4 = check_random(c, 4, 8), b8 = check_random(c, 8, 0);
    check_refused(op_dense_gelu_backward(d, dx, y, w7, wide, b8), ERR_SHAPE, "w of another K");
    check_refused(op_dense_gelu_backward(d, dx, y4, w, wide, b8), ERR_SHAPE, "dy of other rows");
    check_refused(op_dense_gelu_backward(d, dx, y, w, wide4, b8), ERR_SHAPE, "pre of other rows");
    check_refused(op_dense_gelu_backward(d, dx, y, w, wide, b4), ERR_SHAPE, "db of another length");
  }
  Tensor low = check_tensor(c, DT_BF16, 5, 8, 8, 0);
  if (c->dev.real == DT_F64) check_refused(op_dense(d, y, none, x, low, b), ERR_SHAPE, "w in bf16");
  check_record(c, y);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_products),      cmocka_unit_test(test_products_bf16), cmocka_unit_test(test_left_out),
      cmocka_unit_test(test_choice),        cmocka_unit_test(test_places),        cmocka_unit_test(test_rows_alone),
      cmocka_unit_test(test_gelu_backward), cmocka_unit_test(test_gelu_product),  cmocka_unit_test(test_column_sums),
      cmocka_unit_test(test_slopes),        cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
