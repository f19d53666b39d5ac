/* test_dimamba — tests specific to the bidirectional state-space network: its parameters, symmetry of the directions, a
 * sequence alone and in a batch, its dropouts. Tests of every network are in test_networks and test_networks_same. */
#include "toy_network.h"
#include "toy_slope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, V = TOY_V, C = 8, E = 2 * D, S = 16, TOKENS = TOY_TOKENS };

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
  Toy t = toy_network("dimamba", "cpu", true);
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
  Toy t = toy_network("dimamba", "cpu", false);
  MUST(device_open(&dev, &t.device));
  t.model.mask_padding = true;
  check_refused(model_create(&m, &dev, &t.model), ERR_USAGE, "padding hidden from attention that there is not");
  assert_int_equal(dev.allocated, 0);
  device_close(&dev);
}

/* The low-rank δ has more than one column, and the last group of channels is partial. */
static void test_slopes_wide(void **state) {
  (void)state;
  Network n;
  Toy t = toy_network("dimamba", "cpu_f64", true);
  t.model.width = 40, t.model.blocks = 1;
  toy_network_open(&n, &t);
  toy_pass_slopes(&n, &toy_mixed, 0, B, toy_none, 16);
  network_destroy(&n);
}

/* ---- the directions: with the same weights in both, the reversed sequence has the reversed hidden rows */
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
  Toy t = toy_network("dimamba", "cpu_f64", false);
  toy_network_open(&n, &t);
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

/* A sequence alone has the same bits as in a batch. */
static void test_one_sequence(void **state) {
  (void)state;
  Network n;
  Toy t = toy_network("dimamba", "cpu_f64", true);
  toy_network_open(&n, &t);
  double *all = toy_hidden(&n, &toy_mixed, 0, B, toy_quarter), *one = toy_hidden(&n, &toy_mixed, 2, 1, toy_quarter);
  toy_same("a sequence alone", one, all + 2 * L * D, L * D);
  mem_free(&all);
  mem_free(&one);
  network_destroy(&n);
}

/* The weights are such that convolution, skip and gate all have input 1. */
static void test_dropouts_differ(void **state) {
  (void)state;
  const double silu1 = 1 / (1 + exp(-1));
  Network n;
  Toy t = toy_network("dimamba", "cpu_f64", false);
  t.model.blocks = 4;
  toy_open(&n, &t);
  toy_fill(&n, 0, D, 1, ALL "norm_f.weight");
  for (int i = 0; i < 4; i++) {
    toy_fill(&n, 0, D, 1, ALL "layers.%d.adaLN_modulation.bias", i);     /* shift: the input of the block is 1 */
    toy_fill(&n, 2 * D, D, 1, ALL "layers.%d.adaLN_modulation.bias", i); /* gate */
    toy_fill(&n, E * D, E * D, 1.0 / D, FWD "in_proj.weight", i);        /* z = 1 */
    toy_fill(&n, 0, E, 1, FWD "conv1d.bias", i);
    toy_fill(&n, 0, E, 1 / silu1, FWD "D", i); /* y = 1 */
    toy_fill(&n, 0, D * E, (1 << i) / (silu1 * E), FWD "out_proj.weight", i);
  }
  toy_dropouts_differ(&n);
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_parameters), cmocka_unit_test(test_refusal),      cmocka_unit_test(test_slopes_wide),
      cmocka_unit_test(test_directions), cmocka_unit_test(test_one_sequence), cmocka_unit_test(test_dropouts_differ),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
