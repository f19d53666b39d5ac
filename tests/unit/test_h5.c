/* h5 — round trips of every type, rows, attributes, names, and the encodings that h5py writes. */
#include "store_bench.h"

#include <hdf5.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

static void types_round_trip(void **state) {
  (void)state;
  const int64_t dims[3] = {2, 3, 1};
  const float f32[6] = {1, -0.0f, 3e38f, 1e-45f, INFINITY, NAN};
  const double f64[6] = {1, -0.0, 3e300, 5e-324, -INFINITY, NAN};
  const int32_t i32[6] = {0, -1, INT32_MAX, INT32_MIN, 5, 6};
  const int64_t i64[6] = {0, -1, INT64_MAX, INT64_MIN, 5, 6};
  const uint8_t u8[6] = {0, 255, 1, 2, 3, 4};
  const uint16_t u16[6] = {0, 65535, 1, 2, 3, 4};
  const uint32_t u32[6] = {0, UINT32_MAX, 1, 2, 3, 4};
  const uint64_t u64[6] = {0, UINT64_MAX, 1, 2, 3, 4};
  const struct {
    const char *name;
    H5Type type;
    const void *data;
    size_t size;
  } all[] = {{"/a/f32", H5_F32, f32, sizeof f32}, {"/a/f64", H5_F64, f64, sizeof f64},
             {"/i32", H5_I32, i32, sizeof i32},   {"/i64", H5_I64, i64, sizeof i64},
             {"/u8", H5_U8, u8, sizeof u8},       {"/u16", H5_U16, u16, sizeof u16},
             {"/u32", H5_U32, u32, sizeof u32},   {"/u64", H5_U64, u64, sizeof u64}};
  char got[64];
  H5 *f;
  H5Info info;
  must(h5_create(&f, bench_path("types.h5")));
  for (int i = 0; i < LENGTH(all); i++) must(h5_write(f, all[i].name, all[i].type, 3, dims, all[i].data));
  must(h5_close(&f));
  assert_null(f);
  must(h5_open(&f, bench_path("types.h5"), false));
  for (int i = 0; i < LENGTH(all); i++) {
    must(h5_info(f, all[i].name, &info));
    assert_int_equal(info.type, all[i].type);
    assert_int_equal(info.rank, 3);
    assert_memory_equal(info.dims, dims, sizeof dims);
    assert_false(info.chunked || info.checksummed);
    must(h5_read(f, all[i].name, all[i].type, 3, dims, got));
    assert_memory_equal(got, all[i].data, all[i].size);
  }
  must(h5_read_rows(f, "/u16", H5_U32, 1, 1, got)); /* converted */
  assert_int_equal(((uint32_t *)got)[1], 3);
  must(h5_close(&f));
}

static void rows_grow(void **state) {
  (void)state;
  H5 *f;
  H5Info info;
  uint16_t rows[60], got[60];
  for (int i = 0; i < 60; i++) rows[i] = (uint16_t)(i * 1000);
  must(h5_create(&f, bench_path("rows.h5")));
  must(h5_make(f, "/grow", H5_U16, 2, (int64_t[]){0, 3}, 4));
  for (int i = 0, n; i < 20; i += n) {
    n = i + 3 <= 20 ? 3 : 20 - i;
    must(h5_append(f, "/grow", H5_U16, n, rows + 3 * i));
  }
  must(h5_make(f, "/fixed", H5_U16, 2, (int64_t[]){20, 3}, 0));
  must(h5_write_rows(f, "/fixed", H5_U16, 5, 15, rows + 15));
  must(h5_write_rows(f, "/fixed", H5_U16, 0, 5, rows));
  must(h5_close(&f));
  must(h5_open(&f, bench_path("rows.h5"), true));
  must(h5_info(f, "/grow", &info));
  assert_true(info.chunked && info.checksummed && info.dims[0] == 20);
  for (int first = 0; first < 20; first++)
    for (int n = 1; first + n <= 20; n += 5)
      for (int k = 0; k < 2; k++) {
        must(h5_read_rows(f, k ? "/fixed" : "/grow", H5_U16, first, n, got));
        assert_memory_equal(got, rows + 3 * first, (size_t)n * 6);
      }
  refused(h5_read_rows(f, "/grow", H5_U16, 19, 2, got), ERR_DATA, "rows.h5", "/grow", "20 rows", "19 to 20");
  refused(h5_read(f, "/grow", H5_U16, 2, (int64_t[]){20, 4}, got), ERR_DATA, "[20,3]", "[20,4]");
  must(h5_append(f, "/grow", H5_U16, 1, rows)); /* after reopening, and after a failure */
  must(h5_read_rows(f, "/grow", H5_U16, 20, 1, got));
  assert_memory_equal(got, rows, 6);
  must(h5_close(&f));
}

static void attributes_round_trip(void **state) {
  (void)state;
  H5 *f;
  int64_t i;
  double x;
  char *s, *deck, small[4];
  const int n = 200000; /* too long for an object header */
  deck = malloc((size_t)n + 1);
  memset(deck, 'x', (size_t)n);
  deck[n] = '\0';
  must(h5_create(&f, bench_path("attributes.h5")));
  must(h5_group(f, "/g/h"));
  must(h5_group(f, "/g/h"));
  must(h5_set_int(f, "/", "int", 7));
  must(h5_set_int(f, "/", "int", INT64_MIN)); /* replaces */
  must(h5_set_real(f, "/g", "real", -NAN));
  must(h5_set_str(f, "/g/h", "str", "naïve — 字"));
  must(h5_set_str(f, "/g/h", "empty", ""));
  must(h5_set_str(f, "/", "deck", deck));
  must(h5_close(&f));
  must(h5_open(&f, bench_path("attributes.h5"), false));
  must(h5_get_int(f, "/", "int", &i));
  assert_true(i == INT64_MIN);
  must(h5_get_real(f, "/g", "real", &x));
  assert_true(isnan(x));
  must(h5_get_real(f, "/", "int", &x));
  assert_true(x == -0x1p63);
  const char *const want[][3] = {{"/g/h", "str", "naïve — 字"}, {"/g/h", "empty", ""}, {"/", "deck", deck}};
  for (int k = 0; k < LENGTH(want); k++) {
    must(h5_get_str(f, want[k][0], want[k][1], &s));
    assert_string_equal(s, want[k][2]);
    mem_free(&s);
  }
  assert_true(h5_has(f, "/g/h", "str") && !h5_has(f, "/g", "str") && !h5_has(f, "/no/such", "str"));
  refused(h5_get_int(f, "/g/h", "str", &i), ERR_DATA, "attributes.h5", "str", "/g/h", "integer");
  refused(h5_get_int(f, "/g", "real", &i), ERR_DATA, "real", "integer");
  refused(h5_get_str(f, "/", "int", &s), ERR_DATA, "int", "string");
  refused(h5_get_str(f, "/g", "none", &s), ERR_DATA, "none", "/g", "missing");
  refused(h5_get_str(f, "/none", "x", &s), ERR_DATA, "/none", "missing");
  refused(h5_get_text(f, "/g/h", "str", small, sizeof small), ERR_DATA, "str", "3 bytes");
  must(h5_close(&f));
  free(deck);
}

static void names_with_dots(void **state) {
  (void)state;
  const char *const names[] = {"blocks.0.norm1.weight",
                               "blocks.1.norm1.weight",
                               "blocks.10.x",
                               "vocab_embed.embedding",
                               "a",
                               "b",
                               "c",
                               "d",
                               "e",
                               "f",
                               "g"};
  char name[100], **list;
  float x = 1;
  H5 *f;
  must(h5_create(&f, bench_path("dots.h5")));
  for (int i = LENGTH(names) - 1; i >= 0; i--) {
    snprintf(name, sizeof name, "/params/%s", names[i]);
    must(h5_write(f, name, H5_F32, 1, (int64_t[]){1}, &x));
  }
  must(h5_list(f, "/params", &list));
  int n = 0;
  for (; list[n]; n++) assert_true(n == 0 || strcmp(list[n - 1], list[n]) < 0);
  assert_int_equal(n, LENGTH(names));
  assert_string_equal(list[2], names[0]); /* after a and b */
  h5_list_free(&list);
  assert_null(list);
  assert_true(h5_exists(f, "/params/blocks.0.norm1.weight") && h5_exists(f, "/"));
  assert_false(h5_exists(f, "/params/blocks") || h5_exists(f, "/none/x"));
  refused(h5_list(f, "/none", &list), ERR_IO, "dots.h5", "/none");
  assert_null(list);
  must(h5_close(&f));
}

/* The encodings in which h5py stores str, bytes, bool and numbers, written with the HDF5 library directly. */
static void attribute_raw(hid_t f, const char *name, hid_t type, const void *value, hsize_t n) {
  hid_t space = n == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL);
  hid_t a = H5Acreate2(f, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(a >= 0 && H5Awrite(a, type, value) >= 0);
  H5Aclose(a);
  H5Sclose(space);
}

static void python_forms(void **state) {
  (void)state;
  hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(fapl, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST); /* a newer format than h5_create writes */
  hid_t f = H5Fcreate(bench_path("python.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
  H5Pclose(fapl);
  hid_t variable = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1), boolean = H5Tenum_create(H5T_STD_I8LE);
  const signed char no = 0, yes = 1;
  const char *text = "größe";
  H5Tset_size(variable, H5T_VARIABLE), H5Tset_cset(variable, H5T_CSET_UTF8);
  H5Tset_size(fixed, 4), H5Tset_strpad(fixed, H5T_STR_NULLPAD);
  H5Tenum_insert(boolean, "FALSE", &no), H5Tenum_insert(boolean, "TRUE", &yes);
  attribute_raw(f, "variable", variable, &text, 0);
  attribute_raw(f, "fixed", fixed, "abcd", 0); /* fills its field: no NUL in the file */
  attribute_raw(f, "short", fixed, "ab\0", 0);
  attribute_raw(f, "true", boolean, &yes, 0);
  attribute_raw(f, "false", boolean, &no, 0);
  attribute_raw(f, "int32", H5T_STD_I32LE, &(int32_t){-5}, 0);
  attribute_raw(f, "uint8", H5T_STD_U8LE, &(uint8_t){200}, 0);
  attribute_raw(f, "one", H5T_STD_I64LE, &(int64_t){77}, 1);
  attribute_raw(f, "three", H5T_STD_I64LE, (int64_t[]){1, 2, 3}, 3);
  attribute_raw(f, "float", H5T_IEEE_F32LE, &(float){0.5f}, 0);
  H5Tclose(variable), H5Tclose(fixed), H5Tclose(boolean), H5Fclose(f);

  const struct {
    const char *name;
    int64_t value;
  } ints[] = {{"true", 1}, {"false", 0}, {"int32", -5}, {"uint8", 200}, {"one", 77}};
  const char *const strings[][2] = {{"variable", "größe"}, {"fixed", "abcd"}, {"short", "ab"}};
  H5 *h;
  int64_t i;
  double x;
  char *s;
  must(h5_open(&h, bench_path("python.h5"), false));
  for (int k = 0; k < LENGTH(ints); k++) {
    must(h5_get_int(h, "/", ints[k].name, &i));
    assert_int_equal(i, ints[k].value);
  }
  for (int k = 0; k < LENGTH(strings); k++) {
    must(h5_get_str(h, "/", strings[k][0], &s));
    assert_string_equal(s, strings[k][1]);
    mem_free(&s);
  }
  must(h5_get_real(h, "/", "float", &x));
  assert_true(x == 0.5);
  refused(h5_get_int(h, "/", "three", &i), ERR_DATA, "three", "3 values");
  refused(h5_get_real(h, "/", "fixed", &x), ERR_DATA, "fixed", "number");
  must(h5_close(&h));
}

static void strings(void **state) {
  (void)state;
  char *const words[] = {"", "two words", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "line\nline"};
  char **got;
  H5 *f;
  H5Info info;
  must(h5_create(&f, bench_path("strings.h5")));
  must(h5_write_text(f, "/words", LENGTH(words), words));
  must(h5_write_text(f, "/none", 0, words));
  must(h5_write(f, "/number", H5_I32, 1, (int64_t[]){1}, (int32_t[]){1}));
  must(h5_close(&f));
  must(h5_open(&f, bench_path("strings.h5"), false));
  must(h5_info(f, "/words", &info));
  assert_true(info.type == H5_TEXT && info.rank == 1 && info.dims[0] == LENGTH(words));
  must(h5_read_text(f, "/words", LENGTH(words), &got));
  for (int i = 0; i < LENGTH(words); i++) assert_string_equal(got[i], words[i]);
  assert_null(got[LENGTH(words)]);
  h5_list_free(&got);
  must(h5_read_text(f, "/none", 0, &got));
  assert_null(got[0]);
  h5_list_free(&got);
  refused(h5_read_text(f, "/words", 5, &got), ERR_DATA, "strings.h5", "/words", "5 strings");
  refused(h5_read_text(f, "/number", 1, &got), ERR_DATA, "strings.h5", "/number");
  must(h5_close(&f));
}

enum { BIG_ROWS = 1001, BIG_COLUMNS = 2049 }; /* 7.8 MiB: several pieces, the last one smaller */
static atomic_bool written;

/* Returns NULL unless all reads of the open file succeed. */
static void *read_on(void *file) {
  bool good = true;
  do {
    int64_t got = 0;
    good = h5_read(file, "/x", H5_I64, 1, (int64_t[]){1}, &got) == OK && got == 17;
  } while (good && !atomic_load(&written));
  return good ? file : NULL;
}

/* An array that is written in pieces, while another thread reads another file. */
static void two_threads(void **state) {
  (void)state;
  const int64_t dims[] = {BIG_ROWS, BIG_COLUMNS}, n = dims[0] * dims[1];
  float *x = malloc((size_t)n * sizeof *x), *got = malloc((size_t)n * sizeof *got);
  pthread_t reader;
  void *good;
  H5 *f, *small;
  for (int64_t i = 0; i < n; i++) x[i] = (float)i;
  must(h5_create(&f, bench_path("small.h5")));
  must(h5_write(f, "/x", H5_I64, 1, (int64_t[]){1}, (int64_t[]){17}));
  must(h5_close(&f));
  must(h5_open(&small, bench_path("small.h5"), false));
  assert_int_equal(pthread_create(&reader, NULL, read_on, small), 0);
  must(h5_create(&f, bench_path("big.h5")));
  must(h5_write(f, "/x", H5_F32, 2, dims, x));
  must(h5_close(&f));
  atomic_store(&written, true);
  pthread_join(reader, &good);
  assert_non_null(good);
  must(h5_close(&small));
  must(h5_open(&f, bench_path("big.h5"), false));
  must(h5_read(f, "/x", H5_F32, 2, dims, got));
  assert_memory_equal(got, x, (size_t)n * sizeof *x);
  must(h5_close(&f));
  free(x), free(got);
}

static void version(void **state) {
  (void)state;
  unsigned a, b, c;
  char text[40];
  H5get_libversion(&a, &b, &c);
  snprintf(text, sizeof text, "%u.%u.%u", a, b, c);
  assert_string_equal(h5_version(), text);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(types_round_trip),      cmocka_unit_test(rows_grow),
                                     cmocka_unit_test(attributes_round_trip), cmocka_unit_test(names_with_dots),
                                     cmocka_unit_test(python_forms),          cmocka_unit_test(strings),
                                     cmocka_unit_test(two_threads),           cmocka_unit_test(version)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
