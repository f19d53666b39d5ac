/* devices and their memory, tensor views, silu, sinusoid. */
#include "check.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

/* ---- opening, profile */
static void test_open(void **state) {
  (void)state;
  Device dev;
  DeviceOptions options = {.name = "abacus", .threads = 1};
  assert_int_equal(device_open(&dev, &options), ERR_USAGE);
  assert_non_null(strstr(err_message(), "abacus"));
  assert_non_null(strstr(err_message(), "cpu"));
  assert_non_null(strstr(err_message(), "cpu_f64"));
  err_clear();
  device_close(&dev); /* closing an unopened device is allowed */
  for (int i = 0; backends[i]; i++)
    for (int j = 0; j < i; j++) assert_string_not_equal(backends[i]->name, backends[j]->name);
  for (int i = 0; i < GROUPS; i++)
    for (int j = 0; j < i; j++) assert_string_not_equal(op_group_name((OpGroup)i), op_group_name((OpGroup)j));
}

static void test_real_type(void **state) {
  (void)state;
  for (int i = check_first(); i <= check_last(); i++) {
    Check c;
    check_open(&c, &CHECK_MODES[i], 2);
    assert_int_equal(c.dev.real, i == CHECK_F64 ? DT_F64 : DT_F32);
    assert_int_equal(c.dev.act, i == CHECK_BF16 ? DT_BF16 : c.dev.real);
    assert_int_equal(c.dev.bf16, i == CHECK_BF16);
    assert_int_equal(c.dev.threads, 2);
    check_close(&c);
  }
}

static void test_options(void **state) {
  (void)state;
  for (int i = CHECK_F64; i <= CHECK_F32; i++) {
    const char *name = i == CHECK_F64 ? "cpu_f64" : "cpu";
    DeviceOptions low = {.name = name, .threads = 0, .bf16 = true, .row_chunk = 77};
    Device dev;
    MUST(device_open(&dev, &low));
    assert_int_equal(dev.bf16, i == CHECK_F32); /* the f64 backend ignores bf16 */
    assert_int_equal(dev.act, dev.real);
    assert_int_equal(dev.row_chunk, 77);
    assert_int_equal(dev.threads, 1);
    device_close(&dev);
  }
}

static void test_profile(void **state) {
  (void)state;
  Check c;
  check_open(&c, &CHECK_MODES[CHECK_F32], 1);
  Tensor x = check_random(&c, 64, 256), w = check_random(&c, 128, 256), y = check_out(&c, 64, 128);
  device_profile_reset(&c.dev);
  MUST(op_dense(&c.dev, y, TENSOR_NONE, x, w, TENSOR_NONE));
  assert_true(c.dev.flops[GROUP_DENSE] == 2.0 * 64 * 128 * 256);
  assert_true(c.dev.seconds[GROUP_DENSE] > 0);
  MUST(op_dense_backward(&c.dev, x, false, w, TENSOR_NONE, y, x, w));
  assert_true(c.dev.flops[GROUP_DENSE] == 3 * 2.0 * 64 * 128 * 256);
  device_profile_reset(&c.dev);
  for (int i = 0; i < GROUPS; i++) assert_true(c.dev.flops[i] == 0 && c.dev.seconds[i] == 0 && c.dev.bytes[i] == 0);
  check_close(&c);
}

/* ---- memory */
static void test_memory(void **state) {
  (void)state;
  for (int i = check_first(); i <= check_last(); i++) {
    Check c;
    check_open(&c, &CHECK_MODES[i], 1);
    size_t before = c.dev.allocated;
    void *p[8];
    for (int k = 0; k < 8; k++) {
      MUST(device_alloc(&c.dev, &p[k], 1000));
      assert_int_equal((uintptr_t)p[k] % 256, 0);
      unsigned char host[1000], zero[1000] = {0};
      memset(host, 1, sizeof host);
      MUST(c.dev.ops->download(&c.dev, host, p[k], sizeof host));
      assert_memory_equal(host, zero, sizeof host);
      memset(host, 0xee, sizeof host); /* so that reused memory is dirty */
      MUST(c.dev.ops->upload(&c.dev, p[k], host, sizeof host));
      if (k % 2) device_release(&c.dev, p[k], 1000);
    }
    assert_int_equal(c.dev.allocated, before + 4000);
    for (int k = 0; k < 8; k += 2) device_release(&c.dev, p[k], 1000);
    device_release(&c.dev, NULL, 1000);
    assert_int_equal(c.dev.allocated, before);
    void *none = &c;
    MUST(device_alloc(&c.dev, &none, 0));
    assert_null(none);
    check_refused(device_alloc(&c.dev, &none, (size_t)1 << 60), ERR_MEMORY, "an exabyte");
    assert_int_equal(c.dev.allocated, before);
    check_close(&c);
  }
}

static void copies(Check *c, const void *shape) {
  (void)shape;
  enum { N = 1003 };
  check_title(c, "copies");
  Device *d = &c->dev;
  Tensor x = check_out(c, 17, 59), y = check_out(c, 17, 59), odd = check_out(c, 4, 5), ids = check_ids(c, N, NULL);
  double wide[N], scratch[N], *want = check_host(c, N);
  float narrow[N], back[N];
  for (int i = 0; i < N; i++) {
    wide[i] = sin(i), narrow[i] = (float)cos(i), back[i] = 0;
    want[i] = d->real == DT_F64 ? wide[i] : (double)(float)wide[i];
  }
  MUST(tensor_from_f64(d, x, wide, scratch));
  check_same(c, "from f64", x, want);
  MUST(tensor_copy(d, y, x));
  check_same(c, "copy", y, want);
  MUST(tensor_from_f32(d, x, narrow, scratch));
  MUST(tensor_to_f32(d, back, x, scratch));
  assert_memory_equal(back, narrow, sizeof narrow);
  check_same(c, "the copy afterwards", y, want);
  MUST(tensor_zero(d, y));
  check_same(c, "zero", y, check_host(c, N));
  check_refused(tensor_copy(d, y, odd), ERR_SHAPE, "a copy to fewer elements");
  check_refused(tensor_from_f64(d, ids, wide, scratch), ERR_SHAPE, "integers from f64");
  check_refused(tensor_from_f32(d, ids, narrow, scratch), ERR_SHAPE, "integers from f32");
  check_refused(tensor_to_f32(d, back, ids, scratch), ERR_SHAPE, "integers to f32");
}

/* more than one block, the last one partial */
static void big_zero(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "zero");
  int64_t n = 700001;
  Tensor x = check_random(c, n, 0);
  MUST(tensor_zero(&c->dev, x));
  check_same(c, "x", x, check_host(c, n));
}

static void test_copies(void **state) {
  (void)state;
  check_every(copies, NULL);
  check_every(big_zero, NULL);
}

/* ---- views: host memory suffices here */
static void test_views(void **state) {
  (void)state;
  float data[6 * 10];
  Tensor t = tensor_2d(data, DT_F32, 6, 10), cols = tensor_cols(t, 3, 4), rows = tensor_rows(cols, 2, 3);
  assert_int_equal(tensor_count(t), 60);
  assert_int_equal(tensor_bytes(t), 240);
  assert_ptr_equal(cols.data, data + 3);
  assert_int_equal(cols.dims[0], 6);
  assert_int_equal(cols.dims[1], 4);
  assert_int_equal(cols.ld, 10);
  assert_ptr_equal(rows.data, data + 23);
  assert_int_equal(rows.dims[0], 3);
  assert_int_equal(rows.dims[1], 4);
  assert_int_equal(rows.ld, 10);
  Tensor line = tensor_rows(tensor_1d(data, DT_F32, 60), 7, 5);
  assert_ptr_equal(line.data, data + 7);
  assert_int_equal(tensor_count(line), 5);
  const int64_t dims[] = {2, 3, 10};
  Tensor cube = tensor_make(data, DT_F32, 3, dims);
  assert_int_equal(tensor_count(cube), 60);
  assert_int_equal(tensor_rows(cube, 4, 2).dims[0], 2);
  assert_ptr_equal(tensor_rows(cube, 4, 2).data, data + 40);
  assert_true(tensor_none(TENSOR_NONE));
  assert_false(tensor_none(t));
  assert_int_equal(tensor_count(TENSOR_NONE), 0);
  static const size_t size[] = {[DT_F32] = 4, [DT_F64] = 8, [DT_BF16] = 2, [DT_I32] = 4};
  static const char *const name[] = {[DT_F32] = "f32", [DT_F64] = "f64", [DT_BF16] = "bf16", [DT_I32] = "i32"};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(dtype_size((DType)i), size[i]);
    assert_string_equal(dtype_name((DType)i), name[i]);
  }
}

/* ---- silu */
typedef struct Shape {
  int64_t R, D;
} Shape;
static const Shape shapes[] = {{1, 8}, {3, 24}, {17, 40}, {67, 72}, {1, 1}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void silu_case(Check *c, const void *shape) {
  const Shape *s = shape;
  int64_t n = s->R * s->D;
  check_title(c, "silu R=%d D=%d", (int)s->R, (int)s->D);
  Tensor x = check_random(c, s->R, s->D), y = check_out(c, s->R, s->D), dy = check_random(c, s->R, s->D),
         dx = check_out(c, s->R, s->D);
  check_fill(c, x, 8);
  double *v = check_read(c, x), *d = check_read(c, dy), *want = check_host(c, n), *slope = check_host(c, n);
  for (int64_t i = 0; i < n; i++) {
    double g = 1 / (1 + exp(-v[i]));
    want[i] = v[i] * g;
    slope[i] = d[i] * g * (1 + v[i] * (1 - g));
  }
  MUST(op_silu(&c->dev, y, x));
  check_near(c, "y", y, want, c->mode->point);
  MUST(op_silu_backward(&c->dev, dx, dy, x));
  check_near(c, "dx", dx, slope, 2 * c->mode->point);
  MUST(op_silu_backward(&c->dev, dy, dy, x)); /* elementwise ops may work in place */
  check_near(c, "dx in place", dy, slope, 2 * c->mode->point);
}

static void silu_ends(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "silu at the ends");
  static const double v[] = {-1e4, -200, 0, 200, 1e4}, want[] = {0, 0, 0, 200, 1e4}, ones[] = {1, 1, 1, 1, 1},
                      slope[] = {0, 0, 0.5, 1, 1};
  Tensor x = check_random(c, 5, 0), y = check_out(c, 5, 0), dy = check_random(c, 5, 0), dx = check_out(c, 5, 0);
  check_write(c, x, v);
  check_write(c, dy, ones);
  MUST(op_silu(&c->dev, y, x));
  check_near(c, "y", y, want, c->mode->point);
  MUST(op_silu_backward(&c->dev, dx, dy, x));
  check_near(c, "dx", dx, slope, c->mode->point);
}

typedef struct Net {
  Tensor y, x;
  double *k;
} Net;

static double net_loss(Check *c, void *state, double *size) {
  Net *n = state;
  MUST(op_silu(&c->dev, n->y, n->x));
  return check_terms(n->k, check_read(c, n->y), tensor_count(n->y), size);
}

static void silu_slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "silu");
  Net n = {check_out(c, s->R, s->D), check_random(c, s->R, s->D), NULL};
  Tensor dy = check_random(c, s->R, s->D), dx = check_out(c, s->R, s->D);
  n.k = check_read(c, dy);
  MUST(op_silu_backward(&c->dev, dx, dy, n.x));
  check_slope(c, "x", net_loss, &n, n.x, check_read(c, dx));
}

static void test_silu(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(silu_case, &shapes[i]);
  check_every(silu_ends, NULL);
  check_once(silu_slopes, &shapes[2], CHECK_F64);
}

/* ---- sinusoid */
static void sinusoid_case(Check *c, const void *shape) {
  const Shape *s = shape; /* R times, 2·D columns */
  int64_t W = 2 * s->D;
  check_title(c, "sinusoid G=%d W=%d", (int)s->R, (int)W);
  Tensor y = check_out_cols(c, s->R, W, W + 3, 1), sigma = check_random(c, s->R, 0);
  check_fill(c, sigma, 4);
  double *v = check_read(c, sigma), *want = check_host(c, s->R * W);
  for (int64_t r = 0; r < s->R; r++) v[r] = (float)(v[r] + 4); /* 0 … 8; σ of all schedules is below 7 */
  v[0] = s->R == 1 ? v[0] : 0;
  check_write(c, sigma, v);
  for (int64_t i = 0; i < s->R * W; i++) {
    int64_t k = i % W % s->D;
    double angle = v[i / W] * pow(10000, -2.0 * (double)k / (double)W);
    want[i] = i % W < s->D ? cos(angle) : sin(angle);
  }
  MUST(op_sinusoid(&c->dev, y, sigma));
  check_near(c, "y", y, want, 2 * c->mode->point);
}

static void test_sinusoid(void **state) {
  (void)state;
  static const Shape time = {17, 128};
  for (int i = 0; i < SHAPES; i++) check_every(sinusoid_case, &shapes[i]);
  check_every(sinusoid_case, &time);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  (void)shape;
  check_title(c, "misc refusals");
  Device *d = &c->dev;
  Tensor a = check_random(c, 3, 8), b = check_random(c, 3, 7), ids = check_tensor(c, DT_I32, 3, 8, 8, 0),
         sigma = check_random(c, 3, 0);
  Tensor four = check_random(c, 4, 0), strided = check_random_cols(c, 3, 8, 11, 1);
  check_refused(op_silu(d, a, b), ERR_SHAPE, "x of another width");
  check_refused(op_silu(d, ids, a), ERR_SHAPE, "y of integers");
  check_refused(op_silu(d, a, ids), ERR_SHAPE, "x of integers");
  check_refused(op_silu_backward(d, a, b, a), ERR_SHAPE, "dy of another width");
  check_refused(op_silu_backward(d, b, a, a), ERR_SHAPE, "dx of another width");
  check_refused(op_sinusoid(d, b, sigma), ERR_SHAPE, "an odd width");
  check_refused(op_sinusoid(d, a, four), ERR_SHAPE, "more times than rows");
  check_refused(op_sinusoid(d, a, ids), ERR_SHAPE, "times that are integers");
  /* flat ops have no row stride: they would overwrite or read the gaps between rows */
  check_refused(op_silu(d, strided, a), ERR_SHAPE, "a strided y");
  check_refused(op_silu(d, a, strided), ERR_SHAPE, "a strided x");
  check_refused(op_silu_backward(d, a, strided, a), ERR_SHAPE, "a strided dy");
  check_refused(op_add(d, strided, a), ERR_SHAPE, "a strided y");
  check_refused(op_add(d, a, strided), ERR_SHAPE, "a strided x");
  check_refused(tensor_copy(d, a, strided), ERR_SHAPE, "a copy of strided rows");
  check_record(c, a);
}

static void test_refusals(void **state) {
  (void)state;
  check_every(refusals, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open),     cmocka_unit_test(test_real_type), cmocka_unit_test(test_options),
      cmocka_unit_test(test_profile),  cmocka_unit_test(test_memory),    cmocka_unit_test(test_copies),
      cmocka_unit_test(test_views),    cmocka_unit_test(test_silu),      cmocka_unit_test(test_sinusoid),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
