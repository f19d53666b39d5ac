/* saver — a file holds the state that was copied, whatever happens to it afterwards; failed files. */
#include "check.h"
#include "network/flat.h"
#include "store_bench.h"
#include "train/saver.h"

#include <math.h>

enum { N = 3, BIG = 300 };

static Device device;
static Params params;
static Tensor flat[CKPT_GROUPS];
static History history;
static RunDir dir;

/* Value i of a group of the state of a step. */
static float value(int64_t step, int group, int64_t i) {
  return (float)(step * 1000003 + group * 7919 + i % 1009) / 16;
}

static void fill(int64_t step) {
  for (int g = 0; g < CKPT_GROUPS; g++)
    for (int64_t i = 0; i < params.count; i++) ((float *)flat[g].data)[i] = value(step, g, i);
}

static CheckpointState state_of(int64_t step) {
  CheckpointState s = {.step = step, .length = 8, .valid_nll = NAN, .deck = "", .git = "abc", .vocab = data_vocab(20)};
  snprintf(s.data_digest, sizeof s.data_digest, "0123456789abcdef0123456789abcdef");
  return s;
}

static int start(void **unused) {
  const DeviceOptions options = {.name = "cpu", .threads = 1, .place = {.local_size = 1}};
  int index;
  bench_setup(unused);
  must(device_open(&device, &options));
  must(params_add(&params, &index, INIT_ZERO, 0, false, 2, (int64_t[]){BIG, BIG}, "big.weight"));
  must(params_add(&params, &index, INIT_ZERO, 0, false, 1, (int64_t[]){7}, "bias"));
  must(params_add(&params, &index, INIT_ZERO, 0, false, 2, (int64_t[]){3, 5}, "small.weight"));
  must(params_commit(&params, &device, false));
  assert_int_equal(params.n, N);
  for (int g = 0; g < CKPT_GROUPS; g++) {
    void *data;
    must(device_alloc(&device, &data, tensor_bytes(params.value)));
    flat[g] = tensor_1d(data, DT_F32, params.count);
  }
  const Data small = {.N = 4, .L = 4, .V = 10, .type = H5_U16};
  Mixture *data;
  data_write(bench_path("data.h5"), &small);
  must(mixture_open(&data, bench_path("data.h5")));
  const Config cfg = {.train_steps = 10, .train_log_every = 1, .train_valid_every = 5};
  must(history_create(&history, data, &cfg));
  mixture_close(&data);
  must(metrics_add(&history.train, (double[TRAIN_COLUMNS]){1, 2.5}));
  must(rundir_open(&dir, bench_folder));
  return 0;
}

static int end(void **unused) {
  rundir_close(&dir);
  history_destroy(&history);
  for (int g = 0; g < CKPT_GROUPS; g++) device_release(&device, flat[g].data, tensor_bytes(flat[g]));
  params_destroy(&params);
  device_close(&device);
  return bench_teardown(unused);
}

static void take(Saver *s, const CheckpointState *state) {
  saver_begin(s);
  for (int g = 0; g < CKPT_GROUPS; g++) must(saver_copy(s, (CheckpointGroup)g, flat[g]));
  must(saver_take(s, state));
}

/* Copies the state of that step, begins to write it, and spoils what was copied. */
static void begin(Saver *s, CheckpointState *state, int64_t step, const char *name) {
  *state = state_of(step);
  fill(step);
  take(s, state);
  saver_write(s, name);
  fill(step + 100);
}

static void expect(const char *name, int64_t step) {
  const char *path = bench_path(name);
  CheckpointState state;
  must(checkpoint_verify(path));
  H5 *f;
  must(checkpoint_open(&f, path));
  must(checkpoint_state(f, &state));
  assert_int_equal(state.step, step);
  checkpoint_state_destroy(&state);
  for (int g = 0; g < CKPT_GROUPS; g++) {
    must(flat_load(f, (CheckpointGroup)g, &params, params.value, NULL));
    for (int p = 0; p < N; p++)
      for (int64_t i = params.list[p].offset; i < params.list[p].offset + params.list[p].count; i++)
        if (((float *)params.value.data)[i] != value(step, g, i))
          fail_msg("%s: group %d, value %lld", name, g, (long long)i);
  }
  h5_close(&f);
}

static void the_copy_is_written(void **unused) {
  (void)unused;
  Saver *s;
  CheckpointState state;
  must(saver_create(&s, &dir, &params, &history, CKPT_GROUPS));
  assert_false(saver_holds(s, 1));
  begin(s, &state, 1, "last.h5");
  assert_true(saver_holds(s, 1) && !saver_holds(s, 2));
  saver_write(s, "best.h5");
  saver_write(s, "last.h5"); /* is being written already */
  must(saver_result(s));
  expect("last.h5", 1);
  expect("best.h5", 1);
  assert_false(bench_there(bench_path("previous.h5")));
  vocab_destroy(&state.vocab);
  begin(s, &state, 2, "last.h5");
  saver_destroy(&s); /* waits */
  expect("last.h5", 2);
  expect("previous.h5", 1);
  expect("best.h5", 1);
  vocab_destroy(&state.vocab);
}

/* A row of the history after the copy, as by a validation of the same step: the copy is of another state. */
static void history_counts(void **unused) {
  (void)unused;
  Saver *s;
  CheckpointState state;
  must(saver_create(&s, &dir, &params, &history, CKPT_GROUPS));
  begin(s, &state, 3, "last.h5");
  assert_true(saver_holds(s, 3));
  must(metrics_add(&history.valid, (double[VALID_COLUMNS]){3, 1.5}));
  assert_false(saver_holds(s, 3));
  saver_destroy(&s);
  vocab_destroy(&state.vocab);
}

/* The bytes of a file that the thread wrote are those that checkpoint_save writes. They hold the time in seconds. */
static void the_same_bytes(void **unused) {
  (void)unused;
  enum { TRIES = 20 };
  Saver *s;
  Flat view[CKPT_GROUPS];
  CheckpointArray *groups[CKPT_GROUPS];
  CheckpointState state = state_of(4);
  bool same = false;
  for (int g = 0; g < CKPT_GROUPS; g++) {
    must(flat_create(&view[g], &params, flat[g], false));
    groups[g] = view[g].arrays;
  }
  must(saver_create(&s, &dir, &params, &history, CKPT_GROUPS));
  fill(4);
  take(s, &state);
  for (int i = 0; i < TRIES && !same; i++) {
    char name[32];
    long n, m;
    snprintf(name, sizeof name, "step-%d.h5", i % 2);
    take(s, &state);
    saver_write(s, name);
    must(checkpoint_save(bench_path("direct.h5"), &state, groups, N, history.tables, 2));
    must(saver_result(s));
    char *a = bench_slurp(bench_path(name), &n), *b = bench_slurp(bench_path("direct.h5"), &m);
    assert_int_equal(n, m);
    same = memcmp(a, b, (size_t)n) == 0;
    free(a), free(b);
  }
  assert_true(same);
  saver_destroy(&s);
  for (int g = 0; g < CKPT_GROUPS; g++) flat_destroy(&view[g]);
  vocab_destroy(&state.vocab);
}

/* A folder in the way of the drafts of a file. */
static void hinder(const char *name) {
  char draft[64];
  snprintf(draft, sizeof draft, "%s.tmp", name);
  assert_int_equal(mkdir(bench_path(draft), 0777), 0);
}
static void clear(const char *name) {
  char draft[64];
  snprintf(draft, sizeof draft, "%s.tmp", name);
  assert_int_equal(rmdir(bench_path(draft)), 0);
}

static void failures_are_retried(void **unused) {
  (void)unused;
  Saver *s;
  CheckpointState state;
  must(saver_create(&s, &dir, &params, &history, CKPT_GROUPS));
  begin(s, &state, 5, "last.h5");
  must(saver_result(s));
  vocab_destroy(&state.vocab);
  hinder("last.h5"), hinder("step-6.h5");
  begin(s, &state, 6, "last.h5");
  saver_write(s, "step-6.h5");
  refused(saver_result(s), ERR_IO, "last.h5.tmp", "Is a directory");
  expect("last.h5", 5); /* the older file stays */
  refused(saver_retry(s, "last.h5"), ERR_IO, "step 6", "step-6.h5.tmp");
  clear("step-6.h5");
  must(saver_retry(s, "last.h5"));
  expect("step-6.h5", 6);
  vocab_destroy(&state.vocab);
  clear("last.h5");
  begin(s, &state, 7, "last.h5");
  must(saver_result(s));
  expect("last.h5", 7);
  saver_destroy(&s);
  vocab_destroy(&state.vocab);
}

/* Only the file that the next save replaces is given up; last.h5, which a later save makes, may fail again. */
static void the_replaced_file_is_not_retried(void **unused) {
  (void)unused;
  Saver *s;
  CheckpointState state;
  must(saver_create(&s, &dir, &params, &history, CKPT_GROUPS));
  begin(s, &state, 8, "last.h5");
  saver_write(s, "best.h5");
  must(saver_result(s));
  vocab_destroy(&state.vocab);
  hinder("last.h5"), hinder("best.h5");
  begin(s, &state, 9, "best.h5");
  saver_write(s, "last.h5");
  saver_wait(s);
  must(saver_retry(s, "best.h5")); /* last.h5 fails again */
  refused(saver_retry(s, "last.h5"), ERR_IO, "step 9", "best.h5.tmp");
  refused(saver_retry(s, "step-10.h5"), ERR_IO, "step 9", "best.h5.tmp");
  clear("last.h5"), clear("best.h5");
  must(saver_retry(s, "best.h5"));
  expect("last.h5", 9);
  expect("best.h5", 8);
  must(saver_retry(s, "step-10.h5"));
  expect("best.h5", 9);
  must(saver_result(s));
  saver_destroy(&s);
  vocab_destroy(&state.vocab);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_copy_is_written), cmocka_unit_test(history_counts),
                                     cmocka_unit_test(the_same_bytes), cmocka_unit_test(failures_are_retried),
                                     cmocka_unit_test(the_replaced_file_is_not_retried)};
  return cmocka_run_group_tests(tests, start, end);
}
