/* test_networks — for every network: gradients of the loss against finite differences in f64; gradients accumulate; the
 * chunk of logits and a larger maximum batch do not change them. */
#include "toy_network.h"
#include "toy_slope.h"

#include <math.h>

#include "base/mem.h"

enum { B = TOY_B, TOKENS = TOY_TOKENS, MASK = TOY_MASK, SOME = 12 };

/* one sequence fully masked, one without a mask, and an ordinary one */
static const ToyBatch extremes = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                                  .z = {MASK, MASK, MASK, MASK, MASK, 9, 2, 6, 5, 3, 0, 7, MASK, 2, 8},
                                  .length = {5, 5, 4},
                                  .t = {1, 0.1, 0.4}};
static const ToyBatch clean = {.x0 = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                               .z = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 0, 7, 8, 2, 8},
                               .length = {5, 5, 5},
                               .t = {0.1, 0.2, 0.3}};

static void slopes(const ToyNetwork *x, bool time, Dropout dropout, int64_t width, int64_t blocks, int64_t most) {
  Network n;
  Toy t = toy_network(x->name, "cpu_f64", time);
  t.model.width = width, t.model.blocks = blocks;
  toy_network_open(&n, &t);
  toy_pass_slopes(&n, &toy_mixed, 0, B, dropout, most);
  network_destroy(&n);
}

static void test_slopes_every(void **state) {
  const ToyNetwork *x = *state;
  slopes(x, x->timed, toy_quarter, x->every, 2, TOY_EVERY);
}
static void test_slopes_some(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) slopes(x, time, time ? toy_none : toy_quarter, TOY_D, 3, SOME);
}

/* The smallest network: one block, which is both first and last, and one head of the whole width. */
static void test_slopes_one_block(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) {
    Network n;
    Toy t = toy_network(x->name, "cpu_f64", time);
    t.model.blocks = 1, t.model.heads = 1, t.model.width = 8, t.model.mlp_ratio = 1, t.model.cond_dim = 1;
    toy_network_open(&n, &t);
    toy_pass_slopes(&n, &toy_mixed, 0, B, toy_quarter, time == x->timed ? TOY_EVERY : SOME);
    network_destroy(&n);
  }
}

/* ---- classes */
static Toy with_classes(const ToyNetwork *x, bool time) {
  Toy t = toy_network(x->name, "cpu_f64", time);
  t.model.classes = 4;
  return t;
}

static void test_slopes_classes(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed && x->timed; time++) {
    Network n;
    Toy t = with_classes(x, time);
    toy_network_open(&n, &t);
    toy_pass_slopes(&n, &toy_mixed, 0, B, toy_quarter, SOME);
    network_destroy(&n);
  }
}

/* The gradient of the table has a row for each class that occurs, and one for the sequence without; a class changes the
 * loss of its own sequence only. */
static void test_classes_matter(void **state) {
  const ToyNetwork *x = *state;
  if (!x->timed) return;
  Network n;
  Toy t = with_classes(x, false);
  toy_network_open(&n, &t);
  double *grad = toy_gradients(&n, &toy_mixed, 0, B, toy_none, NULL);
  const Param *table = params_find(&n.model.params, "cond_map.embedding_table.weight");
  assert_non_null(table);
  for (int64_t y = 0; y <= 4; y++)
    for (int64_t k = 0; k < t.model.cond_dim; k++) {
      bool used = y == toy_labels[0] || y == toy_labels[2] || y == 4;
      if ((grad[table->offset + y * t.model.cond_dim + k] != 0) != used) fail_msg("row %d of the table", (int)y);
    }
  double *of_class = toy_hidden(&n, &toy_mixed, 0, 2, toy_none), *alone = toy_hidden(&n, &toy_mixed, 1, 1, toy_none);
  toy_same("a sequence without a class beside one with", of_class + TOY_L * TOY_D, alone, TOY_L * TOY_D);
  toy_fill(&n, toy_labels[0] * t.model.cond_dim, 1, 3, "cond_map.embedding_table.weight");
  double *other = toy_hidden(&n, &toy_mixed, 0, 2, toy_none);
  toy_same("the sequence without the class", other + TOY_L * TOY_D, alone, TOY_L * TOY_D);
  assert_true(fabs(other[0] - of_class[0]) > 1e-6);
  mem_free(&grad);
  mem_free(&of_class);
  mem_free(&alone);
  mem_free(&other);
  network_destroy(&n);
}

/* Every parameter must have a gradient, or the tests above would not test it. Two exceptions have none: embeddings of
 * tokens that do not occur, and the head's row of the mask token, which these objectives never predict. */
static void test_every_parameter_matters(void **state) {
  const ToyNetwork *x = *state;
  Network n;
  Toy t = toy_network(x->name, "cpu_f64", x->timed);
  toy_network_open(&n, &t);
  double *grad = toy_gradients(&n, &toy_mixed, 0, B, toy_quarter, NULL);
  int tables = 0;
  for (int i = 0; i < n.model.params.n; i++) {
    const Param *p = &n.model.params.list[i];
    bool head = i == n.model.head_weight || i == n.model.head_bias;
    bool table = !head && p->rank == 2 && p->dims[0] == TOY_V && p->dims[1] == TOY_D; /* token embeddings */
    int64_t zero = 0, columns = p->count / TOY_V;
    tables += table;
    for (int64_t k = 0; k < p->count; k++) {
      bool none = grad[p->offset + k] == 0;
      zero += none;
      if (!table && none != (head && k / columns == MASK))
        fail_msg("%s[%lld] has %s gradient", p->name, (long long)k, none ? "no" : "a");
    }
    if (zero == p->count) fail_msg("%s has no gradient", p->name);
  }
  assert_int_equal(tables, 1);
  mem_free(&grad);
  network_destroy(&n);
}

/* ---- fewer sequences than the maximum; nothing may leak in from an earlier, larger pass */
static void test_short_batch(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) {
    Network n, small;
    Toy t = toy_network(x->name, "cpu_f64", time);
    toy_network_open(&n, &t);
    t.model.batch = 2;
    toy_network_open(&small, &t);
    double loss, want_loss;
    toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
    double *got = toy_gradients(&n, &toy_mixed, 1, 2, toy_quarter, &loss);
    double *want = toy_gradients(&small, &toy_mixed, 1, 2, toy_quarter, &want_loss);
    assert_true(fabs(loss - want_loss) <= 1e-13 * want_loss);
    toy_near("two of three sequences", &n.model.params, got, want, 1e-12);
    toy_pass_slopes(&n, &toy_mixed, 1, 2, toy_quarter, 4);
    mem_free(&got);
    mem_free(&want);
    network_destroy(&small);
    network_destroy(&n);
  }
}

/* ---- gradients accumulate over calls, and over the parts of a batch */
static void test_accumulation(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) {
    Network n;
    Toy t = toy_network(x->name, "cpu_f64", time);
    toy_network_open(&n, &t);
    Params *p = &n.model.params;
    double loss, *once = toy_gradients(&n, &toy_mixed, 0, B, toy_quarter, &loss);
    toy_pass(&n, &toy_mixed, 0, B, toy_quarter, true);
    double *twice = toy_values(&n, p->grad);
    MUST(tensor_zero(&n.dev, p->grad));
    double parts =
        toy_pass(&n, &toy_mixed, 0, 1, toy_quarter, true) + toy_pass(&n, &toy_mixed, 1, 2, toy_quarter, true);
    double *sum = toy_values(&n, p->grad);
    assert_true(fabs(parts - loss) <= 1e-13 * loss);
    toy_near("a batch in two parts", p, sum, once, 1e-12);
    for (int64_t i = 0; i < p->count; i++) twice[i] /= 2;
    toy_near("two calls of backward", p, twice, once, 1e-13);
    mem_free(&once);
    mem_free(&twice);
    mem_free(&sum);
    network_destroy(&n);
  }
}

/* ---- the number of rows of logits per chunk */
static void test_row_chunks(void **state) {
  const ToyNetwork *x = *state;
  const int64_t chunks[] = {1, 2, 3, 64};
  Network whole;
  Toy t = toy_network(x->name, "cpu_f64", x->timed);
  toy_network_open(&whole, &t);
  double want_loss, loss, *want = toy_gradients(&whole, &toy_mixed, 0, B, toy_quarter, &want_loss);
  for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
    Network n;
    t.device.row_chunk = chunks[i];
    toy_network_open(&n, &t);
    assert_int_equal(n.rows.chunk, chunks[i] < TOKENS ? chunks[i] : TOKENS);
    double *got = toy_gradients(&n, &toy_mixed, 0, B, toy_quarter, &loss);
    assert_true(fabs(loss - want_loss) <= 1e-14 * want_loss);
    toy_near("rows in chunks", &n.model.params, got, want, 1e-13);
    mem_free(&got);
    network_destroy(&n);
  }
  mem_free(&want);
  network_destroy(&whole);
}

/* ---- all masked, none masked */
static void nothing_to_score(Network *n) {
  double loss, *grad = toy_gradients(n, &clean, 0, B, toy_none, &loss);
  assert_int_equal(n->noised.n_rows, 0);
  assert_true(loss == 0);
  for (int64_t i = 0; i < n->model.params.count; i++) assert_true(grad[i] == 0);
  mem_free(&grad);
}

static void test_extremes(void **state) {
  const ToyNetwork *x = *state;
  for (int time = 0; time <= x->timed; time++) {
    Network n;
    Toy t = toy_network(x->name, "cpu_f64", time);
    toy_network_open(&n, &t);
    /* without diffusion masks are ordinary tokens, and each row scores the next token */
    bool diffusion = n.objective.diffusion;
    toy_pass_slopes(&n, &extremes, 0, B, toy_none, 4);
    toy_pass(&n, &extremes, 0, B, toy_none, false);
    assert_int_equal(n.noised.n_rows, diffusion ? 5 + 0 + 1 : 4 + 4 + 3);
    assert_int_equal(n.noised.masked, diffusion ? 6 : 0);
    assert_int_equal(n.noised.scored, diffusion ? 5 + 5 + 4 : 4 + 4 + 3);
    if (diffusion) nothing_to_score(&n);
    network_destroy(&n);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_slopes_every),     cmocka_unit_test(test_slopes_some),
      cmocka_unit_test(test_slopes_classes),   cmocka_unit_test(test_classes_matter),
      cmocka_unit_test(test_slopes_one_block), cmocka_unit_test(test_every_parameter_matters),
      cmocka_unit_test(test_short_batch),      cmocka_unit_test(test_accumulation),
      cmocka_unit_test(test_row_chunks),       cmocka_unit_test(test_extremes)};
  return toy_networks_main(tests, sizeof tests / sizeof *tests);
}
