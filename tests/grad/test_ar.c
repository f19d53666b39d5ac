/* test_ar — tests specific to the causal transformer: its parameters, gradients with other numbers of heads and blocks,
 * causality, and equality with dit where both see the same positions. Tests of every network are in test_networks and
 * test_networks_same. */
#include "toy_network.h"
#include "toy_slope.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, V = TOY_V, TOKENS = TOY_TOKENS, SOME = 24 };

/* ---- the loss: every token is predicted from those before it, up to the length of its sequence */
static double next_tokens(Network *n, const void *arg, bool gradient) {
  ModelInput in = {.B = B, .ids = toy_mixed.x0, .dropout = *(const Dropout *)arg};
  int32_t target[TOKENS] = {0};
  double weight[TOKENS] = {0};
  for (int b = 0; b < B; b++)
    for (int l = 0; l < L - 1 && l < toy_mixed.length[b] - 1; l++) {
      target[b * L + l] = toy_mixed.x0[b * L + l + 1];
      weight[b * L + l] = 1 + b; /* different for each sequence */
    }
  return toy_cross_entropy(n, &in, target, weight, gradient);
}

static double *hidden(Network *n, int64_t sequences, const int32_t *ids) {
  ModelInput in = {.B = sequences, .ids = ids};
  MUST(model_forward(&n->model, &in));
  return toy_values(n, tensor_rows(n->model.h, 0, sequences * n->model.options.length));
}

/* ---- parameters and work */
static const char *const names[] = {
    "vocab_embed.embedding", "blocks.0.norm1.weight",          "blocks.0.attn_qkv.weight",   "blocks.0.attn_out.weight",
    "blocks.0.norm2.weight", "blocks.0.mlp.0.weight",          "blocks.0.mlp.0.bias",        "blocks.0.mlp.2.weight",
    "blocks.0.mlp.2.bias",   "blocks.1.norm1.weight",          "blocks.1.attn_qkv.weight",   "blocks.1.attn_out.weight",
    "blocks.1.norm2.weight", "blocks.1.mlp.0.weight",          "blocks.1.mlp.0.bias",        "blocks.1.mlp.2.weight",
    "blocks.1.mlp.2.bias",   "output_layer.norm_final.weight", "output_layer.linear.weight", "output_layer.linear.bias",
};
enum { NAMES = sizeof names / sizeof *names };

static void test_parameters(void **state) {
  (void)state;
  Network n, dit;
  Toy t = toy_network("ar", "cpu", false), t_dit = toy_dit("cpu", false);
  toy_open(&n, &t);
  toy_open(&dit, &t_dit);
  assert_int_equal(n.model.params.n, NAMES);
  for (int i = 0; i < NAMES; i++) {
    const Param *p = &n.model.params.list[i], *same = params_find(&dit.model.params, names[i]);
    assert_string_equal(p->name, names[i]);
    assert_non_null(same);
    assert_int_equal(p->rank, same->rank);
    assert_memory_equal(p->dims, same->dims, sizeof p->dims);
  }
  double body, attention, head, dit_body, dit_attention, dit_head;
  model_flops(&n.model, &body, &attention, &head);
  model_flops(&dit.model, &dit_body, &dit_attention, &dit_head);
  assert_true(body == 2.0 * (2 * 12 - 9) * D * D && head == 2.0 * D * V + 2.0 * 9 * D * D);
  assert_true(body == dit_body && head == dit_head);
  assert_true(attention == 2.0 * D * L * 2 && dit_attention == 2 * attention);
  network_destroy(&n);
  network_destroy(&dit);
}

/* The head starts at zero: a fresh network predicts the uniform distribution. */
static void test_fresh_network_is_uniform(void **state) {
  (void)state;
  Network n;
  Toy t = toy_network("ar", "cpu_f64", false);
  toy_open(&n, &t);
  MUST(params_init(&n.model.params, 42));
  assert_true(fabs(next_tokens(&n, &toy_none, false) - log(V) * (4 + 2 * 2 + 3 * 4)) < 1e-12);
  double *h = hidden(&n, B, toy_mixed.x0);
  assert_true(fabs(h[0] - h[D]) > 1e-3); /* but its hidden rows differ */
  mem_free(&h);
  network_destroy(&n);
}

/* ---- gradients */
static void slopes(Dropout dropout, int64_t blocks, int64_t heads, int64_t most) {
  Network n;
  Toy t = toy_network("ar", "cpu_f64", false);
  t.model.blocks = blocks, t.model.heads = heads;
  toy_network_open(&n, &t);
  toy_slopes(&n, next_tokens, &dropout, most);
  network_destroy(&n);
}

static void test_slopes(void **state) {
  (void)state;
  slopes(toy_quarter, 3, 1, SOME);
  slopes(toy_quarter, 1, 4, SOME);
}

/* ---- causality: a position sees itself and earlier ones */
static void causal(const char *backend, bool bf16) {
  Network n;
  Toy t = toy_network("ar", backend, false);
  t.device.bf16 = bf16;
  toy_network_open(&n, &t);
  double *before = hidden(&n, B, toy_mixed.x0);
  for (int j = 0; j < L; j++) {
    int32_t ids[TOKENS];
    memcpy(ids, toy_mixed.x0, sizeof ids);
    ids[L + j] = (ids[L + j] + 1) % V; /* in the second sequence */
    double *after = hidden(&n, B, ids);
    toy_same("hidden rows before the change", after, before, (L + j) * D);
    toy_same("hidden rows of the next sequence", after + 2 * L * D, before + 2 * L * D, L * D);
    for (int l = j; l < L; l++) assert_true(check_error(after + (L + l) * D, before + (L + l) * D, D) > 1e-4);
    mem_free(&after);
  }
  mem_free(&before);
  network_destroy(&n);
}

static void test_causal(void **state) {
  (void)state;
  causal("cpu_f64", false);
  causal("cpu", false);
  causal("cpu", true);
}

/* ---- dit with gates of 1 and no modulation differs from ar by the causal mask only. In the first block the last
 * position sees all positions in both, so its hidden row must be equal. */
static void copy_weights(Network *to, const Network *from) {
  for (int i = 0; i < from->model.params.n; i++) {
    const Param *p = &from->model.params.list[i];
    MUST(tensor_copy(&to->dev, params_find(&to->model.params, p->name)->value, p->value));
  }
}

static void test_last_position_is_dit(void **state) {
  (void)state;
  Network ar, dit;
  Toy t = toy_network("ar", "cpu_f64", false), t_dit = toy_dit("cpu_f64", false);
  t.model.blocks = t_dit.model.blocks = 1;
  toy_network_open(&ar, &t);
  toy_open(&dit, &t_dit);
  copy_weights(&dit, &ar);
  double gates[6 * D] = {0};
  for (int d = 0; d < D; d++) gates[2 * D + d] = gates[5 * D + d] = 1;
  MUST(tensor_upload(&dit.dev, params_find(&dit.model.params, "blocks.0.adaLN_modulation.bias")->value, gates));
  double *got = hidden(&ar, B, toy_mixed.x0), *want = hidden(&dit, B, toy_mixed.x0);
  for (int b = 0; b < B; b++) {
    int at = (b * L + L - 1) * D;
    assert_true(check_error(got + at, want + at, D) <= 1e-14);
    assert_true(check_error(got + at - D, want + at - D, D) > 1e-4);
  }
  mem_free(&got);
  mem_free(&want);
  network_destroy(&ar);
  network_destroy(&dit);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_parameters), cmocka_unit_test(test_fresh_network_is_uniform), cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_causal),     cmocka_unit_test(test_last_position_is_dit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
