/* loader — the order as a pure function, any split over ranks, resuming, errors in the thread, destruction in any
 * state.
 */
#include "store/loader.h"
#include "store_bench.h"

#include <signal.h>
#include <time.h>

static const LoaderOrder orders[] = {ORDER_PERMUTED, ORDER_BLOCKED, ORDER_SEQUENTIAL};

static void every_row_once(void **state) {
  (void)state;
  const int64_t sizes[] = {1, 2, 3, 1000, 1023, 1024, 1025, 2048, 3000, 5 * 1024 + 7};
  for (int o = 0; o < LENGTH(orders); o++)
    for (int i = 0; i < LENGTH(sizes); i++)
      for (int64_t epoch = 0; epoch < 4; epoch++) {
        const int64_t N = sizes[i];
        char *seen = calloc(1, (size_t)N);
        for (int64_t j = 0; j < N; j++) {
          int64_t row = loader_row(orders[o], 7, N, epoch * N + j);
          assert_in_range(row, 0, N - 1);
          assert_int_equal(seen[row]++, 0);
        }
        free(seen);
      }
}

/* The number of positions among the first n at which two orders have the same row. */
static int64_t common(LoaderOrder order, uint64_t seed_a, int64_t from_a, uint64_t seed_b, int64_t from_b, int64_t n) {
  int64_t same = 0;
  for (int64_t j = 0; j < n; j++)
    same += loader_row(order, seed_a, n, from_a + j) == loader_row(order, seed_b, n, from_b + j);
  return same;
}

static void orders_differ(void **state) {
  (void)state;
  const int64_t N = 5 * 1024 + 7;
  for (int o = 0; o < 2; o++) { /* a random permutation has one fixed point on average */
    assert_in_range(common(orders[o], 1, 0, 1, N, N), 0, 40);
    assert_in_range(common(orders[o], 1, 0, 2, 0, N), 0, 40);
    assert_int_equal(common(orders[o], 1, 3 * N, 1, 3 * N, N), N);
  }
  assert_int_equal(common(ORDER_SEQUENTIAL, 1, 0, 2, N, N), N);
}

/* Blocked order: the rows of a block stay together, and the partial block is not always the last. */
static void blocks_stay_together(void **state) {
  (void)state;
  const int64_t N = 9 * 1024 + 100;
  int64_t last_place = 0;
  for (int64_t epoch = 0; epoch < 40; epoch++) {
    int64_t changes = 0;
    for (int64_t j = 1; j < N; j++)
      changes += loader_row(ORDER_BLOCKED, 3, N, epoch * N + j) / 1024 !=
                 loader_row(ORDER_BLOCKED, 3, N, epoch * N + j - 1) / 1024;
    assert_int_equal(changes, 9);
    last_place += loader_row(ORDER_BLOCKED, 3, N, epoch * N + N - 1) / 1024 == 9;
  }
  assert_in_range(last_place, 0, 15); /* expected: one in ten epochs */
}

static void expect_micro(const Micro *m, const Data *d, const LoaderOptions *o, int64_t step, int64_t first) {
  assert_int_equal(m->step, step);
  assert_int_equal(m->first, first);
  assert_int_equal(m->n, o->micro_batch);
  assert_int_equal(m->L, d->L);
  for (int64_t i = 0; i < m->n; i++) {
    int64_t j = o->sequences + (step - o->step) * o->global_batch + first + i;
    int64_t row = loader_row(o->order, o->seed, d->N, j);
    assert_int_equal(m->rows[i], row);
    assert_int_equal(m->lengths[i], data_length(d, row));
    assert_int_equal(m->labels[i], data_label(d, row));
    for (int64_t p = 0; p < d->L; p++) assert_int_equal(m->tokens[i * d->L + p], data_token(d, row, p));
  }
}

static void run_rank(Mixture *s, const Data *d, LoaderOptions o, int64_t steps) {
  Loader *l;
  Micro m;
  o.data = s;
  must(loader_create(&l, &o));
  for (int64_t step = o.step; step < o.step + steps; step++)
    for (int64_t k = o.first; k < o.first + o.count; k += o.micro_batch) {
      must(loader_next(l, &m));
      expect_micro(&m, d, &o, step, k);
    }
  loader_destroy(&l);
  assert_null(l);
}

/* Each rank's micro-batches follow the formula. Hence the ranks' parts are disjoint, their union is the global batch on
 * any number of ranks, and a loader that starts at a step continues one that reached it. */
static void splits(void **state) {
  (void)state;
  Data d = {.N = 45, .L = 6, .V = 100, .type = H5_U16, .chunk_rows = 8, .classes = 3};
  Mixture *s;
  data_write(bench_path("loader.h5"), &d);
  must(mixture_open(&s, bench_path("loader.h5")));
  for (int o = 0; o < LENGTH(orders); o++)
    for (int ranks = 1; ranks <= 4; ranks *= 2)
      for (int rank = 0; rank < ranks; rank++)
        for (int64_t micro = 1; micro <= 4; micro *= 2) {
          LoaderOptions options = {.order = orders[o],
                                   .seed = 11,
                                   .global_batch = 16,
                                   .count = 16 / ranks,
                                   .first = rank * (16 / ranks),
                                   .micro_batch = micro};
          run_rank(s, &d, options, 7); /* past the end of an epoch */
          options.step = 1234567;
          options.sequences = 1234567 * 16;
          run_rank(s, &d, options, 2);
        }
  LoaderOptions large = {.order = ORDER_BLOCKED, .global_batch = 100, .count = 100, .micro_batch = 50}; /* > 2 N */
  run_rank(s, &d, large, 3);
  mixture_close(&s);
}

/* Append to rows[] those of so many steps on two ranks. */
static int64_t *draw_steps(LoaderOptions o, int64_t steps, int64_t *rows) {
  int64_t half = o.global_batch / 2, total = steps * o.global_batch;
  Micro m;
  o.count = half;
  for (o.first = 0; o.first < o.global_batch; o.first += half) {
    Loader *l;
    must(loader_create(&l, &o));
    for (int64_t step = 0; step < steps; step++)
      for (int64_t k = o.first; k < o.first + half; k += o.micro_batch) {
        must(loader_next(l, &m));
        assert_true(m.step == o.step + step && m.first == k);
        memcpy(rows + step * o.global_batch + k, m.rows, (size_t)m.n * sizeof *rows);
      }
    loader_destroy(&l);
  }
  return rows + total;
}

/* A batch that changes in the middle of an epoch, from 4 to 10 to 2 sequences: the stream goes on, and every row of an
 * epoch is seen once. */
static void batch_changes(void **state) {
  (void)state;
  enum { N = 45, ALL = 3 * 4 + 5 * 10 + 14 * 2 }; /* two epochs */
  Data d = {.N = N, .L = 6, .V = 100, .type = H5_U16, .chunk_rows = 8};
  int64_t rows[ALL], batch[] = {4, 10, 2}, steps[] = {3, 5, 14};
  Mixture *s;
  data_write(bench_path("changes.h5"), &d);
  must(mixture_open(&s, bench_path("changes.h5")));
  for (int o = 0; o < LENGTH(orders); o++) {
    LoaderOptions options = {.data = s, .order = orders[o], .seed = 11, .micro_batch = 1};
    int64_t *end = rows, seen[2][N] = {{0}};
    for (int i = 0; i < 3; i++) {
      options.global_batch = batch[i];
      options.sequences = end - rows;
      end = draw_steps(options, steps[i], end);
      options.step += steps[i];
    }
    assert_true(end == rows + ALL);
    for (int j = 0; j < ALL; j++) assert_int_equal(rows[j], loader_row(orders[o], 11, N, j));
    for (int j = 0; j < ALL; j++) seen[j / N][rows[j]]++;
    for (int i = 0; i < N; i++) assert_true(seen[0][i] == 1 && seen[1][i] == 1);
  }
  mixture_close(&s);
}

/* ---- crops */

/* The starts of crops are uniform, and each seed gives different ones. */
static void crops_are_uniform(void **state) {
  (void)state;
  enum { L = 12, STEPS = 500, BATCH = 24 };
  int64_t count[L] = {0};
  int differ = 0;
  for (int64_t step = 0; step < STEPS; step++)
    for (int64_t k = 0; k < BATCH; k++) {
      int64_t at = loader_crop(5, step, k, L);
      assert_in_range(at, 0, L - 1);
      differ += at != loader_crop(6, step, k, L);
      count[at]++;
    }
  double mean = (double)STEPS * BATCH / L, chi2 = 0;
  for (int i = 0; i < L; i++) chi2 += ((double)count[i] - mean) * ((double)count[i] - mean) / mean;
  assert_true(chi2 < 37.4); /* 11 degrees of freedom; exceeded once in 10⁴ */
  assert_in_range(differ, 0.88 * STEPS * BATCH, 0.95 * STEPS * BATCH); /* 11 of 12 differ with another seed */
}

/* The token at position p of the crop of sequence k of a step. */
static int32_t crop_token(const Data *d, const LoaderOptions *o, int64_t step, int64_t k, int64_t p) {
  int64_t L = d->L / 2, j = o->sequences + (step - o->step) * o->global_batch + k;
  int64_t row = loader_row(o->order, o->seed, d->N, j);
  if (p == 0) return o->bos;
  return (int32_t)data_token(d, row, loader_crop(o->seed, step, k, L) + p);
}

static void expect_crops(const Data *d, const LoaderOptions *o, int64_t steps) {
  int64_t L = d->L / 2;
  Loader *l;
  Micro m;
  must(loader_create(&l, o));
  for (int64_t step = o->step; step < o->step + steps; step++)
    for (int64_t k = o->first; k < o->first + o->count; k += o->micro_batch) {
      must(loader_next(l, &m));
      assert_int_equal(m.L, L);
      for (int64_t i = 0; i < m.n; i++) {
        assert_int_equal(m.lengths[i], L);
        for (int64_t p = 0; p < L; p++) assert_int_equal(m.tokens[i * L + p], crop_token(d, o, step, k + i, p));
      }
    }
  loader_destroy(&l);
}

/* Crops do not depend on the number of ranks, the micro-batch, or the first step. A row gets another crop when it is
 * visited again. */
static void crops(void **state) {
  (void)state;
  Data d = {.N = 12, .L = 32, .V = 100, .type = H5_U16, .full = true};
  LoaderOptions o = {.order = ORDER_PERMUTED, .seed = 7, .global_batch = 12, .crop = true, .bos = 97};
  data_write(bench_path("crop.h5"), &d);
  must(mixture_open(&o.data, bench_path("crop.h5")));
  for (int64_t ranks = 1; ranks <= 4; ranks *= 2)
    for (int64_t rank = 0; rank < ranks; rank++)
      for (o.micro_batch = 1; o.micro_batch <= 3; o.micro_batch += 2) {
        o.count = 12 / ranks, o.first = rank * o.count;
        o.step = 0, o.sequences = 0;
        expect_crops(&d, &o, 4);
        o.step = 3, o.sequences = 36;
        expect_crops(&d, &o, 1);
      }
  int64_t start[12], again = 0;
  for (int64_t epoch = 0; epoch < 2; epoch++) /* an epoch has one step here */
    for (int64_t k = 0; k < 12; k++) {
      int64_t row = loader_row(o.order, o.seed, d.N, epoch * 12 + k), at = loader_crop(o.seed, epoch, k, 16);
      again += epoch == 1 && start[row] == at;
      if (epoch == 0) start[row] = at;
    }
  assert_in_range(again, 0, 5); /* of 12 rows, each with probability 1/16 */
  mixture_close(&o.data);
}

static void crops_refused(void **state) {
  (void)state;
  Data odd = {.N = 8, .L = 7, .V = 100, .type = H5_U16, .full = true}, padded = odd;
  LoaderOptions o = {.global_batch = 8, .count = 8, .micro_batch = 8, .crop = true};
  Loader *l;
  Micro m;
  padded.L = 8, padded.full = false;
  data_write(bench_path("odd.h5"), &odd);
  must(mixture_open(&o.data, bench_path("odd.h5")));
  refused(loader_create(&l, &o), ERR_USAGE, "odd.h5", "rows of 7 tokens");
  mixture_close(&o.data);
  data_write(bench_path("padded.h5"), &padded);
  must(mixture_open(&o.data, bench_path("padded.h5")));
  must(loader_create(&l, &o));
  refused(loader_next(l, &m), ERR_DATA, "padded.h5", "padding to 8");
  loader_destroy(&l);
  mixture_close(&o.data);
}

static void breathe(void) { nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); }

/* A delivered batch is unchanged until the next call, however far ahead the thread is; and no step allocates. */
static void stays_and_takes_no_memory(void **state) {
  (void)state;
  Data d = {.N = 45, .L = 6, .V = 100, .type = H5_U32};
  LoaderOptions o = {.seed = 2, .global_batch = 4, .count = 4, .micro_batch = 2};
  Loader *l;
  Micro m;
  data_write(bench_path("stays.h5"), &d);
  must(mixture_open(&o.data, bench_path("stays.h5")));
  must(loader_create(&l, &o));
  must(loader_next(l, &m));
  size_t before = mem_count();
  for (int i = 0; i < 5; i++) {
    breathe();
    expect_micro(&m, &d, &o, i / 2, i % 2 * 2);
    must(loader_next(l, &m));
  }
  for (int i = 0; i < 200; i++) must(loader_next(l, &m));
  assert_int_equal(mem_count(), before);
  loader_destroy(&l);
  mixture_close(&o.data);
}

static void error_is_carried(void **state) {
  (void)state;
  Data d = {.N = 40, .L = 6, .V = 100, .type = H5_U16, .bad_row = 23, .bad_position = 2, .bad_token = 100};
  LoaderOptions o = {.order = ORDER_SEQUENTIAL, .global_batch = 4, .count = 4, .micro_batch = 2};
  Loader *l;
  Micro m;
  data_write(bench_path("bad.h5"), &d);
  must(mixture_open(&o.data, bench_path("bad.h5")));
  must(loader_create(&l, &o));
  breathe();
  for (int i = 0; i < 11; i++) { /* rows 0 to 21 are valid and come first */
    must(loader_next(l, &m));
    expect_micro(&m, &d, &o, i / 2, i % 2 * 2);
  }
  for (int i = 0; i < 3; i++)
    refused(loader_next(l, &m), ERR_DATA, "bad.h5", "row 23, position 2", "token 100", "100 tokens");
  loader_destroy(&l);
  mixture_close(&o.data);
}

static void ends_in_any_state(void **state) {
  (void)state;
  Data d = {.N = 4000, .L = 64, .V = 100, .type = H5_U16}, bad = d;
  LoaderOptions o = {.global_batch = 64, .count = 64, .micro_batch = 32};
  Loader *l = NULL;
  Micro m;
  loader_destroy(&l);
  bad.change_length = 1, bad.bad_length = 0;
  data_write(bench_path("end.h5"), &d);
  data_write(bench_path("end-bad.h5"), &bad);
  for (int kind = 0; kind < 2; kind++) {
    must(mixture_open(&o.data, bench_path(kind ? "end-bad.h5" : "end.h5")));
    o.order = kind ? ORDER_SEQUENTIAL : ORDER_PERMUTED;
    for (int i = 0; i < 60; i++) {
      must(loader_create(&l, &o));
      if (i % 3 == 1) breathe(); /* the thread waits for a free slot, or has failed */
      for (int k = 0; k < i % 5; k++) assert_int_equal(loader_next(l, &m), kind ? ERR_DATA : OK);
      loader_destroy(&l);
    }
    mixture_close(&o.data);
  }
  err_clear();
}

static void wrong_options(void **state) {
  (void)state;
  const LoaderOptions wrong[] = {{.global_batch = 8, .count = 8, .micro_batch = 3},
                                 {.global_batch = 8, .first = 4, .count = 8, .micro_batch = 4},
                                 {.global_batch = 8, .count = 0, .micro_batch = 4},
                                 {.global_batch = 8, .count = 8, .micro_batch = 0}};
  Loader *l = NULL;
  for (int i = 0; i < LENGTH(wrong); i++) {
    refused(loader_create(&l, &wrong[i]), ERR_USAGE, "8");
    assert_null(l);
  }
}

/* The loader's thread must not receive signals. The main thread blocks the signal here, so it must stay pending. */
static void signals_stay_out(void **state) {
  (void)state;
  Data d = {.N = 40, .L = 6, .V = 100, .type = H5_U16};
  LoaderOptions o = {.global_batch = 4, .count = 4, .micro_batch = 2};
  Loader *l;
  sigset_t mine, old, pending;
  data_write(bench_path("signal.h5"), &d);
  must(mixture_open(&o.data, bench_path("signal.h5")));
  must(loader_create(&l, &o));
  sigemptyset(&mine);
  sigaddset(&mine, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &mine, &old);
  kill(getpid(), SIGUSR1);
  breathe();
  sigpending(&pending);
  assert_true(sigismember(&pending, SIGUSR1));
  signal(SIGUSR1, SIG_IGN);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  loader_destroy(&l);
  mixture_close(&o.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_row_once),
                                     cmocka_unit_test(orders_differ),
                                     cmocka_unit_test(blocks_stay_together),
                                     cmocka_unit_test(splits),
                                     cmocka_unit_test(batch_changes),
                                     cmocka_unit_test(crops_are_uniform),
                                     cmocka_unit_test(crops),
                                     cmocka_unit_test(crops_refused),
                                     cmocka_unit_test(stays_and_takes_no_memory),
                                     cmocka_unit_test(error_is_carried),
                                     cmocka_unit_test(ends_in_any_state),
                                     cmocka_unit_test(wrong_options),
                                     cmocka_unit_test(signals_stay_out)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
