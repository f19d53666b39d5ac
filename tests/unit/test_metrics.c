/* metrics — rows in memory: appending them to a file that others read, truncating, rewriting. */
#include "store/metrics.h"
#include "store_bench.h"

#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const MetricsColumn train_columns[] = {
    {"step", "steps", "optimizer steps done"}, {"loss", "nat/token", "training loss"}, {"lr", "", "learning rate"}};
static const MetricsColumn valid_columns[] = {{"step", "steps", "optimizer steps done"}, {"nll", "nat/token", "NELBO"}};

static double value_of(int64_t row, int column) { return column == 0 ? (double)(10 * row) : (double)row / 3 + column; }

static void add_rows(MetricsTable *t, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    double row[3];
    for (int c = 0; c < t->n_columns; c++) row[c] = value_of(t->n_rows, c);
    must(metrics_add(t, row));
  }
}

static void expect_series(const char *path, const MetricsTable *t, int64_t n) {
  H5 *f;
  must(h5_open(&f, path, false));
  for (int c = 0; c < t->n_columns; c++) {
    char name[100];
    H5Info info;
    double *got = calloc((size_t)n + 1, sizeof *got);
    snprintf(name, sizeof name, "/%s/%s", t->group, t->columns[c].name);
    must(h5_info(f, name, &info));
    assert_int_equal(info.rank, 1);
    assert_int_equal(info.dims[0], n);
    if (n > 0) must(h5_read(f, name, H5_F64, 1, &n, got));
    for (int64_t i = 0; i < n; i++) assert_true(got[i] == value_of(i, c));
    free(got);
  }
  must(h5_close(&f));
}

typedef struct Two {
  MetricsTable train, valid, *tables[2];
} Two;

static void two_create(Two *two) {
  must(metrics_table_create(&two->train, "train", train_columns, 3, 4)); /* grows */
  must(metrics_table_create(&two->valid, "valid", valid_columns, 2, 0));
  two->tables[0] = &two->train, two->tables[1] = &two->valid;
}

static void two_destroy(Two *two) {
  metrics_table_destroy(&two->train);
  metrics_table_destroy(&two->valid);
  metrics_table_destroy(&two->valid);
  metrics_table_destroy(NULL);
}

static void grows(void **state) {
  (void)state;
  const char *path = bench_path("metrics.h5");
  Two two;
  H5 *f;
  char *s;
  two_create(&two);
  must(metrics_begin(path, two.tables, 2, "model { }\n", NULL));
  expect_series(path, &two.train, 0);
  int64_t n = 0;
  for (int i = 0; i < 12; i++) { /* flushes smaller and larger than a chunk */
    int64_t more = i < 6 ? i : 500 * i;
    add_rows(&two.train, more);
    if (i % 3 == 0) add_rows(&two.valid, 1);
    must(metrics_flush(path, two.tables, 2));
    n += more;
    assert_int_equal(two.train.written, n);
    expect_series(path, &two.train, n);
    expect_series(path, &two.valid, 1 + i / 3);
  }
  must(h5_open(&f, path, false));
  const char *const strings[][3] = {{"/", "format", "mdlm-metrics"},
                                    {"/", "deck", "model { }\n"},
                                    {"/train/loss", "unit", "nat/token"},
                                    {"/valid/nll", "description", "NELBO"}};
  for (int i = 0; i < LENGTH(strings); i++) {
    must(h5_get_str(f, strings[i][0], strings[i][1], &s));
    assert_string_equal(s, strings[i][2]);
    mem_free(&s);
  }
  assert_true(h5_has(f, "/", "git") && h5_has(f, "/", "started"));
  must(h5_close(&f));
  two_destroy(&two);
}

/* A resumed run drops the rows beyond its step and rewrites the file. */
static void truncates(void **state) {
  (void)state;
  const char *path = bench_path("resumed.h5");
  Two two;
  two_create(&two);
  add_rows(&two.train, 100);
  must(metrics_begin(path, two.tables, 2, "", NULL));
  assert_int_equal(two.train.written, 100);
  metrics_truncate(&two.train, 505); /* steps 0, 10 … 500 stay */
  assert_int_equal(two.train.n_rows, 51);
  assert_int_equal(two.train.written, 51);
  refused(metrics_flush(path, two.tables, 2), ERR_IO, "resumed.h5", "100 rows",
          "51"); /* the file has more rows: it must be rewritten */
  must(metrics_begin(path, two.tables, 2, "", NULL));
  add_rows(&two.train, 5);
  must(metrics_flush(path, two.tables, 2));
  expect_series(path, &two.train, 56);
  assert_false(bench_there(bench_path("resumed.h5.tmp")));
  must(metrics_begin(path, two.tables, 2, "", NULL)); /* a new file is sealed until rows are appended */
  bench_flip(path, 1000, 4);
  add_rows(&two.train, 1);
  refused(metrics_flush(path, two.tables, 2), ERR_IO, "resumed.h5 is damaged", "checksum");
  metrics_truncate(&two.train, -1);
  assert_int_equal(two.train.n_rows, 0);
  two_destroy(&two);
}

/* Another process that holds the file open, as h5py does: with HDF5's own driver and locks. It may see the old or the
 * new number of rows, but the rows must be correct. */
static void reader_in_child(const char *path, int ready, int go) {
  static double got[3000];
  hsize_t n = 0;
  char c = 'x';
  hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(f, "/train/loss", H5P_DEFAULT);
  if (f < 0 || d < 0 || write(ready, &c, 1) != 1 || read(go, &c, 1) != 1) _exit(1);
  for (int again = 0; again < 2; again++) {
    hid_t space = H5Dget_space(d);
    H5Sget_simple_extent_dims(space, &n, NULL);
    if (n != 7 && n != 2007) _exit(2);
    if (H5Dread(d, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, got) < 0) _exit(3);
    for (hsize_t i = 0; i < n; i++)
      if (got[i] != value_of((int64_t)i, 1)) _exit(4);
    H5Sclose(space), H5Dclose(d), H5Fclose(f);
    f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), d = H5Dopen2(f, "/train/loss", H5P_DEFAULT);
    if (f < 0 || d < 0) _exit(5);
  }
  _exit(n == 2007 ? 0 : 6); /* after reopening it sees all rows */
}

static void read_while_growing(void **state) {
  (void)state;
  const char *path = bench_path("shared.h5");
  Two two;
  int ready[2], go[2], status;
  char c = 'x';
  two_create(&two);
  add_rows(&two.train, 7);
  must(metrics_begin(path, two.tables, 2, "", NULL));
  assert_int_equal(pipe(ready), 0);
  assert_int_equal(pipe(go), 0);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) reader_in_child(path, ready[1], go[0]);
  assert_int_equal(read(ready[0], &c, 1), 1); /* the child has opened the file */
  add_rows(&two.train, 2000);
  must(metrics_flush(path, two.tables, 2));
  assert_int_equal(write(go[1], &c, 1), 1);
  waitpid(child, &status, 0);
  assert_int_equal(status, 0);
  expect_series(path, &two.train, 2007);
  for (int i = 0; i < 2; i++) close(ready[i]), close(go[i]);
  two_destroy(&two);
}

static void cannot_write(void **state) {
  (void)state;
  const char *path = bench_path("none/metrics.h5");
  Two two;
  two_create(&two);
  add_rows(&two.train, 3);
  refused(metrics_begin(path, two.tables, 2, "", NULL), ERR_IO, "none/metrics.h5", "No such file or directory");
  refused(metrics_flush(path, two.tables, 2), ERR_IO, "none/metrics.h5");
  assert_int_equal(two.train.written, 0);
  two_destroy(&two);
}

/* Disk full: the old file stays, the draft is removed. */
static int begin_in_little_room(void) {
  Two two;
  struct rlimit r = {3000, 3000};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &r);
  two_create(&two);
  add_rows(&two.train, 5000);
  int err = metrics_begin(bench_path("kept.h5"), two.tables, 2, "", NULL);
  bool ok = err == ERR_IO && strstr(err_message(), "kept.h5") && two.train.written == 0;
  two_destroy(&two);
  return ok && !bench_there(bench_path("kept.h5.tmp")) ? 0 : 1;
}

static void no_room(void **state) {
  (void)state;
  Two two;
  int status;
  two_create(&two);
  add_rows(&two.train, 5);
  must(metrics_begin(bench_path("kept.h5"), two.tables, 2, "", NULL));
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) exit(begin_in_little_room());
  waitpid(child, &status, 0);
  assert_int_equal(status, 0);
  expect_series(bench_path("kept.h5"), &two.train, 5);
  two_destroy(&two);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(grows), cmocka_unit_test(truncates),
                                     cmocka_unit_test(read_while_growing), cmocka_unit_test(cannot_write),
                                     cmocka_unit_test(no_room)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
