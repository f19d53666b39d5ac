/* test_sampler_ancestral — the samples have exactly the distribution of the reverse process, enumerated on a tiny
 * network (toy_sampler.h). Linked with a device under test, the network runs on that device. */
#include "toy_sampler.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static void same_law(bool bf16) {
  Network n;
  double law[STATES], wrong[STATES];
  int64_t count[STATES];
  toy_open_sampler(&n, (ToySampler){.bf16 = bf16, .batch = BATCH});
  toy_law_of(&n, blank, STEPS, true, law);
  toy_compare(&n, RUN("ancestral", STEPS, true, 1, 0, 0), blank, DRAWS, law, count);
  for (int s = 0; s < STATES; s++)
    for (int l = 0; l < L; l++)
      if (toy_digit(s, l) == MASK) assert_int_equal(count[s], 0);
  toy_law_of(&n, blank, STEPS - 1, true, wrong);
  toy_sharp(law, wrong, STATES, DRAWS);
  network_destroy(&n);
}

static void test_law(void **state) {
  (void)state;
  same_law(false);
}

/* A device gives the CPU's samples; a token may differ only where rounding moves a uniform across a step of the
 * cumulative distribution. */
static void test_same_samples_as_cpu(void **state) {
  (void)state;
  enum { N = 200 };
  int32_t got[N * L], want[N * L];
  const char *device = check_device;
  const Run r = RUN("ancestral", STEPS, true, 1, 0, N);
  Network n, cpu;
  toy_open_sampler(&n, (ToySampler){.batch = N});
  check_device = "cpu";
  toy_open_sampler(&cpu, (ToySampler){.batch = N});
  check_device = device;
  toy_samples(&n, r, blank, got);
  toy_samples(&cpu, r, blank, want);
  int others = 0;
  for (int64_t i = 0; i < N; i++) others += memcmp(got + i * L, want + i * L, L * sizeof *got) != 0;
  if (others > 1) fail_msg("%d of %d samples are not those of the CPU", others, N);
  network_destroy(&n);
  network_destroy(&cpu);
}

static void test_law_bf16(void **state) {
  (void)state;
  same_law(true);
}

/* The network is conditioned on the time of the current step. */
static void test_law_with_time(void **state) {
  (void)state;
  Network n, timeless;
  double law[STATES], wrong[STATES];
  int64_t count[STATES], draws = DRAWS / 10;
  toy_open_sampler(&n, (ToySampler){.time = true, .batch = BATCH});
  toy_open_sampler(&timeless, (ToySampler){.batch = BATCH});
  toy_law_of(&n, blank, STEPS, true, law);
  toy_compare(&n, RUN("ancestral", STEPS, true, 2, 0, 0), blank, draws, law, count);
  toy_law_of(&timeless, blank, STEPS, true, wrong);
  toy_sharp(law, wrong, STATES, draws);
  network_destroy(&n);
  network_destroy(&timeless);
}

/* A network that may predict the mask token: the larger its probability, the longer a position stays masked. The effect
 * shows as long as masks are left. */
static void test_law_of_d3pm(void **state) {
  (void)state;
  double often = 3, scratch;
  for (int k = 0; k < (check_statistics() ? 3 : 1); k++) {
    Network n;
    double law[STATES], wrong[STATES];
    int64_t count[STATES], draws = k == 0 && !check_slow ? MANY : DRAWS / 10;
    bool removal = k > 0;
    toy_open_sampler(&n, (ToySampler){.objective = {.name = "d3pm", .T = 10}, .time = k != 1, .batch = BATCH});
    MUST(tensor_from_f64(&n.dev, tensor_rows(params_find(&n.model.params, "output_layer.linear.bias")->value, MASK, 1),
                         &often, &scratch));
    if (k != 1) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    toy_law_of(&n, blank, STEPS, removal, law);
    toy_compare(&n, RUN("ancestral", STEPS, removal, 3, 0, 0), blank, draws, law, count);
    n.objective.terms = 1; /* as if p(m) were 0 */
    toy_law_of(&n, blank, STEPS, removal, wrong);
    if (!removal) toy_sharp(law, wrong, STATES, draws);
    network_destroy(&n);
  }
}

/* A single step fills all positions independently. Fixed tokens stay, and the network sees them. */
static void test_law_from_fixed_tokens(void **state) {
  (void)state;
  const int32_t starts[][L] = {{MASK, 2, MASK}, {0, MASK, 3}, {MASK, MASK, MASK}};
  const int steps[] = {STEPS, 7, 1};
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = BATCH});
  for (int k = 0; k < 3; k++) {
    double law[STATES];
    int64_t count[STATES], draws = DRAWS / 20;
    toy_law_of(&n, starts[k], steps[k], true, law);
    toy_compare(&n, RUN("ancestral", steps[k], true, 3, 0, 0), starts[k], draws, law, count);
    for (int s = 0; s < STATES; s++)
      for (int l = 0; l < L && count[s] > 0; l++)
        if (starts[k][l] != MASK) assert_int_equal(toy_digit(s, l), starts[k][l]);
  }
  const int32_t whole[L] = {0, 2, 3};
  int32_t z[L];
  toy_samples(&n, RUN("ancestral", STEPS, true, 3, 0, 1), whole, z);
  assert_memory_equal(z, whole, sizeof z);
  network_destroy(&n);
}

/* ---- masks that are left at the end */
static void test_law_with_masks_left(void **state) {
  (void)state;
  for (int removal = 0; removal < 2; removal++) {
    Network n;
    double law[STATES], wrong[STATES];
    int64_t count[STATES], draws = DRAWS / 10;
    toy_open_sampler(&n, (ToySampler){.batch = BATCH});
    toy_law_of(&n, blank, STEPS, removal, wrong);
    n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    toy_law_of(&n, blank, STEPS, removal, law);
    toy_compare(&n, RUN("ancestral", STEPS, removal, 4, 0, 0), blank, draws, law, count);
    toy_sharp(law, wrong, STATES, draws);
    assert_true((count[toy_code(blank)] > 0) == !removal);
    network_destroy(&n);
  }
}

/* The noise removal fills the masks with the most likely tokens, changes nothing else, and needs a forward pass only if
 * masks are left. */
static void test_noise_removal(void **state) {
  (void)state;
  double p[STATES][L][V];
  Network n;
  toy_open_sampler(&n, (ToySampler){.batch = STATES});
  n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
  toy_conditionals(&n, 1e-5, p);
  int64_t left = 0, whole = 0;
  for (int64_t i = 0; i < 300; i++) {
    int32_t z[L], rest[L];
    int64_t passes = toy_samples(&n, RUN("ancestral", 2, true, 4, i, 1), blank, z).evaluations, masks = 0;
    assert_int_equal(toy_samples(&n, RUN("ancestral", 2, false, 4, i, 1), blank, rest).evaluations, 2);
    for (int l = 0; l < L; l++) {
      masks += rest[l] == MASK;
      assert_int_equal(z[l], rest[l] == MASK ? toy_likeliest(p[toy_code(rest)][l]) : rest[l]);
    }
    assert_int_equal(passes, masks > 0 ? 3 : 2);
    left += masks > 0;
    whole += masks == 0;
  }
  assert_true(left > 50 && whole > 50);
  network_destroy(&n);
}

/* ---- a sample is a function of (seed, number) */
static void test_batch_split(void **state) {
  (void)state;
  enum { N = 60 };
  const int64_t sizes[] = {1, 7, 13, 59};
  int32_t whole[N * L], z[N * L];
  for (int time = 0; time < 2; time++) {
    Network n;
    toy_open_sampler(&n, (ToySampler){.time = time, .batch = N});
    toy_samples(&n, RUN("ancestral", STEPS, true, 5, 100, N), blank, whole);
    for (int k = 0; k < 4; k++) {
      for (int64_t at = 0; at < N; at += sizes[k]) {
        int64_t most = N - at < sizes[k] ? N - at : sizes[k];
        toy_samples(&n, RUN("ancestral", STEPS, true, 5, 100 + at, most), blank, z + at * L);
      }
      assert_memory_equal(z, whole, sizeof z);
    }
    toy_samples(&n, RUN("ancestral", STEPS, true, 6, 100, N), blank, z);
    assert_memory_not_equal(z, whole, sizeof z);
    network_destroy(&n);
  }
}

/* It does not depend on the chunk of logits, neither for drawn nor for most likely tokens. */
static void test_row_chunks(void **state) {
  (void)state;
  enum { N = 60 };
  int32_t whole[N * L], z[N * L];
  for (int64_t chunk = 0; chunk < 8; chunk += 7) {
    Network n;
    toy_open_sampler(&n, (ToySampler){.batch = N});
    rows_destroy(&n.rows);
    n.dev.row_chunk = chunk;
    MUST(rows_create(&n.rows, &n.model, 1));
    n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    toy_samples(&n, RUN("ancestral", STEPS, true, 5, 0, N), blank, chunk ? z : whole);
    network_destroy(&n);
  }
  assert_memory_equal(z, whole, sizeof z);
}

/* ---- the rest of the job */
static void test_job(void **state) {
  (void)state;
  Network n;
  Sampler sampler;
  toy_open_sampler(&n, (ToySampler){.batch = BATCH});
  toy_refused(&n, RUN("descendant", 9, false, 1, 0, 2), "an unknown sampler");
  MUST(toy_sampler(&sampler, &n, RUN("ancestral", 9, false, 1, 0, 2)));
  assert_string_equal(sampler.table->name, "ancestral");
  int32_t z[2 * L] = {MASK, MASK, MASK, MASK, MASK, MASK};
  int64_t last = 0;
  SamplerJob job = toy_job(&n, RUN("ancestral", 9, false, 1, 0, 2), z);
  job.evaluations = 77;
  job.progress = toy_count_up;
  job.progress_arg = &last;
  MUST(sampler_run(&sampler, &job));
  sampler_destroy(&sampler);
  assert_int_equal(last, 9);
  assert_int_equal(job.evaluations, 9);
  for (int64_t steps = 1; steps < 2000; steps = 3 * steps + 1) {
    assert_true(job_time(0, steps) == 1);
    assert_true(fabs(job_time(steps, steps) - 1e-5) < 1e-15);
    for (int64_t i = 0; i < steps; i++) assert_true(job_time(i + 1, steps) < job_time(i, steps));
  }
  network_destroy(&n);
}

/* On the CPU all tests use f64. An emulated device is slow and runs only the tests of distributions. */
int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_same_samples_as_cpu),
      cmocka_unit_test(test_law_bf16),
      cmocka_unit_test(test_law),
      cmocka_unit_test(test_law_with_time),
      cmocka_unit_test(test_law_of_d3pm),
      cmocka_unit_test(test_law_with_masks_left),
      cmocka_unit_test(test_law_from_fixed_tokens),
      cmocka_unit_test(test_noise_removal),
      cmocka_unit_test(test_batch_split),
      cmocka_unit_test(test_row_chunks),
      cmocka_unit_test(test_job),
  };
  enum { COUNT = sizeof tests / sizeof *tests, LAWS = 5, DEVICE_ONLY = 2 };
  int first = toy_under_test() ? 0 : DEVICE_ONLY, count = check_slow ? LAWS : COUNT - first;
  return _cmocka_run_group_tests("sampler_ancestral", tests + first, (size_t)count, NULL, NULL);
}
