/* test_networks_same — for every network, what must change a result and what must not, bit for bit unless noted:
 * threads, precision, training, parameter buffers, neighbours in the batch, time, dropout. */
#include "toy_network.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, TOKENS = TOY_TOKENS };

/* ---- the same tests for each precision */
typedef enum Precision { F64, F32, BF16 } Precision;

static Toy toy_in(const ToyNetwork *x, Precision precision, bool time) {
  Toy t = toy_network(x->name, precision == F64 ? "cpu_f64" : "cpu", time);
  t.device.bf16 = precision == BF16;
  return t;
}

/* ---- a network without training reuses activations between blocks: same bits */
static void test_forward_only(void **state) {
  const ToyNetwork *x = *state;
  for (int i = 0; i < (x->timed ? 4 : 2); i++) {
    Network n, still;
    Toy t = toy_in(x, i % 2 ? F32 : F64, i / 2);
    t.model.blocks = 3;
    toy_network_open(&n, &t);
    t.model.training = false;
    toy_network_open(&still, &t);
    assert_true(still.model.arena.size < n.model.arena.size);
    assert_true(tensor_none(still.model.params.grad));
    for (int count = B; count > 0; count--) {
      double *want = toy_hidden(&n, &toy_mixed, 0, count, toy_none),
             *got = toy_hidden(&still, &toy_mixed, 0, count, toy_none);
      toy_same("hidden rows without training", got, want, count * L * D);
      assert_true(toy_pass(&n, &toy_mixed, 0, count, toy_none, false) ==
                  toy_pass(&still, &toy_mixed, 0, count, toy_none, false));
      mem_free(&want);
      mem_free(&got);
    }
    network_destroy(&n);
    network_destroy(&still);
  }
}

/* ---- wanted rows: the bits that they have among all rows */
static void test_wanted_rows(void **state) {
  const ToyNetwork *x = *state;
  static const int32_t some[] = {2, 3, 6, 8, 9, 14}, last[] = {14}, moved[] = {7, 1, 12};
  static const struct {
    const int32_t *rows;
    int n;
  } wanted[] = {{some, 6}, {last, 1}, {moved, 3}, {some, 0}};
  for (int i = 0; i < (x->timed ? 4 : 2); i++) {
    Network n;
    Toy t = toy_in(x, i % 2 ? F32 : F64, i / 2);
    toy_network_open(&n, &t);
    double *all = toy_hidden(&n, &toy_mixed, 0, B, toy_quarter);
    for (int k = 0; k < 4; k++) {
      double *h = toy_hidden_rows(&n, &toy_mixed, 0, B, toy_quarter, wanted[k].rows, wanted[k].n);
      for (int r = 0; r < wanted[k].n; r++) toy_same("wanted row", h + r * D, all + wanted[k].rows[r] * D, D);
      mem_free(&h);
    }
    mem_free(&all);
    network_destroy(&n);
  }
}

/* Where no row is scored, no gradient is left over from the pass before. */
static void test_no_row_scored(void **state) {
  const ToyNetwork *x = *state;
  Network n;
  Toy t = toy_in(x, F32, x->timed);
  toy_network_open(&n, &t);
  ToyBatch clean = toy_mixed;
  if (n.objective.diffusion) memcpy(clean.z, clean.x0, sizeof clean.z);
  for (int b = 0; b < B && !n.objective.diffusion; b++) clean.length[b] = 1;
  toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
  double loss, *grad = toy_gradients(&n, &clean, 0, B, toy_quarter, &loss);
  assert_int_equal(n.noised.n_rows, 0);
  assert_true(loss == 0);
  for (int64_t i = 0; i < n.model.params.count; i++) assert_true(grad[i] == 0);
  mem_free(&grad);
  network_destroy(&n);
}

/* ---- threads: same bits */
static void same_with_threads(const ToyNetwork *x, Precision precision) {
  double *h[2], *grad[2], loss[2];
  int64_t count = 0;
  for (int k = 0; k < 2; k++) {
    Network n;
    Toy t = toy_in(x, precision, x->timed);
    t.device.threads = k + 1;
    toy_network_open(&n, &t);
    grad[k] = toy_gradients(&n, &toy_mixed, 0, B, toy_quarter, &loss[k]);
    h[k] = toy_hidden(&n, &toy_mixed, 0, B, toy_quarter);
    count = n.model.params.count;
    network_destroy(&n);
  }
  toy_same("loss with two threads", &loss[1], &loss[0], 1);
  toy_same("hidden rows with two threads", h[1], h[0], TOKENS * D);
  toy_same("gradients with two threads", grad[1], grad[0], count);
  for (int k = 0; k < 2; k++) {
    mem_free(&h[k]);
    mem_free(&grad[k]);
  }
}

static void test_threads(void **state) {
  same_with_threads(*state, F64);
  same_with_threads(*state, F32);
}
static void test_threads_bf16(void **state) { same_with_threads(*state, BF16); }

/* ---- precisions: with the same weights only rounding errors differ. Returns the error of the hidden rows. */
static double compare_with_f64(const ToyNetwork *x, Precision precision, bool time, double bound,
                               double gradient_bound) {
  Network f64, low;
  Toy t = toy_in(x, F64, time), t_low = toy_in(x, precision, time);
  toy_network_open(&f64, &t);
  toy_network_open(&low, &t_low);
  double want_loss, loss;
  double *want = toy_gradients(&f64, &toy_mixed, 0, B, toy_quarter, &want_loss);
  double *got = toy_gradients(&low, &toy_mixed, 0, B, toy_quarter, &loss);
  double *want_h = toy_hidden(&f64, &toy_mixed, 0, B, toy_quarter);
  double *h = toy_hidden(&low, &toy_mixed, 0, B, toy_quarter), error = check_error(h, want_h, TOKENS * D);
  assert_true(fabs(loss - want_loss) <= bound * want_loss);
  assert_true(error <= bound);
  toy_near("gradients", &low.model.params, got, want, gradient_bound);
  double *all[] = {want, got, want_h, h};
  for (int i = 0; i < 4; i++) mem_free(&all[i]);
  network_destroy(&f64);
  network_destroy(&low);
  return error;
}

static void test_f32(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) compare_with_f64(x, F32, time, 1e-5, x->f32);
}
static void test_bf16(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) {
    double error = compare_with_f64(x, BF16, time, 3e-2, x->bf16);
    assert_true(error > 1e-4); /* the bf16 copies were really used */
  }
}

/* ---- switch the layers to other parameter values (the moving average), and back */
static void bind_and_back(const ToyNetwork *x, Precision precision, bool training) {
  Network n, other;
  Toy t = toy_in(x, precision, false);
  t.model.training = training;
  toy_network_open(&n, &t);
  toy_open(&other, &t);
  toy_weights(&other, 2, 1.5);
  double *mine = toy_hidden(&n, &toy_mixed, 0, B, toy_none), *theirs = toy_hidden(&other, &toy_mixed, 0, B, toy_none);
  double loss = toy_pass(&n, &toy_mixed, 0, B, toy_none, false),
         other_loss = toy_pass(&other, &toy_mixed, 0, B, toy_none, false);
  assert_true(check_error(theirs, mine, TOKENS * D) > 0.1);
  MUST(params_bind(&n.model.params, other.model.params.value));
  double *bound = toy_hidden(&n, &toy_mixed, 0, B, toy_none);
  toy_same("hidden rows of bound values", bound, theirs, TOKENS * D);
  assert_true(toy_pass(&n, &toy_mixed, 0, B, toy_none, false) == other_loss);
  MUST(params_bind(&n.model.params, n.model.params.value));
  double *back = toy_hidden(&n, &toy_mixed, 0, B, toy_none);
  toy_same("hidden rows after going back", back, mine, TOKENS * D);
  assert_true(toy_pass(&n, &toy_mixed, 0, B, toy_none, false) == loss);
  double *all[] = {mine, theirs, bound, back};
  for (int k = 0; k < 4; k++) mem_free(&all[k]);
  network_destroy(&n);
  network_destroy(&other);
}

static void test_bind(void **state) {
  for (int training = 0; training < 2; training++) {
    bind_and_back(*state, F64, training);
    bind_and_back(*state, F32, training);
  }
}
static void test_bind_bf16(void **state) {
  for (int training = 0; training < 2; training++) bind_and_back(*state, BF16, training);
}

/* ---- a sequence's result does not depend on its neighbours; it depends on tokens, dropout and time */
static void test_tokens_matter(void **state) {
  const ToyNetwork *x = *state;
  enum { AT = 2 * L + 2 }; /* the middle of the last sequence */
  Network n;
  Toy t = toy_in(x, F64, x->timed);
  toy_network_open(&n, &t);
  double *all = toy_hidden(&n, &toy_mixed, 0, B, toy_quarter), *one = toy_hidden(&n, &toy_mixed, 2, 1, toy_quarter);
  assert_true(check_error(one, all + 2 * L * D, L * D) <= 1e-13);
  ToyBatch other = toy_mixed;
  other.z[AT] = 7;
  double *moved = toy_hidden(&n, &other, 0, B, toy_quarter);
  int first = n.objective.diffusion ? 2 * L : AT; /* a causal network does not see later positions */
  toy_same("what does not see the token", moved, all, first * D);
  for (int r = first; r < 3 * L; r++) assert_true(check_error(moved + r * D, all + r * D, D) > 1e-6);
  double *every[] = {all, one, moved};
  for (int i = 0; i < 3; i++) mem_free(&every[i]);
  network_destroy(&n);
}

static void test_dropout_matters(void **state) {
  const ToyNetwork *x = *state;
  Network n;
  Toy t = toy_in(x, F64, x->timed);
  toy_network_open(&n, &t);
  Dropout next = toy_quarter;
  next.step++;
  double *all = toy_hidden(&n, &toy_mixed, 0, B, toy_quarter), *other_bits = toy_hidden(&n, &toy_mixed, 0, B, next),
         *full = toy_hidden(&n, &toy_mixed, 0, B, toy_none);
  assert_true(check_error(other_bits, all, TOKENS * D) > 1e-2);
  assert_true(check_error(full, all, TOKENS * D) > 1e-2);
  double *every[] = {all, other_bits, full};
  for (int i = 0; i < 3; i++) mem_free(&every[i]);
  network_destroy(&n);
}

static void test_time_matters(void **state) {
  const ToyNetwork *x = *state;
  ToyBatch later = toy_mixed;
  later.t[2] = 0.9;
  for (int time = 0; time <= x->timed; time++) {
    Network n;
    Toy t = toy_in(x, F64, time);
    toy_network_open(&n, &t);
    double *h = toy_hidden(&n, &toy_mixed, 0, B, toy_none), *moved = toy_hidden(&n, &later, 0, B, toy_none);
    toy_same("hidden rows at another time", moved, h, (time ? 2 : B) * L * D);
    if (time) assert_true(check_error(moved + 2 * L * D, h + 2 * L * D, L * D) > 1e-3);
    mem_free(&h);
    mem_free(&moved);
    network_destroy(&n);
  }
}

/* ---- backward reports which gradients are final, in the order in which it computes them */
static void test_ready(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) {
    Network n;
    Toy t = toy_in(x, F32, time);
    t.model.blocks = 3;
    toy_network_open(&n, &t);
    toy_ready(&n, &toy_mixed, toy_quarter);
    network_destroy(&n);
  }
}

/* ---- no allocation in a step */
static void step_twice(const ToyNetwork *x, Precision precision) {
  Network n;
  Toy t = toy_in(x, precision, x->timed);
  toy_network_open(&n, &t);
  toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
  size_t before = mem_count();
  toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
  toy_pass(&n, &toy_mixed, 1, 2, toy_none, true);
  assert_int_equal(mem_count(), before);
  network_destroy(&n);
}

static void test_no_allocation(void **state) {
  step_twice(*state, F64);
  step_twice(*state, F32);
}
static void test_no_allocation_bf16(void **state) { step_twice(*state, BF16); }

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_forward_only),
      cmocka_unit_test(test_wanted_rows),
      cmocka_unit_test(test_no_row_scored),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_threads_bf16),
      cmocka_unit_test(test_f32),
      cmocka_unit_test(test_bf16),
      cmocka_unit_test(test_bind),
      cmocka_unit_test(test_bind_bf16),
      cmocka_unit_test(test_tokens_matter),
      cmocka_unit_test(test_dropout_matters),
      cmocka_unit_test(test_time_matters),
      cmocka_unit_test(test_ready),
      cmocka_unit_test(test_no_allocation),
      cmocka_unit_test(test_no_allocation_bf16),
  };
  return toy_networks_main(tests, sizeof tests / sizeof *tests);
}
