/* mem — memory is aligned, zeroed and counted. Also clock and version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/version.h"

#include <string.h>
#include <time.h>

static void zeroed_and_aligned(void **state) {
  (void)state;
  for (size_t bytes = 1; bytes < 300; bytes += 7) {
    unsigned char *p = NULL;
    assert_int_equal(mem_alloc(&p, bytes), OK);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (size_t i = 0; i < bytes; i++) assert_int_equal(p[i], 0);
    memset(p, 0xff, bytes); /* the next allocation may reuse this memory */
    mem_free(&p);
    assert_null(p);
  }
}

static void nothing_is_null(void **state) {
  (void)state;
  int here;
  void *p = &here;
  assert_int_equal(mem_alloc(&p, 0), OK);
  assert_null(p);
  mem_free(&p);
  mem_free(NULL);
}

static void grows_with_zeros(void **state) {
  (void)state;
  unsigned char *p = NULL;
  assert_int_equal(mem_realloc(&p, 0, 10), OK);
  memset(p, 7, 10);
  assert_int_equal(mem_realloc(&p, 10, 1000), OK);
  assert_int_equal((uintptr_t)p % 64, 0);
  for (int i = 0; i < 1000; i++) assert_int_equal(p[i], i < 10 ? 7 : 0);
  assert_int_equal(mem_realloc(&p, 1000, 5), OK);
  assert_int_equal(p[4], 7);
  mem_free(&p);
}

static void too_much_is_an_error(void **state) {
  (void)state;
  const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, (size_t)1 << 60};
  for (int i = 0; i < 4; i++) {
    char *p = NULL;
    assert_int_equal(mem_alloc(&p, sizes[i]), ERR_MEMORY);
    assert_null(p);
    assert_non_null(strstr(err_message(), "MiB"));
  }
  char *kept = NULL;
  assert_int_equal(mem_strdup(&kept, "kept"), OK);
  assert_int_equal(mem_realloc(&kept, 5, (size_t)1 << 60), ERR_MEMORY);
  assert_string_equal(kept, "kept");
  mem_free(&kept);
  err_clear();
}

static void copies_strings(void **state) {
  (void)state;
  char *a = NULL, *empty = NULL;
  assert_int_equal(mem_strdup(&a, "alpha(t) = exp(−σ(t))"), OK);
  assert_string_equal(a, "alpha(t) = exp(−σ(t))");
  assert_int_equal(mem_strdup(&empty, ""), OK);
  assert_string_equal(empty, "");
  mem_free(&a);
  mem_free(&empty);
}

static void counts_calls(void **state) {
  (void)state;
  size_t before = mem_count();
  char *p = NULL;
  assert_int_equal(mem_alloc(&p, 8), OK);
  assert_int_equal(mem_realloc(&p, 8, 16), OK);
  mem_free(&p);
  assert_int_equal(mem_count() - before, 2);
}

static void knows_the_system(void **state) {
  (void)state;
  const size_t size = 32 << 20;
  char *p = NULL;
  size_t before = mem_resident();
  assert_true(before > 0);
  assert_int_equal(mem_alloc(&p, size), OK);
  memset(p, 1, size);
  assert_true(mem_resident() >= before + size / 2);
  assert_true(mem_available() > size);
  mem_free(&p);
}

static void clock_runs(void **state) {
  (void)state;
  struct timespec pause = {.tv_nsec = 20000000};
  double start = clock_now();
  nanosleep(&pause, NULL);
  double took = clock_now() - start;
  assert_true(took >= 0.019 && took < 10);
  assert_int_equal(strlen(clock_stamp()), strlen("2024-12-31T23:59:59+0100"));
  assert_int_equal(clock_stamp()[10], 'T');
}

static void version_speaks(void **state) {
  (void)state;
  assert_true(strlen(version_git()) > 0);
  assert_non_null(strstr(version_build(), "-march="));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(zeroed_and_aligned),   cmocka_unit_test(nothing_is_null), cmocka_unit_test(grows_with_zeros),
      cmocka_unit_test(too_much_is_an_error), cmocka_unit_test(copies_strings),  cmocka_unit_test(counts_calls),
      cmocka_unit_test(knows_the_system),     cmocka_unit_test(clock_runs),      cmocka_unit_test(version_speaks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
