/* test_dimamba — the state-space network: its parameters, its gradients against finite differences in f64, that both
 * directions are alike, and what changes a result and what must not. */
#include "toy_slope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, V = TOY_V, C = 8, E = 2 * D, S = 16, TOKENS = TOY_TOKENS, MASK = TOY_MASK };
enum { SOME = 16 };

static const ToyBatch extremes = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                                  .z = {MASK, MASK, MASK, MASK, MASK, 9, 2, 6, 5, 3, 0, 7, MASK, 2, 8},
                                  .length = {5, 5, 4},
                                  .t = {1, 0.1, 0.4}};
static const ToyBatch clean = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                               .z = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                               .length = {5, 5, 5},
                               .t = {0.1, 0.2, 0.3}};

static Toy toy_dimamba(const char *backend, bool time) {
  Toy t = toy_dit(backend, time);
  t.model.name = "dimamba";
  t.model.heads = 5; /* of no meaning here: 5 would not divide the width */
  return t;
}

static void open_toy(Network *n, const Toy *t) {
  toy_open(n, t);
  toy_weights(n, 1, 1); /* with more, the loss bends too much for the steps of the finite differences */
}

/* ---- parameters and work */
typedef struct Row {
  const char *name;
  int64_t dims[3];
} Row;
#define FWD "model.bimamba.backbone.layers.%d.mixer.mamba_fwd."
#define REV "model.bimamba.backbone.layers.%d.mixer.mamba_rev."
#define ALL "model.bimamba.backbone."
enum { RANK = D / 16 };
static const Row before[] = {{"sigma_map.mlp.0.weight", {C, 256}},
                             {"sigma_map.mlp.0.bias", {C}},
                             {"sigma_map.mlp.2.weight", {C, C}},
                             {"sigma_map.mlp.2.bias", {C}},
                             {ALL "embeddings.word_embeddings.weight", {V, D}}};
static const Row block[] = {{ALL "layers.%d.norm.weight", {D}},
                            {FWD "A_log", {E, S}},
                            {FWD "D", {E}},
                            {FWD "in_proj.weight", {2 * E, D}},
                            {FWD "conv1d.weight", {E, 1, 4}},
                            {FWD "conv1d.bias", {E}},
                            {FWD "x_proj.weight", {RANK + 2 * S, E}},
                            {FWD "dt_proj.weight", {E, RANK}},
                            {FWD "dt_proj.bias", {E}},
                            {FWD "out_proj.weight", {D, E}},
                            {REV "A_log", {E, S}},
                            {REV "D", {E}},
                            {REV "conv1d.weight", {E, 1, 4}},
                            {REV "conv1d.bias", {E}},
                            {REV "x_proj.weight", {RANK + 2 * S, E}},
                            {REV "dt_proj.weight", {E, RANK}},
                            {REV "dt_proj.bias", {E}},
                            {ALL "layers.%d.adaLN_modulation.weight", {3 * D, C}},
                            {ALL "layers.%d.adaLN_modulation.bias", {3 * D}}};
static const Row after[] = {{ALL "adaLN_modulation_final.weight", {2 * D, C}},
                            {ALL "adaLN_modulation_final.bias", {2 * D}},
                            {ALL "norm_f.weight", {D}},
                            {"model.lm_head.weight", {V, D}}};
#define ROWS(table) (int)(sizeof(table) / sizeof *(table))

static void check_row(const Params *p, int *index, const Row *row, int i) {
  char name[96];
  const Param *x = &p->list[(*index)++];
  snprintf(name, sizeof name, row->name, i);
  assert_string_equal(x->name, name);
  int rank = row->dims[2] ? 3 : row->dims[1] ? 2 : 1;
  assert_int_equal(x->rank, rank);
  for (int k = 0; k < rank; k++) assert_int_equal(x->dims[k], row->dims[k]);
}

static void test_parameters(void **state) {
  (void)state;
  Network n;
  Toy t = toy_dimamba("cpu", true);
  toy_open(&n, &t);
  Params *p = &n.model.params;
  int index = 0;
  for (int k = 0; k < ROWS(before); k++) check_row(p, &index, &before[k], 0);
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < ROWS(block); k++) check_row(p, &index, &block[k], i);
  for (int k = 0; k < ROWS(after); k++) check_row(p, &index, &after[k], 0);
  assert_int_equal(p->n, index);
  assert_string_equal(p->list[n.model.head_weight].name, "model.lm_head.weight");
  assert_int_equal(n.model.head_bias, -1);
  double body, attention, head;
  model_flops(&n.model, &body, &attention, &head);
  assert_true(body == 2.0 * 2 * (2 * E * D + E * D + 2 * (RANK + 2 * S + RANK) * E));
  assert_true(attention == 0 && head == 2.0 * D * V);
  network_destroy(&n);
}

static void test_refusal(void **state) {
  (void)state;
  Device dev;
  Model m;
  Toy t = toy_dimamba("cpu", false);
  MUST(device_open(&dev, &t.device));
  t.model.mask_padding = true;
  check_refused(model_create(&m, &dev, &t.model), ERR_USAGE, "padding hidden from attention that there is not");
  assert_int_equal(dev.allocated, 0);
  device_close(&dev);
}

/* ---- gradients */
static void slopes(bool time, Dropout dropout, int64_t width, int64_t blocks, int64_t most) {
  Network n;
  Toy t = toy_dimamba("cpu_f64", time);
  t.model.width = width, t.model.blocks = blocks;
  open_toy(&n, &t);
  toy_pass_slopes(&n, &toy_mixed, 0, B, dropout, most);
  network_destroy(&n);
}

static void test_slopes(void **state) {
  (void)state;
  slopes(false, toy_none, 8, 2, TOY_EVERY);
  slopes(false, toy_quarter, D, 2, SOME);
}
static void test_slopes_time(void **state) {
  (void)state;
  slopes(true, toy_none, D, 3, SOME);
  slopes(true, toy_quarter, 8, 1, TOY_EVERY);
}
static void test_slopes_wide(void **state) { /* δ of more than one column, whose last group is not full */
  (void)state;
  slopes(true, toy_none, 40, 1, SOME);
}

/* The gradients must depend on everything they are tested with: else a test above could pass by testing nothing. */
static void test_every_parameter_matters(void **state) {
  (void)state;
  Network n;
  Toy t = toy_dimamba("cpu_f64", true);
  open_toy(&n, &t);
  double *grad = toy_gradients(&n, &toy_mixed, 0, B, toy_quarter, NULL);
  for (int i = 0; i < n.model.params.n; i++) {
    const Param *x = &n.model.params.list[i];
    int64_t zero = 0;
    for (int64_t k = 0; k < x->count; k++) zero += grad[x->offset + k] == 0;
    /* tokens that are never seen and the head of the mask token have no gradient */
    bool by_token = strcmp(x->name, ALL "embeddings.word_embeddings.weight") == 0 || i == n.model.head_weight;
    if (!by_token && zero != 0) fail_msg("%s: %lld elements have no gradient", x->name, (long long)zero);
    if (zero == x->count) fail_msg("%s has no gradient", x->name);
  }
  mem_free(&grad);
  network_destroy(&n);
}

/* ---- gradients add up; fewer sequences than there is room for; nothing of an earlier, larger pass may leak in */
static void test_parts(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network n, small;
    Toy t = toy_dimamba("cpu_f64", time);
    open_toy(&n, &t);
    t.model.batch = 2;
    open_toy(&small, &t);
    Params *p = &n.model.params;
    double loss, part, small_loss, *whole = toy_gradients(&n, &toy_mixed, 0, B, toy_quarter, &loss);
    double *two = toy_gradients(&n, &toy_mixed, 1, 2, toy_quarter, &part);
    double *want = toy_gradients(&small, &toy_mixed, 1, 2, toy_quarter, &small_loss);
    assert_true(fabs(part - small_loss) <= 1e-13 * part);
    toy_near("two of three sequences", p, two, want, 1e-12);
    MUST(tensor_zero(&n.dev, p->grad));
    double parts =
        toy_pass(&n, &toy_mixed, 0, 1, toy_quarter, true) + toy_pass(&n, &toy_mixed, 1, 2, toy_quarter, true);
    double *sum = toy_values(&n, p->grad);
    assert_true(fabs(parts - loss) <= 1e-13 * loss);
    toy_near("a batch in two parts", p, sum, whole, 1e-12);
    double *all[] = {whole, two, want, sum};
    for (int i = 0; i < 4; i++) mem_free(&all[i]);
    network_destroy(&small);
    network_destroy(&n);
  }
}

/* ---- all masked, none masked */
static void test_extremes(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network n;
    Toy t = toy_dimamba("cpu_f64", time);
    open_toy(&n, &t);
    toy_pass_slopes(&n, &extremes, 0, B, toy_none, 4);
    double loss, *grad = toy_gradients(&n, &clean, 0, B, toy_none, &loss); /* nothing to score: no loss, no gradient */
    assert_int_equal(n.noised.n_rows, 0);
    assert_true(loss == 0);
    for (int64_t i = 0; i < n.model.params.count; i++) assert_true(grad[i] == 0);
    mem_free(&grad);
    network_destroy(&n);
  }
}

/* ---- the directions: with the same weights, a sequence read backwards has its hidden rows backwards */
static void make_directions_alike(Network *n) {
  int copies = 0;
  for (int i = 0; i < n->model.params.n; i++) {
    const Param *rev = &n->model.params.list[i];
    char name[sizeof rev->name];
    memcpy(name, rev->name, sizeof name);
    char *at = strstr(name, "mamba_rev");
    if (at == NULL) continue;
    memcpy(at, "mamba_fwd", strlen("mamba_fwd"));
    MUST(tensor_copy(&n->dev, rev->value, params_find(&n->model.params, name)->value));
    copies++;
  }
  assert_int_equal(copies, 2 * 7);
}

static void test_directions(void **state) {
  (void)state;
  Network n;
  Toy t = toy_dimamba("cpu_f64", false);
  open_toy(&n, &t);
  ToyBatch back = toy_mixed;
  for (int i = 0; i < TOKENS; i++) back.z[i] = toy_mixed.z[i / L * L + L - 1 - i % L];
  double *unlike = toy_hidden(&n, &toy_mixed, 0, B, toy_none), *unlike_back = toy_hidden(&n, &back, 0, B, toy_none);
  make_directions_alike(&n);
  double *h = toy_hidden(&n, &toy_mixed, 0, B, toy_none), *h_back = toy_hidden(&n, &back, 0, B, toy_none);
  double worst = 0, worst_unlike = 0;
  for (int r = 0; r < TOKENS; r++) {
    int mirror = r / L * L + L - 1 - r % L;
    worst = fmax(worst, check_error(h_back + mirror * D, h + r * D, D));
    worst_unlike = fmax(worst_unlike, check_error(unlike_back + mirror * D, unlike + r * D, D));
  }
  assert_true(worst <= 1e-12);
  assert_true(worst_unlike > 1e-3);
  double *all[] = {unlike, unlike_back, h, h_back};
  for (int i = 0; i < 4; i++) mem_free(&all[i]);
  network_destroy(&n);
}

/* ---- a sequence's result does not depend on its neighbours; every token, time and dropout are seen */
static void test_inputs_matter(void **state) {
  (void)state;
  Network n, timeless;
  Toy t = toy_dimamba("cpu_f64", true);
  open_toy(&n, &t);
  t.model.time_conditioning = false;
  open_toy(&timeless, &t);
  double *all = toy_hidden(&n, &toy_mixed, 0, B, toy_quarter), *one = toy_hidden(&n, &toy_mixed, 2, 1, toy_quarter);
  toy_same("a sequence alone", one, all + 2 * L * D, L * D);
  ToyBatch other = toy_mixed;
  other.z[2 * L + 2] = 7; /* the middle of the last sequence: seen before and after it */
  double *moved = toy_hidden(&n, &other, 0, B, toy_quarter);
  toy_same("the other sequences", moved, all, 2 * L * D);
  for (int r = 2 * L; r < 3 * L; r++) assert_true(check_error(moved + r * D, all + r * D, D) > 1e-6);
  ToyBatch later = toy_mixed;
  later.t[2] = 0.9;
  double *later_h = toy_hidden(&n, &later, 0, B, toy_quarter);
  assert_true(check_error(later_h + 2 * L * D, all + 2 * L * D, L * D) > 1e-3);
  Dropout next = toy_quarter;
  next.step++;
  double *other_bits = toy_hidden(&n, &toy_mixed, 0, B, next), *full = toy_hidden(&n, &toy_mixed, 0, B, toy_none);
  assert_true(check_error(other_bits, all, TOKENS * D) > 1e-2);
  assert_true(check_error(full, all, TOKENS * D) > 1e-2);
  double *still = toy_hidden(&timeless, &toy_mixed, 0, B, toy_none),
         *still_later = toy_hidden(&timeless, &later, 0, B, toy_none);
  toy_same("without time conditioning", still_later, still, TOKENS * D);
  double *every[] = {all, one, moved, later_h, other_bits, full, still, still_later};
  for (int i = 0; i < 8; i++) mem_free(&every[i]);
  network_destroy(&n);
  network_destroy(&timeless);
}

/* ---- every dropout of the network has bits of its own
 *
 * Weights are such that four blocks add 1, 2, 4 and 8 to every unit of a zero stream: convolution, skip and gate see
 * ones. With p = ½ a unit ends on one of 16 levels, which a row's norm keeps apart; were two of the dropouts alike,
 * only 8 would be in reach. */
static void set_all(Network *n, const char *name, int i, int64_t first, int64_t count, double value) {
  char full[96];
  snprintf(full, sizeof full, name, i);
  Param *p = params_find(&n->model.params, full);
  assert_non_null(p);
  for (int64_t k = p->offset + first; k < p->offset + first + count; k++)
    MUST(tensor_upload(&n->dev, tensor_rows(n->model.params.value, k, 1), &value));
}

static void constant_branches(Network *n) {
  const double silu1 = 1 / (1 + exp(-1));
  set_all(n, ALL "norm_f.weight", 0, 0, D, 1);
  for (int i = 0; i < 4; i++) {
    set_all(n, ALL "layers.%d.adaLN_modulation.bias", i, 0, D, 1);     /* shift: the input of the block is 1 */
    set_all(n, ALL "layers.%d.adaLN_modulation.bias", i, 2 * D, D, 1); /* gate */
    set_all(n, FWD "in_proj.weight", i, E * D, E * D, 1.0 / D);        /* z = 1 */
    set_all(n, FWD "conv1d.bias", i, 0, E, 1);
    set_all(n, FWD "D", i, 0, E, 1 / silu1); /* y = 1 */
    set_all(n, FWD "out_proj.weight", i, 0, D * E, (1 << i) / (silu1 * E));
  }
}

static void test_dropouts_differ(void **state) {
  (void)state;
  Network n;
  Toy t = toy_dimamba("cpu_f64", false);
  t.model.blocks = 4;
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

/* ---- a network that only looks shares activations between blocks: same bits */
static void test_forward_only(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network n, still;
    Toy t = toy_dimamba("cpu", time);
    t.model.blocks = 3;
    open_toy(&n, &t);
    t.model.training = false;
    open_toy(&still, &t);
    assert_true(still.model.arena.size < n.model.arena.size);
    for (int count = B; count > 0; count--) {
      double *want = toy_hidden(&n, &toy_mixed, 0, count, toy_none),
             *got = toy_hidden(&still, &toy_mixed, 0, count, toy_none);
      toy_same("hidden rows without training", got, want, count * L * D);
      mem_free(&want);
      mem_free(&got);
    }
    network_destroy(&n);
    network_destroy(&still);
  }
}

/* ---- precisions: the same weights, so only roundings differ; threads: same bits; no allocation in a step */
static double *step_of(const Toy *t, double *loss) {
  Network n;
  open_toy(&n, t);
  double *grad = toy_gradients(&n, &toy_mixed, 0, B, toy_quarter, loss);
  size_t before_step = mem_count();
  toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
  toy_pass(&n, &toy_mixed, 1, 2, toy_none, true);
  assert_int_equal(mem_count(), before_step);
  network_destroy(&n);
  return grad;
}

static void precisions(bool bf16, double loss_bound, double gradient_bound) {
  Network names; /* for toy_near */
  Toy t = toy_dimamba("cpu_f64", true), low = toy_dimamba("cpu", true);
  low.device.bf16 = bf16;
  toy_open(&names, &t);
  double want_loss, loss, again, *want = step_of(&t, &want_loss), *got = step_of(&low, &loss);
  low.device.threads = 2;
  double *threads = step_of(&low, &again);
  toy_same("gradients with two threads", threads, got, names.model.params.count);
  assert_true(again == loss);
  assert_true(fabs(loss - want_loss) <= loss_bound * want_loss);
  if (bf16) assert_true(fabs(loss - want_loss) > 1e-6 * want_loss); /* the bf16 copies were really used */
  toy_near("gradients", &names.model.params, got, want, gradient_bound);
  double *all[] = {want, got, threads};
  for (int i = 0; i < 3; i++) mem_free(&all[i]);
  network_destroy(&names);
}

static void test_f32(void **state) {
  (void)state;
  precisions(false, 1e-5, 2e-5);
}
static void test_bf16(void **state) {
  (void)state;
  if (!check_has_bf16()) {
    print_message("# skip: this processor has no bf16 products\n");
    skip();
  }
  precisions(true, 3e-2, 0.15);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_parameters),
      cmocka_unit_test(test_refusal),
      cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_slopes_time),
      cmocka_unit_test(test_slopes_wide),
      cmocka_unit_test(test_every_parameter_matters),
      cmocka_unit_test(test_parts),
      cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_directions),
      cmocka_unit_test(test_inputs_matter),
      cmocka_unit_test(test_dropouts_differ),
      cmocka_unit_test(test_forward_only),
      cmocka_unit_test(test_f32),
      cmocka_unit_test(test_bf16),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
