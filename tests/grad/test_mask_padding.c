/* test_mask_padding — with mask_padding the contents of the padding change no bit of the real positions, these equal
 * the result of a network cut to the length of the sequence, and gradients agree with finite differences. */
#include "toy_slope.h"

#include <string.h>

#include "base/mem.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, TOKENS = TOY_TOKENS, SHORT = 1, SOME = 24 };
static const int32_t lengths[B] = {L, 3, 4};

static Toy toy_in(const char *network, const char *backend, bool masked) {
  Toy t = toy_dit(backend, strcmp(network, "dit") == 0);
  t.model.name = network;
  t.model.mask_padding = masked;
  return t;
}

static void open_toy(Network *n, const Toy *t) {
  toy_open(n, t);
  toy_weights(n, 1, 1.5);
}

static double *hidden(Network *n, const int32_t *ids) {
  ModelInput in = {.B = B, .ids = ids, .sigma = toy_mixed.t, .lengths = lengths};
  MUST(model_forward(&n->model, &in));
  return toy_values(n, tensor_rows(n->model.h, 0, TOKENS));
}

static void other_padding(int32_t *ids) {
  for (int r = 0; r < TOKENS; r++) ids[r] = r % L < lengths[r / L] ? toy_mixed.z[r] : (toy_mixed.z[r] + 5) % TOY_V;
}

static void compare_real(const char *what, const double *got, const double *want) {
  for (int b = 0; b < B; b++) toy_same(what, got + b * L * D, want + b * L * D, lengths[b] * D);
}

static void contents(const char *network, const char *backend, bool seen) {
  Network n, open;
  Toy t = toy_in(network, backend, true), t_open = toy_in(network, backend, false);
  open_toy(&n, &t);
  open_toy(&open, &t_open);
  int32_t ids[TOKENS];
  other_padding(ids);
  double *want = hidden(&n, toy_mixed.z), *got = hidden(&n, ids);
  compare_real("real positions beside other padding", got, want);
  double *visible = hidden(&open, toy_mixed.z);
  toy_same("a sequence without padding", want, visible, L * D);
  assert_true((check_error(want + SHORT * L * D, visible + SHORT * L * D, 3 * D) > 1e-4) == seen);
  double *all[] = {want, got, visible};
  for (int i = 0; i < 3; i++) mem_free(&all[i]);
  network_destroy(&n);
  network_destroy(&open);
}

/* A causal network never sees the padding behind a sequence: masking makes no difference. */
static void test_contents(void **state) {
  (void)state;
  contents("dit", "cpu_f64", true);
  contents("dit", "cpu", true);
  contents("ar", "cpu_f64", false);
}

/* A network with the length of the short sequence has the same parameters. */
static void test_cut(void **state) {
  (void)state;
  Network n, cut;
  Toy t = toy_in("dit", "cpu_f64", true), t_cut = toy_in("dit", "cpu_f64", false);
  open_toy(&n, &t);
  t_cut.model.length = lengths[SHORT], t_cut.model.batch = 1;
  open_toy(&cut, &t_cut);
  double *got = hidden(&n, toy_mixed.z);
  ModelInput in = {.B = 1, .ids = toy_mixed.z + SHORT * L, .sigma = toy_mixed.t + SHORT};
  MUST(model_forward(&cut.model, &in));
  double *want = toy_values(&cut, cut.model.h);
  assert_true(check_error(got + SHORT * L * D, want, lengths[SHORT] * D) <= 1e-14);
  mem_free(&got);
  mem_free(&want);
  network_destroy(&n);
  network_destroy(&cut);
}

/* ---- gradients: padding has no target, and no other position sees it */
typedef struct Pass {
  const int32_t *ids;
  Dropout dropout;
} Pass;

static double clean_tokens(Network *n, const void *arg, bool gradient) {
  const Pass *p = arg;
  ModelInput in = {.B = B, .ids = p->ids, .sigma = toy_mixed.t, .lengths = lengths, .dropout = p->dropout};
  double weight[TOKENS];
  for (int r = 0; r < TOKENS; r++) weight[r] = r % L < lengths[r / L] ? 1 + r / L : 0;
  return toy_cross_entropy(n, &in, toy_mixed.x0, weight, gradient);
}

static void test_slopes(void **state) {
  (void)state;
  const Pass plain = {toy_mixed.z, toy_none}, dropped = {toy_mixed.z, toy_quarter};
  Network n;
  Toy t = toy_in("dit", "cpu_f64", true);
  open_toy(&n, &t);
  toy_slopes(&n, clean_tokens, &plain, SOME);
  toy_slopes(&n, clean_tokens, &dropped, SOME);
  network_destroy(&n);
}

static void test_gradients_beside_other_padding(void **state) {
  (void)state;
  int32_t ids[TOKENS];
  other_padding(ids);
  const Pass one = {toy_mixed.z, toy_quarter}, other = {ids, toy_quarter};
  Network n;
  Toy t = toy_in("dit", "cpu_f64", true);
  open_toy(&n, &t);
  double loss = clean_tokens(&n, &one, true), *grad = toy_values(&n, n.model.params.grad);
  MUST(tensor_zero(&n.dev, n.model.params.grad));
  double again = clean_tokens(&n, &other, true), *grad_again = toy_values(&n, n.model.params.grad);
  toy_same("loss", &again, &loss, 1);
  toy_same("gradients", grad_again, grad, n.model.params.count);
  mem_free(&grad);
  mem_free(&grad_again);
  network_destroy(&n);
}

static void test_threads(void **state) {
  (void)state;
  const Pass p = {toy_mixed.z, toy_quarter};
  double *grad[2];
  int64_t count = 0;
  for (int k = 0; k < 2; k++) {
    Network n;
    Toy t = toy_in("dit", "cpu", true);
    t.device.threads = k + 1;
    open_toy(&n, &t);
    clean_tokens(&n, &p, true);
    grad[k] = toy_values(&n, n.model.params.grad);
    count = n.model.params.count;
    network_destroy(&n);
  }
  toy_same("gradients with two threads", grad[1], grad[0], count);
  mem_free(&grad[0]);
  mem_free(&grad[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_contents), cmocka_unit_test(test_cut),
      cmocka_unit_test(test_slopes),   cmocka_unit_test(test_gradients_beside_other_padding),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
