#include "check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "base/err.h"
#include "base/rng.h"
#include "slope.h"

enum { GUARD = 64 }; /* elements before and after a view: 256 bytes of f32, as the arena aligns */

/* Under AddressSanitizer a huge allocation must return NULL, as it does elsewhere, and not abort the process. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

/* tests/cuda/device.c and tests/emulation/device.c override these */
__attribute__((weak)) bool check_slow = false;
__attribute__((weak)) const char *check_device = "cpu";
__attribute__((weak)) void check_order(int run) { (void)run; }

bool check_watched(void) {
#ifdef __SANITIZE_ADDRESS__
  return true;
#else
  return RUNNING_ON_VALGRIND;
#endif
}

int check_stride(int n) { return check_watched() ? n : 1; }

bool check_statistics(void) { return !check_slow && !check_watched(); }

bool check_long(void) {
  const char *value = getenv("LONG");
  return value && strcmp(value, "1") == 0;
}

void check_must(int code, const char *call, const char *file, int line) {
  if (code == OK) return;
  print_error("%s:%d: %s gave %d: %s\n%s", file, line, call, code, err_message(), err_backtrace());
  err_clear();
  _fail(file, line);
}

void check_refused(int code, int want, const char *what) {
  if (code != want) fail_msg("%s gave %d, not %d (%s)", what, code, want, err_message());
  if (strlen(err_message()) < 8) fail_msg("%s left no message", what);
  err_clear();
}

/* ---- device and host memory */
void check_open(Check *c, const Mode *mode, int threads) {
  memset(c, 0, sizeof *c);
  c->mode = mode;
  snprintf(c->title, sizeof c->title, "%s", mode->label);
  DeviceOptions options = {.name = mode->backend ? mode->backend : check_device,
                           .threads = threads,
                           .bf16 = mode->bf16,
                           .deterministic = true, /* check_case compares bits between devices */
                           .place = {.local_size = 1}};
  MUST(device_open(&c->dev, &options));
}

void check_close(Check *c) {
  check_guards(c);
  size_t scratch = c->dev.allocated; /* memory that the ops keep */
  for (int i = 0; i < c->block_count; i++) scratch -= c->blocks[i].bytes;
  for (int i = 0; i < c->block_count; i++) {
    device_release(&c->dev, c->blocks[i].memory, c->blocks[i].bytes);
    free(c->blocks[i].guard);
  }
  for (int i = 0; i < c->host_count; i++) free(c->host[i]);
  assert_int_equal(c->dev.allocated, scratch);
  device_close(&c->dev);
}

static void *keep(Check *c, size_t bytes) {
  assert_true(c->host_count < CHECK_HOSTS);
  void *p = calloc(1, bytes ? bytes : 1);
  assert_non_null(p);
  c->host[c->host_count++] = p;
  return p;
}

double *check_host(Check *c, int64_t n) { return keep(c, (size_t)n * sizeof(double)); }

/* ---- elements of any type */
static double get(const void *p, DType type, int64_t i) {
  if (type == DT_F64) return ((const double *)p)[i];
  if (type == DT_F32) return ((const float *)p)[i];
  if (type == DT_I32) return ((const int32_t *)p)[i];
  uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
  float f;
  memcpy(&f, &bits, sizeof f);
  return f;
}

static void put(void *p, DType type, int64_t i, double x) {
  if (type == DT_F64) ((double *)p)[i] = x;
  if (type == DT_F32) ((float *)p)[i] = (float)x;
  if (type == DT_I32) ((int32_t *)p)[i] = (int32_t)x;
  if (type != DT_BF16) return;
  float f = (float)check_bf16(x);
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  ((uint16_t *)p)[i] = (uint16_t)(bits >> 16);
}

double check_bf16(double x) {
  if (x == 0 || !isfinite(x)) return x;
  int e;
  frexp(x, &e); /* |x| in [2^(e-1), 2^e): with 8 significant bits the unit is 2^(e-8), for subnormals 2^-133 */
  int unit = e - 8 > -133 ? e - 8 : -133;
  double y = ldexp(rint(ldexp(x, -unit)), unit);
  return fabs(y) < 0x1p128 ? y : copysign(INFINITY, x);
}

/* ---- tensors */
/* Large enough to change any result that reads it, small enough that adding to it changes its bits. */
static void fill_guard(unsigned char *p, DType type, int64_t n) {
  for (int64_t i = 0; i < n; i++) put(p, type, i, 4099 + (double)(i % 7));
}

Tensor check_tensor(Check *c, DType type, int64_t d0, int64_t d1, int64_t ld, int64_t first) {
  assert_true(c->block_count < CHECK_BLOCKS);
  CheckBlock *b = &c->blocks[c->block_count++];
  size_t size = dtype_size(type);
  int64_t body = d1 == 0 ? d0 : d0 * ld;
  b->bytes = (size_t)(body + 2 * GUARD) * size;
  void *memory = NULL;
  MUST(device_alloc(&c->dev, &memory, b->bytes));
  b->memory = memory;
  b->guard = malloc(b->bytes);
  assert_non_null(b->guard);
  fill_guard(b->guard, type, body + 2 * GUARD);
  MUST(c->dev.ops->upload(&c->dev, b->memory, b->guard, b->bytes));
  char *data = b->memory + (size_t)(GUARD + (d1 == 0 ? 0 : first)) * size;
  b->view = d1 == 0 ? tensor_1d(data, type, d0) : tensor_2d(data, type, d0, d1);
  if (d1 != 0) b->view.ld = ld;
  double *zeros = check_host(c, d0 * (d1 ? d1 : 1));
  check_write(c, b->view, zeros);
  return b->view;
}

static CheckBlock *block_of(Check *c, Tensor t) {
  for (int i = 0; i < c->block_count; i++) {
    CheckBlock *b = &c->blocks[i];
    if ((char *)t.data >= b->memory && (char *)t.data < b->memory + b->bytes) return b;
  }
  fail_msg("%s: a tensor of another bench", c->title);
  return NULL;
}

/* a host copy of t's block, and the index where t starts in it */
static unsigned char *fetch(Check *c, CheckBlock *b, Tensor t, int64_t *start) {
  unsigned char *p = malloc(b->bytes);
  assert_non_null(p);
  MUST(c->dev.ops->download(&c->dev, p, b->memory, b->bytes));
  MUST(c->dev.ops->sync(&c->dev));
  *start = ((char *)t.data - b->memory) / (int64_t)dtype_size(t.type);
  return p;
}

void check_write(Check *c, Tensor t, const double *values) {
  CheckBlock *b = block_of(c, t);
  int64_t start, rows = rows_of(t), cols = cols_of(t);
  unsigned char *p = fetch(c, b, t, &start);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < cols; i++) put(p, t.type, start + r * t.ld + i, values[r * cols + i]);
  MUST(c->dev.ops->upload(&c->dev, b->memory, p, b->bytes));
  free(p);
}

double *check_read(Check *c, Tensor t) {
  CheckBlock *b = block_of(c, t);
  int64_t start, rows = rows_of(t), cols = cols_of(t);
  unsigned char *p = fetch(c, b, t, &start);
  double *values = check_host(c, rows * cols);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < cols; i++) values[r * cols + i] = get(p, t.type, start + r * t.ld + i);
  free(p);
  return values;
}

void *check_raw(Check *c, Tensor t) {
  int64_t start;
  unsigned char *p = fetch(c, block_of(c, t), t, &start);
  void *bytes = keep(c, tensor_bytes(t));
  memcpy(bytes, p + (size_t)start * dtype_size(t.type), tensor_bytes(t));
  free(p);
  return bytes;
}

void check_fill(Check *c, Tensor t, double scale) {
  RngKey k = rng_key(7, RNG_TEST, 0, c->stream++, 0);
  int64_t n = tensor_count(t);
  double *values = check_host(c, n);
  for (int64_t i = 0; i < n; i++) values[i] = (float)(scale * (2 * rng_uniform(k, (uint64_t)i) - 1));
  check_write(c, t, values);
}

void check_poison(Check *c, Tensor t) {
  int64_t n = tensor_count(t);
  double *values = check_host(c, n);
  for (int64_t i = 0; i < n; i++) values[i] = t.type == DT_I32 ? -7 : NAN;
  check_write(c, t, values);
}

static Tensor filled(Check *c, DType type, int64_t d0, int64_t d1, int64_t ld, int64_t first) {
  Tensor t = check_tensor(c, type, d0, d1, ld, first);
  check_fill(c, t, 1);
  return t;
}
static Tensor poisoned(Check *c, DType type, int64_t d0, int64_t d1, int64_t ld, int64_t first) {
  Tensor t = check_tensor(c, type, d0, d1, ld, first);
  check_poison(c, t);
  return t;
}

Tensor check_random_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first) {
  return filled(c, c->dev.real, d0, d1, ld, first);
}
Tensor check_act_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first) {
  return filled(c, c->dev.act, d0, d1, ld, first);
}
Tensor check_act(Check *c, int64_t d0, int64_t d1) { return check_act_cols(c, d0, d1, d1, 0); }
Tensor check_random(Check *c, int64_t d0, int64_t d1) { return check_random_cols(c, d0, d1, d1, 0); }

Tensor check_out_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first) {
  return poisoned(c, c->dev.real, d0, d1, ld, first);
}
Tensor check_act_out_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first) {
  return poisoned(c, c->dev.act, d0, d1, ld, first);
}
Tensor check_act_out(Check *c, int64_t d0, int64_t d1) { return check_act_out_cols(c, d0, d1, d1, 0); }
Tensor check_out(Check *c, int64_t d0, int64_t d1) { return check_out_cols(c, d0, d1, d1, 0); }

Tensor check_ids(Check *c, int64_t n, const int32_t *ids) {
  Tensor t = check_tensor(c, DT_I32, n, 0, 0, 0);
  double *values = check_host(c, n);
  for (int64_t i = 0; i < n; i++) values[i] = ids ? ids[i] : -7;
  check_write(c, t, values);
  return t;
}

/* whether element i of the block lies outside the view */
static bool outside(const CheckBlock *b, int64_t i) {
  int64_t start = ((char *)b->view.data - b->memory) / (int64_t)dtype_size(b->view.type), at = i - start;
  if (at < 0) return true;
  if (b->view.rank == 1) return at >= b->view.dims[0];
  return at / b->view.ld >= b->view.dims[0] || at % b->view.ld >= b->view.dims[1];
}

void check_guards(Check *c) {
  for (int k = 0; k < c->block_count; k++) {
    CheckBlock *b = &c->blocks[k];
    size_t size = dtype_size(b->view.type);
    int64_t start;
    unsigned char *p = fetch(c, b, b->view, &start);
    for (int64_t i = 0; i < (int64_t)(b->bytes / size); i++)
      if (outside(b, i) && memcmp(p + (size_t)i * size, b->guard + (size_t)i * size, size) != 0)
        fail_msg("%s: tensor %d was overwritten outside its view, at element %" PRId64 " of its start", c->title, k,
                 i - start);
    free(p);
  }
}

/* ---- comparisons */
void check_title(Check *c, const char *fmt, ...) {
  size_t n = (size_t)snprintf(c->title, sizeof c->title, "%s ", c->mode->label);
  va_list args;
  va_start(args, fmt);
  vsnprintf(c->title + n, sizeof c->title - n, fmt, args);
  va_end(args);
}

static unsigned char *more_bits(Check *c, size_t bytes) {
  c->bits = realloc(c->bits, c->bit_bytes + bytes);
  assert_non_null(c->bits);
  c->bit_bytes += bytes;
  return c->bits + c->bit_bytes - bytes;
}

void check_record_host(Check *c, const void *p, size_t bytes) { memcpy(more_bits(c, bytes), p, bytes); }

void check_record(Check *c, Tensor t) {
  int64_t start;
  unsigned char *p = fetch(c, block_of(c, t), t, &start);
  size_t size = dtype_size(t.type), row = (size_t)cols_of(t) * size;
  unsigned char *to = more_bits(c, row * (size_t)rows_of(t));
  for (int64_t r = 0; r < rows_of(t); r++, to += row) memcpy(to, p + (size_t)(start + r * t.ld) * size, row);
  free(p);
}

double check_error(const double *got, const double *want, int64_t n) {
  double worst = 0, largest = 0;
  for (int64_t i = 0; i < n; i++) {
    double d = fabs(got[i] - want[i]);
    if (got[i] == want[i]) d = 0; /* equal infinities */
    if (!(d < INFINITY)) return INFINITY;
    worst = fmax(worst, d);
    if (isfinite(want[i])) largest = fmax(largest, fabs(want[i]));
  }
  return worst == 0 ? 0 : worst / fmax(largest, 1e-300);
}

void check_near(Check *c, const char *what, Tensor t, const double *want, double tolerance) {
  check_record(c, t);
  if (t.type == DT_BF16) tolerance += CHECK_STORED;
  double *got = check_read(c, t);
  int64_t n = tensor_count(t), worst = 0;
  double error = check_error(got, want, n);
  if (error <= tolerance) return;
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(got[i] - want[i]) <= fabs(got[worst] - want[worst])) && !isnan(got[worst])) worst = i;
  fail_msg("%s: %s is off by %.3g > %.3g of its largest value; at %" PRId64 " of %" PRId64 ": got %.17g, want %.17g",
           c->title, what, error, tolerance, worst, n, got[worst], want[worst]);
}

void check_same(Check *c, const char *what, Tensor t, const double *want) {
  check_record(c, t);
  double *got = check_read(c, t);
  for (int64_t i = 0; i < tensor_count(t); i++)
    if (!(got[i] == want[i])) fail_msg("%s: %s[%" PRId64 "] is %.17g, not %.17g", c->title, what, i, got[i], want[i]);
}

static void run_once(CheckCase run, const void *shape, const Mode *mode, int threads, unsigned char **bits,
                     size_t *bytes) {
  Check *c = malloc(sizeof *c);
  assert_non_null(c);
  check_open(c, mode, threads);
  run(c, shape);
  *bits = c->bits;
  *bytes = c->bit_bytes;
  check_close(c);
  free(c);
}

static bool on_cpu(void) { return strcmp(check_device, "cpu") == 0; }
int check_first(void) { return on_cpu() ? CHECK_F64 : CHECK_F32; }
int check_last(void) { return on_cpu() ? CHECK_F32 : CHECK_BF16; }

void check_every(CheckCase run, const void *shape) { check_case(run, shape, check_first(), check_last()); }

/* 1 without a comparison of bits: CHECK_RUNS=1 on a device. */
static int runs(void) { return on_cpu() ? 3 : getenv("CHECK_RUNS") ? 1 : 2; }

void check_case(CheckCase run, const void *shape, int first, int last) {
  static const int threads[] = {1, 1, 2};
  for (int m = first; m <= last; m++) {
    unsigned char *one = NULL;
    size_t one_bytes = 0;
    check_order(0);
    run_once(run, shape, &CHECK_MODES[m], threads[0], &one, &one_bytes);
    if (one_bytes == 0) fail_msg("a case that records nothing");
    for (int i = 1; i < runs(); i++) {
      unsigned char *bits = NULL;
      size_t bytes = 0;
      check_order(i);
      run_once(run, shape, &CHECK_MODES[m], threads[i], &bits, &bytes);
      if (bytes != one_bytes || memcmp(bits, one, bytes) != 0)
        fail_msg("%s: run %d (%d threads) gives other bits than the first", CHECK_MODES[m].label, i + 1, threads[i]);
      free(bits);
    }
    free(one);
  }
}

void check_once(CheckCase run, const void *shape, int mode) {
  unsigned char *bits = NULL;
  size_t bytes = 0;
  run_once(run, shape, &CHECK_MODES[mode], 1, &bits, &bytes);
  free(bits);
}

double check_dot(const double *a, const double *b, int64_t n) {
  double s = 0;
  for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
  return s;
}

double check_terms(const double *a, const double *b, int64_t n, double *size) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    double term = a ? a[i] * b[i] : b[i];
    sum += term;
    *size += fabs(term);
  }
  return sum;
}

typedef struct Line { /* x = x0 + step·v */
  Check *c;
  CheckLoss loss;
  void *state;
  Tensor x;
  const double *x0, *v;
} Line;

static double loss_along(void *arg, double step, double *size) {
  const Line *line = arg;
  int64_t n = tensor_count(line->x);
  double *moved = malloc((size_t)n * sizeof *moved);
  assert_non_null(moved);
  for (int64_t i = 0; i < n; i++) moved[i] = line->x0[i] + step * line->v[i];
  check_write(line->c, line->x, moved);
  free(moved);
  return line->loss(line->c, line->state, size);
}

static void random_direction(Check *c, double *v, int64_t n) {
  RngKey key = rng_key(11, RNG_TEST, 1, c->stream++, 0);
  for (int64_t i = 0; i < n; i++) v[i] = 2 * rng_uniform(key, (uint64_t)i) - 1;
  double norm = sqrt(check_dot(v, v, n));
  for (int64_t i = 0; i < n; i++) v[i] /= norm;
}

bool check_slope_agrees(Check *c, CheckLoss loss, void *state, Tensor x, const double *grad, CheckWhy why) {
  int64_t n = tensor_count(x);
  double *x0 = check_read(c, x), *v = check_host(c, n);
  double typical = sqrt(check_dot(grad, grad, n) / (double)n); /* of the slope along a unit direction */
  Line line = {c, loss, state, x, x0, v};
  bool agrees = true;
  for (int k = 0; k < 3 && agrees; k++) {
    random_direction(c, v, n);
    Slope s = slope_measure(loss_along, &line);
    double want = check_dot(grad, v, n);
    agrees = slope_agrees(s, want) && (typical == 0 || s.error <= SLOPE_SHARP * fmax(fabs(want), typical));
    snprintf(why, sizeof(CheckWhy), "the gradient gives a slope of %.12g, finite differences %.12g ± %.2g", want,
             s.value, s.error);
  }
  check_write(c, x, x0);
  return agrees;
}

void check_slope(Check *c, const char *what, CheckLoss loss, void *state, Tensor x, const double *grad) {
  CheckWhy why;
  if (!check_slope_agrees(c, loss, state, x, grad, why)) fail_msg("%s: %s: %s", c->title, what, why);
}

typedef struct Weighted {
  CheckOp op;
  const void *args;
  Tensor y;
  const double *dy;
} Weighted;

static double weighted_sum(Check *c, void *state, double *size) {
  const Weighted *w = state;
  MUST(w->op(&c->dev, w->args));
  return check_terms(w->dy, check_read(c, w->y), tensor_count(w->y), size);
}

void check_slopes(Check *c, CheckOp op, const void *args, Tensor y, Tensor dy, const CheckGradient *list, int n) {
  Weighted w = {op, args, y, check_read(c, dy)};
  for (int i = 0; i < n; i++) check_slope(c, list[i].what, weighted_sum, &w, list[i].x, check_read(c, list[i].dx));
}

double *check_mask(Check *c, const Dropout *dropout, int64_t R, int64_t D) {
  ResidualNorm a = {.kind = NORM_LAYER, .rows_per_group = R, .dropout = *dropout};
  a.x_out = check_out(c, R, D);
  a.h = check_act_out(c, R, D);
  a.x = check_tensor(c, c->dev.real, R, D, D, 0);
  a.branch = check_tensor(c, c->dev.act, R, D, D, 0);
  a.weight = check_random(c, D, 0);
  a.mean = check_out(c, R, 0);
  a.rstd = check_out(c, R, 0);
  double *ones = check_host(c, R * D);
  for (int64_t i = 0; i < R * D; i++) ones[i] = 1;
  check_write(c, a.branch, ones);
  MUST(op_residual_norm(&c->dev, &a));
  return check_read(c, a.x_out);
}
