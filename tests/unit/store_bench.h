/* store_bench — shared by the tests of the store: a temporary folder, files with known content, damaged files. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "store/h5.h"
#include "store/shards.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define UNUSED __attribute__((unused))
#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

static char bench_folder[200];

static UNUSED int bench_setup(void **state) {
  const char *tmp = getenv("TMPDIR");
  (void)state;
  snprintf(bench_folder, sizeof bench_folder, "%s/mdlm-store-XXXXXX", tmp && *tmp ? tmp : "/tmp");
  return mkdtemp(bench_folder) ? 0 : -1;
}

static int bench_remove(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
  (void)st, (void)kind, (void)ftw;
  return remove(path);
}

static UNUSED int bench_teardown(void **state) {
  (void)state;
  return nftw(bench_folder, bench_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/** bench_path — folder/name, in static memory. */
static UNUSED const char *bench_path(const char *name) {
  static char text[64][300];
  int i = 0;
  size_t n = strlen(bench_folder) + 1;
  while (i < 63 && text[i][0] && strcmp(text[i] + n, name) != 0) i++;
  snprintf(text[i], sizeof text[i], "%s/%s", bench_folder, name);
  return text[i];
}

/** compose — snprintf into an array; fails if the array is too small. */
#define compose(text, ...) assert_true(snprintf((text), sizeof(text), __VA_ARGS__) < (int)sizeof(text))

#define must(call) bench_must((call), #call, __FILE__, __LINE__)
static UNUSED void bench_must(int err, const char *call, const char *file, int line) {
  if (err != OK) print_error("%s: %s\n%s", call, err_message(), err_backtrace());
  _assert_int_equal((uintmax_t)err, OK, file, line);
}

/** refused — fail unless err is `want` and the message is one line that contains all of the words. */
#define refused(err, want, ...)                                                                                        \
  bench_refused((err), (want), (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)
static UNUSED void bench_refused(int err, int want, const char *const *words, const char *file, int line) {
  const char *message = err_message();
  _assert_int_equal((uintmax_t)err, (uintmax_t)want, file, line);
  for (; *words; words++)
    if (!strstr(message, *words)) {
      print_error("no \"%s\" in \"%s\"\n", *words, message);
      _fail(file, line);
    }
  if (strchr(message, '\n')) print_error("two lines: %s\n", message), _fail(file, line);
  err_clear();
}

static UNUSED bool bench_there(const char *path) { return access(path, F_OK) == 0; }

static UNUSED char *bench_slurp(const char *path, long *n) {
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  fseek(f, 0, SEEK_END);
  *n = ftell(f);
  rewind(f);
  char *bytes = malloc((size_t)*n + 1);
  assert_int_equal(fread(bytes, 1, (size_t)*n, f), *n);
  fclose(f);
  return bytes;
}

static UNUSED void bench_spit(const char *path, const char *bytes, long n) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, (size_t)n, f), n);
  assert_int_equal(fclose(f), 0);
}

/** bench_find — the offset of the n bytes `what` in the file, −1 if absent. */
static UNUSED long bench_find(const char *path, const void *what, size_t n) {
  long size, at = -1;
  char *bytes = bench_slurp(path, &size);
  char *hit = memmem(bytes, (size_t)size, what, n);
  if (hit) at = hit - bytes;
  free(bytes);
  return at;
}

static UNUSED void bench_flip(const char *path, long at, int mask) {
  FILE *f = fopen(path, "r+b");
  assert_non_null(f);
  fseek(f, at, SEEK_SET);
  int byte = fgetc(f);
  fseek(f, at, SEEK_SET);
  fputc(byte ^ mask, f);
  assert_int_equal(fclose(f), 0);
}

/** bench_sealed — the offset of the file's seal, or the file's length if it has none. */
static UNUSED long bench_sealed(const char *path) {
  long size;
  char *bytes = bench_slurp(path, &size);
  uint64_t n = (uint64_t)size;
  if (size > 32 && memcmp(bytes + size - 8, "MDLMSEAL", 8) == 0) memcpy(&n, bytes + size - 32, sizeof n);
  free(bytes);
  return (long)n;
}

static UNUSED void bench_unseal(const char *path) {
  long n = bench_sealed(path);
  assert_int_equal(truncate(path, n), 0);
}

/* ---- data files of known content ---- */

typedef struct Data {
  int64_t N, L, V;               /* V at most 256: token i is the byte i */
  H5Type type;                   /* of the tokens */
  int64_t chunk_rows;            /* 0: contiguous */
  uint32_t salt;                 /* different salts give different tokens */
  const char *source;            /* NULL: "test" */
  bool full;                     /* every length is L */
  int64_t bad_row, bad_position; /* where bad_token stands unless it is 0 */
  uint32_t bad_token;
  uint32_t bad_length, change_length; /* if change_length is not 0, bad_row has length bad_length */
  const char *leave_out;              /* an attribute of / to omit */
  int64_t classes;                    /* 0: no labels */
  const char *class_names;            /* NULL: no attribute */
} Data;

static UNUSED uint32_t data_token(const Data *d, int64_t row, int64_t position) {
  if (d->bad_token && row == d->bad_row && position == d->bad_position) return d->bad_token;
  uint32_t x = (uint32_t)(row * d->L + position) * 2654435761u + d->salt * 40503u;
  return (x ^ x >> 15) % (uint32_t)(d->V - 1); /* never the mask token, which is the last */
}

static UNUSED uint32_t data_length(const Data *d, int64_t row) {
  if (d->change_length && row == d->bad_row) return d->bad_length;
  return d->full ? (uint32_t)d->L : 1 + (uint32_t)((row * 7 + d->salt) % d->L);
}

static UNUSED int32_t data_label(const Data *d, int64_t row) {
  return d->classes ? (int32_t)((row * 5 + d->salt) % (d->classes + 1)) - 1 : -1;
}

static UNUSED void data_digest(const Data *d, char text[33]) {
  const size_t n = (size_t)(d->N * d->L + (d->classes ? 2 : 1) * d->N);
  uint32_t *all = malloc(n * sizeof *all), *p = all;
  for (int64_t i = 0; i < d->N * d->L; i++) *p++ = data_token(d, i / d->L, i % d->L);
  for (int64_t i = 0; i < d->N; i++) *p++ = data_length(d, i);
  for (int64_t i = 0; i < d->N && d->classes; i++) *p++ = (uint32_t)data_label(d, i);
  XXH128_hash_t h = XXH3_128bits(all, n * sizeof *all);
  snprintf(text, 33, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
  free(all);
}

static UNUSED Vocab data_vocab(int64_t V) {
  Vocab v = {
      .tokenizer = "test", .kind = VOCAB_BYTE_BPE, .size = V, .mask = (int32_t)V - 1, .bos = 0, .eos = 1, .pad = -1};
  snprintf(v.hash, sizeof v.hash, "0123456789abcdef%016llx", (long long)V);
  v.n_bytes = V;
  must(mem_alloc(&v.bytes, (size_t)V));
  must(mem_alloc(&v.offsets, (size_t)(V + 1) * sizeof *v.offsets));
  for (int64_t i = 0; i <= V; i++) v.offsets[i] = i;
  for (int64_t i = 0; i < V; i++) v.bytes[i] = (char)i;
  return v;
}

static UNUSED void data_text(H5 *f, const Data *d, const char *name, const char *value) {
  if (!d->leave_out || strcmp(d->leave_out, name) != 0) must(h5_set_str(f, "/", name, value));
}

static UNUSED void data_attributes(H5 *f, const Data *d) {
  char digest[33];
  Vocab v = data_vocab(d->V);
  data_digest(d, digest);
  data_text(f, d, "format", "mdlm-data");
  data_text(f, d, "detokenizer", "none");
  data_text(f, d, "source", d->source ? d->source : "test");
  data_text(f, d, "split", "train");
  data_text(f, d, "digest", digest);
  must(h5_set_int(f, "/", "format_version", 1));
  must(h5_set_int(f, "/", "wrap", 1));
  must(vocab_store(&v, f));
  vocab_destroy(&v);
}

static UNUSED void data_labels_write(H5 *f, const Data *d) {
  int32_t *labels = malloc((size_t)d->N * sizeof *labels);
  for (int64_t i = 0; i < d->N; i++) labels[i] = data_label(d, i);
  must(h5_write(f, "/label", H5_I32, 1, &d->N, labels));
  must(h5_set_int(f, "/label", "classes", d->classes));
  if (d->class_names) must(h5_set_str(f, "/label", "names", d->class_names));
  free(labels);
}

static UNUSED void data_write(const char *path, const Data *d) {
  H5 *f;
  uint32_t *tokens = malloc((size_t)(d->N * d->L + 1) * sizeof *tokens),
           *lengths = malloc((size_t)(d->N + 1) * sizeof *lengths);
  for (int64_t i = 0; i < d->N * d->L; i++) tokens[i] = data_token(d, i / d->L, i % d->L);
  for (int64_t i = 0; i < d->N; i++) lengths[i] = data_length(d, i);
  must(h5_create(&f, path));
  must(h5_make(f, "/tokens", d->type, 2, (int64_t[]){d->N, d->L}, d->chunk_rows));
  must(h5_make(f, "/lengths", H5_U32, 1, (int64_t[]){d->N}, d->chunk_rows));
  if (d->N > 0) must(h5_write_rows(f, "/tokens", H5_U32, 0, d->N, tokens));
  if (d->N > 0) must(h5_write_rows(f, "/lengths", H5_U32, 0, d->N, lengths));
  if (d->classes) data_labels_write(f, d);
  data_attributes(f, d);
  must(h5_close(&f));
  free(tokens);
  free(lengths);
}
