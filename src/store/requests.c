#include "store/requests.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/h5.h"
#include "store/tokens.h"
#include <stdio.h>

/* *values := the integers of /requests/name, *n of them; n < 0: any number. */
static int series(H5 *f, const char *name, int64_t *n, int64_t **values) {
  char path[64];
  H5Info info;
  snprintf(path, sizeof path, "/requests/%s", name);
  CHECK(h5_exists(f, path), ERR_DATA, "%s: no data set %s: mdlm-tasks makes files of requests", h5_path(f), path);
  TRY(h5_info(f, path, &info));
  CHECK(info.rank == 1 && h5_whole(info.type) && info.dims[0] > 0, ERR_DATA, "%s: %s must be a list of integers",
        h5_path(f), path);
  CHECK(*n < 0 || info.dims[0] == *n, ERR_DATA, "%s: %s has %lld values, /requests/offset %lld", h5_path(f), path,
        (long long)info.dims[0], (long long)*n);
  *n = info.dims[0];
  TRY(mem_alloc(values, (size_t)*n * sizeof **values));
  return h5_read(f, path, H5_I64, 1, n, *values);
}

static int optional(H5 *f, const char *name, int64_t n, int64_t **values, int64_t low, int64_t high) {
  char path[64];
  snprintf(path, sizeof path, "/requests/%s", name);
  if (!h5_exists(f, path)) return OK;
  TRY(series(f, name, &n, values));
  for (int64_t i = 0; i < n; i++)
    CHECK((*values)[i] >= low && (*values)[i] <= high, ERR_DATA, "%s: %s of request %lld is %lld: not %lld to %lld",
          h5_path(f), path, (long long)i, (long long)(*values)[i], (long long)low, (long long)high);
  return OK;
}

static int ids_read(Requests *r, H5 *f, const Vocab *v, int64_t *total) {
  int64_t *wide = NULL;
  *total = -1;
  int err = series(f, "tokens", total, &wide);
  if (err == OK) err = mem_alloc(&r->tokens, (size_t)*total * sizeof *r->tokens);
  for (int64_t i = 0; i < *total && err == OK; i++) {
    if (wide[i] < 0 || wide[i] >= v->size)
      err = RAISE(ERR_DATA, "%s: /requests/tokens has %lld at %lld, the vocabulary has %lld tokens", h5_path(f),
                  (long long)wide[i], (long long)i, (long long)v->size);
    r->tokens[i] = (int32_t)wide[i];
  }
  mem_free(&wide);
  return err;
}

static int extents_check(const Requests *r, H5 *f, int64_t total, int32_t mask) {
  for (int64_t i = 0; i < r->n; i++) {
    int64_t from = r->offset[i], c = r->context[i], t = r->target[i];
    CHECK(from >= 0 && c >= 0 && t >= 1 && from <= total && c <= total - from && t <= total - from - c, ERR_DATA,
          "%s: request %lld has offset %lld, a context of %lld and a target of %lld tokens, /requests/tokens has %lld",
          h5_path(f), (long long)i, (long long)from, (long long)c, (long long)t, (long long)total);
    for (int64_t l = from + c; l < from + c + t; l++)
      CHECK(r->tokens[l] != mask, ERR_DATA, "%s: the target of request %lld has a mask token", h5_path(f),
            (long long)i);
  }
  return OK;
}

static int read_all(Requests *r, H5 *f, const Vocab *v, const char *owner) {
  int64_t total;
  r->n = -1;
  TRY(tokens_vocabulary(f, v, owner));
  TRY(series(f, "offset", &r->n, &r->offset));
  TRY(series(f, "context_length", &r->n, &r->context));
  TRY(series(f, "target_length", &r->n, &r->target));
  TRY(ids_read(r, f, v, &total));
  TRY(extents_check(r, f, total, v->mask));
  TRY(optional(f, "option_of", r->n, &r->option_of, 0, r->n - 1));
  TRY(optional(f, "gold", r->n, &r->gold, 0, 1));
  return optional(f, "bytes", r->n, &r->bytes, 1, INT64_C(1) << 40);
}

int requests_read(Requests *r, const char *path, const Vocab *v, const char *owner) {
  H5 *f = NULL;
  *r = (Requests){0};
  TRY(h5_open(&f, path, false));
  int err = read_all(r, f, v, owner);
  h5_close(&f);
  if (err) requests_destroy(r);
  return err;
}

void requests_destroy(Requests *r) {
  if (r == NULL) return;
  mem_free(&r->tokens);
  mem_free(&r->offset);
  mem_free(&r->context);
  mem_free(&r->target);
  mem_free(&r->option_of);
  mem_free(&r->gold);
  mem_free(&r->bytes);
  *r = (Requests){0};
}
