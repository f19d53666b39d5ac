/* test_sampler_cached — `cached` and `event` give the samples of `ancestral`, bit for bit, for any start, number of
 * steps, masks left at the end and batch; and they evaluate the network as rarely as documented. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

enum { N = 60 };

static Run run_of(const char *sampler, int steps, bool removal, int64_t first, int64_t n) {
  return RUN(sampler, steps, removal, 5, first, n);
}

static const int32_t starts[][L] = {{MASK, MASK, MASK}, {MASK, 2, MASK}, {0, MASK, 3}, {0, 2, 3}};
static const int steps[] = {1, 4, 50};

static void same_samples(void **state) {
  const char *sampler = *state;
  Network n;
  int32_t want[N * L], got[N * L];
  toy_open_sampler(&n, (ToySampler){.batch = N});
  for (int slow = 0; slow < 2; slow++) {
    if (slow) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    for (int k = 0; k < 4 * 3 * 2; k += check_stride(5)) {
      const int32_t *start = starts[k % 4];
      int T = steps[k / 4 % 3];
      bool removal = k / 12;
      SamplerJob all = toy_samples(&n, run_of("ancestral", T, removal, 100, N), start, want);
      SamplerJob few = toy_samples(&n, run_of(sampler, T, removal, 100, N), start, got);
      assert_memory_equal(got, want, sizeof got);
      assert_true(few.evaluations <= all.evaluations && few.evaluated <= all.evaluated);
    }
  }
  network_destroy(&n);
}

/* A sample is a function of (seed, number): batches of 7 and of 1. */
static void same_in_any_batch(void **state) {
  const char *sampler = *state;
  Network n;
  int32_t want[N * L], got[N * L];
  toy_open_sampler(&n, (ToySampler){.batch = N});
  toy_samples(&n, run_of(sampler, 9, true, 0, N), blank, want);
  for (int64_t size = 1; size < 8; size += 6) {
    for (int64_t at = 0; at < N; at += size) {
      int64_t most = N - at < size ? N - at : size;
      toy_samples(&n, run_of(sampler, 9, true, at, most), blank, got + at * L);
    }
    assert_memory_equal(got, want, sizeof got);
  }
  network_destroy(&n);
}

/* With a schedule linear in t, one sample of L masks unmasks in T(1 − (1 − 1/T)^L) of T steps on average. */
static void asks_where_something_unmasks(void **state) {
  const char *sampler = *state;
  enum { T = 5 };
  const int samples = 2000 / check_stride(10);
  Network n;
  int32_t z[L];
  int64_t sum = 0;
  toy_open_sampler(&n, (ToySampler){.batch = 1});
  for (int64_t i = 0; i < samples; i++) sum += toy_samples(&n, run_of(sampler, T, false, i, 1), blank, z).evaluated;
  double expected = T * (1 - pow(1 - 1.0 / T, L)),
         spread = sqrt(0.4 / samples); /* each value is 1, 2 or 3, with a variance below 0.4 */
  assert_true(fabs((double)sum / samples - expected) < 4 * spread);
  toy_samples(&n, run_of(sampler, T, true, 0, 1), starts[3], z);
  assert_int_equal(toy_samples(&n, run_of(sampler, T, true, 0, 1), starts[3], z).evaluations, 0);
  network_destroy(&n);
}

/* Sequences of a batch have separate event times: the batch needs as many evaluations as its sequences alone. */
static void own_clocks(void **state) {
  (void)state;
  Network n;
  int32_t z[N * L];
  int64_t alone = 0;
  toy_open_sampler(&n, (ToySampler){.batch = N});
  for (int64_t i = 0; i < N; i++) alone += toy_samples(&n, run_of("event", 50, true, i, 1), blank, z).evaluated;
  SamplerJob all = toy_samples(&n, run_of("event", 50, true, 0, N), blank, z);
  assert_int_equal(all.evaluated, alone);
  assert_true(all.evaluations <= L + 1);
  network_destroy(&n);
}

/* ---- sequences of each pass */
enum { FEW = 11 };
static struct {
  ModelTable table; /* of the network, with record() in front of its forward */
  int (*forward)(Model *, const ModelInput *);
  int64_t sum, odd; /* of all passes; passes of neither FEW nor a power of two */
} passes;

static int record(Model *m, const ModelInput *in) {
  passes.sum += in->B;
  passes.odd += in->B != FEW && (in->B & (in->B - 1)) != 0;
  return passes.forward(m, in);
}

static SamplerJob recorded_samples(Network *n, bool host, int32_t *z) {
  const Ops *own = n->dev.ops;
  Ops ops = *own;
  ops.host = host;
  n->dev.ops = &ops;
  passes.sum = passes.odd = 0;
  SamplerJob job = toy_samples(n, run_of("event", 4, true, 0, FEW), blank, z);
  n->dev.ops = own;
  return job;
}

/* Off the host a pass has all sequences or a power of two, with copies that are not counted; on it only those in which
 * something unmasks. The samples are the same. */
static void sizes_of_passes(void **state) {
  (void)state;
  Network n;
  int32_t exact[FEW * L], padded[FEW * L];
  toy_open_sampler(&n, (ToySampler){.batch = FEW});
  passes.table = *n.model.table;
  passes.forward = passes.table.forward;
  passes.table.forward = record;
  n.model.table = &passes.table;
  SamplerJob job = recorded_samples(&n, true, exact);
  assert_true(passes.odd > 0 && passes.sum == job.evaluated);
  assert_int_equal(recorded_samples(&n, false, padded).evaluated, job.evaluated);
  assert_true(passes.odd == 0 && passes.sum > job.evaluated);
  assert_memory_equal(padded, exact, sizeof exact);
  network_destroy(&n);
}

static void timed_networks_are_refused(void **state) {
  const char *name = *state;
  Network n;
  toy_open_sampler(&n, (ToySampler){.time = true, .batch = 1});
  toy_refused(&n, RUN(name, 2, true, 0, 0, 1), "a network with time conditioning");
  network_destroy(&n);
}

int main(void) {
#define OF(test, name) cmocka_unit_test_prestate(test, (void *)(uintptr_t)name)
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sizes_of_passes),
      OF(same_samples, "cached"),
      OF(same_samples, "event"),
      OF(same_in_any_batch, "cached"),
      OF(same_in_any_batch, "event"),
      OF(asks_where_something_unmasks, "cached"),
      OF(asks_where_something_unmasks, "event"),
      cmocka_unit_test(own_clocks),
      OF(timed_networks_are_refused, "cached"),
      OF(timed_networks_are_refused, "event"),
      OF(timed_networks_are_refused, "first_hitting"),
  };
  const struct CMUnitTest few[] = {cmocka_unit_test(sizes_of_passes)}; /* what is special to a device */
  return check_slow ? cmocka_run_group_tests(few, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
