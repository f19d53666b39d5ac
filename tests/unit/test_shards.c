/* shards — every layout of a data file, many files as one, and every kind of invalid file. */
#include "check.h"
#include "store/seal.h"
#include "store_bench.h"

#include <hdf5.h>
#include <time.h>

static const Data plain = {.N = 37, .L = 9, .V = 200, .type = H5_U16};

/* The rows of s are those of files[0], files[1] …; they are read in an order with runs, jumps and repeats. */
static void expect_rows(Shards *s, const Data *const *files, int n_files) {
  int64_t total = 0, n = 0, L = files[0]->L, rows[200];
  int32_t tokens[200 * 16], lengths[200];
  for (int i = 0; i < n_files; i++) total += files[i]->N;
  assert_int_equal(shards_rows(s), total);
  assert_int_equal(shards_length(s), L);
  for (int64_t r = total - 1; r >= 0 && n < 40; r -= 3) rows[n++] = r;
  for (int64_t r = 0; r < total && n < 160; r++) rows[n++] = r;
  rows[n++] = 0, rows[n++] = 0, rows[n++] = total - 1;
  must(shards_read(s, rows, n, tokens, lengths));
  for (int64_t i = 0; i < n; i++) {
    int64_t r = rows[i];
    int k = 0;
    while (r >= files[k]->N) r -= files[k++]->N;
    assert_int_equal(lengths[i], data_length(files[k], r));
    for (int64_t p = 0; p < L; p++) assert_int_equal(tokens[i * L + p], data_token(files[k], r, p));
  }
}

/* ---- files that change while they are open */

enum { CHANGES_ROWS = 37 };

static void pass_time(double seconds) { /* a file system's clock ticks every few milliseconds */
  const struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};
  nanosleep(&t, NULL);
}

static void overwrite(const char *path) { /* in place, by other tokens of the same size */
  Data other = plain;
  other.salt = 5;
  long n;
  data_write(bench_path("other.h5"), &other);
  char *bytes = bench_slurp(bench_path("other.h5"), &n);
  bench_spit(path, bytes, n);
  free(bytes);
}

static void overwrite_a_byte(const char *path) {
  bench_flip(path, bench_sealed(path) - 1, 0); /* the same byte again: only the time of modification changes */
}

static void cut_to_half(const char *path) { assert_int_equal(truncate(path, bench_sealed(path) / 2), 0); }

static void replace(const char *path) {
  data_write(bench_path("other.h5"), &plain);
  assert_int_equal(rename(bench_path("other.h5"), path), 0);
}

static void removed(const char *path) { assert_int_equal(unlink(path), 0); }

typedef struct Change {
  void (*change)(const char *path);
  const char *message; /* NULL: no error */
  double wait;         /* seconds until it must be noticed */
} Change;

static void files_that_change(void **state) {
  (void)state;
  static const Change changes[] = {
      {overwrite, "changes.h5 was changed while it was in use", 0},
      {overwrite_a_byte, "changes.h5 was changed while it was in use: it has been written", 0},
      {cut_to_half, "changes.h5 was changed while it was in use: it has", 0},
      {replace, "changes.h5 was replaced by another file", 1.1},
      {removed, NULL, 1.1}};
  const char *path = bench_path("changes.h5");
  int64_t rows[CHANGES_ROWS];
  int32_t tokens[CHANGES_ROWS * 9], lengths[CHANGES_ROWS];
  for (int64_t i = 0; i < CHANGES_ROWS; i++) rows[i] = i;
  for (int sealed = 0; sealed < 2; sealed++)
    for (int i = 0; i < LENGTH(changes); i++) {
      Shards *s;
      data_write(path, &plain);
      if (sealed) must(seal_append(path));
      pass_time(0.02);
      must(shards_open(&s, path));
      if (i % 2 == 0) must(shards_read(s, rows, CHANGES_ROWS, tokens, lengths));
      changes[i].change(path);
      pass_time(changes[i].wait);
      int err = shards_read(s, rows, CHANGES_ROWS, tokens, lengths);
      if (changes[i].message)
        refused(err, ERR_DATA, changes[i].message);
      else
        must(err);
      shards_close(&s);
    }
}

/* A file from which no row is read may change: its rows are read later, and then it is noticed. */
static void a_change_is_noticed_when_it_matters(void **state) {
  (void)state;
  Shards *s;
  Data second = plain;
  int64_t first = 0, last = 2 * plain.N - 1;
  int32_t tokens[9], length;
  char spec[700];
  data_write(bench_path("one.h5"), &plain);
  second.salt = 1;
  data_write(bench_path("two.h5"), &second);
  compose(spec, "%s,%s", bench_path("one.h5"), bench_path("two.h5"));
  pass_time(0.02);
  must(shards_open(&s, spec));
  cut_to_half(bench_path("two.h5"));
  must(shards_read(s, &first, 1, tokens, &length));
  refused(shards_read(s, &last, 1, tokens, &length), ERR_DATA, "two.h5 was changed");
  shards_close(&s);
}

static void count_rows(void *arg, int64_t rows) { *(int64_t *)arg = rows; }

static void layouts(void **state) {
  (void)state;
  const int64_t chunks[] = {0, 1, 5, 37, 64};
  for (int type = 0; type < 2; type++)
    for (int i = 0; i < LENGTH(chunks); i++) {
      Data d = plain;
      const Data *all[] = {&d};
      Shards *s;
      char digest[33];
      int64_t done = 0;
      d.type = type ? H5_U32 : H5_U16;
      d.chunk_rows = chunks[i];
      data_write(bench_path("one.h5"), &d);
      must(shards_open(&s, bench_path("one.h5")));
      expect_rows(s, all, 1);
      data_digest(&d, digest);
      assert_string_equal(shards_protocol(s)->digest, digest);
      assert_string_equal(shards_protocol(s)->source, "test");
      assert_int_equal(shards_protocol(s)->wrap, 1);
      assert_int_equal(shards_vocab(s)->size, 200);
      assert_int_equal(shards_vocab(s)->mask, 199);
      assert_int_equal(shards_vocab(s)->pad, -1);
      must(shards_verify(s, count_rows, &done));
      assert_int_equal(done, d.N);
      shards_close(&s);
      assert_null(s);
    }
}

static void many_files(void **state) {
  (void)state;
  Data a = plain, b = plain, c = plain;
  const Data *all[] = {&a, &b, &c};
  Shards *s;
  char spec[1300], digests[97], text[33];
  int64_t done = 0;
  a.N = 10, b.N = 1, c.N = 20, a.salt = 1, b.salt = 2, c.salt = 3;
  b.type = H5_U32, c.chunk_rows = 7;
  assert_int_equal(mkdir(bench_path("many"), 0755), 0);
  data_write(bench_path("many/part-1.h5"), &b);
  data_write(bench_path("many/part-0.h5"), &a);
  data_write(bench_path("many/part-2.h5"), &c);
  must(shards_open(&s, bench_path("many/part-*.h5"))); /* sorted by name, not by creation */
  expect_rows(s, all, 3);
  must(shards_verify(s, count_rows, &done));
  assert_int_equal(done, 31);
  for (int i = 0; i < 3; i++) data_digest(all[i], digests + 32 * i);
  XXH128_hash_t h = XXH3_128bits(digests, 96);
  snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)h.high64, (unsigned long long)h.low64);
  assert_string_equal(shards_protocol(s)->digest, text);
  shards_close(&s);
  compose(spec, " %s , %s,", bench_path("many/part-2.h5"), bench_path("many/part-[01].h5"));
  must(shards_open(&s, spec));
  expect_rows(s, (const Data *const[]){&c, &a, &b}, 3);
  assert_string_equal(shards_spec(s), spec);
  shards_close(&s);
  data_write(bench_path("many/odd[1].h5"), &a); /* a name, not a pattern */
  must(shards_open(&s, bench_path("many/odd[1].h5")));
  expect_rows(s, all, 1);
  shards_close(&s);
}

static void nothing_found(void **state) {
  (void)state;
  Shards *s = NULL;
  refused(shards_open(&s, bench_path("none-*.h5")), ERR_DATA, "no file matches", "none-*.h5");
  refused(shards_open(&s, " , "), ERR_DATA, "no data file", " , ");
  refused(shards_open(&s, bench_path("none.h5")), ERR_DATA, "none.h5", "no such file");
  assert_null(s);
  shards_close(&s);
}

/* Files that cannot be opened as data at all. */
static void wrong_files(void **state) {
  (void)state;
  static const char *const attributes[] = {"format", "detokenizer", "source", "split", "digest"};
  const char *path = bench_path("wrong.h5");
  Shards *s = NULL;
  H5 *f;
  Data d = plain;
  for (int i = 0; i < LENGTH(attributes); i++) {
    d.leave_out = attributes[i];
    data_write(path, &d);
    refused(shards_open(&s, path), ERR_DATA, "wrong.h5", attributes[i]);
  }
  d = plain, d.N = 0;
  data_write(path, &d);
  refused(shards_open(&s, path), ERR_DATA, "wrong.h5", "[0,9]", "no sequence");
  data_write(path, &plain);
  must(h5_open(&f, path, true));
  must(h5_set_int(f, "/", "format_version", 2));
  must(h5_close(&f));
  refused(shards_open(&s, path), ERR_USAGE, "wrong.h5", "newer version of mdlm (unknown)", "version 2", "up to 1");
  must(h5_open(&f, path, true));
  must(h5_set_str(f, "/", "format", "mdlm-checkpoint"));
  must(h5_close(&f));
  refused(shards_open(&s, path), ERR_DATA, "wrong.h5", "mdlm-checkpoint", "not tokenized data");
  data_write(path, &plain);
  must(h5_open(&f, path, true));
  must(h5_set_int(f, "/", "wrap", 2));
  must(h5_close(&f));
  refused(shards_open(&s, path), ERR_DATA, "wrong.h5", "wrap of / is 2");
  assert_null(s);
}

static void link_delete(const char *path, const char *name) {
  hid_t f = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(f >= 0 && H5Ldelete(f, name, H5P_DEFAULT) >= 0);
  H5Fclose(f);
}

static void wrong_shapes(void **state) {
  (void)state;
  static const char *const names[] = {"/tokens", "/lengths", "/vocab/bytes", "/vocab/offsets"};
  const char *path = bench_path("shape.h5");
  const struct {
    const char *name, *word;
    H5Type type;
    int rank;
    int64_t dims[3];
  } wrong[] = {{"/tokens", "dimensions", H5_U16, 1, {37}},     {"/tokens", "dimensions", H5_U16, 3, {37, 9, 1}},
               {"/tokens", "uint16", H5_F32, 2, {37, 9}},      {"/tokens", "uint16", H5_I64, 2, {37, 9}},
               {"/tokens", "no sequence", H5_U16, 2, {37, 0}}, {"/tokens", "37 values", H5_U16, 2, {36, 9}},
               {"/lengths", "lengths", H5_U32, 2, {37, 1}},    {"/lengths", "uint32", H5_F64, 1, {37}},
               {"/vocab/bytes", "uint8", H5_U16, 1, {200}},    {"/vocab/offsets", "201 integers", H5_U64, 1, {200}},
               {"/vocab/offsets", "offsets", H5_U64, 1, {201}}}; /* all zeros: the last offset is not the end */
  static char zeros[40000];
  Shards *s = NULL;
  H5 *f;
  for (int i = 0; i < LENGTH(names); i++) {
    data_write(path, &plain);
    link_delete(path, names[i]);
    refused(shards_open(&s, path), ERR_DATA, "shape.h5", names[i], "missing");
  }
  for (int i = 0; i < LENGTH(wrong); i++) {
    data_write(path, &plain);
    link_delete(path, wrong[i].name);
    must(h5_open(&f, path, true));
    must(h5_write(f, wrong[i].name, wrong[i].type, wrong[i].rank, wrong[i].dims, zeros));
    must(h5_close(&f));
    refused(shards_open(&s, path), ERR_DATA, "shape.h5", wrong[i].name, wrong[i].word);
  }
  data_write(path, &plain);
  uint64_t offset = 12;
  must(h5_open(&f, path, true));
  must(h5_write_rows(f, "/vocab/offsets", H5_U64, 10, 1, &offset));
  must(h5_close(&f));
  refused(shards_open(&s, path), ERR_DATA, "shape.h5", "descends", "token 10");
  static const char *const specials[] = {"mask", "bos", "eos", "pad"};
  for (int i = 0; i < LENGTH(specials); i++) {
    data_write(path, &plain);
    must(h5_open(&f, path, true));
    must(h5_set_int(f, "/vocab", specials[i], 200));
    must(h5_close(&f));
    refused(shards_open(&s, path), ERR_DATA, "shape.h5", specials[i], "200");
  }
}

/* One value out of range: the message names its position and the value. */
static void wrong_values(void **state) {
  (void)state;
  const struct {
    const char *word;
    uint32_t token, length;
    bool of_length;
  } wrong[] = {
      {"token 200", 200, 0, false}, {"token 65535", 65535, 0, false}, {"token 4294967295", UINT32_MAX, 0, false},
      {"length 0", 0, 0, true},     {"length 10", 0, 10, true},       {"length 4294967295", 0, UINT32_MAX, true}};
  for (int i = 0; i < LENGTH(wrong); i++)
    for (int chunked = 0; chunked < 2; chunked++) {
      Shards *s;
      Data d = plain;
      char spec[900];
      int64_t rows[] = {36, 30, 31, 32, 33, 34, 35, 60};
      int32_t tokens[LENGTH(rows) * 9], lengths[LENGTH(rows)];
      d.type = H5_U32, d.chunk_rows = chunked ? 8 : 0;
      d.bad_row = 33, d.bad_position = 8;
      d.bad_token = wrong[i].token, d.bad_length = wrong[i].length, d.change_length = wrong[i].of_length;
      data_write(bench_path("good.h5"), &plain);
      data_write(bench_path("value.h5"), &d);
      compose(spec, "%s,%s", bench_path("good.h5"), bench_path("value.h5"));
      must(shards_open(&s, spec));
      must(shards_read(s, rows, LENGTH(rows), tokens, lengths)); /* rows of the valid file, and row 23 of the other */
      for (int k = 0; k < 7; k++) rows[k] += 37;
      const char *place = wrong[i].of_length ? "row 33" : "row 33, position 8";
      refused(shards_read(s, rows, 7, tokens, lengths), ERR_DATA, "value.h5", place, wrong[i].word);
      refused(shards_verify(s, NULL, NULL), ERR_DATA, "value.h5", place, wrong[i].word);
      refused(shards_read(s, (int64_t[]){74}, 1, tokens, lengths), ERR_DATA, "row 74", "there are 74");
      refused(shards_read(s, (int64_t[]){-1}, 1, tokens, lengths), ERR_DATA, "row -1");
      shards_close(&s);
    }
}

static void disagreement(void **state) {
  (void)state;
  Data longer = plain, bigger = plain, elsewhere = plain;
  const struct {
    const char *word;
    const Data *data;
  } other[] = {{"10", &longer}, {"size 200 and 201", &bigger}, {"source \"test\" and \"web\"", &elsewhere}};
  longer.L = 10, bigger.V = 201, elsewhere.source = "web";
  char spec[900];
  Shards *s = NULL;
  H5 *f;
  data_write(bench_path("first.h5"), &plain);
  compose(spec, "%s,%s", bench_path("first.h5"), bench_path("other.h5"));
  for (int i = 0; i < LENGTH(other); i++) {
    data_write(bench_path("other.h5"), other[i].data);
    refused(shards_open(&s, spec), ERR_DATA, "first.h5", "other.h5", other[i].word);
  }
  data_write(bench_path("other.h5"), &plain);
  refused(shards_open(&s, spec), ERR_USAGE, "first.h5", "other.h5", "the same rows");
  must(h5_open(&f, bench_path("other.h5"), true));
  must(h5_set_str(f, "/vocab", "hash", "different"));
  must(h5_close(&f));
  refused(shards_open(&s, spec), ERR_DATA, "first.h5", "other.h5", "hash", "different");
}

/* ---- labels */
static void labels(void **state) {
  (void)state;
  Data a = plain, b = plain;
  char spec[900];
  Shards *s = NULL;
  a.classes = b.classes = 3, a.class_names = b.class_names = "one\ntwo\nthree", b.salt = 5, b.chunk_rows = 4;
  data_write(bench_path("a.h5"), &a);
  data_write(bench_path("b.h5"), &b);
  compose(spec, "%s,%s", bench_path("a.h5"), bench_path("b.h5"));
  must(shards_open(&s, spec));
  assert_int_equal(shards_classes(s), 3);
  assert_string_equal(shards_class_names(s), "one\ntwo\nthree");
  const int64_t N = plain.N, rows[] = {0, 1, 2, N - 1, N, N + 1, 5, 2 * N - 1};
  int32_t got[LENGTH(rows)];
  must(shards_labels(s, rows, LENGTH(rows), got));
  for (int i = 0; i < LENGTH(rows); i++)
    assert_int_equal(got[i], rows[i] < N ? data_label(&a, rows[i]) : data_label(&b, rows[i] - N));
  must(shards_verify(s, NULL, NULL));
  must(shards_suit(s, 3, "one\ntwo\nthree", "the network"));
  must(shards_suit(s, 9, "", "the network"));
  refused(shards_suit(s, 2, "", "the network"), ERR_DATA, "a.h5 has labels of 3 classes", "the network");
  refused(shards_suit(s, 3, "one\nthree\ntwo", "the network"), ERR_DATA, "names its classes differently");
  shards_close(&s);
  b.class_names = "one\nthree\ntwo";
  data_write(bench_path("b.h5"), &b);
  refused(shards_open(&s, spec), ERR_DATA, "name their classes differently");
  data_write(bench_path("b.h5"), &plain);
  refused(shards_open(&s, spec), ERR_DATA, "only one of them has /label");
}

/* Numbers fix the classes where there are no names: files may have different numbers of them. */
static void labels_without_names(void **state) {
  (void)state;
  Data a = plain;
  Shards *s = NULL;
  H5 *f;
  const int64_t row = 2;
  int32_t label = 7;
  a.classes = 3;
  data_write(bench_path("a.h5"), &a);
  a.classes = 5;
  data_write(bench_path("b.h5"), &a);
  char spec[900];
  compose(spec, "%s,%s", bench_path("a.h5"), bench_path("b.h5"));
  must(shards_open(&s, spec));
  assert_int_equal(shards_classes(s), 5);
  assert_string_equal(shards_class_names(s), "");
  shards_close(&s);
  must(h5_open(&f, bench_path("b.h5"), true));
  must(h5_write_rows(f, "/label", H5_I32, row, 1, &label));
  must(h5_close(&f));
  must(shards_open(&s, bench_path("b.h5")));
  refused(shards_labels(s, &row, 1, &label), ERR_DATA, "b.h5", "row 2 has label 7", "5 classes");
  refused(shards_verify(s, NULL, NULL), ERR_DATA, "row 2 has label 7");
  shards_close(&s);
  label = data_label(&a, row) == 1 ? 2 : 1;
  must(h5_open(&f, bench_path("b.h5"), true));
  must(h5_write_rows(f, "/label", H5_I32, row, 1, &label));
  must(h5_close(&f));
  must(shards_open(&s, bench_path("b.h5")));
  refused(shards_verify(s, NULL, NULL), ERR_DATA, "b.h5", "digest"); /* another class is another digest */
  shards_close(&s);
}

static void cut(void **state) {
  (void)state;
  long size;
  Shards *s = NULL;
  data_write(bench_path("whole.h5"), &plain);
  char *bytes = bench_slurp(bench_path("whole.h5"), &size);
  for (long n = 1; n < size; n += check_watched() ? 397 : 97) {
    bench_spit(bench_path("cut.h5"), bytes, n);
    refused(shards_open(&s, bench_path("cut.h5")), ERR_DATA, "cut.h5");
  }
  free(bytes);
  assert_null(s);
}

/* A flipped bit is found while reading if the data set has checksums, otherwise by the file's digest. */
static void flipped(void **state) {
  (void)state;
  for (int chunked = 0; chunked < 2; chunked++) {
    const char *path = bench_path("flip.h5");
    Shards *s;
    Data d = plain;
    int64_t rows[37];
    int32_t tokens[37 * 9], lengths[37];
    uint16_t row[9];
    d.chunk_rows = chunked ? 4 : 0;
    data_write(path, &d);
    for (int64_t r = 0; r < 37; r += 4) {
      for (int p = 0; p < 9; p++) row[p] = (uint16_t)data_token(&d, r, p);
      long at = bench_find(path, row, sizeof row);
      assert_true(at > 0);
      bench_flip(path, at + r % 18, 1 << r % 8);
      for (int i = 0; i < 37; i++) rows[i] = i;
      must(shards_open(&s, path));
      if (chunked)
        refused(shards_read(s, rows, 37, tokens, lengths), ERR_DATA, "flip.h5", "checksum", "damaged", "rows 0 to 36");
      assert_int_equal(shards_verify(s, NULL, NULL), ERR_DATA);
      assert_non_null(strstr(err_message(), "flip.h5"));
      err_clear();
      shards_close(&s);
      bench_flip(path, at + r % 18, 1 << r % 8);
    }
    must(shards_open(&s, path));
    must(shards_verify(s, NULL, NULL));
    shards_close(&s);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(files_that_change),
                                     cmocka_unit_test(a_change_is_noticed_when_it_matters),
                                     cmocka_unit_test(layouts),
                                     cmocka_unit_test(many_files),
                                     cmocka_unit_test(nothing_found),
                                     cmocka_unit_test(wrong_files),
                                     cmocka_unit_test(wrong_shapes),
                                     cmocka_unit_test(wrong_values),
                                     cmocka_unit_test(disagreement),
                                     cmocka_unit_test(labels),
                                     cmocka_unit_test(labels_without_names),
                                     cmocka_unit_test(cut),
                                     cmocka_unit_test(flipped)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
