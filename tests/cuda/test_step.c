/* test_step — a whole step on the device under test: losses, hidden rows and the gradient of every parameter, for every
 * network with every objective, compared with the CPU in f64 with the same weights. Results on the device must repeat
 * bit for bit.
 *
 * In f32 only the order of sums and the last bits of exp and similar functions differ. With bf16 products activations
 * are stored in bf16, too, with relative errors of up to 2⁻⁸ that accumulate over a dozen layers forward and as many
 * backward. This gives errors of a few percent in the gradients of a small network, whose elements are sums of few
 * terms. */
#include "toy_network.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "diffusion/latent.h"

enum { B = TOY_B, L = TOY_L, D = TOY_D, TOKENS = TOY_TOKENS };

typedef struct Case {
  const char *network, *objective;
  int64_t T;
  bool timed, mask_padding;
  int64_t classes;
} Case;
static const Case cases[] = {{"dit", "subs", 0, false, false, 0},     {"dit", "subs", 0, true, false, 0},
                             {"dit", "subs", 0, false, true, 0},      {"dit", "subs", 100, true, false, 0},
                             {"dit", "d3pm", 100, true, true, 0},     {"dit", "d3pm", 100, true, false, 0},
                             {"dit", "sedd", 0, true, false, 0},      {"ar", "ar", 0, false, false, 0},
                             {"dimamba", "subs", 0, false, false, 0}, {"dimamba", "d3pm", 100, true, false, 0},
                             {"dimamba", "sedd", 0, true, false, 0},  {"dit", "subs", 0, false, false, 4},
                             {"dit", "subs", 0, true, false, 4},      {"dimamba", "subs", 0, false, false, 4}};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct Bounds {
  double loss, hidden, gradient;
} Bounds;
static const Bounds in_f32 = {1e-6, 1e-5, 2e-5}, in_bf16 = {1e-2, 4e-2, 0.15};

static Toy toy_of(const Case *c, const char *backend, bool bf16) {
  Toy t = toy_network(c->network, backend, c->timed);
  t.model.mask_padding = c->mask_padding;
  t.model.classes = c->classes;
  t.objective.name = c->objective;
  t.objective.T = c->T;
  t.device.bf16 = bf16;
  return t;
}

typedef struct Step {
  Network net;
  double loss, *gradient, *hidden;
} Step;

static void step_run(Step *s) {
  s->gradient = toy_gradients(&s->net, &toy_mixed, 0, B, toy_quarter, &s->loss);
  s->hidden = toy_hidden(&s->net, &toy_mixed, 0, B, toy_quarter);
}
static void step_free(Step *s) {
  mem_free(&s->gradient);
  mem_free(&s->hidden);
}
static void step_open(Step *s, const Case *c, const char *backend, bool bf16) {
  Toy t = toy_of(c, backend, bf16);
  toy_network_open(&s->net, &t);
  step_run(s);
}
static void step_close(Step *s) {
  step_free(s);
  network_destroy(&s->net);
}

/* What lies between the parameters, such as padding rows of the head, has no gradient. */
static void gaps_zero(const Params *p, const double *gradient) {
  for (int i = 0; i < p->n; i++) {
    int64_t end = i + 1 < p->n ? p->list[i + 1].offset : p->count;
    for (int64_t k = p->list[i].offset + p->list[i].count; k < end; k++) assert_true(gradient[k] == 0);
  }
}

static void compare(const Case *c, bool bf16) {
  Step want, got;
  const Bounds *most = bf16 ? &in_bf16 : &in_f32;
  step_open(&want, c, "cpu_f64", false);
  step_open(&got, c, check_device, bf16);
  double loss = fabs(got.loss - want.loss) / fabs(want.loss), hidden = check_error(got.hidden, want.hidden, TOKENS * D);
  if (!(loss <= most->loss)) fail_msg("the loss is %.9g, not %.9g", got.loss, want.loss);
  if (!(hidden <= most->hidden)) fail_msg("the hidden rows are off by %.1e", hidden);
  if (bf16 && !(hidden > 1e-4)) fail_msg("the hidden rows are off by only %.1e: that is not bf16", hidden);
  gaps_zero(&got.net.model.params, got.gradient);
  toy_near("gradients", &got.net.model.params, got.gradient, want.gradient, most->gradient);
  double loss_before = got.loss, *hidden_before = got.hidden, *gradient_before = got.gradient;
  step_run(&got);
  toy_same("the loss again", &got.loss, &loss_before, 1);
  toy_same("the hidden rows again", got.hidden, hidden_before, TOKENS * D);
  toy_same("the gradients again", got.gradient, gradient_before, got.net.model.params.count);
  mem_free(&hidden_before);
  mem_free(&gradient_before);
  step_close(&got);
  step_close(&want);
}

static void test_f32(void **state) { compare(*state, false); }
static void test_bf16(void **state) { compare(*state, true); }

/* Without a mask there is no row to score, as may happen on a rank of many: no loss and no gradient. */
static void test_no_rows(void **state) {
  const char *const networks[] = {"dit", "dimamba"};
  ToyBatch clean = toy_mixed;
  (void)state;
  memcpy(clean.z, clean.x0, sizeof clean.z);
  for (int i = 0; i < 4; i++) {
    const Case c = {.network = networks[i / 2], .objective = "subs"};
    Network n;
    Toy t = toy_of(&c, check_device, i % 2);
    double loss;
    toy_network_open(&n, &t);
    double *gradient = toy_gradients(&n, &clean, 0, B, toy_quarter, &loss);
    assert_int_equal(n.noised.n_rows, 0);
    assert_true(loss == 0);
    for (int64_t k = 0; k < n.model.params.count; k++) assert_true(gradient[k] == 0);
    mem_free(&gradient);
    network_destroy(&n);
  }
}

/* ---- softened tokens: passes over mixtures */
static void softened_open(Network *n, const char *network, const char *backend, bool bf16) {
  const Case c = {.network = network, .objective = "uniform", .timed = true};
  Toy t = toy_of(&c, backend, bf16);
  t.eps = t.objective.tau = 1e-3;
  t.objective.input_temperature = 0.3;
  t.objective.law = (LawOptions){.name = "gaussian", .gamma_low = -3, .gamma_high = 0.5};
  t.model.mixed = LATENT_MOST;
  toy_network_open(n, &t);
  MUST(noised_soften(&n->noised));
}

/* The loss, and the gradients. */
static double *softened(Network *n, double *loss) {
  double each[B];
  int64_t rows = 0;
  noised_begin(&n->noised, B);
  for (int64_t b = 0; b < B; b++)
    noised_train(&n->objective, &n->noised, b, toy_mixed.x0 + b * L, toy_mixed.length[b],
                 (double[]){0.3 + 0.2 * (double)b}, rng_key(1, RNG_TEST, 0, 0, (uint64_t)b));
  assert_true(n->noised.mix.n > TOKENS);
  MUST(tensor_zero(&n->dev, n->model.params.grad));
  MUST(network_loss(n, &toy_quarter, true, each, &rows));
  *loss = 0;
  for (int b = 0; b < B; b++) *loss += each[b];
  return toy_values(n, n->model.params.grad);
}

static void test_softened(void **state) {
  const char *const networks[] = {"dit", "dimamba"};
  (void)state;
  for (int i = 0; i < 4; i++) {
    const Bounds *most = i % 2 ? &in_bf16 : &in_f32;
    Network host, net;
    double loss[3], *gradient[3];
    softened_open(&host, networks[i / 2], "cpu_f64", false);
    softened_open(&net, networks[i / 2], check_device, i % 2);
    for (int k = 0; k < 3; k++) gradient[k] = softened(k ? &net : &host, &loss[k]);
    if (!(fabs(loss[1] - loss[0]) <= most->loss * loss[0])) fail_msg("the loss is %.9g, not %.9g", loss[1], loss[0]);
    toy_near("gradients", &net.model.params, gradient[1], gradient[0], most->gradient);
    toy_same("the loss again", &loss[2], &loss[1], 1);
    toy_same("the gradients again", gradient[2], gradient[1], net.model.params.count);
    for (int k = 0; k < 3; k++) mem_free(&gradient[k]);
    network_destroy(&net);
    network_destroy(&host);
  }
}

/* GPT-2 has no backward pass. */
static double *gpt2_hidden(Network *n, const char *backend, bool bf16) {
  Toy t = toy_dit(backend, false);
  t.model.name = "gpt2";
  t.model.training = false;
  t.device.bf16 = bf16;
  toy_open(n, &t);
  toy_weights(n, 1, 1.5);
  ModelInput in = {.B = B, .ids = toy_mixed.z};
  MUST(model_forward(&n->model, &in));
  return toy_values(n, tensor_rows(n->model.h, 0, TOKENS));
}

static void test_gpt2(void **state) {
  (void)state;
  Network want_net, net;
  double *want = gpt2_hidden(&want_net, "cpu_f64", false);
  for (int bf16 = 0; bf16 < 2; bf16++) {
    double *got = gpt2_hidden(&net, check_device, bf16), off = check_error(got, want, TOKENS * D);
    if (!(off <= (bf16 ? in_bf16 : in_f32).hidden)) fail_msg("the hidden rows are off by %.1e", off);
    mem_free(&got);
    network_destroy(&net);
  }
  mem_free(&want);
  network_destroy(&want_net);
}

int main(void) {
  static struct CMUnitTest tests[2 * CASES + 3];
  static char names[2 * CASES][80];
  for (int i = 0; i < 2 * CASES; i++) {
    const Case *c = &cases[i / 2];
    snprintf(names[i], sizeof names[i], "%s %s%s%s%s, T = %d, %s", c->network, c->objective, c->timed ? ", timed" : "",
             c->mask_padding ? ", mask_padding" : "", c->classes ? ", classes" : "", (int)c->T, i % 2 ? "bf16" : "f32");
    tests[i] = (struct CMUnitTest)cmocka_unit_test_prestate(test_f32, (void *)(uintptr_t)c);
    if (i % 2) tests[i].test_func = test_bf16;
    tests[i].name = names[i];
  }
  tests[2 * CASES] = (struct CMUnitTest)cmocka_unit_test(test_gpt2);
  tests[2 * CASES + 1] = (struct CMUnitTest)cmocka_unit_test(test_no_rows);
  tests[2 * CASES + 2] = (struct CMUnitTest)cmocka_unit_test(test_softened);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
