/* test_sampler_psi — the samples have the law of the predictor-corrector process, enumerated from its definition on a
 * tiny network (toy_sampler.h): of masks, where kappa = 1 equals `ancestral` bit for bit and kappa from the sigma of
 * remasking equals `remask`, and of uniform noise over the V − 1 tokens besides the mask. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "sampling/remasking.h"

enum { FEW = 4, K = V - 1 };

static int32_t token(int i) { return i + (i >= MASK); }

/* ---- the definition: at one position, from the token z at noise t to noise s; p(x0), and the noise 1 − alpha */
/* The step of the reverse process of uniform noise. */
static void uniform_step(double q[V], const double p[V], int z, double noise_t, double noise_s) {
  double at = 1 - noise_t, as = 1 - noise_s, D = K * at * p[z] + noise_t;
  for (int i = 0; i < K; i++) {
    int y = token(i);
    q[y] = (K * at * p[y] * (y == z) + (at / as - at) * (y == z) + (as - at) * p[y] + (1 - at / as) * noise_s / K) / D;
  }
  q[MASK] = 0;
}

static void mask_step(double q[V], const double p[V], int z, double noise_t, double noise_s) {
  for (int y = 0; y < V; y++)
    q[y] = z != MASK ? y == z : y == MASK ? noise_s / noise_t : (1 - noise_s / noise_t) * p[y];
}

typedef void (*Reverse)(double q[V], const double p[V], int z, double noise_t, double noise_s);

static void psi_step(Reverse reverse, double q[V], const double p[V], int z, double t, double s, double kappa) {
  double clean[V];
  reverse(q, p, z, t, s);
  reverse(clean, p, z, t, 0);
  for (int y = 0; y < V; y++) {
    double prior = reverse == mask_step ? y == MASK : (y != MASK) / (double)K;
    q[y] = kappa * q[y] + (1 - kappa) * ((1 - s) * clean[y] + s * prior);
  }
}

/* ---- the enumerated law */
typedef struct Process {
  Reverse reverse;
  double kappa;
  int steps;
  bool removal;
  const char *from; /* sample.kappa_from; NULL: kappa */
  double eta;
  const double *times; /* of the steps and the end; NULL: evenly from 1 to 1e-5 */
} Process;

/* ReMDM's probability of remasking a token. */
static double sigma(const char *from, double eta, double noise_t, double noise_s) {
  double most = fmin(1, noise_s / (1 - noise_t));
  return strcmp(from, "cap") == 0 ? fmin(eta, most) : eta * most;
}

static double kappa_in(const Process *o, double noise_t, double noise_s) {
  if (o->from == NULL || noise_s == 0) return o->kappa;
  double kappa = 1 - sigma(o->from, o->eta, noise_t, noise_s) / noise_s;
  return o->reverse == uniform_step ? fmax(0, kappa) : kappa;
}

static double time_of(const Process *o, int i) { return o->times ? o->times[i] : 1 - i * (1 - 1e-5) / o->steps; }

static void law_step(const Process *o, double law[STATES], const int32_t start[L], double p[STATES][L][V], double t,
                     double s) {
  double next[STATES] = {0}, q[L][V];
  for (int a = 0; a < STATES; a++) {
    if (law[a] == 0) continue;
    for (int l = 0; l < L; l++) {
      psi_step(o->reverse, q[l], p[a][l], toy_digit(a, l), t, s, kappa_in(o, t, s));
      for (int y = 0; y < V && start[l] != MASK; y++) q[l][y] = y == start[l];
    }
    for (int b = 0; b < STATES; b++)
      next[b] += law[a] * q[0][toy_digit(b, 0)] * q[1][toy_digit(b, 1)] * q[2][toy_digit(b, 2)];
  }
  memcpy(law, next, sizeof next);
}

static void law_begin(const Process *o, const int32_t start[L], double law[STATES]) {
  for (int a = 0; a < STATES; a++) {
    law[a] = 1;
    for (int l = 0; l < L; l++) {
      int x = toy_digit(a, l);
      bool open = start[l] == MASK && o->reverse == uniform_step;
      law[a] *= open ? (x != MASK) / (double)K : x == start[l];
    }
  }
}

/* The last pass: the most likely token at every open position, or at those that are still masked. */
static void law_end(const Process *o, const int32_t start[L], double law[STATES], double p[STATES][L][V]) {
  double next[STATES] = {0};
  for (int a = 0; a < STATES; a++) {
    int32_t z[L];
    for (int l = 0; l < L; l++) {
      bool taken = start[l] == MASK && (o->reverse == uniform_step || toy_digit(a, l) == MASK);
      z[l] = taken ? toy_likeliest(p[a][l]) : toy_digit(a, l);
    }
    next[toy_code(z)] += law[a];
  }
  memcpy(law, next, sizeof next);
}

static void law_of(Network *n, Process o, const int32_t start[L], double law[STATES]) {
  static double p[STATES][L][V];
  law_begin(&o, start, law);
  for (int i = 0; i < o.steps; i++) {
    double t = time_of(&o, i), s = time_of(&o, i + 1);
    bool clean = o.reverse == uniform_step && i + 1 == o.steps && !o.removal;
    toy_conditionals(n, t, p);
    law_step(&o, law, start, p, toy_masked(n, t), clean ? 0 : toy_masked(n, s));
  }
  if (!o.removal) return;
  toy_conditionals(n, 1e-5, p);
  law_end(&o, start, law, p);
}

static const Reverse reverses[] = {mask_step, uniform_step};
static const double kappas[] = {1, 0.6, 0};

static void open_noise(Network *n, int uniform, int64_t batch) {
  toy_open_sampler(n, (ToySampler){.objective.name = uniform ? "uniform" : "subs", .time = true, .batch = batch});
}

/* ---- the definition itself */
static double near(double a, double b) { return fabs(a - b); }

/* Steps are distributions; two steps to a known x0 are one; the marginals are those of the noise, whatever kappa is. */
static void test_definition(void **state) {
  (void)state;
  const double p[V] = {0.2, 0, 0.5, 0.3}, times[] = {0.9, 0.55, 0.2, 0};
  for (int uniform = 0; uniform < 2; uniform++)
    for (int x0 = 0; x0 < V; x0++) {
      if (x0 == MASK) continue;
      double known[V] = {0}, t = times[0], s = times[1], u = times[2], q[V], two[V], marginal[V];
      known[x0] = 1;
      for (int k = 0; k < 3; k++) {
        memset(marginal, 0, sizeof marginal);
        for (int z = 0; z < V; z++) {
          if (uniform ? z == MASK : z != MASK && z != x0) continue;
          double prior = uniform ? 1.0 / K : z == MASK, sum = 0;
          psi_step(reverses[uniform], q, p, z, t, s, kappas[k]);
          for (int y = 0; y < V; y++) sum += q[y];
          assert_true(near(sum, 1) < 1e-14);
          psi_step(reverses[uniform], q, known, z, t, s, kappas[k]);
          for (int y = 0; y < V; y++) marginal[y] += ((1 - t) * (z == x0) + t * prior) * q[y];
        }
        for (int y = 0; y < V; y++) {
          double prior = uniform ? (y != MASK) / (double)K : y == MASK;
          assert_true(near(marginal[y], (1 - s) * (y == x0) + s * prior) < 1e-14);
        }
      }
      for (int z = 0; z < V; z++) {
        if (uniform ? z == MASK : z != MASK && z != x0) continue;
        double composed[V] = {0};
        reverses[uniform](q, known, z, t, s);
        for (int y = 0; y < V; y++) {
          if (q[y] == 0) continue;
          reverses[uniform](two, known, y, s, u);
          for (int v = 0; v < V; v++) composed[v] += q[y] * two[v];
        }
        reverses[uniform](q, known, z, t, u);
        for (int v = 0; v < V; v++) assert_true(near(composed[v], q[v]) < 1e-14);
      }
    }
}

/* Of masks it is remasking with sigma = (1 − kappa)(1 − alpha_s). */
static void test_definition_is_remasking(void **state) {
  (void)state;
  const double p[V] = {0.2, 0, 0.5, 0.3}, t = 0.7, s = 0.4;
  for (int k = 0; k < 3; k++) {
    double q[V], sigma = (1 - kappas[k]) * s, unmask = ((1 - s) - (1 - sigma) * (1 - t)) / t;
    psi_step(mask_step, q, p, 2, t, s, kappas[k]);
    assert_true(near(q[MASK], sigma) < 1e-15 && near(q[2], 1 - sigma) < 1e-15);
    psi_step(mask_step, q, p, MASK, t, s, kappas[k]);
    for (int y = 0; y < V; y++) assert_true(near(q[y], y == MASK ? 1 - unmask : unmask * p[y]) < 1e-15);
  }
}

/* Of masks the other way round: kappa = 1 − sigma/(1 − alpha_s) is remasking with any sigma that the schedule allows,
 * also where kappa is negative. */
static void test_definition_of_sigma(void **state) {
  (void)state;
  const double p[V] = {0.2, 0, 0.5, 0.3}, pairs[][2] = {{0.7, 0.4}, {0.4, 0.4}, {0.9, 0.89}, {0.2, 1e-5}};
  for (int i = 0; i < 4; i++)
    for (int k = 0; k <= 4; k++) {
      double t = pairs[i][0], s = pairs[i][1], most = fmin(1, s / (1 - t)), q[V];
      double share = k * most / 4, unmask = ((1 - s) - (1 - share) * (1 - t)) / t;
      assert_true(unmask > -1e-15 && unmask < 1 + 1e-15);
      psi_step(mask_step, q, p, 2, t, s, 1 - share / s);
      assert_true(near(q[MASK], share) < 1e-15 && near(q[2], 1 - share) < 1e-15 && near(q[0], 0) < 1e-15);
      psi_step(mask_step, q, p, MASK, t, s, 1 - share / s);
      for (int y = 0; y < V; y++) assert_true(near(q[y], y == MASK ? 1 - unmask : unmask * p[y]) < 1e-15);
    }
}

/* ---- the program */
static const double HELD = 0.5, HELD_TIME = 0.4;                       /* of six steps */
static const double held_times[] = {1, 0.7, 0.4, 0.4, 0.4, 0.4, 1e-5}; /* three stay */
static const char *const rules[] = {"cap", "rescale"};
static const double rates[] = {0.3, 0.6};

static void compare(Network *n, Process o, uint64_t seed, const int32_t start[L], int64_t draws, double law[STATES]) {
  int64_t count[STATES];
  law_of(n, o, start, law);
  Run r = RUN("psi", o.steps, o.removal, seed, 0, 0, .kappa = o.kappa, .kappa_from = o.from, .eta = o.eta);
  if (o.times) r.hold = HELD, r.hold_time = HELD_TIME;
  toy_compare(n, r, start, draws, law, count);
}

/* The test must reject the laws of other kappas. */
static void test_law(void **state) {
  (void)state;
  toy_need_speed();
  for (int uniform = 0; uniform < 2; uniform++) {
    Network n;
    double law[3][STATES];
    int64_t draws = 0; /* uniform noise hides differences of kappa */
    open_noise(&n, uniform, BATCH);
    n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    for (int k = 0; k < 3; k++) {
      Process o = {.reverse = reverses[uniform], .kappa = kappas[k], .steps = FEW};
      draws = uniform ? 2 * DRAWS : DRAWS / 4;
      compare(&n, o, 1, blank, draws, law[k]);
    }
    for (int k = 0; k < 3; k++) toy_sharp(law[k], law[(k + 1) % 3], STATES, draws);
    network_destroy(&n);
  }
}

static void test_law_with_removal(void **state) {
  (void)state;
  toy_need_speed();
  for (int uniform = 0; uniform < 2; uniform++)
    for (int slow = 0; slow < 2; slow++) {
      Network n;
      double law[STATES];
      open_noise(&n, uniform, BATCH);
      if (slow) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
      compare(&n, (Process){.reverse = reverses[uniform], .kappa = 0.5, .steps = FEW, .removal = true}, 2, blank,
              DRAWS / 8, law);
      network_destroy(&n);
    }
}

/* kappa from the sigma of remasking, and held times. The test must reject the laws without remasking and of other times.
 * Of masks test_remasking has the other cases. */
static void test_law_of_sigma(void **state) {
  (void)state;
  toy_need_speed();
  for (int k = 0; k < 3; k++) {
    Network n;
    double law[STATES], wrong[STATES];
    bool uniform = k > 0, held = k != 1;
    int64_t draws = uniform ? DRAWS : 2 * DRAWS;
    Process o = {.reverse = reverses[uniform],
                 .kappa = 1,
                 .steps = 6,
                 .from = rules[held],
                 .eta = rates[held],
                 .times = held ? held_times : NULL};
    open_noise(&n, uniform, BATCH);
    n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    compare(&n, o, 4, blank, draws, law);
    Process others[] = {o, o};
    others[0].from = NULL, others[1].times = held ? NULL : held_times;
    for (int i = 0; i < 2; i++) {
      law_of(&n, others[i], blank, wrong);
      toy_sharp(law, wrong, STATES, draws);
    }
    network_destroy(&n);
  }
}

/* Of masks these are the samples of remasking, bit for bit, and those of other rates and times are not. */
static void test_remasking(void **state) {
  (void)state;
  enum { N = 200 };
  const int32_t starts[][L] = {{MASK, MASK, MASK}, {MASK, 2, MASK}};
  const double etas[] = {0.02, 0.3, 1};
  int32_t want[N * L], got[N * L];
  for (int k = 0; k < 24; k++) {
    Network n;
    open_noise(&n, 0, N);
    if (k % 2) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    Run r = RUN("remask", 12, k % 2, 5, 100, N, .remask = rules[k / 2 % 2], .eta = etas[k / 4 % 3]);
    if (k / 12) r.hold = 0.6, r.hold_time = 0.3;
    toy_samples(&n, r, starts[k / 2 % 2], want);
    r.sampler = "psi", r.kappa_from = r.remask, r.remask = "confidence", r.kappa = 0.5;
    toy_samples(&n, r, starts[k / 2 % 2], got);
    assert_memory_equal(got, want, sizeof got);
    r.hold = k / 12 ? 0 : 0.6, r.hold_time = 0.3;
    toy_samples(&n, r, starts[k / 2 % 2], got);
    assert_memory_not_equal(got, want, sizeof got);
    network_destroy(&n);
  }
}

/* Times begin at 1, end where those of other samplers end, and stay for the share that is asked for. */
static void test_held_times(void **state) {
  (void)state;
  const double holds[] = {0, 0.1, 0.5, 0.99, 1}, ats[] = {0, 0.1, 0.7, 1};
  const int counts[] = {1, 2, 3, 10, 1000};
  for (int i = 0; i < 5 * 4 * 5; i++) {
    Remask o = {.hold = holds[i % 5], .hold_time = ats[i / 5 % 4]};
    int steps = counts[i / 20], held = (int)fmin(round(o.hold * steps), steps < 3 ? 0 : steps - 2), stays = 0;
    double last = job_time(1, 1), at = fmax(o.hold_time, last);
    assert_true(remasking_time(&o, 0, steps) == 1 && near(remasking_time(&o, steps, steps), last) < 1e-15);
    for (int k = 0; k < steps; k++) {
      double t = remasking_time(&o, k, steps), s = remasking_time(&o, k + 1, steps);
      assert_true(s <= t);
      stays += t == s;
      if (held > 0 && t == s) assert_true(t == at);
      if (held == 0) assert_true(t == job_time(k, steps));
    }
    bool end = at == 1 || at == last; /* the step that leads there stays, too */
    assert_true(stays == held + (held > 0 && end));
  }
  for (int k = 0; k <= 6; k++)
    assert_true(near(remasking_time(&(Remask){.hold = HELD, .hold_time = HELD_TIME}, k, 6), held_times[k]) < 1e-15);
}

/* Fixed tokens stay, and the network sees them. */
static void test_law_from_fixed_tokens(void **state) {
  (void)state;
  toy_need_speed();
  const int32_t starts[][L] = {{MASK, 2, MASK}, {0, MASK, 3}};
  for (int k = 0; k < 4; k++) {
    Network n;
    double law[STATES];
    open_noise(&n, k / 2, BATCH);
    compare(&n, (Process){.reverse = reverses[k / 2], .kappa = 0.7, .steps = FEW}, 3, starts[k % 2], DRAWS / 8, law);
    network_destroy(&n);
  }
}

/* Of masks, kappa = 1 is the reverse process. */
static void test_ancestral(void **state) {
  (void)state;
  enum { N = 60 };
  const int32_t starts[][L] = {{MASK, MASK, MASK}, {MASK, 2, MASK}, {0, 2, 3}};
  int32_t want[N * L], got[N * L];
  for (int k = 0; k < 6; k++) {
    Network n;
    open_noise(&n, 0, N);
    if (k % 2) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    Run r = RUN("ancestral", 12, k % 2, 5, 100, N);
    toy_samples(&n, r, starts[k / 2], want);
    r.sampler = "psi", r.kappa = 1;
    toy_samples(&n, r, starts[k / 2], got);
    assert_memory_equal(got, want, sizeof got);
    r.kappa = 0;
    toy_samples(&n, r, starts[k / 2], got);
    if (k / 2 < 2) assert_memory_not_equal(got, want, sizeof got);
    network_destroy(&n);
  }
}

/* A sample is a function of (seed, number), not of the batch; every step is one pass. */
static void test_batch_split(void **state) {
  (void)state;
  enum { N = 60 };
  const int64_t sizes[] = {1, 7, 59};
  int32_t whole[N * L], z[N * L];
  for (int uniform = 0; uniform < 2; uniform++) {
    Network n;
    open_noise(&n, uniform, N);
    Run r = RUN("psi", 20, true, 5, 100, N, .kappa = 0.7);
    SamplerJob job = toy_samples(&n, r, blank, whole);
    if (uniform) assert_int_equal(job.evaluations, 21);
    for (int k = 0; k < 3; k++) {
      for (int64_t at = 0; at < N; at += sizes[k]) {
        r.first = 100 + at;
        r.n = N - at < sizes[k] ? N - at : sizes[k];
        toy_samples(&n, r, blank, z + at * L);
      }
      assert_memory_equal(z, whole, sizeof z);
    }
    network_destroy(&n);
  }
}

/* Without a mask in the start there is nothing to draw. Temperature 0 takes the likeliest token where one is drawn. */
static void test_ends(void **state) {
  (void)state;
  enum { N = 40 };
  const int32_t full[L] = {0, 2, 3};
  Network n;
  int32_t z[N * L], cold[N * L];
  open_noise(&n, 1, N);
  toy_samples(&n, RUN("psi", 3, true, 1, 0, N, .kappa = 0.5), full, z);
  for (int i = 0; i < N; i++) assert_memory_equal(z + i * L, full, sizeof full);
  toy_samples(&n, RUN("psi", 3, false, 1, 0, N, .kappa = 1), blank, z);
  toy_samples(&n, RUN("psi", 3, false, 1, 0, N, .kappa = 1, .likeliest = true), blank, cold);
  assert_memory_not_equal(z, cold, sizeof z);
  for (int i = 0; i < N * L; i++) assert_true(z[i] != MASK && cold[i] != MASK);
  network_destroy(&n);
}

/* Samplers of masks refuse uniform noise and name this one. */
static void test_refusals(void **state) {
  (void)state;
  static const char *const others[] = {"ancestral", "analytic", "remask", "ar"};
  Network n;
  open_noise(&n, 1, 1);
  for (int i = 0; i < 4; i++) {
    Sampler s;
    assert_int_equal(toy_sampler(&s, &n, RUN(others[i], 2, true, 0, 0, 1)), ERR_USAGE);
    assert_non_null(strstr(err_message(), "use psi"));
    err_clear();
    sampler_destroy(&s);
  }
  toy_refused(&n, RUN("psi", 2, true, 0, 0, 1, .f32 = true), "draws in f32");
  toy_refused(&n, RUN("psi", 2, true, 0, 0, 1, .guided = true, .guidance = 2), "guidance without masks");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_definition),
      cmocka_unit_test(test_definition_is_remasking),
      cmocka_unit_test(test_definition_of_sigma),
      cmocka_unit_test(test_law),
      cmocka_unit_test(test_law_of_sigma),
      cmocka_unit_test(test_remasking),
      cmocka_unit_test(test_held_times),
      cmocka_unit_test(test_law_with_removal),
      cmocka_unit_test(test_law_from_fixed_tokens),
      cmocka_unit_test(test_ancestral),
      cmocka_unit_test(test_batch_split),
      cmocka_unit_test(test_ends),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
