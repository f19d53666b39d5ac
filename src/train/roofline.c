#include "train/roofline.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include <math.h>

/* The fastest of a few sums y += x of arrays that no cache holds, of whatever size there is memory for. */
static int time_sums(Device *dev, int64_t n, double *bytes) {
  enum { TRIES = 6 };
  void *x = NULL, *y = NULL;
  size_t size = (size_t)n * dtype_size(dev->real);
  double best = INFINITY;
  int err = device_alloc(dev, &x, size);
  if (err == OK) err = device_alloc(dev, &y, size);
  for (int i = 0; i < TRIES && err == OK; i++) {
    double start = clock_now();
    err = op_add(dev, tensor_1d(y, dev->real, n), tensor_1d(x, dev->real, n));
    if (err == OK) err = device_sync(dev);
    best = fmin(best, clock_now() - start);
  }
  if (y) device_release(dev, y, size);
  if (x) device_release(dev, x, size);
  *bytes = 3 * (double)size / best;
  return err;
}

int ceilings_sums(Device *dev, double *bytes) {
  enum { LEAST = 1 << 22, MOST = 1 << 25 };
  int err = OK;
  for (int64_t n = MOST; n >= LEAST; n /= 4) {
    err = time_sums(dev, n, bytes);
    if (err != ERR_MEMORY || n / 4 < LEAST) break;
    err_clear();
  }
  return err;
}

void work_add(Work *w, const Device *dev, double times) {
  for (int g = 0; g < GROUPS; g++) {
    w->seconds[g] += times * dev->seconds[g];
    w->flops[g] += times * dev->flops[g];
    w->bytes[g] += times * dev->bytes[g];
  }
}

double roofline_floor(const Work *w, const Ceilings *c, OpGroup g) {
  return fmax(w->flops[g] / c->flops, w->bytes[g] / c->bytes);
}

double roofline_other(const Work *w, const Ceilings *here, const Ceilings *other, double seconds) {
  for (int g = 0; g < GROUPS; g++) {
    double floor = roofline_floor(w, here, (OpGroup)g);
    if (floor > 0) seconds += w->seconds[g] * (roofline_floor(w, other, (OpGroup)g) / floor - 1);
  }
  return seconds;
}

static void print_row(const char *name, double flops, double bytes, double floor, double seconds) {
  log_info("           %-10s %10.4g %9.3g %10.4g %9.4g %7.2f", name, flops / 1e9, bytes / 1e9, floor, seconds,
           seconds > 0 ? floor / seconds : 0);
}

void roofline_print(const Work *w, const Ceilings *c, double seconds) {
  double flops = 0, bytes = 0, least = 0, counted = 0;
  log_info(
      "roofline   measured now: %.1f GFLOP/s in products, %.1f GB/s in sums of large arrays; what fits a cache may be "
      "faster",
      c->flops / 1e9, c->bytes / 1e9);
  log_info("           %-10s %10s %9s %10s %9s %7s", "of a step", "GFLOP", "GB", "floor, s", "time, s", "share");
  for (int g = 0; g < GROUPS; g++) {
    double floor = roofline_floor(w, c, (OpGroup)g);
    if (w->seconds[g] > 0 && (floor > 0 || w->seconds[g] > 0.001 * seconds))
      print_row(op_group_name((OpGroup)g), w->flops[g], w->bytes[g], floor, w->seconds[g]);
    flops += w->flops[g];
    bytes += w->bytes[g];
    least += floor;
    counted += w->seconds[g];
  }
  if (seconds > 1.001 * counted) log_info("           %-10s %31s %9.4g", "other", "", seconds - counted);
  print_row("whole step", flops, bytes, least, seconds);
}
