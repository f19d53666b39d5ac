/* test_sampler_classes — samples of a class: their law, enumerated on a tiny network with classes (toy_sampler.h). Noise that
 * masks mixes p(x0 | z), in proportion to p_c^gamma p_u^(1 − gamma); uniform noise mixes the distribution of a step. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

enum { FEW = 3, K = V - 1, HALF = BATCH / 2, CLASS = 1, CLASSES = 3 };
static const int32_t given[L] = {MASK, 2, MASK};

typedef struct Process {
  bool uniform;
  double gamma, kappa;
  int steps;
  bool removal;
} Process;

static void open_classes(Network *n, bool uniform, bool time, int64_t batch) {
  toy_open_sampler(n, (ToySampler){.objective.name = uniform ? "uniform" : "subs",
                                   .time = uniform || time,
                                   .classes = CLASSES,
                                   .batch = batch});
  if (!uniform) n->schedule = (Schedule){.table = &toy_slow, .eps = EPS};
}

/* ---- the definition: at one position, from the token z at noise t to noise s; p(x0), and the noise 1 − alpha */
static void uniform_reverse(double q[V], const double p[V], int z, double t, double s) {
  double at = 1 - t, as = 1 - s, D = K * at * p[z] + t;
  for (int y = 0; y < V; y++)
    q[y] = y == MASK
               ? 0
               : (K * at * p[y] * (y == z) + (at / as - at) * (y == z) + (as - at) * p[y] + (1 - at / as) * s / K) / D;
}

static void uniform_step(double r[V], const double p[V], int z, double t, double s, double kappa) {
  double clean[V];
  uniform_reverse(r, p, z, t, s);
  uniform_reverse(clean, p, z, t, 0);
  for (int y = 0; y < V; y++) r[y] = kappa * r[y] + (1 - kappa) * ((1 - s) * clean[y] + s * (y != MASK) / K);
}

/* mixed ∝ c^gamma u^(1 − gamma) */
static void mix(double mixed[V], const double c[V], const double u[V], double gamma) {
  double sum = 0;
  for (int y = 0; y < V; y++) sum += mixed[y] = c[y] > 0 ? pow(c[y], gamma) * pow(u[y], 1 - gamma) : 0;
  for (int y = 0; y < V; y++) mixed[y] /= sum;
}

static void position_law(const Process *o, double r[V], const double c[V], const double u[V], int z, double t,
                         double s) {
  double with[V], without[V], p[V];
  if (o->uniform) {
    uniform_step(with, c, z, t, s, o->kappa);
    uniform_step(without, u, z, t, s, o->kappa);
    mix(r, with, without, o->gamma);
    return;
  }
  mix(p, c, u, o->gamma);
  for (int y = 0; y < V; y++) r[y] = z != MASK ? y == z : y == MASK ? s / t : (1 - s / t) * p[y];
}

/* ---- the enumerated law */
typedef double Conditionals[STATES][L][V];
static Conditionals with, without;

static void conditionals(Network *n, double t) {
  toy_conditionals_of(n, CLASS, t, with);
  toy_conditionals_of(n, -1, t, without);
}

static void law_begin(const Process *o, const int32_t start[L], double law[STATES]) {
  for (int a = 0; a < STATES; a++) {
    law[a] = 1;
    for (int l = 0; l < L; l++) {
      int x = toy_digit(a, l);
      law[a] *= o->uniform && start[l] == MASK ? (x != MASK) / (double)K : x == start[l];
    }
  }
}

static void law_step(const Process *o, const int32_t start[L], double t, double s, double law[STATES]) {
  double next[STATES] = {0}, r[L][V];
  for (int a = 0; a < STATES; a++) {
    if (law[a] == 0) continue;
    for (int l = 0; l < L; l++) {
      if (start[l] == MASK) position_law(o, r[l], with[a][l], without[a][l], toy_digit(a, l), t, s);
      for (int y = 0; y < V && start[l] != MASK; y++) r[l][y] = y == start[l];
    }
    for (int b = 0; b < STATES; b++)
      next[b] += law[a] * r[0][toy_digit(b, 0)] * r[1][toy_digit(b, 1)] * r[2][toy_digit(b, 2)];
  }
  memcpy(law, next, sizeof next);
}

/* The last pass: the most likely token of the mixed p at open positions, of masks at those that are still masked. */
static void law_end(const Process *o, const int32_t start[L], double law[STATES]) {
  double next[STATES] = {0}, p[V];
  for (int a = 0; a < STATES; a++) {
    int32_t z[L];
    for (int l = 0; l < L; l++) {
      mix(p, with[a][l], without[a][l], o->gamma);
      bool taken = start[l] == MASK && (o->uniform || toy_digit(a, l) == MASK);
      z[l] = taken ? toy_likeliest(p) : toy_digit(a, l);
    }
    next[toy_code(z)] += law[a];
  }
  memcpy(law, next, sizeof next);
}

static void law_of(Network *n, Process o, const int32_t start[L], double law[STATES]) {
  law_begin(&o, start, law);
  for (int i = 0; i < o.steps; i++) {
    double t = 1 - i * (1 - 1e-5) / o.steps, s = 1 - (i + 1) * (1 - 1e-5) / o.steps;
    conditionals(n, t);
    law_step(&o, start, toy_masked(n, t), o.uniform && i + 1 == o.steps && !o.removal ? 0 : toy_masked(n, s), law);
  }
  if (!o.removal) return;
  conditionals(n, 1e-5);
  law_end(&o, start, law);
}

/* ---- the program */
static Run run_of(const char *sampler, Process o, int64_t first, int64_t n) {
  return RUN(sampler, o.steps, o.removal, 3, first, n, .kappa = o.kappa, .guided = true, .guidance = o.gamma,
             .label = CLASS);
}

static void compare(Network *n, const char *sampler, Process o, const int32_t start[L], int64_t draws,
                    double law[STATES]) {
  static int32_t z[HALF * L];
  int64_t count[STATES] = {0};
  law_of(n, o, start, law);
  draws = toy_draws(draws);
  for (int64_t first = 0, k; first < draws; first += k) {
    k = draws - first < HALF ? draws - first : HALF;
    toy_samples(n, run_of(sampler, o, first, k), start, z);
    for (int64_t i = 0; i < k; i++) count[toy_code(z + i * L)]++;
  }
  toy_law(sampler, count, law, STATES, draws);
}

static const double gammas[] = {0, 1, 0.5, 3};

/* With draws enough to reject the law without guidance, or of gamma = 1 that without a class. */
static void compare_sharply(Network *n, const char *sampler, Process o, const int32_t start[L], int64_t draws) {
  double law[STATES], wrong[STATES];
  compare(n, sampler, o, start, draws, law);
  o.gamma = o.gamma == 1 ? 0 : 1;
  law_of(n, o, start, wrong);
  toy_sharp(law, wrong, STATES, draws);
}

static void test_law_of_masks(void **state) {
  (void)state;
  toy_need_speed();
  static const char *const names[] = {"ancestral", "psi"};
  for (int time = 0; time < 2; time++) {
    Network n;
    open_classes(&n, false, time, BATCH);
    for (int k = 0; k < 4; k++)
      compare_sharply(&n, names[k % 2], (Process){false, gammas[k], 1, FEW, k == 0}, k % 3 ? given : blank, DRAWS / 2);
    network_destroy(&n);
  }
}

static void test_law_of_uniform_noise(void **state) {
  (void)state;
  toy_need_speed();
  Network n;
  open_classes(&n, true, true, BATCH);
  for (int k = 0; k < 4; k++)
    compare_sharply(&n, "psi", (Process){true, gammas[k], k % 2 ? 1 : 0.6, FEW, k == 2}, k == 3 ? given : blank,
                    DRAWS / 2);
  network_destroy(&n);
}

/* gamma = 1 is one pass with the class, gamma = 0 one without, bit for bit the samples of the plain sampler. */
static void test_single_passes(void **state) {
  (void)state;
  static const char *const names[] = {"ancestral", "cached", "event", "first_hitting", "parallel", "psi", "remask"};
  enum { N = 40 };
  int32_t plain[N * L], of_class[N * L], got[N * L];
  for (int uniform = 0; uniform < 2; uniform++) {
    Network n;
    open_classes(&n, uniform, false, 2 * N);
    for (int i = uniform ? 5 : 0; i < (uniform ? 6 : 7); i++) {
      Run r = RUN(names[i], 6, !uniform, 3, 10, N, .kappa = 0.5, .eta = 0.5, .label = -1);
      SamplerJob one = toy_samples(&n, r, blank, plain);
      r.label = CLASS;
      toy_samples(&n, r, blank, of_class);
      if (memcmp(of_class, plain, sizeof plain) == 0) fail_msg("%s: the class changes nothing", names[i]);
      r.guided = true;
      for (int gamma = 0; gamma < 2; gamma++) {
        r.guidance = gamma;
        SamplerJob job = toy_samples(&n, r, blank, got);
        assert_memory_equal(got, gamma ? of_class : plain, sizeof got);
        assert_int_equal(job.evaluated, job.evaluations * one.evaluated / one.evaluations);
      }
      r.guidance = 4;
      SamplerJob two = toy_samples(&n, r, blank, got);
      if (memcmp(got, of_class, sizeof got) == 0) fail_msg("%s: gamma changes nothing", names[i]);
      if (i != 2 && i != 3 && i != 4) assert_int_equal(two.evaluated, 2 * N * two.evaluations);
    }
    network_destroy(&n);
  }
}

/* Two passes with gamma = 1 are the class alone, bit for bit. */
static void test_pairs_of_gamma_one(void **state) {
  (void)state;
  static const char *const names[] = {"ancestral", "event", "parallel"};
  enum { N = 40 };
  int32_t want[N * L], got[N * L];
  Network n;
  open_classes(&n, false, false, 2 * N);
  for (int i = 0; i < 3; i++) {
    Run r = RUN(names[i], 6, true, 3, 10, N, .label = CLASS);
    toy_samples(&n, r, blank, want);
    Sampler sampler;
    MUST(toy_sampler(&sampler, &n, r));
    SamplerJob job = toy_job(&n, r, got);
    job.guided = true;
    for (int k = 0; k < N; k++) memcpy(got + k * L, blank, sizeof blank);
    MUST(sampler_run(&sampler, &job));
    sampler_destroy(&sampler);
    assert_memory_equal(got, want, sizeof got);
  }
  network_destroy(&n);
}

/* Samples depend neither on the batch nor on how many rows of logits are held at a time. */
static void test_batch_split(void **state) {
  (void)state;
  enum { N = 30 };
  for (int uniform = 0; uniform < 2; uniform++) {
    Network n;
    int32_t whole[N * L], part[N * L];
    open_classes(&n, uniform, false, 2 * N);
    Process o = {uniform, 2.5, 0.7, 6, true};
    toy_samples(&n, run_of("psi", o, 100, N), blank, whole);
    for (int pass = 0; pass < 2; pass++) {
      int64_t size = pass ? N : 7;
      if (pass) n.rows.chunk = 7;
      for (int64_t at = 0; at < N; at += size)
        toy_samples(&n, run_of("psi", o, 100 + at, N - at < size ? N - at : size), blank, part + at * L);
      assert_memory_equal(part, whole, sizeof whole);
    }
    network_destroy(&n);
  }
}

/* Where the mask has a probability, or logits are scores, only single passes are samples. */
static void test_refusals(void **state) {
  (void)state;
  static const char *const names[][2] = {{"d3pm", "ancestral"}, {"sedd", "analytic"}};
  for (int i = 0; i < 2; i++) {
    Network n;
    Sampler s;
    toy_open_sampler(&n, (ToySampler){.objective = {.name = names[i][0], .T = i ? 0 : 8}, .classes = 2, .batch = 2});
    Run r = RUN(names[i][1], 2, true, 0, 0, 1, .guided = true, .guidance = 2, .label = 0);
    toy_refused(&n, r, "two passes");
    for (r.guidance = 0; r.guidance < 2; r.guidance++) {
      MUST(toy_sampler(&s, &n, r));
      sampler_destroy(&s);
    }
    network_destroy(&n);
  }
  Network n;
  open_classes(&n, true, true, 2);
  toy_refused(&n, RUN("psi", 2, true, 0, 0, 1, .guided = true, .guidance = 2, .label = 0, .likeliest = true),
              "a temperature with a mixed step");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_law_of_masks),  cmocka_unit_test(test_law_of_uniform_noise),
      cmocka_unit_test(test_single_passes), cmocka_unit_test(test_pairs_of_gamma_one),
      cmocka_unit_test(test_batch_split),   cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
