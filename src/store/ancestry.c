#include "store/ancestry.h"
#include "base/err.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

enum { MOST_PARENTS = 1 << 16 };

bool ancestry_there(H5 *f) { return h5_exists(f, "/parents"); }

static const char *text_of(const Parent *p, int column) {
  return column == 0 ? p->path : column == 1 ? p->digest : p->weights;
}

static const char *const texts[] = {"/parents/file", "/parents/digest", "/parents/weights"};
static const char *const meaning[] = {"path of the checkpoint", "digest of its weights", "the group that was taken"};

static int texts_store(H5 *f, const Parent *parents, int64_t n) {
  char **list;
  int err = OK;
  TRY(mem_alloc(&list, (size_t)n * sizeof *list));
  for (int c = 0; c < 3 && err == OK; c++) {
    for (int64_t i = 0; i < n; i++) list[i] = (char *)text_of(&parents[i], c);
    err = h5_write_text(f, texts[c], n, list);
    if (err == OK) err = h5_describe(f, texts[c], "", meaning[c]);
  }
  mem_free(&list);
  return err;
}

typedef struct Numbers { /* the columns of the parents */
  int64_t *steps;
  double *weights;
} Numbers;

static int numbers_create(Numbers *c, int64_t n) {
  *c = (Numbers){0};
  TRY(mem_alloc(&c->steps, (size_t)n * sizeof *c->steps));
  return mem_alloc(&c->weights, (size_t)n * sizeof *c->weights);
}

static void numbers_destroy(Numbers *c) {
  mem_free(&c->steps);
  mem_free(&c->weights);
}

static int numbers_store(H5 *f, const Parent *parents, int64_t n) {
  Numbers c;
  int err = numbers_create(&c, n);
  for (int64_t i = 0; i < n && err == OK; i++) {
    c.steps[i] = parents[i].step;
    c.weights[i] = parents[i].weight;
  }
  if (err == OK) err = h5_write(f, "/parents/step", H5_I64, 1, &n, c.steps);
  if (err == OK) err = h5_write(f, "/parents/weight", H5_F64, 1, &n, c.weights);
  numbers_destroy(&c);
  TRY(err);
  TRY(h5_describe(f, "/parents/step", "step", "optimizer steps it had taken"));
  return h5_describe(f, "/parents/weight", "", "its factor in the sum of the weights");
}

int ancestry_store(H5 *f, const Parent *parents, int64_t n) {
  TRY(h5_group(f, "/parents"));
  TRY(numbers_store(f, parents, n));
  return texts_store(f, parents, n);
}

static int text_load(H5 *f, int column, Parent *parents, int64_t n) {
  char **list;
  TRY(h5_read_text(f, texts[column], n, &list));
  for (int64_t i = 0; i < n; i++) {
    Parent *p = &parents[i];
    if (column == 0) snprintf(p->path, sizeof p->path, "%s", list[i]);
    if (column == 1) snprintf(p->digest, sizeof p->digest, "%s", list[i]);
    if (column == 2) snprintf(p->weights, sizeof p->weights, "%s", list[i]);
  }
  h5_list_free(&list);
  return OK;
}

static int numbers_load(H5 *f, Parent *parents, int64_t n) {
  Numbers c;
  int err = numbers_create(&c, n);
  if (err == OK) err = h5_read(f, "/parents/step", H5_I64, 1, &n, c.steps);
  if (err == OK) err = h5_read(f, "/parents/weight", H5_F64, 1, &n, c.weights);
  for (int64_t i = 0; i < n && err == OK; i++) {
    parents[i].step = c.steps[i];
    parents[i].weight = c.weights[i];
  }
  numbers_destroy(&c);
  return err;
}

int ancestry_load(H5 *f, Parent **parents, int64_t *n) {
  H5Info info;
  *parents = NULL;
  *n = 0;
  if (!ancestry_there(f)) return OK;
  TRY(h5_info(f, "/parents/weight", &info));
  CHECK(info.rank == 1 && info.dims[0] > 0 && info.dims[0] <= MOST_PARENTS, ERR_DATA,
        "%s: /parents/weight is not a list of numbers", h5_path(f));
  TRY(mem_alloc(parents, (size_t)info.dims[0] * sizeof **parents));
  int err = numbers_load(f, *parents, info.dims[0]);
  for (int c = 0; c < 3 && err == OK; c++) err = text_load(f, c, *parents, info.dims[0]);
  if (err != OK) mem_free(parents);
  if (err == OK) *n = info.dims[0];
  return err;
}
