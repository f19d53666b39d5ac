/* test_strides — given the tokens carried over, each block has exactly the distribution of the chosen sampler,
 * enumerated on a tiny network (toy_sampler.h). The probability of a whole sample is the product over its blocks. */
#include "toy_sampler.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "sampling/draws.h"
#include "sampling/strides.h"

enum { MOST = 6, WHOLES = 1 << 2 * MOST }; /* tokens of a whole sample; its states, two bits per token */

static int64_t length_of(const Strides *s) { return strides_length(s, L); }

static int code_of(const int32_t *z, int64_t n) {
  int code = 0;
  for (int64_t l = 0; l < n; l++) code |= z[l] << 2 * l;
  return code;
}

/* law[whole] += chance · the probability that blocks k, k + 1, … complete z to it; the earlier tokens are in z */
static void law_of_blocks(Network *n, const Strides *s, int64_t k, const int32_t *z, double chance, double *law) {
  double block[STATES];
  if (k > s->count) {
    law[code_of(z, length_of(s))] += chance;
    return;
  }
  toy_law_of(n, z + k * s->stride, STEPS, true, block);
  for (int state = 0; state < STATES; state++) {
    int32_t next[MOST];
    if (block[state] == 0) continue;
    memcpy(next, z, sizeof next);
    for (int l = 0; l < L; l++) next[k * s->stride + l] = toy_digit(state, l);
    law_of_blocks(n, s, k + 1, next, chance * block[state], law);
  }
}

static SamplerJob samples(Network *n, const Strides *s, Run r, const int32_t *start, int32_t *z) {
  Sampler sampler;
  MUST(toy_sampler(&sampler, n, r));
  int64_t length = length_of(s);
  for (int64_t i = 0; i < r.n; i++) memcpy(z + i * length, start, (size_t)length * sizeof *z);
  SamplerJob job = toy_job(n, r, z);
  MUST(strides_run(s, &sampler, &job));
  sampler_destroy(&sampler);
  return job;
}

static const int32_t masks[MOST] = {MASK, MASK, MASK, MASK, MASK, MASK};
/* fixed tokens between holes; only the last block sees the second one */
static const int32_t holes[MOST] = {MASK, 2, MASK, MASK, 0, MASK};
static const Strides plans[] = {{.count = 2, .stride = 1}, {.count = 1, .stride = 2}};

static void compare(const Strides *s, const int32_t *start, const char *sampler, int64_t at_least) {
  int64_t draws = (toy_draws(at_least) + BATCH - 1) / BATCH * BATCH;
  static double law[WHOLES];
  static int64_t count[WHOLES];
  static int32_t z[BATCH * MOST];
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = BATCH});
  memset(law, 0, sizeof law);
  memset(count, 0, sizeof count);
  law_of_blocks(&n, s, 0, start, 1, law);
  int64_t length = length_of(s);
  for (Run r = RUN(sampler, STEPS, true, 3, 0, BATCH); r.first < draws; r.first += BATCH) {
    samples(&n, s, r, start, z);
    for (int64_t i = 0; i < BATCH; i++) count[code_of(z + i * length, length)]++;
  }
  for (int code = 0; code < WHOLES; code++)
    for (int64_t l = 0; l < length && count[code] > 0; l++) {
      assert_int_not_equal(code >> 2 * l & 3, MASK);
      if (start[l] != MASK) assert_int_equal(code >> 2 * l & 3, start[l]);
    }
  toy_law("wholes", count, law, WHOLES, draws);
  network_destroy(&n);
}

static void test_law(void **state) {
  (void)state;
  toy_need_speed();
  for (int k = 0; k < 2; k++) compare(&plans[k], masks, "ancestral", DRAWS);
  compare(&plans[0], masks, "event", DRAWS);
}

/* Infilling: the distribution of the blocks conditional on the fixed tokens that they see. */
static void test_law_with_fixed_tokens(void **state) {
  (void)state;
  toy_need_speed();
  for (int k = 0; k < 2; k++) compare(&plans[k], holes, "event", DRAWS / 4);
}

/* The first block equals the sample without strides, carried-over tokens stay, and each block has its own random
 * numbers. */
static void test_blocks(void **state) {
  (void)state;
  static const char *const names[] = {"ancestral", "cached", "event", "first_hitting", "analytic"};
  enum { N = 200 };
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = N});
  for (int i = 0; i < 5; i++) {
    int32_t first[N * L], second[N * L], z[N * MOST], one[N * MOST];
    Run r = RUN(names[i], STEPS, true, 8, 40, N);
    int64_t passes = toy_samples(&n, r, blank, first).evaluations;
    assert_int_equal(samples(&n, &(Strides){0, 0}, r, blank, z).evaluations, passes);
    assert_memory_equal(z, first, sizeof first);
    for (int k = 0; k < 2; k++) {
      const Strides *s = &plans[k], shorter = {s->count - 1, s->stride};
      SamplerJob job = samples(&n, s, r, masks, z);
      samples(&n, &shorter, r, masks, one);
      int64_t length = length_of(s), before = length_of(&shorter);
      for (int64_t b = 0; b < N; b++) {
        assert_memory_equal(z + b * length, first + b * L, sizeof blank);
        assert_memory_equal(z + b * length, one + b * before, (size_t)before * sizeof *z);
      }
      assert_true(job.evaluations > passes && job.evaluated >= job.evaluations);
    }
    Sampler sampler;
    MUST(toy_sampler(&sampler, &n, r));
    for (int64_t b = 0; b < N; b++) memcpy(second + b * L, blank, sizeof blank);
    SamplerJob job = toy_job(&n, r, second);
    job.block = 1;
    MUST(sampler_run(&sampler, &job));
    sampler_destroy(&sampler);
    int same = 0;
    for (int64_t b = 0; b < N; b++) same += memcmp(first + b * L, second + b * L, sizeof blank) == 0;
    assert_true(same < N / 2);
  }
  network_destroy(&n);
}

/* All random numbers differ between blocks. */
static void test_streams(void **state) {
  (void)state;
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = 1});
  int32_t z[L];
  memcpy(z, blank, sizeof z);
  double keep[3][L], token[3][L], unmask[3], late[3];
  const int64_t blocks[] = {0, 1, 65535};
  for (int k = 0; k < 3; k++) {
    SamplerJob job = {
        .model = &n.model, .objective = &n.objective, .seed = 8, .n = 1, .length = L, .block = blocks[k], .z = z};
    Draws d;
    MUST(draws_create(&d, L));
    draws_masked(&d, &job, 2, 0.5, KEEP_SCORE);
    assert_int_equal(d.n, L);
    memcpy(keep[k], d.keep, sizeof keep[k]);
    memcpy(token[k], d.uniform, sizeof token[k]);
    draws_destroy(&d);
    unmask[k] = rng_uniform(draws_key(&job, RNG_SAMPLE_UNMASK, DRAWS_STEPS, 0, 2), 0);
    late[k] = rng_uniform(draws_key(&job, RNG_SAMPLE_UNMASK, DRAWS_CONTINUOUS, 0, 2), 0);
    assert_true(unmask[k] != late[k] && keep[k][0] == unmask[k] / 0.5);
    for (int other = 0; other < k; other++) {
      assert_true(unmask[k] != unmask[other] && late[k] != late[other] && unmask[k] != late[other]);
      for (int l = 0; l < L; l++) assert_true(keep[k][l] != keep[other][l] && token[k][l] != token[other][l]);
    }
  }
  network_destroy(&n);
}

/* Samplers that agree on one block agree on the whole sample, bit for bit; a sample does not depend on its batch. */
static void test_same_samples(void **state) {
  (void)state;
  enum { N = 60 };
  static const char *const others[] = {"cached", "event"};
  const int64_t sizes[] = {1, 7, 59};
  int32_t whole[N * MOST], z[N * MOST];
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = N});
  for (int k = 0; k < 2; k++) {
    int64_t length = length_of(&plans[k]);
    size_t bytes = (size_t)(N * length) * sizeof *z;
    samples(&n, &plans[k], RUN("ancestral", STEPS, true, 5, 100, N), holes, whole);
    for (int i = 0; i < 2; i++) {
      samples(&n, &plans[k], RUN(others[i], STEPS, true, 5, 100, N), holes, z);
      assert_memory_equal(z, whole, bytes);
    }
    for (int i = 0; i < 3; i++) {
      for (int64_t at = 0; at < N; at += sizes[i]) {
        int64_t most = N - at < sizes[i] ? N - at : sizes[i];
        samples(&n, &plans[k], RUN("ancestral", STEPS, true, 5, 100 + at, most), holes, z + at * length);
      }
      assert_memory_equal(z, whole, bytes);
    }
    samples(&n, &plans[k], RUN("ancestral", STEPS, true, 6, 100, N), holes, z);
    assert_memory_not_equal(z, whole, bytes);
  }
  network_destroy(&n);
}

static void test_progress(void **state) {
  (void)state;
  Network n;
  Sampler sampler;
  int32_t z[MOST];
  int64_t last = 0;
  toy_open_sampler(&n, (ToySampler){.batch = 1});
  MUST(toy_sampler(&sampler, &n, RUN("ancestral", 9, false, 1, 0, 1)));
  memcpy(z, masks, sizeof z);
  SamplerJob job = toy_job(&n, RUN("ancestral", 9, false, 1, 0, 1), z);
  job.progress = toy_count_up;
  job.progress_arg = &last;
  MUST(strides_run(&plans[0], &sampler, &job));
  sampler_destroy(&sampler);
  assert_int_equal(last, 27);
  assert_int_equal(job.evaluations, 27);
  network_destroy(&n);
}

static void test_fits(void **state) {
  (void)state;
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = 1});
  const Objective *o = &n.objective;
  MUST(strides_fits(&(Strides){0, 99}, o, L));
  for (int64_t stride = 1; stride < L; stride++) MUST(strides_fits(&(Strides){1, stride}, o, L));
  for (int64_t stride = 0; stride < 5; stride += stride ? 1 : L)
    check_refused(strides_fits(&(Strides){1, stride}, o, L), ERR_USAGE, "a stride that does not fit");
  check_refused(strides_fits(&(Strides){1, 1}, o, 1), ERR_USAGE, "blocks of one token");
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_law),     cmocka_unit_test(test_law_with_fixed_tokens), cmocka_unit_test(test_blocks),
      cmocka_unit_test(test_streams), cmocka_unit_test(test_same_samples),          cmocka_unit_test(test_progress),
      cmocka_unit_test(test_fits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
