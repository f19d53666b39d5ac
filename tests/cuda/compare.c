/* compare — compares two HDF5 files of mdlm, for machines without Python:
 *   compare same  A B NAME…        the data sets, or all data sets of the groups, have the same shapes and bits
 *   compare close A B BOUND NAME…  series agree within BOUND, relative to the larger value; prints the largest
 *                                  difference
 * Exit code 0 if so. */
#include "base/err.h"
#include "base/mem.h"
#include "store/h5.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Values {
  H5Info info;
  int64_t count;
  double *v;
} Values;

static int values_read(Values *x, H5 *f, const char *name) {
  *x = (Values){.count = 1};
  TRY(h5_info(f, name, &x->info));
  for (int i = 0; i < x->info.rank; i++) x->count *= x->info.dims[i];
  TRY(mem_alloc(&x->v, (size_t)x->count * sizeof *x->v));
  return h5_read(f, name, H5_F64, x->info.rank, x->info.dims, x->v);
}

static int fits(const char *name, const Values *a, const Values *b) {
  bool same = a->info.type == b->info.type && a->info.rank == b->info.rank && a->count == b->count;
  CHECK(same && a->count > 0, ERR_SHAPE, "%s: %lld values and %lld", name, (long long)a->count, (long long)b->count);
  return OK;
}

/* Every f32 and every integer in these files has its own double, so equal doubles mean equal bits. */
static int judge_same(const char *name, const Values *a, const Values *b) {
  int64_t differ = 0;
  for (int64_t i = 0; i < a->count; i++) differ += memcmp(&a->v[i], &b->v[i], sizeof a->v[i]) != 0;
  CHECK(differ == 0, ERR_NUMERIC, "%s differs in %lld of %lld values", name, (long long)differ, (long long)a->count);
  return OK;
}

static int judge_close(const char *name, const Values *a, const Values *b, double bound) {
  double worst = 0;
  for (int64_t i = 0; i < a->count; i++) {
    double off = fabs(a->v[i] - b->v[i]) / fmax(fabs(a->v[i]), fabs(b->v[i]));
    if (a->v[i] == b->v[i]) off = 0;
    if (!(off <= worst)) worst = isnan(off) ? INFINITY : off; /* NaN counts as an infinite difference */
  }
  printf("%s: %lld values within %.1e of each other\n", name, (long long)a->count, worst);
  CHECK(worst <= bound, ERR_NUMERIC, "%s: differ by %.3g, the bound is %.3g", name, worst, bound);
  return OK;
}

static int compare(H5 *a, H5 *b, const char *name, double bound) {
  Values x = {0}, y = {0};
  int err = values_read(&x, a, name);
  if (err == OK) err = values_read(&y, b, name);
  if (err == OK) err = fits(name, &x, &y);
  if (err == OK) err = bound < 0 ? judge_same(name, &x, &y) : judge_close(name, &x, &y, bound);
  mem_free(&x.v);
  mem_free(&y.v);
  return err;
}

static int compare_all(H5 *a, H5 *b, const char *name, double bound) {
  H5Info info;
  char **children = NULL, path[256];
  if (h5_info(a, name, &info) == OK) return compare(a, b, name, bound);
  err_clear(); /* not a data set, so a group */
  TRY(h5_list(a, name, &children));
  int err = children[0] ? OK : RAISE(ERR_DATA, "%s is empty", name);
  for (char **it = children; *it && err == OK; it++) {
    snprintf(path, sizeof path, "%s/%s", name, *it);
    err = compare_all(a, b, path, bound);
  }
  h5_list_free(&children);
  return err;
}

int main(int argc, char **argv) {
  bool close = argc > 1 && strcmp(argv[1], "close") == 0;
  int first = close ? 5 : 4;
  if (argc <= first) {
    fprintf(stderr, "usage: compare same A B NAME… | close A B BOUND NAME…\n");
    return 2;
  }
  H5 *a = NULL, *b = NULL;
  int err = h5_open(&a, argv[2], false);
  if (err == OK) err = h5_open(&b, argv[3], false);
  for (int i = first; i < argc && err == OK; i++) err = compare_all(a, b, argv[i], close ? atof(argv[4]) : -1);
  if (err) printf("%s and %s: %s\n", argv[2], argv[3], err_message());
  h5_close(&a);
  h5_close(&b);
  return err != OK;
}
