/* test_dit — the whole network and its loss: gradients against finite differences in f64, and what must not change a
 * result: the rows of logits held at a time, the number of threads, the batch a sequence stands in. */
#include "toy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

enum { B = 3, L = 5, V = 11, MASK = 10, TOKENS = B * L };

typedef struct Batch {
  int32_t x0[TOKENS], z[TOKENS], length[B];
  double t[B];
} Batch;

/* padded: a masked pad is not scored, but attention sees it */
static const Batch mixed = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                            .z = {3, MASK, MASK, 1, 5, MASK, 2, MASK, MASK, 3, 0, MASK, 8, MASK, MASK},
                            .length = {5, 3, 5},
                            .t = {0.31, 0.77, 0.52}};
/* one sequence fully masked, one without a mask, and one as usual */
static const Batch extremes = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                               .z = {MASK, MASK, MASK, MASK, MASK, 9, 2, 6, 5, 3, 0, 7, MASK, 2, 8},
                               .length = {5, 5, 4},
                               .t = {1, 0.1, 0.4}};
static const Batch clean = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                            .z = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                            .length = {5, 5, 5},
                            .t = {0.1, 0.2, 0.3}};

static const Dropout none = {0};
static const Dropout quarter = {.p = 0.25, .seed = 5, .step = 3, .first = 6};

static Toy toy(const char *backend, bool time) {
  return (Toy){.device = {.name = backend, .threads = 1},
               .model = {.name = "dit",
                         .vocab = V,
                         .length = L,
                         .batch = B,
                         .width = 16,
                         .blocks = 2,
                         .heads = 2,
                         .cond_dim = 8,
                         .mlp_ratio = 4,
                         .time_conditioning = time,
                         .training = true},
               .mask = MASK,
               .eps = 1e-3};
}

static void open_toy(Network *n, const Toy *t) {
  toy_open(n, t);
  toy_weights(n, 1, 1.5);
}

/* pass — Σ of the weighted losses of sequences first … first+count−1; with gradient: parameter gradients += */
static double pass(Network *n, const Batch *b, int first, int count, Dropout dropout, bool gradient) {
  double loss[TOKENS], sum = 0;
  noised_begin(&n->noised, count);
  memcpy(n->noised.z, b->z + first * L, (size_t)(count * L) * sizeof *b->z);
  for (int i = 0; i < count; i++)
    noised_add(&n->objective, &n->noised, i, b->x0 + (first + i) * L, b->length[first + i], b->t[first + i]);
  dropout.first += first;
  ModelInput in = {.B = count, .ids = n->noised.z, .sigma = n->noised.sigma, .dropout = dropout};
  MUST(model_forward(&n->model, &in));
  MUST(rows_loss(&n->rows, &n->objective, &n->noised, gradient, loss));
  if (gradient) MUST(model_backward(&n->model, &in));
  for (int64_t i = 0; i < n->noised.n_rows; i++) sum += loss[i];
  return sum;
}

/* gradients — of the pass alone, on the host; *loss may be NULL */
static double *gradients(Network *n, const Batch *b, int first, int count, Dropout dropout, double *loss) {
  MUST(tensor_zero(&n->dev, n->model.params.grad));
  double sum = pass(n, b, first, count, dropout, true);
  if (loss) *loss = sum;
  return toy_values(n, n->model.params.grad);
}

static double *hidden(Network *n, const Batch *b, int first, int count, Dropout dropout) {
  pass(n, b, first, count, dropout, false);
  return toy_values(n, tensor_rows(n->model.h, 0, count * L));
}

/* near — fail unless each parameter's part of a flat buffer agrees, relative to its largest element */
static void near(const char *what, const Params *p, const double *got, const double *want, double tolerance) {
  for (int i = 0; i < p->n; i++) {
    double error = check_error(got + p->list[i].offset, want + p->list[i].offset, p->list[i].count);
    if (!(error <= tolerance)) fail_msg("%s: %s is off by %.1e", what, p->list[i].name, error);
  }
}

/* ---- finite differences: (8(f(h) − f(−h)) − (f(2h) − f(−2h)))/12h, off by h⁴f⁽⁵⁾/30 and by 10⁻¹⁵/h of rounding */
typedef struct Probe {
  Network *n;
  const Batch *batch;
  int first, count;
  Dropout dropout;
  double *values, *direction, *moved; /* [params.count] */
} Probe;

static double along(const Probe *p, double step) {
  Params *params = &p->n->model.params;
  for (int64_t i = 0; i < params->count; i++) p->moved[i] = p->values[i] + step * p->direction[i];
  MUST(tensor_upload(&p->n->dev, params->value, p->moved));
  return pass(p->n, p->batch, p->first, p->count, p->dropout, false);
}

static double beside(const Probe *p, int64_t element, double step) {
  double x = p->values[element] + step;
  MUST(tensor_upload(&p->n->dev, tensor_rows(p->n->model.params.value, element, 1), &x));
  return pass(p->n, p->batch, p->first, p->count, p->dropout, false);
}

static double slope_along(const Probe *p) {
  const double h = 1e-4;
  return (8 * (along(p, h) - along(p, -h)) - (along(p, 2 * h) - along(p, -2 * h))) / (12 * h);
}

static double slope_beside(const Probe *p, int64_t element) {
  const double h = 1e-3;
  double near_by = beside(p, element, h) - beside(p, element, -h);
  double farther = beside(p, element, 2 * h) - beside(p, element, -2 * h);
  beside(p, element, 0);
  return (8 * near_by - farther) / (12 * h);
}

/* Elements of a parameter: all of them, or `most` drawn ones. An error is relative to the element, or to a hundredth of
 * the parameter's largest gradient where that is more. */
static void compare_elements(const Probe *p, const Param *x, const double *grad, int64_t most) {
  RngKey key = rng_key(11, RNG_TEST, 0, 0, 0);
  double largest = 0;
  for (int64_t i = 0; i < x->count; i++) largest = fmax(largest, fabs(grad[x->offset + i]));
  int64_t n = most < x->count ? most : x->count;
  for (int64_t i = 0; i < n; i++) {
    int64_t k = x->offset + (most < x->count ? (int64_t)(rng_uniform(key, (uint64_t)i) * (double)x->count) : i);
    double slope = slope_beside(p, k), error = fabs(slope - grad[k]);
    if (!(error <= 1e-6 * fmax(fabs(grad[k]), 0.01 * largest)))
      fail_msg("%s[%lld]: the gradient is %.12g, finite differences give %.12g (%s time, dropout %g)", x->name,
               (long long)(k - x->offset), grad[k], slope, p->n->model.options.time_conditioning ? "with" : "without",
               p->dropout.p);
  }
}

static void compare_directions(const Probe *p, const double *grad) {
  int64_t count = p->n->model.params.count;
  for (uint32_t d = 0; d < 3; d++) {
    double norm = 0;
    RngKey key = rng_key(12, RNG_TEST, d, 0, 0);
    for (int64_t i = 0; i < count; i++) {
      p->direction[i] = 2 * rng_uniform(key, (uint64_t)i) - 1;
      norm += p->direction[i] * p->direction[i] * grad[i] * grad[i];
    }
    double slope = slope_along(p), want = check_dot(grad, p->direction, count);
    if (!(fabs(slope - want) <= 1e-7 * sqrt(norm)))
      fail_msg("direction %u: the gradient gives %.12g, finite differences %.12g", d, want, slope);
  }
  MUST(tensor_upload(&p->n->dev, p->n->model.params.value, p->values));
}

static void compare_slopes(Network *n, const Batch *b, int first, int count, Dropout dropout, int64_t most) {
  Params *params = &n->model.params;
  size_t bytes = (size_t)params->count * sizeof(double);
  double *grad = gradients(n, b, first, count, dropout, NULL);
  Probe p = {.n = n, .batch = b, .first = first, .count = count, .dropout = dropout};
  p.values = toy_values(n, params->value);
  MUST(mem_alloc(&p.direction, bytes));
  MUST(mem_alloc(&p.moved, bytes));
  for (int i = 0; i < params->n; i++) compare_elements(&p, &params->list[i], grad, most);
  compare_directions(&p, grad);
  mem_free(&p.direction);
  mem_free(&p.moved);
  mem_free(&p.values);
  mem_free(&grad);
}

enum { EVERY = 1 << 30, SOME = 24 };

static void slopes(bool time, Dropout dropout, int64_t most) {
  Network n;
  Toy t = toy("cpu_f64", time);
  open_toy(&n, &t);
  compare_slopes(&n, &mixed, 0, B, dropout, most);
  network_destroy(&n);
}

static void test_slopes(void **state) {
  (void)state;
  slopes(false, none, EVERY);
}
static void test_slopes_dropout(void **state) {
  (void)state;
  slopes(false, quarter, SOME);
}
static void test_slopes_time(void **state) {
  (void)state;
  slopes(true, none, SOME);
}
static void test_slopes_time_dropout(void **state) {
  (void)state;
  slopes(true, quarter, EVERY);
}

/* The least network: its only block is first and last, its only head is the whole width. */
static void test_slopes_one_block(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network n;
    Toy t = toy("cpu_f64", time);
    t.model.blocks = 1, t.model.heads = 1, t.model.width = 8, t.model.mlp_ratio = 1, t.model.cond_dim = 1;
    open_toy(&n, &t);
    compare_slopes(&n, &mixed, 0, B, quarter, SOME);
    network_destroy(&n);
  }
}

/* The gradients must depend on everything they are tested with: else a test above could pass by testing nothing. */
static void test_every_parameter_matters(void **state) {
  (void)state;
  Network n;
  Toy t = toy("cpu_f64", true);
  open_toy(&n, &t);
  double *grad = gradients(&n, &mixed, 0, B, quarter, NULL);
  for (int i = 0; i < n.model.params.n; i++) {
    const Param *x = &n.model.params.list[i];
    int64_t zero = 0;
    for (int64_t k = 0; k < x->count; k++) zero += grad[x->offset + k] == 0;
    /* tokens that are never seen and the head of the mask token have no gradient */
    bool by_token = strcmp(x->name, "vocab_embed.embedding") == 0 || i == n.model.head_weight || i == n.model.head_bias;
    if (!by_token && zero != 0) fail_msg("%s: %lld elements have no gradient", x->name, (long long)zero);
    if (zero == x->count) fail_msg("%s has no gradient", x->name);
  }
  const Param *head = &n.model.params.list[n.model.head_weight], *bias = &n.model.params.list[n.model.head_bias];
  for (int k = 0; k < 16; k++) assert_true(grad[head->offset + MASK * 16 + k] == 0);
  assert_true(grad[bias->offset + MASK] == 0);
  mem_free(&grad);
  network_destroy(&n);
}

/* ---- fewer sequences than there is room for; nothing of an earlier, larger pass may leak in */
static void test_short_batch(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network n, small;
    Toy t = toy("cpu_f64", time);
    open_toy(&n, &t);
    t.model.batch = 2;
    open_toy(&small, &t);
    double loss, want_loss;
    pass(&n, &mixed, 0, B, quarter, true);
    double *got = gradients(&n, &mixed, 1, 2, quarter, &loss);
    double *want = gradients(&small, &mixed, 1, 2, quarter, &want_loss);
    assert_true(fabs(loss - want_loss) <= 1e-13 * want_loss);
    near("two of three sequences", &n.model.params, got, want, 1e-12);
    compare_slopes(&n, &mixed, 1, 2, quarter, 4);
    mem_free(&got);
    mem_free(&want);
    network_destroy(&small);
    network_destroy(&n);
  }
}

/* ---- gradients add up: over calls, and over the parts of a batch */
static void test_accumulation(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network n;
    Toy t = toy("cpu_f64", time);
    open_toy(&n, &t);
    Params *p = &n.model.params;
    double loss, *once = gradients(&n, &mixed, 0, B, quarter, &loss);
    pass(&n, &mixed, 0, B, quarter, true);
    double *twice = toy_values(&n, p->grad);
    MUST(tensor_zero(&n.dev, p->grad));
    double parts = pass(&n, &mixed, 0, 1, quarter, true) + pass(&n, &mixed, 1, 2, quarter, true);
    double *sum = toy_values(&n, p->grad);
    assert_true(fabs(parts - loss) <= 1e-13 * loss);
    near("a batch in two parts", p, sum, once, 1e-12);
    for (int64_t i = 0; i < p->count; i++) twice[i] /= 2;
    near("two calls of backward", p, twice, once, 1e-13);
    mem_free(&once);
    mem_free(&twice);
    mem_free(&sum);
    network_destroy(&n);
  }
}

/* ---- the number of rows of logits held at a time */
static void test_row_chunks(void **state) {
  (void)state;
  const int64_t chunks[] = {1, 2, 3, 64};
  Network whole;
  Toy t = toy("cpu_f64", true);
  open_toy(&whole, &t);
  double want_loss, loss, *want = gradients(&whole, &mixed, 0, B, quarter, &want_loss);
  for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
    Network n;
    t.device.row_chunk = chunks[i];
    open_toy(&n, &t);
    assert_int_equal(n.rows.chunk, chunks[i] < TOKENS ? chunks[i] : TOKENS);
    double *got = gradients(&n, &mixed, 0, B, quarter, &loss);
    assert_true(fabs(loss - want_loss) <= 1e-14 * want_loss);
    near("rows in chunks", &n.model.params, got, want, 1e-13);
    mem_free(&got);
    network_destroy(&n);
  }
  mem_free(&want);
  network_destroy(&whole);
}

/* ---- all masked, none masked */
static void test_extremes(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network n;
    Toy t = toy("cpu_f64", time);
    open_toy(&n, &t);
    compare_slopes(&n, &extremes, 0, B, none, 4);
    pass(&n, &extremes, 0, B, none, false);
    assert_int_equal(n.noised.n_rows, 5 + 0 + 1);
    assert_int_equal(n.noised.masked, 6);
    assert_int_equal(n.noised.scored, 5 + 5 + 4);

    double loss, *grad = gradients(&n, &clean, 0, B, none, &loss); /* nothing to score: no loss, no gradient */
    assert_int_equal(n.noised.n_rows, 0);
    assert_true(loss == 0);
    for (int64_t i = 0; i < n.model.params.count; i++) assert_true(grad[i] == 0);
    mem_free(&grad);
    network_destroy(&n);
  }
}

/* A masked pad is counted as masked, is not scored, and is seen by attention. */
static void test_padding(void **state) {
  (void)state;
  Network n;
  Toy t = toy("cpu_f64", false);
  open_toy(&n, &t);
  Batch changed = mixed;
  double loss = pass(&n, &mixed, 0, B, none, false);
  assert_int_equal(n.noised.n_rows, 2 + 2 + 3);
  assert_int_equal(n.noised.masked, 8);
  assert_int_equal(n.noised.scored, 5 + 3 + 5);
  changed.x0[L + 3] = 1; /* the clean token under a masked pad is no one's target */
  assert_true(pass(&n, &changed, 0, B, none, false) == loss);
  changed.z[L + 4] = 1;
  assert_true(fabs(pass(&n, &changed, 0, B, none, false) - loss) > 1e-6);
  network_destroy(&n);
}

/* ---- a network that only looks shares activations between blocks: same bits */
static void test_forward_only(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    Network n, still;
    Toy t = toy(i % 2 ? "cpu" : "cpu_f64", i / 2);
    t.model.blocks = 3;
    open_toy(&n, &t);
    t.model.training = false;
    open_toy(&still, &t);
    assert_true(still.model.arena.size < n.model.arena.size);
    assert_true(tensor_none(still.model.params.grad));
    for (int count = B; count > 0; count--) {
      double *want = hidden(&n, &mixed, 0, count, none), *got = hidden(&still, &mixed, 0, count, none);
      toy_same("hidden rows without training", got, want, count * L * 16);
      assert_true(pass(&n, &mixed, 0, count, none, false) == pass(&still, &mixed, 0, count, none, false));
      mem_free(&want);
      mem_free(&got);
    }
    network_destroy(&n);
    network_destroy(&still);
  }
}

/* ---- threads: same bits in every precision */
static void test_threads(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    double *h[2], *grad[2], loss[2];
    int64_t count = 0;
    for (int k = 0; k < 2; k++) {
      Network n;
      Toy t = toy(i == 0 ? "cpu_f64" : "cpu", true);
      t.device.threads = k + 1;
      t.device.bf16 = i == 2;
      open_toy(&n, &t);
      grad[k] = gradients(&n, &mixed, 0, B, quarter, &loss[k]);
      h[k] = hidden(&n, &mixed, 0, B, quarter);
      count = n.model.params.count;
      network_destroy(&n);
    }
    toy_same("loss with two threads", &loss[1], &loss[0], 1);
    toy_same("hidden rows with two threads", h[1], h[0], TOKENS * 16);
    toy_same("gradients with two threads", grad[1], grad[0], count);
    for (int k = 0; k < 2; k++) {
      mem_free(&h[k]);
      mem_free(&grad[k]);
    }
  }
}

/* ---- precisions: the same weights, so only roundings differ */
static void test_precisions(void **state) {
  (void)state;
  for (int time = 0; time < 2; time++) {
    Network f64, f32, bf16;
    Toy t = toy("cpu_f64", time);
    open_toy(&f64, &t);
    t.device.name = "cpu";
    open_toy(&f32, &t);
    t.device.bf16 = true;
    open_toy(&bf16, &t);
    double want, got, low;
    double *grad = gradients(&f64, &mixed, 0, B, quarter, &want),
           *grad32 = gradients(&f32, &mixed, 0, B, quarter, &got);
    double *grad16 = gradients(&bf16, &mixed, 0, B, quarter, &low);
    double *h = hidden(&f64, &mixed, 0, B, quarter), *h32 = hidden(&f32, &mixed, 0, B, quarter),
           *h16 = hidden(&bf16, &mixed, 0, B, quarter);
    assert_true(fabs(got - want) <= 1e-5 * want);
    assert_true(check_error(h32, h, TOKENS * 16) <= 1e-5);
    near("f32 gradients", &f32.model.params, grad32, grad, 1e-5);
    assert_true(fabs(low - want) <= 3e-2 * want);
    assert_true(check_error(h16, h, TOKENS * 16) <= 3e-2);
    assert_true(check_error(h16, h, TOKENS * 16) > 1e-4); /* the bf16 copies were really used */
    near("bf16 gradients", &bf16.model.params, grad16, grad, 0.1);
    double *all[] = {grad, grad32, grad16, h, h32, h16};
    for (int i = 0; i < 6; i++) mem_free(&all[i]);
    network_destroy(&f64);
    network_destroy(&f32);
    network_destroy(&bf16);
  }
}

/* ---- other values under the same layers (the moving average), and back */
static void test_bind(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    Network n, other;
    Toy t = toy(i == 0 ? "cpu_f64" : "cpu", false);
    t.device.bf16 = i == 2;
    open_toy(&n, &t);
    toy_open(&other, &t);
    toy_weights(&other, 2, 1.5);
    double *mine = hidden(&n, &mixed, 0, B, none), *theirs = hidden(&other, &mixed, 0, B, none);
    double loss = pass(&n, &mixed, 0, B, none, false), other_loss = pass(&other, &mixed, 0, B, none, false);
    assert_true(check_error(theirs, mine, TOKENS * 16) > 0.1);
    MUST(params_bind(&n.model.params, other.model.params.value));
    double *bound = hidden(&n, &mixed, 0, B, none);
    toy_same("hidden rows of bound values", bound, theirs, TOKENS * 16);
    assert_true(pass(&n, &mixed, 0, B, none, false) == other_loss);
    MUST(params_bind(&n.model.params, n.model.params.value));
    double *back = hidden(&n, &mixed, 0, B, none);
    toy_same("hidden rows after going back", back, mine, TOKENS * 16);
    assert_true(pass(&n, &mixed, 0, B, none, false) == loss);
    double *all[] = {mine, theirs, bound, back};
    for (int k = 0; k < 4; k++) mem_free(&all[k]);
    network_destroy(&n);
    network_destroy(&other);
  }
}

/* ---- a sequence's result does not depend on its neighbours; time and dropout are seen */
static void test_inputs_matter(void **state) {
  (void)state;
  Network n, timeless;
  Toy t = toy("cpu_f64", true);
  open_toy(&n, &t);
  t.model.time_conditioning = false;
  open_toy(&timeless, &t);
  double *all = hidden(&n, &mixed, 0, B, quarter), *one = hidden(&n, &mixed, 2, 1, quarter);
  assert_true(check_error(one, all + 2 * L * 16, L * 16) <= 1e-13);
  Batch later = mixed;
  later.t[2] = 0.9;
  double *moved = hidden(&n, &later, 0, B, quarter);
  toy_same("the other sequences", moved, all, 2 * L * 16);
  assert_true(check_error(moved + 2 * L * 16, all + 2 * L * 16, L * 16) > 1e-3);
  Dropout next = quarter;
  next.step++;
  double *other_bits = hidden(&n, &mixed, 0, B, next), *full = hidden(&n, &mixed, 0, B, none);
  assert_true(check_error(other_bits, all, TOKENS * 16) > 1e-2);
  assert_true(check_error(full, all, TOKENS * 16) > 1e-2);
  double *still = hidden(&timeless, &mixed, 0, B, none), *still_later = hidden(&timeless, &later, 0, B, none);
  toy_same("without time conditioning", still_later, still, TOKENS * 16);
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
  enum { D = 16, SHIFT1 = 0, GATE1 = 2 * D, GATE2 = 5 * D };
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
  enum { D = 16 };
  Network n;
  Toy t = toy("cpu_f64", false);
  toy_open(&n, &t);
  constant_branches(&n);
  Dropout half = {.p = 0.5, .seed = 5};
  double *h = hidden(&n, &mixed, 0, B, half), levels = 0;
  for (int r = 0; r < TOKENS; r++)
    for (int i = 0; i < D; i++) {
      bool met = false;
      for (int j = 0; j < i; j++) met |= fabs(h[r * D + i] - h[r * D + j]) < 1e-6;
      levels += !met;
    }
  /* 16 units on k levels meet k(1 − (1 − 1/k)¹⁶) of them: 10.3 of 16, 7.1 of 8 */
  assert_true(levels / TOKENS > 9 && levels / TOKENS < 11.5);
  mem_free(&h);
  network_destroy(&n);
}

/* ---- no allocation in a step */
static void test_no_allocation(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    Network n;
    Toy t = toy(i == 0 ? "cpu_f64" : "cpu", true);
    t.device.bf16 = i == 2;
    open_toy(&n, &t);
    pass(&n, &mixed, 0, B, quarter, true);
    size_t before = mem_count();
    pass(&n, &mixed, 0, B, quarter, true);
    pass(&n, &extremes, 0, B, quarter, true);
    assert_int_equal(mem_count(), before);
    network_destroy(&n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_slopes_dropout),
      cmocka_unit_test(test_slopes_time),
      cmocka_unit_test(test_slopes_time_dropout),
      cmocka_unit_test(test_slopes_one_block),
      cmocka_unit_test(test_every_parameter_matters),
      cmocka_unit_test(test_short_batch),
      cmocka_unit_test(test_accumulation),
      cmocka_unit_test(test_row_chunks),
      cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_padding),
      cmocka_unit_test(test_forward_only),
      cmocka_unit_test(test_threads),
      cmocka_unit_test(test_precisions),
      cmocka_unit_test(test_bind),
      cmocka_unit_test(test_inputs_matter),
      cmocka_unit_test(test_dropouts_differ),
      cmocka_unit_test(test_no_allocation),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
