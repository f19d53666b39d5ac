/* test_sampler_remask — the samples have the distribution of ReMDM, enumerated on a tiny network (toy_sampler.h). With
 * `confidence` a token's history matters, so the enumeration follows every path and records the probability with which
 * each visible token was drawn. Without remasking the sampler equals `ancestral`, bit for bit. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"

enum { FEW = 4, MOST = 12 };
typedef struct Process {
  const char *remask;
  double eta;
  int steps;
  bool removal, indifferent; /* indifferent: equal confidences, a deliberate error */
  bool fixed[L];
  double alpha[MOST + 1], p[MOST + 1][STATES][L][V];
  double *law;
} Process;
static Process process;

static double least(double a, double b) { return a < b ? a : b; }

/* σ of every position of state z; drawn[l] is the probability with which a visible token was drawn */
static void sigmas(const Process *o, int step, const int32_t z[L], const double drawn[L], double sigma[L]) {
  double most = least(1, (1 - o->alpha[step + 1]) / o->alpha[step]), sum = 0;
  for (int l = 0; l < L; l++) {
    double weight = z[l] == MASK || o->fixed[l] ? 0 : o->indifferent ? 1 : exp(-drawn[l]);
    sum += weight;
    sigma[l] = strcmp(o->remask, "cap") == 0       ? least(o->eta, most)
               : strcmp(o->remask, "rescale") == 0 ? o->eta * most
                                                   : o->eta * most * weight;
  }
  for (int l = 0; l < L && sum > 0; l++)
    if (strcmp(o->remask, "confidence") == 0) sigma[l] /= sum;
}

static void follow(const Process *o, int step, const int32_t z[L], const double drawn[L], double weight);

/* Enumerate positions l … L−1 of the step from z to `next`; those before l are done. */
static void position(const Process *o, int step, int l, const int32_t z[L], const double sigma[L], int32_t next[L],
                     double drawn[L], double weight) {
  if (weight == 0) return;
  if (l == L) {
    follow(o, step + 1, next, drawn, weight);
    return;
  }
  double s = o->alpha[step + 1], t = o->alpha[step], before = drawn[l];
  next[l] = z[l];
  if (z[l] != MASK) {
    position(o, step, l + 1, z, sigma, next, drawn, weight * (o->fixed[l] ? 1 : 1 - sigma[l]));
    next[l] = MASK;
    position(o, step, l + 1, z, sigma, next, drawn, o->fixed[l] ? 0 : weight * sigma[l]);
  } else {
    double unmask = (s - (1 - sigma[l]) * t) / (1 - t);
    position(o, step, l + 1, z, sigma, next, drawn, weight * (1 - unmask));
    for (int y = 0; y < V; y++) {
      next[l] = y;
      drawn[l] = o->p[step][toy_code(z)][l][y];
      position(o, step, l + 1, z, sigma, next, drawn, weight * unmask * drawn[l]);
    }
    drawn[l] = before;
  }
}

static void follow(const Process *o, int step, const int32_t z[L], const double drawn[L], double weight) {
  if (step == o->steps) {
    o->law[toy_code(z)] += weight;
    return;
  }
  int32_t next[L];
  double sigma[L], now[L];
  memcpy(now, drawn, sizeof now);
  sigmas(o, step, z, drawn, sigma);
  position(o, step, 0, z, sigma, next, now, weight);
}

static void describe(Network *n, Process *o, const int32_t start[L]) {
  for (int l = 0; l < L; l++) o->fixed[l] = start[l] != MASK;
  for (int i = 0; i <= o->steps; i++) {
    double t = 1 - i * (1 - 1e-5) / o->steps;
    o->alpha[i] = 1 - toy_masked(n, t);
    toy_conditionals(n, t, o->p[i]);
  }
}

static void law_of(Network *n, Process *o, const int32_t start[L], double law[STATES]) {
  const double none[L] = {0};
  memset(law, 0, STATES * sizeof *law);
  describe(n, o, start);
  o->law = law;
  follow(o, 0, start, none, 1);
  if (o->removal) toy_law_finish(law, o->p[o->steps]);
}

static const char *const kinds[] = {"cap", "rescale", "confidence"};
static const double etas[] = {0.3, 0.6, 1};

static void compare(Network *n, Process *o, uint64_t seed, const int32_t start[L], int64_t draws, double law[STATES]) {
  int64_t count[STATES];
  law_of(n, o, start, law);
  Run r = RUN("remask", o->steps, o->removal, seed, 0, 0, .remask = o->remask, .eta = o->eta);
  toy_compare(n, r, start, draws, law, count);
}

/* The test must reject two wrong distributions: without remasking, and with another η. */
static void test_law(void **state) {
  (void)state;
  toy_need_speed();
  Network n;
  double law[STATES], wrong[STATES];
  toy_open_sampler(&n, (ToySampler){.batch = BATCH});
  for (int k = 0; k < 3; k++) {
    process = (Process){.remask = kinds[k], .eta = etas[k], .steps = FEW, .removal = true};
    compare(&n, &process, 1, blank, DRAWS, law);
    toy_law_of(&n, blank, FEW, true, wrong);
    toy_sharp(law, wrong, STATES, DRAWS);
    process.eta *= 0.5;
    law_of(&n, &process, blank, wrong);
    toy_sharp(law, wrong, STATES, DRAWS);
  }
  network_destroy(&n);
}

/* A schedule that leaves masks at the end. */
static void test_law_with_masks_left(void **state) {
  (void)state;
  toy_need_speed();
  Network n;
  double law[STATES];
  toy_open_sampler(&n, (ToySampler){.batch = BATCH});
  n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
  for (int k = 0; k < 6; k++) {
    process = (Process){.remask = kinds[k % 3], .eta = etas[k % 3], .steps = FEW, .removal = k / 3};
    compare(&n, &process, 2, blank, DRAWS / 4, law);
  }
  network_destroy(&n);
}

/* One sample from the enumerated process, with the same uniforms that the sampler uses. */
static void simulate(const Process *o, uint64_t seed, int64_t sample, int32_t z[L]) {
  double drawn[L] = {0}, sigma[L];
  for (int i = 0; i < o->steps; i++) {
    RngKey chance = rng_key(seed, RNG_SAMPLE_UNMASK, 0, (uint64_t)i, (uint64_t)sample);
    RngKey token = rng_key(seed, RNG_SAMPLE_TOKEN, 0, (uint64_t)i, (uint64_t)sample);
    int state = toy_code(z);
    double s = o->alpha[i + 1], t = o->alpha[i];
    sigmas(o, i, z, drawn, sigma);
    for (int l = 0; l < L; l++) {
      double u = rng_uniform(chance, (uint64_t)l), below = rng_uniform(token, (uint64_t)l);
      if (toy_digit(state, l) != MASK) {
        if (!o->fixed[l] && u < sigma[l]) z[l] = MASK;
      } else if (u < (s - (1 - sigma[l]) * t) / (1 - t)) {
        int y = 0;
        for (; y < V - 1 && below >= o->p[i][state][l][y]; y++) below -= o->p[i][state][l][y];
        z[l] = y;
        drawn[l] = o->p[i][state][l][y];
      }
    }
  }
}

/* The distribution over so few states hardly shows which of two tokens was remasked; the samples do. */
static void test_doubted_tokens(void **state) {
  (void)state;
  toy_need_speed();
  enum { N = 10 * BATCH };
  static int32_t z[N * L];
  static Process o;
  for (int k = 0; k < 4; k++) {
    Network n;
    int64_t differ[2] = {0};
    toy_open_sampler(&n, (ToySampler){.time = k / 2, .batch = N});
    n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    const int32_t start[L] = {MASK, k % 2 ? 3 : MASK, MASK};
    o = (Process){.remask = "confidence", .eta = 1, .steps = MOST};
    describe(&n, &o, start);
    toy_samples(&n, RUN("remask", MOST, false, 7, 50, N, .remask = o.remask, .eta = o.eta), start, z);
    for (int even = 0; even < 2; even++) {
      o.indifferent = even;
      for (int64_t i = 0; i < N; i++) {
        int32_t want[L];
        memcpy(want, start, sizeof want);
        simulate(&o, 7, 50 + i, want);
        differ[even] += memcmp(want, z + i * L, sizeof want) != 0;
      }
    }
    assert_int_equal(differ[0], 0);
    assert_true(differ[1] > 20);
    network_destroy(&n);
  }
}

/* `cap` and `rescale` keep the schedule's marginals: the expected share of masks is 1 − alpha, if it was so at the
 * start.
 */
static void test_marginals(void **state) {
  (void)state;
  toy_need_speed();
  Network n;
  double law[STATES];
  toy_open_sampler(&n, (ToySampler){.batch = STATES});
  n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
  for (int k = 0; k < 2; k++) {
    process = (Process){.remask = kinds[k], .eta = etas[k], .steps = FEW};
    double masks = 0, left = 1;
    law_of(&n, &process, blank, law);
    for (int s = 0; s < STATES; s++) masks += law[s] * (toy_digit(s, 0) == MASK);
    /* it starts at 1 instead of 1 − alpha_0; the difference shrinks by a factor 1 − u − σ in each step */
    for (int i = 0; i < FEW; i++) {
      double t = process.alpha[i], s = process.alpha[i + 1], most = least(1, (1 - s) / t);
      double sigma = k == 0 ? least(etas[k], most) : etas[k] * most;
      left *= 1 - sigma - (s - (1 - sigma) * t) / (1 - t);
    }
    assert_true(fabs(masks - (1 - process.alpha[FEW]) - left * process.alpha[0]) < 1e-12);
  }
  network_destroy(&n);
}

static void test_law_with_time(void **state) {
  (void)state;
  toy_need_speed();
  Network n, timeless;
  double law[STATES], wrong[STATES];
  int64_t draws = DRAWS / 10;
  toy_open_sampler(&n, (ToySampler){.time = true, .batch = BATCH});
  toy_open_sampler(&timeless, (ToySampler){.batch = BATCH});
  for (int k = 0; k < 3; k++) {
    process = (Process){.remask = kinds[k], .eta = etas[k], .steps = FEW, .removal = true};
    compare(&n, &process, 3, blank, draws, law);
    law_of(&timeless, &process, blank, wrong);
    toy_sharp(law, wrong, STATES, draws);
  }
  network_destroy(&n);
  network_destroy(&timeless);
}

/* The network sees fixed tokens; they stay and are left out of the softmax of confidences. */
static void test_law_from_fixed_tokens(void **state) {
  (void)state;
  toy_need_speed();
  const int32_t starts[][L] = {{MASK, 2, MASK}, {0, MASK, 3}};
  Network n;
  double law[STATES];
  toy_open_sampler(&n, (ToySampler){.batch = BATCH});
  for (int k = 0; k < 6; k++) {
    process = (Process){.remask = kinds[k % 3], .eta = etas[k % 3], .steps = FEW, .removal = true};
    compare(&n, &process, 4, starts[k / 3], DRAWS / 20, law);
    for (int s = 0; s < STATES; s++)
      for (int l = 0; l < L; l++)
        if (starts[k / 3][l] != MASK && toy_digit(s, l) != starts[k / 3][l]) assert_true(law[s] == 0);
  }
  network_destroy(&n);
}

/* η = 0 remasks nothing. */
static void test_without_remasking(void **state) {
  (void)state;
  enum { N = 60 };
  const int32_t starts[][L] = {{MASK, MASK, MASK}, {MASK, 2, MASK}, {0, MASK, 3}, {0, 2, 3}};
  const int steps[] = {1, 4, 12};
  int32_t want[N * L], got[N * L];
  for (int time = 0; time < 2; time++) {
    Network n;
    toy_open_sampler(&n, (ToySampler){.time = time, .batch = N});
    for (int k = 0; k < 4 * 3 * 2; k += check_stride(5)) {
      bool removal = k / 12;
      if (removal) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
      for (int j = 0; j < 3; j++) {
        Run r = RUN("ancestral", steps[k / 4 % 3], removal, 5, 100, N);
        SamplerJob all = toy_samples(&n, r, starts[k % 4], want);
        r.sampler = "remask", r.remask = kinds[j];
        SamplerJob few = toy_samples(&n, r, starts[k % 4], got);
        assert_memory_equal(got, want, sizeof got);
        assert_true(few.evaluations <= all.evaluations);
        if (steps[k / 4 % 3] < 4 || k % 4 == 3) continue;
        r.eta = 1;
        toy_samples(&n, r, starts[k % 4], got);
        assert_memory_not_equal(got, want, sizeof got);
      }
    }
    network_destroy(&n);
  }
}

/* A sample is a function of (seed, number), with `confidence`, too. */
static void test_batch_split(void **state) {
  (void)state;
  enum { N = 60 };
  const int64_t sizes[] = {1, 7, 59};
  int32_t whole[N * L], z[N * L];
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = N});
  for (int j = 0; j < 3; j++) {
    Run r = RUN("remask", 20, true, 5, 100, N, .remask = kinds[j], .eta = 0.7);
    toy_samples(&n, r, blank, whole);
    for (int k = 0; k < 3; k++) {
      for (int64_t at = 0; at < N; at += sizes[k]) {
        r.first = 100 + at;
        r.n = N - at < sizes[k] ? N - at : sizes[k];
        toy_samples(&n, r, blank, z + at * L);
      }
      assert_memory_equal(z, whole, sizeof z);
    }
  }
  network_destroy(&n);
}

static void test_refusals(void **state) {
  (void)state;
  Network n;
  Sampler sampler;
  toy_open_sampler(&n, (ToySampler){.time = true, .batch = 1});
  MUST(toy_sampler(&sampler, &n, RUN("remask", 2, true, 0, 0, 1)));
  sampler_destroy(&sampler);
  toy_refused(&n, RUN("remask", 2, true, 0, 0, 1, .remask = "remorse"), "an unknown way to remask");
  toy_refused(&n, RUN("remask", 2, true, 0, 0, 1, .f32 = true), "draws in f32");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_law),
      cmocka_unit_test(test_law_with_masks_left),
      cmocka_unit_test(test_doubted_tokens),
      cmocka_unit_test(test_marginals),
      cmocka_unit_test(test_law_with_time),
      cmocka_unit_test(test_law_from_fixed_tokens),
      cmocka_unit_test(test_without_remasking),
      cmocka_unit_test(test_batch_split),
      cmocka_unit_test(test_refusals),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
