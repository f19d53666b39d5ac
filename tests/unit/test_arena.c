/* arena — measured and committed tensors have the same offsets; alignment; zeroed memory; refusal of impossible sizes.
 */
#include "check.h"

#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "ops/arena.h"

typedef struct Plan {
  Tensor a, b, c, d, e;
} Plan;

static void plan(Arena *arena, Plan *p) {
  p->a = arena_tensor(arena, DT_F32, 3, 5);
  p->b = arena_tensor(arena, DT_I32, 1, 0);
  p->c = arena_tensor(arena, DT_BF16, 129, 0);
  p->d = arena_tensor(arena, DT_F64, 4, 8); /* 256 bytes exactly */
  p->e = arena_tensor(arena, DT_F32, 0, 7); /* no rows */
}

static size_t apart(Tensor x, Tensor y) { return (size_t)((char *)y.data - (char *)x.data); }

static void test_plan(void **state) {
  (void)state;
  for (int i = check_first(); i <= check_last(); i++) {
    Check c;
    Arena arena;
    Plan measured, real;
    check_open(&c, &CHECK_MODES[i], 1);
    arena_measure(&arena, &c.dev);
    plan(&arena, &measured);
    assert_int_equal(arena.used, 256 + 256 + 512 + 256);
    assert_null(arena.base);
    assert_int_equal(c.dev.allocated, 0);
    MUST(arena_commit(&arena));
    assert_int_equal(arena.size, 1280);
    assert_int_equal(arena.used, 0);
    assert_int_equal(c.dev.allocated, 1280);

    size_t allocations = mem_count();
    plan(&arena, &real);
    assert_int_equal(mem_count(), allocations);
    assert_int_equal(arena.used, 1280);
    const Tensor all[] = {real.a, real.b, real.c, real.d}, before[] = {measured.a, measured.b, measured.c, measured.d};
    for (int k = 0; k < 4; k++) {
      assert_int_equal((uintptr_t)all[k].data % 256, 0);
      assert_int_equal(all[k].rank, before[k].rank);
      assert_int_equal(all[k].type, before[k].type);
      assert_int_equal(tensor_bytes(all[k]), tensor_bytes(before[k]));
      if (k > 0) assert_true(apart(all[k - 1], all[k]) >= tensor_bytes(all[k - 1]));
    }
    assert_int_equal(real.a.rank, 2);
    assert_int_equal(real.a.dims[1], 5);
    assert_int_equal(real.a.ld, 5);
    assert_int_equal(real.c.rank, 1);
    assert_int_equal(real.c.dims[0], 129);
    assert_int_equal(tensor_count(real.e), 0);
    char host[1280], zero[1280] = {0};
    MUST(c.dev.ops->download(&c.dev, host, arena.base, sizeof host));
    assert_memory_equal(host, zero, sizeof host);

    arena_destroy(&arena);
    assert_null(arena.base);
    assert_int_equal(arena.size, 0);
    assert_int_equal(c.dev.allocated, 0);
    arena_destroy(&arena);
    arena_destroy(NULL);
    check_close(&c);
  }
}

static void test_ends(void **state) {
  (void)state;
  Check c;
  Arena arena;
  check_open(&c, &CHECK_MODES[CHECK_F32], 1);
  arena_measure(&arena, &c.dev); /* no tensors */
  MUST(arena_commit(&arena));
  assert_int_equal(c.dev.allocated, 0);
  arena_destroy(&arena);

  arena_measure(&arena, &c.dev); /* more memory than exists */
  arena_tensor(&arena, DT_F64, (int64_t)1 << 40, 1 << 16);
  assert_int_equal(arena_commit(&arena), ERR_MEMORY);
  assert_non_null(strstr(err_message(), "549755813888.0 MiB"));
  err_clear();
  assert_int_equal(c.dev.allocated, 0);
  arena_destroy(&arena);
  check_close(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_plan), cmocka_unit_test(test_ends)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
