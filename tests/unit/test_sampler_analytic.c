/* test_sampler_analytic — the distribution of the reverse process of a score, enumerated on a tiny network
 * (toy_sampler.h). From t to s a masked position becomes y with probability c S_y and otherwise keeps its mask; if
 * Σ c S_y > 1 it is normalised. With subs the sampler equals `ancestral` except for the last step, which draws tokens.
 */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

static void open_sedd(Network *n, bool time) {
  toy_open_sampler(n, (ToySampler){.objective = {.name = "sedd"}, .time = time, .batch = BATCH});
}

/* S_y of every state at time t */
static void scores(Network *n, double t, double S[STATES][L][V]) {
  int32_t z[STATES * L];
  double sigma[STATES];
  float logits[STATES][L][V];
  for (int s = 0; s < STATES; s++) {
    for (int l = 0; l < L; l++) z[s * L + l] = toy_digit(s, l);
    sigma[s] = -log(1 - toy_masked(n, t));
  }
  ModelInput in = {.B = STATES, .ids = z, .sigma = sigma};
  MUST(model_forward(&n->model, &in));
  MUST(rows_logits(&n->rows, 0, STATES * L, &logits[0][0][0]));
  for (int i = 0; i < STATES * L * V; i++)
    (&S[0][0][0])[i] = i % V == MASK ? 0 : exp((double)(&logits[0][0][0])[i]) / (V - 1);
}

/* The probability that a position goes from x to y; c is the probability of unmasking for a score that sums to 1. */
static double one(int x, int y, double c, const double S[V]) {
  double all = 0;
  for (int v = 0; v < V; v++) all += S[v];
  if (x != MASK) return x == y;
  double stay = fmax(0, 1 - c * all), sum = c * all + stay;
  return (y == MASK ? stay : c * S[y]) / sum;
}

static int clamped; /* counts positions where the score sums to more than 1/c */

static void walk(double law[STATES], double c, double S[STATES][L][V]) {
  double next[STATES] = {0};
  for (int a = 0; a < STATES; a++)
    for (int b = 0; b < STATES && law[a] > 0; b++) {
      double chance = law[a];
      for (int l = 0; l < L; l++) chance *= one(toy_digit(a, l), toy_digit(b, l), c, S[a][l]);
      next[b] += chance;
    }
  for (int a = 0; a < STATES; a++)
    for (int l = 0; l < L; l++) clamped += law[a] > 0 && c * (S[a][l][0] + S[a][l][2] + S[a][l][3]) > 1;
  memcpy(law, next, sizeof next);
}

static void law_of_score(Network *n, int steps, double law[STATES]) {
  double S[STATES][L][V];
  memset(law, 0, STATES * sizeof *law);
  law[toy_code(blank)] = 1;
  for (int i = 0; i < steps; i++) {
    double t = 1 - i * (1 - 1e-5) / steps, s = 1 - (i + 1) * (1 - 1e-5) / steps;
    scores(n, t, S);
    walk(law, 1 - toy_masked(n, s) / toy_masked(n, t), S);
  }
  scores(n, 1e-5, S);
  walk(law, 1e9, S); /* down to σ = 0: no mask remains */
}

static void test_sedd(void **state) {
  (void)state;
  for (int k = 0; k < 4; k += check_stride(3)) {
    Network n;
    double law[STATES], wrong[STATES];
    int64_t count[STATES], draws = k == 0 ? MANY : DRAWS / 10;
    open_sedd(&n, k % 2);
    if (k >= 2) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    law_of_score(&n, STEPS, law);
    toy_compare(&n, RUN("analytic", STEPS, true, 8, 0, 0), blank, draws, law, count);
    law_of_score(&n, STEPS - 1, wrong);
    if (k == 0) toy_sharp(law, wrong, STATES, draws);
    network_destroy(&n);
  }
  assert_true(clamped > 0);
}

static void test_subs(void **state) {
  (void)state;
  enum { N = 200 };
  static int32_t want[N * L], got[N * L];
  double p[STATES][L][V];
  Network n;
  toy_open_sampler(&n, (ToySampler){.time = true, .batch = N});
  toy_samples(&n, RUN("ancestral", STEPS, false, 5, 0, N), blank, want);
  toy_samples(&n, RUN("analytic", STEPS, false, 5, 0, N), blank, got);
  assert_memory_equal(got, want, sizeof got);
  n.schedule = (Schedule){.table = &toy_slow, .eps = EPS}; /* leaves masks for the last step */
  toy_samples(&n, RUN("ancestral", 1, false, 5, 0, N), blank, want);
  toy_samples(&n, RUN("analytic", 1, true, 5, 0, N), blank, got);
  int64_t filled = 0, other = 0;
  network_destroy(&n);
  toy_open_sampler(&n, (ToySampler){.time = true, .batch = STATES});
  n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
  toy_conditionals(&n, 1e-5, p);
  for (int i = 0; i < N; i++)
    for (int l = 0; l < L; l++) {
      if (want[i * L + l] != MASK) assert_int_equal(got[i * L + l], want[i * L + l]);
      if (want[i * L + l] != MASK) continue;
      assert_int_not_equal(got[i * L + l], MASK);
      filled++;
      other += got[i * L + l] != toy_likeliest(p[toy_code(want + i * L)][l]);
    }
  assert_true(filled > 50 && other > 10); /* drawn, not the most likely tokens */
  network_destroy(&n);
}

static void test_refusals(void **state) {
  (void)state;
  Network n;
  open_sedd(&n, true);
  static const char *const names[] = {"ancestral", "cached", "event", "first_hitting"};
  for (int i = 0; i < 4; i++) toy_refused(&n, RUN(names[i], 2, true, 0, 0, 1), names[i]);
  toy_refused(&n, RUN("analytic", 2, true, 0, 0, 1, .f32 = true), "a score in f32");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sedd), cmocka_unit_test(test_subs),
                                     cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
