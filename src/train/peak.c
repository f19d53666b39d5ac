#include "train/peak.h"
#include "base/clock.h"
#include "base/err.h"
#include "ops/arena.h"
#include <math.h>

/* The fastest of a few products of n × n matrices. */
static int time_product(Device *dev, int64_t n, double *seconds) {
  enum { TRIES = 4 };
  Arena a;
  Tensor x, w, y;
  int err = OK;
  arena_measure(&a, dev);
  for (int pass = 0; pass < 2; pass++) {
    x = arena_tensor(&a, dev->act, n, n);
    w = arena_tensor(&a, dev->bf16 ? DT_BF16 : dev->real, n, n);
    y = arena_tensor(&a, dev->act, n, n);
    if (pass == 0) TRY(arena_commit(&a));
  }
  *seconds = INFINITY;
  for (int i = 0; i < TRIES && err == OK; i++) {
    double start = clock_now();
    err = op_dense(dev, y, TENSOR_NONE, x, w, TENSOR_NONE);
    if (err == OK) err = device_sync(dev);
    *seconds = fmin(*seconds, clock_now() - start);
  }
  arena_destroy(&a);
  return err;
}

int peak_measure(Device *dev, double *flops) {
  const double LONG_ENOUGH = 1e-3;
  double seconds = 0;
  for (int64_t n = 256; n <= 8192 && seconds <= LONG_ENOUGH; n *= 2) {
    int err = time_product(dev, n, &seconds);
    if (err == ERR_MEMORY && n > 256) return err_clear(), OK; /* the largest that fits counts */
    TRY(err);
    *flops = 2.0 * (double)(n * n * n) / seconds;
  }
  return OK;
}
