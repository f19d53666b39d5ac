/* test_dit_same — what changes a result of the network and what must not, bit for bit where nothing else is said:
 * threads, precision, training, whose parameters the layers see, neighbours in the batch, padding, time, dropout. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, TOKENS = TOY_TOKENS };

static void open_toy(Network *n, const Toy *t) {
  toy_open(n, t);
  toy_weights(n, 1, 1.5);
}

/* ---- the same tests for each precision; bf16 only where the processor has products of it */
typedef enum Precision { F64, F32, BF16 } Precision;

static Toy toy_in(Precision precision, bool time) {
  Toy t = toy_dit(precision == F64 ? "cpu_f64" : "cpu", time);
  t.device.bf16 = precision == BF16;
  return t;
}

static void need_bf16(void) {
  if (check_has_bf16()) return;
  print_message("# skip: this processor has no bf16 products\n");
  skip();
}

/* A masked pad is counted as masked, is not scored, and is seen by attention. */
static void test_padding(void **state) {
  (void)state;
  Network n;
  Toy t = toy_dit("cpu_f64", false);
  open_toy(&n, &t);
  ToyBatch changed = toy_mixed;
  double loss = toy_pass(&n, &toy_mixed, 0, B, toy_none, false);
  assert_int_equal(n.noised.n_rows, 2 + 2 + 3);
  assert_int_equal(n.noised.masked, 7); /* not the pad */
  assert_int_equal(n.noised.scored, 5 + 3 + 5);
  changed.x0[L + 3] = 1; /* the clean token under a masked pad is no one's target */
  assert_true(toy_pass(&n, &changed, 0, B, toy_none, false) == loss);
  changed.z[L + 4] = 1;
  assert_true(fabs(toy_pass(&n, &changed, 0, B, toy_none, false) - loss) > 1e-6);
  network_destroy(&n);
}

/* ---- a network that only looks shares activations between blocks: same bits */
static void test_forward_only(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    Network n, still;
    Toy t = toy_dit(i % 2 ? "cpu" : "cpu_f64", i / 2);
    t.model.blocks = 3;
    open_toy(&n, &t);
    t.model.training = false;
    open_toy(&still, &t);
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

/* ---- threads: same bits */
static void same_with_threads(Precision precision) {
  double *h[2], *grad[2], loss[2];
  int64_t count = 0;
  for (int k = 0; k < 2; k++) {
    Network n;
    Toy t = toy_in(precision, true);
    t.device.threads = k + 1;
    open_toy(&n, &t);
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
  (void)state;
  same_with_threads(F64);
  same_with_threads(F32);
}
static void test_threads_bf16(void **state) {
  (void)state;
  need_bf16();
  same_with_threads(BF16);
}

/* ---- precisions: the same weights, so only roundings differ. The error of the hidden rows is returned. */
static double compare_with_f64(Precision precision, bool time, double bound, double gradient_bound) {
  Network f64, low;
  Toy t = toy_in(F64, time), t_low = toy_in(precision, time);
  open_toy(&f64, &t);
  open_toy(&low, &t_low);
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
  (void)state;
  for (int time = 0; time < 2; time++) compare_with_f64(F32, time, 1e-5, 1e-5);
}
static void test_bf16(void **state) {
  (void)state;
  need_bf16();
  for (int time = 0; time < 2; time++) {
    double error = compare_with_f64(BF16, time, 3e-2, 0.1);
    assert_true(error > 1e-4); /* the bf16 copies were really used */
  }
}

/* ---- other values under the same layers (the moving average), and back */
static void bind_and_back(Precision precision) {
  Network n, other;
  Toy t = toy_in(precision, false);
  open_toy(&n, &t);
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
  (void)state;
  bind_and_back(F64);
  bind_and_back(F32);
}
static void test_bind_bf16(void **state) {
  (void)state;
  need_bf16();
  bind_and_back(BF16);
}

/* ---- a sequence's result does not depend on its neighbours; time and dropout are seen */
static void test_inputs_matter(void **state) {
  (void)state;
  Network n, timeless;
  Toy t = toy_dit("cpu_f64", true);
  open_toy(&n, &t);
  t.model.time_conditioning = false;
  open_toy(&timeless, &t);
  double *all = toy_hidden(&n, &toy_mixed, 0, B, toy_quarter), *one = toy_hidden(&n, &toy_mixed, 2, 1, toy_quarter);
  assert_true(check_error(one, all + 2 * L * D, L * D) <= 1e-13);
  ToyBatch later = toy_mixed;
  later.t[2] = 0.9;
  double *moved = toy_hidden(&n, &later, 0, B, toy_quarter);
  toy_same("the other sequences", moved, all, 2 * L * D);
  assert_true(check_error(moved + 2 * L * D, all + 2 * L * D, L * D) > 1e-3);
  Dropout next = toy_quarter;
  next.step++;
  double *other_bits = toy_hidden(&n, &toy_mixed, 0, B, next), *full = toy_hidden(&n, &toy_mixed, 0, B, toy_none);
  assert_true(check_error(other_bits, all, TOKENS * D) > 1e-2);
  assert_true(check_error(full, all, TOKENS * D) > 1e-2);
  double *still = toy_hidden(&timeless, &toy_mixed, 0, B, toy_none),
         *still_later = toy_hidden(&timeless, &later, 0, B, toy_none);
  toy_same("without time conditioning", still_later, still, TOKENS * D);
  double *every[] = {all, one, moved, other_bits, full, still, still_later};
  for (int i = 0; i < 7; i++) mem_free(&every[i]);
  network_destroy(&n);
  network_destroy(&timeless);
}

/* ---- every dropout of the network has bits of its own
 *
 * Weights are such that the four branches of two blocks add 1, 2, 4 and 8 to every unit of a zero stream: attention
 * averages values that are all 1, the MLP is its bias. With p = ½ a unit ends on one of 16 levels, which a row's norm
 * keeps apart; were two of the dropouts alike, only 8 would be in reach. */
static void set_all(Network *n, const char *name, int64_t first, int64_t count, double value) {
  Param *p = params_find(&n->model.params, name);
  assert_non_null(p);
  for (int64_t i = first; i < first + count; i++)
    MUST(tensor_upload(&n->dev, tensor_rows(n->model.params.value, p->offset + i, 1), &value));
}

static void constant_branches(Network *n) {
  enum { SHIFT1 = 0, GATE1 = 2 * D, GATE2 = 5 * D };
  set_all(n, "output_layer.norm_final.weight", 0, D, 1);
  for (int i = 0; i < 2; i++) {
    char name[64];
#define NAME(part) (snprintf(name, sizeof name, "blocks.%d." part, i), name)
    set_all(n, NAME("adaLN_modulation.bias"), SHIFT1, D, 1);
    set_all(n, NAME("adaLN_modulation.bias"), GATE1, D, 1);
    set_all(n, NAME("adaLN_modulation.bias"), GATE2, D, 1);
    set_all(n, NAME("attn_qkv.weight"), 2 * D * D, D * D, 1.0 / D);
    set_all(n, NAME("attn_out.weight"), 0, D * D, (i ? 4.0 : 1.0) / D);
    set_all(n, NAME("mlp.2.bias"), 0, D, i ? 8 : 2);
#undef NAME
  }
}

static void test_dropouts_differ(void **state) {
  (void)state;
  Network n;
  Toy t = toy_dit("cpu_f64", false);
  toy_open(&n, &t);
  constant_branches(&n);
  Dropout half = {.p = 0.5, .seed = 5};
  double *h = toy_hidden(&n, &toy_mixed, 0, B, half), levels = 0;
  for (int r = 0; r < TOKENS; r++)
    for (int i = 0; i < D; i++) {
      bool met = false;
      for (int j = 0; j < i; j++) met |= fabs(h[r * D + i] - h[r * D + j]) < 1e-6;
      levels += !met;
    }
  /* D units on k levels meet k(1 − (1 − 1/k)¹⁶) of them: 10.3 of 16, 7.1 of 8 */
  assert_true(levels / TOKENS > 9 && levels / TOKENS < 11.5);
  mem_free(&h);
  network_destroy(&n);
}

/* ---- no allocation in a step */
static void step_twice(Precision precision) {
  Network n;
  Toy t = toy_in(precision, true);
  open_toy(&n, &t);
  toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
  size_t before = mem_count();
  toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
  toy_pass(&n, &toy_mixed, 1, 2, toy_none, true);
  assert_int_equal(mem_count(), before);
  network_destroy(&n);
}

static void test_no_allocation(void **state) {
  (void)state;
  step_twice(F64);
  step_twice(F32);
}
static void test_no_allocation_bf16(void **state) {
  (void)state;
  need_bf16();
  step_twice(BF16);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_padding),       cmocka_unit_test(test_forward_only),
      cmocka_unit_test(test_threads),       cmocka_unit_test(test_threads_bf16),
      cmocka_unit_test(test_f32),           cmocka_unit_test(test_bf16),
      cmocka_unit_test(test_bind),          cmocka_unit_test(test_bind_bf16),
      cmocka_unit_test(test_inputs_matter), cmocka_unit_test(test_dropouts_differ),
      cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_no_allocation_bf16),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
