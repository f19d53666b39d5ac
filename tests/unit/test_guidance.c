/* test_guidance — samples guided by their prompt: their law, enumerated on a tiny network (toy_sampler.h), where tokens
 * are drawn in proportion to p_c^gamma p_u^(1 − gamma), p_u the network's where the given tokens are masked. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

enum { FEW = 4, HALF = BATCH / 2 };
static const int32_t given[L] = {MASK, 2, MASK};

/* p[s] := the guided law at state s, whose position 1 is given. */
static void guided(Network *n, double t, double gamma, double p[STATES][L][V]) {
  static double plain[STATES][L][V];
  toy_conditionals(n, t, plain);
  for (int s = 0; s < STATES; s++) {
    int32_t z[L];
    for (int l = 0; l < L; l++) z[l] = l == 1 ? MASK : toy_digit(s, l);
    const double(*without)[V] = (const double(*)[V])plain[toy_code(z)];
    for (int l = 0; l < L; l++) {
      double sum = 0;
      for (int y = 0; y < V; y++)
        sum += p[s][l][y] = y == MASK ? 0 : pow(plain[s][l][y], gamma) * pow(without[l][y], 1 - gamma);
      for (int y = 0; y < V; y++) p[s][l][y] /= sum;
    }
  }
}

/* The reverse process, step by step; the law from `start` with the masks that are left. */
static void law_of(Network *n, int steps, double gamma, double law[STATES]) {
  static double p[STATES][L][V];
  memset(law, 0, STATES * sizeof *law);
  law[toy_code(given)] = 1;
  for (int i = 0; i < steps; i++) {
    double t = 1 - i * (1 - 1e-5) / steps, s = 1 - (i + 1) * (1 - 1e-5) / steps, next[STATES] = {0};
    double stay = toy_masked(n, s) / toy_masked(n, t);
    guided(n, t, gamma, p);
    for (int a = 0; a < STATES; a++)
      for (int b = 0; b < STATES && law[a] > 0; b++) {
        double chance = law[a];
        for (int l = 0; l < L; l++) {
          int x = toy_digit(a, l), y = toy_digit(b, l);
          chance *= x != MASK ? x == y : y == MASK ? stay : (1 - stay) * p[a][l][y];
        }
        next[b] += chance;
      }
    memcpy(law, next, sizeof next);
  }
}

/* One token at a time in random order. */
static void law_in_random_order(Network *n, double gamma, double law[STATES]) {
  static double p[STATES][L][V];
  memset(law, 0, STATES * sizeof *law);
  guided(n, 1, gamma, p);
  for (int first = 0; first < L; first += 2) {
    int second = 2 - first;
    for (int y = 0; y < V; y++)
      for (int x = 0; x < V; x++) {
        int32_t z[L];
        memcpy(z, given, sizeof z);
        double chance = p[toy_code(z)][first][y] / 2;
        z[first] = y;
        chance *= p[toy_code(z)][second][x];
        z[second] = x;
        law[toy_code(z)] += chance;
      }
  }
}

/* toy_compare in batches of half the network's. */
static void compare(Network *n, Run r, int64_t draws, const double law[STATES]) {
  static int32_t z[HALF * L];
  int64_t count[STATES] = {0};
  draws = toy_draws(draws);
  for (r.first = 0; r.first < draws; r.first += r.n) {
    r.n = draws - r.first < HALF ? draws - r.first : HALF;
    SamplerJob job = toy_samples(n, r, given, z);
    assert_null(job.given);
    for (int64_t i = 0; i < r.n; i++) count[toy_code(z + i * L)]++;
  }
  toy_law(r.sampler, count, law, STATES, draws);
}

static const double gammas[] = {0, 0.5, 3};

static void test_law_of_steps(void **state) {
  (void)state;
  toy_need_speed();
  static const char *const names[] = {"ancestral", "psi", "remask"};
  for (int time = 0; time < 2; time++) {
    Network n;
    double law[STATES], plain[STATES];
    toy_open_sampler(&n, (ToySampler){.time = time, .batch = BATCH});
    n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    law_of(&n, FEW, 1, plain);
    for (int k = 0; k < 3; k++) {
      law_of(&n, FEW, gammas[k], law);
      Run r = RUN(names[k], FEW, false, 1, 0, 0, .kappa = 1, .guided = true, .guidance = gammas[k]);
      compare(&n, r, DRAWS / 2, law);
      toy_sharp(law, plain, STATES, DRAWS / 2);
    }
    network_destroy(&n);
  }
}

static void test_law_in_random_order(void **state) {
  (void)state;
  toy_need_speed();
  static const char *const names[] = {"first_hitting", "parallel"};
  Network n;
  double law[STATES], plain[STATES];
  toy_open_sampler(&n, (ToySampler){.batch = BATCH});
  law_in_random_order(&n, 1, plain);
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < 3; k++) {
      law_in_random_order(&n, gammas[k], law);
      Run r = RUN(names[i], 8, true, 2, 0, 0, .order = "random", .guided = true, .guidance = gammas[k]);
      compare(&n, r, DRAWS / 4, law);
      toy_sharp(law, plain, STATES, DRAWS / 4);
    }
  network_destroy(&n);
}

/* Where nothing is given, guidance changes nothing, bit for bit, whatever gamma is. */
static void test_open_prompt(void **state) {
  (void)state;
  static const char *const names[] = {"ancestral", "first_hitting", "parallel", "psi"};
  static const int32_t open[L] = {MASK, MASK, MASK};
  enum { N = 10 };
  int32_t want[N * L], got[N * L];
  for (int64_t batch = 1; batch <= N; batch += N - 1) {
    Network n;
    toy_open_sampler(&n, (ToySampler){.batch = 2 * batch});
    for (int i = 0; i < 4; i++) {
      for (int64_t at = 0; at < N; at += batch) {
        Run r = RUN(names[i], 6, true, 3, at, batch, .kappa = 0.5);
        toy_samples(&n, r, open, want + at * L);
        r.guided = true, r.guidance = 3;
        toy_samples(&n, r, open, got + at * L);
      }
      assert_memory_equal(got, want, sizeof got);
    }
    network_destroy(&n);
  }
}

/* gamma = 1 draws the samples without guidance, bit for bit, at twice the cost. */
static void test_gamma_one(void **state) {
  (void)state;
  static const char *const names[] = {"ancestral", "cached", "event", "first_hitting", "parallel", "psi", "remask"};
  enum { N = 40 };
  int32_t want[N * L], got[N * L];
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = 2 * N});
  for (int i = 0; i < 7; i++) {
    Run r = RUN(names[i], 6, true, 3, 10, N, .kappa = 0.5, .eta = 0.5);
    SamplerJob plain = toy_samples(&n, r, given, want);
    r.guided = true, r.guidance = 1;
    SamplerJob twice = toy_samples(&n, r, given, got);
    assert_memory_equal(got, want, sizeof got);
    assert_int_equal(twice.evaluations, plain.evaluations);
    assert_int_equal(twice.evaluated, 2 * plain.evaluated);
    r.guidance = 4;
    toy_samples(&n, r, given, got);
    assert_memory_not_equal(got, want, sizeof got);
    r.guided = false; /* nothing of it is left */
    toy_samples(&n, r, given, got);
    assert_memory_equal(got, want, sizeof got);
  }
  network_destroy(&n);
}

/* Samples depend neither on the batch nor on how many rows of logits are held at a time. Sequences of a batch may have
 * different prompts. */
static void test_batch_split(void **state) {
  (void)state;
  static const char *const names[] = {"ancestral", "event", "first_hitting", "parallel"};
  enum { N = 30 };
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = 2 * N});
  int64_t chunk = n.rows.chunk;
  for (int i = 0; i < 4; i++) {
    int32_t whole[N * L], part[N * L];
    for (int pass = 0; pass < 3; pass++) {
      int64_t size = pass == 0 ? N : pass == 1 ? 7 : N;
      n.rows.chunk = pass == 2 ? 7 : chunk;
      for (int64_t at = 0; at < N; at += size) {
        int64_t count = N - at < size ? N - at : size;
        int32_t *z = (pass ? part : whole) + at * L;
        for (int64_t b = 0; b < count; b++) {
          const int32_t prompts[][L] = {{MASK, 2, MASK}, {0, MASK, MASK}, {MASK, 3, 0}, {MASK, MASK, MASK}};
          memcpy(z + b * L, prompts[(at + b) % 4], L * sizeof *z);
        }
        Run r = RUN(names[i], 6, true, 5, 100 + at, count, .order = "random", .guided = true, .guidance = 2.5);
        Sampler sampler;
        MUST(toy_sampler(&sampler, &n, r));
        SamplerJob job = toy_job(&n, r, z);
        MUST(sampler_run(&sampler, &job));
        sampler_destroy(&sampler);
      }
      if (pass) assert_memory_equal(part, whole, sizeof whole);
    }
  }
  n.rows.chunk = 1;
  check_refused(rows_pair(&n.rows, 2), ERR_USAGE, "one row at a time");
  network_destroy(&n);
}

/* Where the mask has a probability, the mixture would change how many tokens unmask. */
static void test_refusals(void **state) {
  (void)state;
  Network n;
  toy_open_sampler(&n, (ToySampler){.objective = {.name = "d3pm", .T = 8}, .batch = 2});
  toy_refused(&n, RUN("ancestral", 2, true, 0, 0, 1, .guided = true, .guidance = 2), "a probability of the mask");
  network_destroy(&n);
  toy_open_sampler(&n, (ToySampler){.objective = {.name = "sedd"}, .batch = 2});
  toy_refused(&n, RUN("analytic", 2, true, 0, 0, 1, .guided = true, .guidance = 2), "scores");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_law_of_steps), cmocka_unit_test(test_law_in_random_order),
      cmocka_unit_test(test_open_prompt),  cmocka_unit_test(test_gamma_one),
      cmocka_unit_test(test_batch_split),  cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
