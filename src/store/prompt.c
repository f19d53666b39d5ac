#include "store/prompt.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/files.h"
#include "store/h5.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char hint[] = "shorten it, or lengthen the samples by sample.num_strides";

/* n prompts that consist of holes only. */
static int blank(Prompts *p, int64_t n, const Vocab *v) {
  p->n = n;
  TRY(mem_alloc(&p->tokens, (size_t)(n * p->length) * sizeof *p->tokens));
  for (int64_t i = 0; i < n * p->length; i++) p->tokens[i] = v->mask;
  return OK;
}

/* ---- HDF5 */
static int hash_check(H5 *f, const Vocab *v) {
  char *hash = NULL;
  if (h5_has(f, "/", "tokenizer_hash")) {
    TRY(h5_get_str(f, "/", "tokenizer_hash", &hash));
  } else if (h5_exists(f, "/vocab")) {
    TRY(h5_get_str(f, "/vocab", "hash", &hash));
  }
  bool same = hash == NULL || strcmp(hash, v->hash) == 0;
  int err = same ? OK
                 : RAISE(ERR_DATA,
                         "%s has token ids of another vocabulary: its hash is %.40s, the checkpoint's is %s (%s); "
                         "tokenize it again with that tokenizer",
                         h5_path(f), hash, v->hash, v->tokenizer);
  mem_free(&hash);
  return err;
}

static int lengths_check(H5 *f, int64_t n) {
  H5Info info;
  if (!h5_exists(f, "/lengths")) return OK;
  TRY(h5_info(f, "/lengths", &info));
  CHECK(info.rank == 1 && info.dims[0] == n && h5_whole(info.type), ERR_DATA,
        "%s: /lengths must be %lld integers, one per row of /tokens", h5_path(f), (long long)n);
  return OK;
}

/* Read prompt i. Positions after the length of a data file's row are holes. */
static int row_read(Prompts *p, H5 *f, const Vocab *v, int64_t i, int64_t length, int64_t *row) {
  int64_t given = length;
  if (h5_exists(f, "/lengths")) TRY(h5_read_rows(f, "/lengths", H5_I64, i, 1, &given));
  CHECK(given >= 0 && given <= length, ERR_DATA, "%s: the length of row %lld is %lld, /tokens has %lld columns",
        h5_path(f), (long long)i, (long long)given, (long long)length);
  TRY(h5_read_rows(f, "/tokens", H5_I64, i, 1, row));
  for (int64_t l = 0; l < given; l++) {
    CHECK(row[l] >= 0 && row[l] < v->size, ERR_DATA,
          "%s: row %lld, position %lld holds %lld, not a token id: use 0 to %lld, or the mask id %d for a hole",
          h5_path(f), (long long)i, (long long)l, (long long)row[l], (long long)v->size - 1, v->mask);
    p->tokens[i * p->length + l] = (int32_t)row[l];
  }
  return OK;
}

static int rows_read(Prompts *p, H5 *f, const Vocab *v) {
  H5Info info;
  CHECK(h5_exists(f, "/tokens"), ERR_DATA, "%s: no data set /tokens [N,L] of prompts", h5_path(f));
  TRY(h5_info(f, "/tokens", &info));
  CHECK(info.rank == 2 && h5_whole(info.type), ERR_DATA,
        "%s: /tokens must hold integers in the shape [N,L], one prompt per row", h5_path(f));
  int64_t n = info.dims[0], length = info.dims[1];
  CHECK(n > 0 && length > 0, ERR_DATA, "%s: no prompt in /tokens", h5_path(f));
  CHECK(length <= p->length, ERR_DATA, "%s: row 0, like all rows, has %lld tokens, more than the %lld of a sample: %s",
        h5_path(f), (long long)length, (long long)p->length, hint);
  TRY(lengths_check(f, n));
  TRY(blank(p, n, v));
  int64_t *row = NULL;
  int err = mem_alloc(&row, (size_t)length * sizeof *row);
  for (int64_t i = 0; i < n && err == OK; i++) err = row_read(p, f, v, i, length, row);
  mem_free(&row);
  return err;
}

static int h5_prompts(Prompts *p, const char *path, const Vocab *v) {
  H5 *f = NULL;
  TRY(h5_open(&f, path, false));
  int err = hash_check(f, v);
  if (err == OK) err = rows_read(p, f, v);
  h5_close(&f);
  return err;
}

/* ---- text */
static int word_id(const char *path, int64_t line, int64_t l, const char *word, const Vocab *v, int32_t *id) {
  char *end;
  if (strcmp(word, "_") == 0) return *id = v->mask, OK;
  errno = 0;
  long long value = strtoll(word, &end, 10);
  CHECK(*end == 0, ERR_DATA, "%s: line %lld, token %lld: `%.40s` is neither a token id nor _ for a hole", path,
        (long long)line, (long long)l, word);
  CHECK(errno == 0 && value >= 0 && value < v->size, ERR_DATA,
        "%s: line %lld, token %lld: %.40s is not a token id: use 0 to %lld, or _ for a hole", path, (long long)line,
        (long long)l, word, (long long)v->size - 1);
  CHECK(value != v->mask, ERR_DATA, "%s: line %lld, token %lld: %lld is the mask token: use _ for a hole", path,
        (long long)line, (long long)l, value);
  *id = (int32_t)value;
  return OK;
}

static int line_read(Prompts *p, const char *path, int64_t line, char *text, const Vocab *v) {
  char *rest = NULL;
  int64_t l = 0;
  for (char *word = strtok_r(text, " \t\r", &rest); word; word = strtok_r(NULL, " \t\r", &rest), l++) {
    int32_t id = 0;
    TRY(word_id(path, line, l, word, v, &id));
    if (l < p->length) p->tokens[(line - 1) * p->length + l] = id;
  }
  CHECK(l <= p->length, ERR_DATA, "%s: line %lld has %lld tokens, more than the %lld of a sample: %s", path,
        (long long)line, (long long)l, (long long)p->length, hint);
  return OK;
}

static int lines_read(Prompts *p, const char *path, char *text, int64_t bytes, const Vocab *v) {
  int64_t lines = 0;
  CHECK(memchr(text, 0, (size_t)bytes) == NULL, ERR_DATA,
        "%s is neither HDF5 nor text: give prompts as /tokens of an HDF5 file, or as lines of token ids", path);
  for (int64_t i = 0; i < bytes; i++) lines += text[i] == '\n' || i + 1 == bytes;
  TRY(blank(p, lines, v));
  for (int64_t line = 1; line <= lines; line++) {
    char *end = strchr(text, '\n');
    if (end) *end = 0;
    TRY(line_read(p, path, line, text, v));
    if (end) text = end + 1;
  }
  return OK;
}

/* *h5 := whether the file starts with HDF5's signature; if not, *text := its bytes and a NUL. */
static int text_read(const char *path, char **text, int64_t *bytes, bool *h5) {
  static const char signature[8] = "\x89HDF\r\n\x1a\n";
  TRY(files_check(path, bytes));
  int fd = open(path, O_RDONLY | O_CLOEXEC), err = OK;
  CHECK(fd >= 0, ERR_DATA, "cannot open %s: %s", path, strerror(errno));
  char begin[sizeof signature];
  int64_t n = files_read(fd, begin, sizeof begin, 0);
  *h5 = n == (int64_t)sizeof begin && memcmp(begin, signature, sizeof begin) == 0;
  if (!*h5 && n >= 0) {
    TRY_TO(done, mem_alloc(text, (size_t)*bytes + 1));
    n = *bytes = files_read(fd, *text, (size_t)*bytes, 0);
  }
  if (n < 0) err = RAISE(ERR_DATA, "cannot read %s: %s", path, strerror(errno));
done:
  close(fd);
  return err;
}

int prompts_read(Prompts *p, const char *path, const Vocab *v, int64_t length) {
  char *text = NULL;
  int64_t bytes = 0;
  bool h5 = false;
  *p = (Prompts){.length = length};
  int err = text_read(path, &text, &bytes, &h5);
  if (err == OK) err = h5 ? h5_prompts(p, path, v) : lines_read(p, path, text, bytes, v);
  mem_free(&text);
  if (err != OK) prompts_destroy(p);
  return err;
}

int prompts_none(Prompts *p, const Vocab *v, int64_t length) {
  *p = (Prompts){.length = length};
  return blank(p, 1, v);
}

const int32_t *prompts_of(const Prompts *p, int64_t sample) { return p->tokens + sample % p->n * p->length; }

void prompts_destroy(Prompts *p) {
  if (p == NULL) return;
  mem_free(&p->tokens);
  *p = (Prompts){0};
}
