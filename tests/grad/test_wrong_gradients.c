/* test_wrong_gradients — for every network, finite differences reject a gradient that is wrong by one part in 10⁴ in
 * one parameter, that lacks the loss of a sequence, or that was computed without dropout. */
#include <math.h>

#include "base/mem.h"
#include "toy_network.h"
#include "toy_slope.h"

enum { SOME = 6 };

static double whole_batch(Network *n, const void *arg, bool gradient) {
  (void)arg;
  return toy_pass(n, &toy_mixed, 0, TOY_B, toy_quarter, gradient);
}

static void reject(const ToySlopes *s, const double *grad, const char *what) {
  ToyWhy why;
  if (toy_slopes_agree(s, grad, why)) fail_msg("%s: not rejected", what);
}

static void test_wrong_gradients(void **state) {
  const ToyNetwork *x = *state;
  Network n;
  Toy t = toy_network(x->name, "cpu_f64", x->timed);
  toy_network_open(&n, &t);
  ToySlopes s;
  ToyWhy why;
  double *grad = toy_slopes_measure(&s, &n, whole_batch, NULL, SOME);
  if (!toy_slopes_agree(&s, grad, why)) fail_msg("%s", why);
  for (int i = 0; i < n.model.params.n; i++) {
    const Param *p = &n.model.params.list[i];
    for (int64_t k = p->offset; k < p->offset + p->count; k++) grad[k] *= 1 + 1e-4;
    reject(&s, grad, p->name);
    for (int64_t k = p->offset; k < p->offset + p->count; k++) grad[k] /= 1 + 1e-4;
  }
  double *part = toy_gradients(&n, &toy_mixed, 0, TOY_B - 1, toy_quarter, NULL);
  reject(&s, part, "the gradient without the last sequence");
  double *other = toy_gradients(&n, &toy_mixed, 0, TOY_B, toy_none, NULL);
  reject(&s, other, "the gradient without dropout");
  double *all[] = {grad, part, other};
  for (int i = 0; i < 3; i++) mem_free(&all[i]);
  toy_slopes_free(&s);
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_wrong_gradients)};
  return toy_networks_main(tests, 1);
}
