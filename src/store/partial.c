#include "store/partial.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/draft.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char FORMAT[] = "mdlm-partial";
enum { VERSION = 1 };

/* The first line in which two keys differ, as "a, here b". */
static void differing(char *text, size_t size, const char *theirs, const char *ours) {
  while (*theirs && *ours) {
    size_t a = strcspn(theirs, "\n"), b = strcspn(ours, "\n");
    if (a != b || memcmp(theirs, ours, a) != 0) break;
    theirs += a + (theirs[a] == '\n'), ours += b + (ours[b] == '\n');
  }
  int a = (int)strcspn(theirs, "\n"), b = (int)strcspn(ours, "\n");
  snprintf(text, size, "%.*s, here %.*s", a ? a : 7, a ? theirs : "nothing", b ? b : 7, b ? ours : "nothing");
}

/* Whether the file is of the computation with that key. */
static int check_key(H5 *f, const char *key) {
  char *theirs = NULL, why[256] = "";
  TRY(h5_check_format(f, "a file of partial results", FORMAT, VERSION));
  TRY(h5_get_str(f, "/", "key", &theirs));
  if (strcmp(theirs, key) != 0) differing(why, sizeof why, theirs, key);
  mem_free(&theirs);
  CHECK(!*why, ERR_DATA, "%s is of another computation: %s", h5_path(f), why);
  return OK;
}

/* A file that does not fit is no error. */
static int forgive(int err) {
  if (err == OK || err == ERR_MEMORY) return err;
  log_warn("%s; all is computed anew, and that file is replaced", err_message());
  err_clear();
  return OK;
}

static int read_all(const Partial *p, H5 *f, void *results, uint8_t *done) {
  int64_t dims[2] = {p->n, p->columns};
  TRY(check_key(f, p->key));
  TRY(h5_read(f, "/results", p->type, 2, dims, results));
  return h5_read(f, "/done", H5_U8, 1, dims, done);
}

/* Whether every number of item i is finite. */
static bool sound(const Partial *p, const void *results, int64_t i) {
  const double *x = (const double *)results + i * p->columns;
  for (int64_t c = 0; p->type == H5_F64 && c < p->columns; c++)
    if (!isfinite(x[c])) return false;
  return true;
}

int partial_read(const Partial *p, void *results, uint8_t *done, int64_t *found) {
  H5 *f = NULL;
  *found = 0;
  if (access(p->path, F_OK) != 0) return OK;
  int err = h5_open(&f, p->path, false);
  if (err == OK) err = read_all(p, f, results, done);
  h5_close(&f);
  if (err) memset(done, 0, (size_t)p->n);
  TRY(forgive(err));
  for (int64_t i = 0; i < p->n; i++) *found += done[i] = done[i] != 0 && sound(p, results, i);
  return OK;
}

static int fill(const Partial *p, H5 *f, const void *results, const uint8_t *done) {
  int64_t dims[2] = {p->n, p->columns};
  TRY(h5_set_format(f, FORMAT, VERSION));
  TRY(h5_set_str(f, "/", "key", p->key));
  TRY(h5_write(f, "/results", p->type, 2, dims, results));
  TRY(h5_describe(f, "/results", "", "results of the finished items"));
  TRY(h5_write(f, "/done", H5_U8, 1, dims, done));
  return h5_describe(f, "/done", "", "1: finished");
}

int partial_write(const Partial *p, const void *results, const uint8_t *done) {
  H5 *f = NULL;
  TRY(draft_create(&f, p->path));
  return draft_publish(&f, fill(p, f, results, done), p->path);
}

/* Opened for reading first: opening for writing cuts the seal off, after checking every block. */
int partial_open(H5 **f, const char *path, const char *key, int64_t *finished) {
  *f = NULL, *finished = 0;
  if (access(path, F_OK) != 0) return OK;
  int err = h5_open(f, path, false);
  if (err == OK) err = check_key(*f, key);
  if (err == OK) err = h5_get_int(*f, "/", "finished", finished);
  h5_close(f);
  if (err == OK) err = h5_open(f, path, true);
  return forgive(err);
}

int partial_keep(H5 **f, const char *path, const char *key, int64_t finished) {
  int err = h5_set_format(*f, FORMAT, VERSION);
  if (err == OK) err = h5_set_str(*f, "/", "key", key);
  if (err == OK) err = h5_set_int(*f, "/", "finished", finished);
  return draft_publish(f, err, path);
}

int partial_complete(H5 *f) {
  TRY(h5_unset(f, "/", "key"));
  return h5_unset(f, "/", "finished");
}
