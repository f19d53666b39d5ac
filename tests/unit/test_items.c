/* items — a computation on one rank: stopped, gone on with, and partial files that do not fit. */
#include "toy_items.h"

static Comm one;

static void completes(void **state) { (void)state, case_complete(&one); }

static void goes_on(void **state) {
  (void)state;
  for (int what = 0; what < 4; what++) case_goes_on(&one, NULL, 0, what);
}

static void stops_early_and_late(void **state) { (void)state, case_stops_early_and_late(&one); }
static void an_error(void **state) { (void)state, case_error_of_one(&one); }
static void no_folder(void **state) { (void)state, case_no_folder(&one); }
static void nan_is_not_kept(void **state) { (void)state, case_nan(&one); }

/* A stopped computation, whose file has the first 8 items. */
static Toy stopped(void) {
  Toy t = toy(&one, 53, 4, H5_F64);
  toy_forget();
  t.stop_call = 1;
  assert_int_equal(toy_stops(&t), 8);
  t.stop_call = NEVER;
  return t;
}

static void another_computation(void **state) {
  (void)state;
  const char *const keys[] = {"program = toy\nseed = 2\n", "program = toy\n", "program = toy\nseed = 1\nmore = 1\n",
                              ""};
  for (int i = 0; i < LENGTH(keys); i++) {
    Toy t = stopped();
    t.work.key = keys[i];
    toy_ends(&t, 53);
  }
  Toy t = stopped();
  t.work.n = 50;
  toy_ends(&t, 50);
  t = stopped();
  t.work.type = H5_I32; /* numbers are converted: the key has to tell types apart */
  t.work.key = "program = other\n";
  toy_ends(&t, 53);
}

static void first_difference(void **state) {
  (void)state;
  double results[2];
  uint8_t done[2];
  int64_t found;
  char line[300] = "";
  Partial p = {.path = bench_path("key.part"), .key = "a = 1\nb = 2\nc = 3\n", .type = H5_F64, .n = 2, .columns = 1};
  must(partial_write(&p, (double[]){4, 5}, (uint8_t[]){0, 1}));
  must(partial_read(&p, results, done, &found));
  assert_true(found == 1 && !done[0] && done[1] && results[1] == 5);
  fflush(stderr);
  int kept = dup(STDERR_FILENO);
  FILE *log = freopen(bench_path("stderr"), "w+", stderr);
  p.key = "a = 1\nb = 22\nc = 4\n";
  must(partial_read(&p, results, done, &found));
  fflush(stderr);
  rewind(log);
  char *got = fgets(line, sizeof line, log);
  dup2(kept, STDERR_FILENO);
  close(kept);
  assert_non_null(got);
  assert_int_equal(found, 0);
  assert_non_null(strstr(line, "key.part is of another computation: b = 2, here b = 22; all is computed anew"));
}

/* Cut short anywhere, or with a flipped bit anywhere, a file gives right results, or is not used. */
static void damaged(void **state) {
  (void)state;
  Toy t = stopped();
  struct stat st;
  char *whole;
  int64_t found;
  double results[53 * COLUMNS];
  uint8_t done[53];
  Partial p = {.path = t.work.partial, .key = t.work.key, .type = H5_F64, .n = 53, .columns = COLUMNS};
  assert_int_equal(stat(t.work.partial, &st), 0);
  size_t size = (size_t)st.st_size;
  whole = malloc(size);
  FILE *f = fopen(t.work.partial, "r");
  assert_true(fread(whole, 1, size, f) == size);
  fclose(f);
  for (size_t at = 0; at < size; at += 97)
    for (int cut = 0; cut < 2; cut++) {
      f = fopen(t.work.partial, "w");
      if (!cut) whole[at] ^= 4;
      assert_true(fwrite(whole, 1, cut ? at : size, f) == (cut ? at : size));
      if (!cut) whole[at] ^= 4;
      fclose(f);
      must(partial_read(&p, results, done, &found));
      assert_true(found == 0 || found == 8);
      for (int64_t i = 0; i < 8 && found; i++)
        for (int c = 0; c < COLUMNS; c++) assert_true(results[i * COLUMNS + c] == value(i, c));
    }
  free(whole);
  toy_ends(&t, 53 - found);
}

static int setup(void **state) {
  stop_block();
  return bench_setup(state) || comm_null_create(&one);
}

static int teardown(void **state) {
  comm_destroy(&one);
  return bench_teardown(state);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(completes),
      cmocka_unit_test(goes_on),
      cmocka_unit_test(stops_early_and_late),
      cmocka_unit_test(an_error),
      cmocka_unit_test(no_folder),
      cmocka_unit_test(nan_is_not_kept),
      cmocka_unit_test(another_computation),
      cmocka_unit_test(damaged),
      cmocka_unit_test(first_difference),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
