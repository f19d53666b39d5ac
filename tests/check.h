/* check — a test bench for the device interface: a device, tensors with guard zones, comparisons with a reference.
 *
 * Tensors are filled with values that f32 represents exactly, so that every mode has the same inputs and one reference
 * in double serves all. Each tensor has its own allocation; the bytes around its view must not change (check_guards).
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* needs the four above */

#include "ops/ops.h"

/* Tolerances, as the largest |got − want| of a tensor over its largest |want|:
 *   point  a value with a few roundings: some ten units in the last place (f32 6e-8, f64 1.1e-16)
 *   sum    times √n for a sum of n terms, whose rounding errors grow like a random walk
 * Products of bf16 factors must meet `sum`, too: the reference rounds the factors as the contract says. A value stored
 * in bf16 may be off by another half unit in the last place, up to 2⁻⁸ of the value: check_near adds CHECK_STORED.
 * Modes: the CPU backend is tested in f64 and f32, a device under test (check_device) in f32 and with bf16 activations.
 * Gradients are compared with finite differences, whose error is bounded in slope.h. */
typedef struct Mode {
  const char *label, *backend; /* backend NULL: check_device */
  bool bf16;
  double point, sum;
} Mode;
static const Mode CHECK_MODES[] = {
    {"f64", "cpu_f64", false, 1e-14, 1e-14}, {"f32", NULL, false, 1e-6, 1e-6}, {"bf16", NULL, true, 1e-6, 1e-6}};
static const double CHECK_STORED = 0x1p-8;
enum { CHECK_F64, CHECK_F32, CHECK_BF16, CHECK_MODE_COUNT };
/** check_device — the backend under test: "cpu", unless the program links another definition. */
extern const char *check_device;
enum { CHECK_BLOCKS = 96, CHECK_HOSTS = 4096 };

typedef struct CheckBlock {
  Tensor view;
  char *memory;         /* on the device */
  unsigned char *guard; /* on the host: the initial bytes of the allocation */
  size_t bytes;
} CheckBlock;

typedef struct Check {
  const Mode *mode; /* not owned */
  Device dev;
  CheckBlock blocks[CHECK_BLOCKS];
  void *host[CHECK_HOSTS];
  int block_count, host_count;
  uint32_t stream;     /* number of the next random tensor */
  unsigned char *bits; /* the bits check_record stored, compared between runs */
  size_t bit_bytes;
  char title[120]; /* begins failure messages */
} Check;

/* A case fills tensors, calls ops, compares results. It must do the same in every run. */
typedef void (*CheckCase)(Check *c, const void *shape);
/* A scalar function of the tensors on the device; it adds the magnitudes of its terms to *size. */
typedef double (*CheckLoss)(Check *c, void *state, double *size);

#define MUST(call) check_must((call), #call, __FILE__, __LINE__)
/** check_slow — whether the device is emulated: tests are then smaller, and statistics use few draws. */
extern bool check_slow;
/** check_order — called before run 0, 1, … of a case: an emulated device schedules its threads in another order. */
void check_order(int run);
/** check_long — whether the environment has LONG=1: more cases and more draws. */
bool check_long(void);
/** check_watched — whether the program runs under valgrind or a sanitizer, which slow it down. */
bool check_watched(void);
/** check_stride — n under a memory checker, else 1: such runs try every n-th case only. */
int check_stride(int n);
/** check_statistics — false under a memory checker or on an emulated device: such runs look for other faults than a
 *  slightly wrong distribution, and use few draws. */
bool check_statistics(void);

/** check_must — fail with the error's message unless code is OK. */
void check_must(int code, const char *call, const char *file, int line);
/** check_refused — fail unless code is `want` and there is an error message; clears the error. */
void check_refused(int code, int want, const char *what);

void check_open(Check *c, const Mode *mode, int threads);
/** check_close — check the guards and free everything. */
void check_close(Check *c);
/** check_case — run the case in the modes first … last: twice with one thread and once with two; the recorded bits must
 *  agree. */
void check_case(CheckCase run, const void *shape, int first, int last);
/** check_once — run the case with one thread, in one mode, without comparing bits. */
void check_once(CheckCase run, const void *shape, int mode);
/** check_first, check_last — the modes of the backend under test. */
int check_first(void);
int check_last(void);
/** check_every — run the case in each of these modes. */
void check_every(CheckCase run, const void *shape);

/** check_tensor — a [d0,d1] view (d1 = 0: [d0]) at column `first` of rows of ld elements, zero inside. */
Tensor check_tensor(Check *c, DType type, int64_t d0, int64_t d1, int64_t ld, int64_t first);
Tensor check_random(Check *c, int64_t d0, int64_t d1); /* uniform in (−1,1), of the device's real type   */
Tensor check_random_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first); /* the same, strided */
Tensor check_out(Check *c, int64_t d0, int64_t d1); /* NaN: an output                                 */
Tensor check_out_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first);
Tensor check_act(Check *c, int64_t d0, int64_t d1); /* the same four in the device's type of activations */
Tensor check_act_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first);
Tensor check_act_out(Check *c, int64_t d0, int64_t d1);
Tensor check_act_out_cols(Check *c, int64_t d0, int64_t d1, int64_t ld, int64_t first);
Tensor check_ids(Check *c, int64_t n, const int32_t *ids); /* ids = NULL: an output, −7                   */
/** check_fill — random numbers in (−scale, scale) into t. */
void check_fill(Check *c, Tensor t, double scale);
void check_poison(Check *c, Tensor t);
/** check_write / check_read — values as double, row by row; the returned array lives until check_close. */
void check_write(Check *c, Tensor t, const double *values);
double *check_read(Check *c, Tensor t);
double *check_host(Check *c, int64_t n); /* n zeroed numbers until check_close */
/** check_raw — the bytes of a contiguous t. */
void *check_raw(Check *c, Tensor t);
void check_guards(Check *c);

/** check_title — name the case; the name begins failure messages. */
void check_title(Check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** check_record — add t's bits to those compared between runs. */
void check_record(Check *c, Tensor t);
void check_record_host(Check *c, const void *p, size_t bytes);
/** check_near — record t and fail unless it is within tolerance of want. */
void check_near(Check *c, const char *what, Tensor t, const double *want, double tolerance);
/** check_same — record t and fail unless its values equal want exactly. */
void check_same(Check *c, const char *what, Tensor t, const double *want);
/** check_error — the largest difference over the largest |want|; infinite if a value is NaN. */
double check_error(const double *got, const double *want, int64_t n);
typedef char CheckWhy[160];
/** check_slope_agrees — whether grad agrees with finite differences of loss along random directions of x, within the
 *  error bound of slope.h, and the differences are precise enough to show an error of 1e-4 in grad. `why` describes the
 *  last comparison. */
bool check_slope_agrees(Check *c, CheckLoss loss, void *state, Tensor x, const double *grad, CheckWhy why);
/** check_slope — fail unless check_slope_agrees. */
void check_slope(Check *c, const char *what, CheckLoss loss, void *state, Tensor x, const double *grad);
/* An op as a function of its arguments, and a gradient computed by its backward op. */
typedef int (*CheckOp)(Device *dev, const void *args);
typedef struct CheckGradient {
  const char *what;
  Tensor x, dx;
} CheckGradient;
/** check_slopes — check_slope for each dx of the list: the loss is Σ dy ⊙ y, and op computes y from args. */
void check_slopes(Check *c, CheckOp op, const void *args, Tensor y, Tensor dy, const CheckGradient *list, int n);

/** check_dot — Σ a_i b_i. */
double check_dot(const double *a, const double *b, int64_t n);
/** check_terms — Σ a_i b_i, or Σ b_i where a is NULL; *size += the sum of the magnitudes. */
double check_terms(const double *a, const double *b, int64_t n, double *size);
/** check_bf16 — x rounded to bf16, ties to even, with frexp and rint: not with the bit trick of the code under test. */
double check_bf16(double x);
/** check_mask — the dropout mask [R,D] as residual_norm applies it: x_out of x = 0, branch = 1 and no gate. Its values
 *  are 0 and 1/(1−p). */
double *check_mask(Check *c, const Dropout *dropout, int64_t R, int64_t D);
