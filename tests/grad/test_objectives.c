/* test_objectives — the gradient of each objective's loss through a small network against finite differences in f64:
 * with padding, at the first and the last time step, with rows fully masked and rows without a mask. */
#include "toy_slope.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { B = TOY_B, MASK = TOY_MASK };

typedef struct Case {
  const char *label, *schedule; /* the network is dit; ar for objective ar */
  ObjectiveOptions objective;
} Case;

static const Case cases[] = {
    {"subs, 4 steps", "loglinear", {.name = "subs", .T = 4}},
    {"subs, importance", "linear", {.name = "subs", .law = {.name = "importance"}}},
    {"subs, change of variables", "loglinear", {.name = "subs", .change_of_variables = true}},
    {"subs, geometric", "geometric", {.name = "subs"}},
    {"subs, cosine", "cosine", {.name = "subs"}},
    {"subs, cosinesqr", "cosinesqr", {.name = "subs"}},
    {"d3pm, 1 step", "loglinear", {.name = "d3pm", .T = 1}},
    {"d3pm, 4 steps", "loglinear", {.name = "d3pm", .T = 4}},
    {"d3pm, 4 steps, subs_masking", "loglinear", {.name = "d3pm", .T = 4, .subs_masking = true}},
    {"sedd", "loglinear", {.name = "sedd"}},
    {"sedd, linear", "linear", {.name = "sedd"}},
    {"ar", "loglinear", {.name = "ar"}},
    {"subs, clip", "loglinear", {.name = "subs", .law = {.name = "clip", .clip_low = 0.1, .clip_high = 0.7}}},
    {"subs, normal", "cosine", {.name = "subs", .law = {.name = "normal", .normal_mean = 0.5, .normal_width = 0.2}}},
    {"subs, beta", "loglinear", {.name = "subs", .law = {.name = "beta", .beta_a = 1.5, .beta_b = 1}}},
    {"subs, weight one", "loglinear", {.name = "subs", .plain = true}},
    {"subs, weight one, normal",
     "loglinear",
     {.name = "subs", .plain = true, .law = {.name = "normal", .normal_mean = 0.5, .normal_width = 0.2}}},
    {"uniform", "loglinear", {.name = "uniform"}},
    {"uniform, geometric", "geometric", {.name = "uniform"}},
    {"uniform, normal",
     "loglinear",
     {.name = "uniform", .law = {.name = "normal", .normal_mean = 0.5, .normal_width = 0.2}}},
    {"sedd, normal", "loglinear", {.name = "sedd", .law = {.name = "normal", .normal_mean = 0.5, .normal_width = 0.2}}},
};
enum { CASES = sizeof cases / sizeof *cases };

/* one sequence fully masked at t = 1, one without masks, one with a masked token and a masked padding position */
static const ToyBatch ends = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                              .z = {MASK, MASK, MASK, MASK, MASK, 9, 2, 6, 5, 3, 0, 7, MASK, 2, MASK},
                              .length = {5, 5, 4},
                              .t = {1, 0.25, 0.25}};

/* The batch of a case: where noise has no masks, other tokens take their place. */
static const ToyBatch *batch_of(const Case *c, const ToyBatch *batch) {
  static ToyBatch replaced;
  if (strcmp(c->objective.name, "uniform") != 0) return batch;
  replaced = *batch;
  for (int i = 0; i < TOY_TOKENS; i++)
    if (replaced.z[i] == MASK) replaced.z[i] = (replaced.x0[i] + 1) % MASK;
  return &replaced;
}

static void open_case(Network *n, const Case *c, const char *backend) {
  bool causal = strcmp(c->objective.name, "ar") == 0;
  Toy t = toy_dit(backend, !causal);
  t.model.name = causal ? "ar" : "dit";
  t.schedule = c->schedule;
  t.objective = c->objective;
  t.objective.tau = 1e-3;
  toy_open(n, &t);
  toy_weights(n, 1, 1.5);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    Network n;
    open_case(&n, &cases[i], "cpu_f64");
    toy_pass_slopes(&n, batch_of(&cases[i], &toy_mixed), 0, B, toy_none, 4);
    toy_pass_slopes(&n, batch_of(&cases[i], &toy_mixed), 0, B, toy_quarter, 1);
    toy_pass_slopes(&n, batch_of(&cases[i], &ends), 0, B, toy_none, 4);
    network_destroy(&n);
  }
}

/* All results are finite, in f32 too and at the first time of continuous time; f32 agrees with f64 up to rounding. */
static void test_ends_are_finite(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    double loss[2], *grad[2];
    ToyBatch batch = *batch_of(&cases[i], &ends);
    if (cases[i].objective.T == 0) batch.t[1] = batch.t[2] = 1e-3;
    for (int f32 = 0; f32 < 2; f32++) {
      Network n;
      open_case(&n, &cases[i], f32 ? "cpu" : "cpu_f64");
      grad[f32] = toy_gradients(&n, &batch, 0, B, toy_none, &loss[f32]);
      assert_true(isfinite(loss[f32]) && loss[f32] != 0);
      for (int64_t k = 0; k < n.model.params.count; k++) assert_true(isfinite(grad[f32][k]));
      if (f32) toy_near(cases[i].label, &n.model.params, grad[1], grad[0], 1e-4);
      network_destroy(&n);
    }
    if (!(fabs(loss[1] - loss[0]) <= 1e-5 * fabs(loss[0])))
      fail_msg("%s: %g in f32, %g in f64", cases[i].label, loss[1], loss[0]);
    mem_free(&grad[0]);
    mem_free(&grad[1]);
  }
}

/* d3pm has a second pass, which scores every real position; the other objectives have none. Uniform noise scores all. */
static void test_passes(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    Network n;
    double loss[B];
    int64_t rows = 0;
    const ToyBatch *batch = batch_of(&cases[i], &ends);
    open_case(&n, &cases[i], "cpu_f64");
    noised_begin(&n.noised, B);
    for (int b = 0; b < B; b++) {
      for (int l = 0; l < TOY_L; l++) n.noised.z[b * TOY_L + l] = batch->z[b * TOY_L + l];
      noised_add(&n.objective, &n.noised, b, ends.x0 + b * TOY_L, ends.length[b], ends.t[b]);
    }
    MUST(network_loss(&n, &toy_none, false, loss, &rows));
    bool twice = network_passes(&n) == 2;
    assert_true(twice == (strcmp(n.objective.table->name, "d3pm") == 0));
    bool causal = !n.objective.diffusion;
    bool every = n.objective.replaces;
    assert_int_equal(rows, causal ? 4 + 4 + 3 : every ? 5 + 5 + 4 : 5 + 0 + 1 + (twice ? 5 + 5 + 4 : 0));
    assert_int_equal(n.noised.scored, causal ? 4 + 4 + 3 : 5 + 5 + 4);
    assert_int_equal(n.noised.masked, causal ? 0 : 5 + 0 + 1);          /* without the padding */
    assert_true(twice || causal || every ? loss[1] > 0 : loss[1] == 0); /* the sequence without masks */
    network_destroy(&n);
  }
}

/* The second pass of d3pm sees the clean tokens at noise level 0, and its dropout mask differs from the first pass's.
 */
static void test_dropout_of_the_second_pass(void **state) {
  (void)state;
  Network n;
  double loss[B], again[2][TOY_TOKENS];
  int64_t rows = 0, real = 0;
  open_case(&n, &cases[7], "cpu_f64");
  Noised *z = &n.noised;
  noised_begin(z, B);
  for (int b = 0; b < B; b++) {
    memcpy(z->z + b * TOY_L, ends.z + b * TOY_L, TOY_L * sizeof *z->z);
    noised_add(&n.objective, z, b, ends.x0 + b * TOY_L, ends.length[b], ends.t[b]);
    real += ends.length[b];
  }
  MUST(network_loss(&n, &toy_quarter, false, loss, &rows));
  assert_int_equal(z->n_rows, real);
  for (int same = 0; same < 2; same++) { /* z still lists the rows of the second pass */
    const double sigma[B] = {0};
    ModelInput in = {.B = B, .ids = ends.x0, .sigma = sigma, .rows = z->rows, .n_rows = z->n_rows};
    in.dropout = toy_quarter;
    if (same) in.dropout.layer += 1 << 20;
    MUST(model_forward(&n.model, &in));
    MUST(rows_loss(&n.rows, &n.objective, z, false, again[same]));
  }
  toy_same("the second pass", n.row_loss, again[1], real);
  for (int64_t i = 0; i < real; i++) assert_true(n.row_loss[i] != again[0][i]);
  network_destroy(&n);
}

/* With two passes, gradients are reported as final in the second one only. */
static void test_ready(void **state) {
  (void)state;
  for (int i = 0; i < CASES; i++) {
    Network n;
    open_case(&n, &cases[i], "cpu_f64");
    toy_ready(&n, batch_of(&cases[i], &ends), toy_quarter);
    network_destroy(&n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_slopes), cmocka_unit_test(test_ends_are_finite),
                                     cmocka_unit_test(test_passes), cmocka_unit_test(test_dropout_of_the_second_pass),
                                     cmocka_unit_test(test_ready)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
