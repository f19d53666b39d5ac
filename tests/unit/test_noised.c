/* test_noised.c — which positions a left-to-right objective scores: those whose next token is known. */
#include "check.h"
#include "diffusion/noised.h"

enum { L = 5, V = 9, END = 7 };

static void open_ar(Objective *o, Schedule *schedule, Noised *n) {
  MUST(schedule_create(schedule, "loglinear", 1e-3, 0, 0));
  MUST(objective_create(o, &(ObjectiveOptions){.name = "ar", .schedule = schedule, .mask = V - 1, .vocab = V}));
  MUST(noised_create(n, 2, L, o->terms));
}

/* Without the token that follows a row its last position has no target; with it a whole row has L, a padded one not. */
static void next_tokens(void **state) {
  (void)state;
  const int32_t x0[] = {1, 2, 3, 4, 5};
  Objective o;
  Schedule schedule;
  Noised n;
  open_ar(&o, &schedule, &n);
  for (int known = 0; known < 2; known++) {
    noised_begin(&n, 2);
    assert_int_equal(n.end, -1);
    if (known) n.end = END;
    noised_draw(&o, &n, 0, x0, L, (double[]){0.5}, rng_key(1, RNG_MASK, 0, 0, 0));
    noised_draw(&o, &n, 1, x0, 3, (double[]){0.5}, rng_key(1, RNG_MASK, 0, 0, 1));
    int first = known ? L : L - 1;
    assert_int_equal(n.n_rows, first + 2);
    assert_int_equal(n.scored, first + 2);
    for (int i = 0; i < first; i++) {
      assert_int_equal(n.rows[i], i);
      assert_int_equal(n.target[i], i < L - 1 ? x0[i + 1] : END);
      assert_true(n.weight[i] == 1);
    }
    for (int i = 0; i < 2; i++) assert_true(n.rows[first + i] == L + i && n.target[first + i] == x0[i + 1]);
    assert_memory_equal(n.z, x0, sizeof x0);
  }
  noised_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(next_tokens)};
  return cmocka_run_group_tests_name("noised", tests, NULL, NULL);
}
