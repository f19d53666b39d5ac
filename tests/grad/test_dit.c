/* test_dit — tests specific to the diffusion transformer: the effect of padding, and its dropouts. Tests of every
 * network are in test_networks and test_networks_same. */
#include "toy_network.h"

#include <math.h>

enum { B = TOY_B, L = TOY_L, D = TOY_D };

/* A masked padding position is not counted as masked and not scored, but attention sees it. */
static void test_padding(void **state) {
  (void)state;
  Network n;
  Toy t = toy_dit("cpu_f64", false);
  toy_network_open(&n, &t);
  ToyBatch changed = toy_mixed;
  double loss = toy_pass(&n, &toy_mixed, 0, B, toy_none, false);
  assert_int_equal(n.noised.n_rows, 2 + 2 + 3);
  assert_int_equal(n.noised.masked, 7); /* without the padding */
  assert_int_equal(n.noised.scored, 5 + 3 + 5);
  changed.x0[L + 3] = 1; /* the clean token under masked padding is not a target */
  assert_true(toy_pass(&n, &changed, 0, B, toy_none, false) == loss);
  changed.z[L + 4] = 1;
  assert_true(fabs(toy_pass(&n, &changed, 0, B, toy_none, false) - loss) > 1e-6);
  network_destroy(&n);
}

/* Attention averages values that are all 1; the MLP returns its bias. */
static void test_dropouts_differ(void **state) {
  (void)state;
  enum { SHIFT1 = 0, GATE1 = 2 * D, GATE2 = 5 * D };
  Network n;
  Toy t = toy_dit("cpu_f64", false);
  toy_open(&n, &t);
  toy_fill(&n, 0, D, 1, "output_layer.norm_final.weight");
  for (int i = 0; i < 2; i++) {
    toy_fill(&n, SHIFT1, D, 1, "blocks.%d.adaLN_modulation.bias", i);
    toy_fill(&n, GATE1, D, 1, "blocks.%d.adaLN_modulation.bias", i);
    toy_fill(&n, GATE2, D, 1, "blocks.%d.adaLN_modulation.bias", i);
    toy_fill(&n, 2 * D * D, D * D, 1.0 / D, "blocks.%d.attn_qkv.weight", i);
    toy_fill(&n, 0, D * D, (i ? 4.0 : 1.0) / D, "blocks.%d.attn_out.weight", i);
    toy_fill(&n, 0, D, i ? 8 : 2, "blocks.%d.mlp.2.bias", i);
  }
  toy_dropouts_differ(&n);
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_padding), cmocka_unit_test(test_dropouts_differ)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
