/* toy_items — a toy computation over items, and the cases that tests/unit/test_items.c runs without MPI and
 * tests/mpi/test_items.c on several ranks. Only what a case computes anew is counted, so a case that computed all of it
 * again would fail.
 *
 * A real stop stays requested to the end of the process. The three functions of stop.h are therefore replaced here, by
 * ones that forget it in toy_calm. */
#pragma once
#include "unit/store_bench.h"

#include "base/stop.h"
#include "measure/items.h"

#include <math.h>
#include <signal.h>
#include <time.h>

static int stop_seen;

void stop_block(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
}

int stop_requested(const char *dir) {
  sigset_t set;
  const struct timespec now = {0, 0};
  (void)dir;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  int number = sigtimedwait(&set, NULL, &now);
  if (number > 0) stop_seen = number;
  return stop_seen;
}

const char *stop_name(int request) { return request == SIGTERM ? "SIGTERM" : "?"; }

enum { COLUMNS = 3, NEVER = -1 };

typedef struct Toy {
  Comm *comm; /* not owned */
  ItemsWork work;
  int stop_call, stop_rank; /* SIGTERM in that call of that rank; NEVER */
  bool give_up;             /* and that call is given up */
  int fail_rank;            /* its second call fails; NEVER */
  int64_t nan;              /* an item whose result is NaN; NEVER */
  int calls;
  int64_t computed; /* items of this rank */
} Toy;

static double value(int64_t item, int column) { return sin((double)(7 * item + column)) * 1e6; }

static void put(const ItemsWork *w, void *results, int64_t i, int64_t item) {
  for (int c = 0; c < COLUMNS; c++) {
    if (w->type == H5_F64) ((double *)results)[i * COLUMNS + c] = value(item, c);
    if (w->type == H5_I32) ((int32_t *)results)[i * COLUMNS + c] = (int32_t)value(item, c);
  }
}

static int toy_run(void *arg, const int64_t *items, int64_t n, void *results) {
  Toy *t = arg;
  int call = t->calls++;
  assert_in_range(n, 1, t->work.batch);
  for (int64_t i = 0; i < n; i++) {
    assert_in_range(items[i], 0, t->work.n - 1);
    if (i > 0) assert_true(t->work.neighbours ? items[i] == items[i - 1] + 1 : items[i] > items[i - 1]);
    put(&t->work, results, i, items[i]);
    if (items[i] == t->nan) ((double *)results)[i * COLUMNS + 1] = NAN;
  }
  if (t->work.unit > 1)
    assert_true(items[0] % t->work.unit == 0 && (n == t->work.unit || items[n - 1] == t->work.n - 1));
  CHECK(call != 1 || t->comm->rank != t->fail_rank, ERR_DATA, "rank %d cannot", t->fail_rank);
  if (call == t->stop_call && t->comm->rank == t->stop_rank) raise(SIGTERM);
  if (t->give_up) TRY(items_stop());
  t->computed += n;
  return OK;
}

static Toy toy(Comm *comm, int64_t n, int64_t batch, H5Type type) {
  return (Toy){.comm = comm,
               .work = {.n = n,
                        .batch = batch,
                        .unit = 1,
                        .type = type,
                        .columns = COLUMNS,
                        .run = toy_run,
                        .partial = bench_path("out.part"),
                        .key = "program = toy\nseed = 1\n",
                        .units = "items"},
               .stop_call = NEVER,
               .stop_rank = 0,
               .fail_rank = NEVER,
               .nan = NEVER};
}

static void toy_calm(void) { stop_seen = 0; }

/* Runs it; *computed := items of all ranks. */
static int toy_go(Toy *t, void **results, int64_t *done, int *stop, int64_t *computed) {
  t->work.arg = t;
  t->calls = 0, t->computed = 0;
  int err = items_run(&t->work, t->comm, results, done, stop);
  *computed = t->computed;
  must(comm_all_reduce(t->comm, computed, 1, COMM_I64, COMM_SUM));
  toy_calm();
  return err;
}

/* Runs it to the end, of which `anew` items must be computed; frees and checks the results on rank 0. */
static void toy_ends(Toy *t, int64_t anew) {
  void *results, *want;
  int64_t done, computed;
  int stop;
  size_t bytes = COLUMNS * (t->work.type == H5_F64 ? sizeof(double) : sizeof(int32_t));
  must(toy_go(t, &results, &done, &stop, &computed));
  assert_int_equal(stop, 0);
  assert_int_equal(done, t->work.n);
  assert_int_equal(computed, anew);
  assert_true((results != NULL) == (t->comm->rank == 0));
  want = calloc((size_t)t->work.n + 1, bytes);
  for (int64_t i = 0; i < t->work.n; i++) put(&t->work, want, i, i);
  if (results) assert_memory_equal(results, want, (size_t)t->work.n * bytes);
  free(want);
  mem_free(&results);
}

/* Runs it until it is stopped; returns how many items are finished. */
static int64_t toy_stops(Toy *t) {
  void *results;
  int64_t done, computed;
  int stop;
  must(toy_go(t, &results, &done, &stop, &computed));
  assert_int_equal(stop, SIGTERM);
  assert_null(results);
  assert_in_range(done, 0, t->work.n - 1);
  return done;
}

static void toy_forget(void) { unlink(bench_path("out.part")); }

/* ---- cases */

static void case_complete(Comm *comm) {
  const int64_t sizes[] = {0, 1, 2, 3, 7, 50}, batches[] = {1, 4, 60};
  for (int i = 0; i < LENGTH(sizes); i++)
    for (int b = 0; b < LENGTH(batches); b++)
      for (int what = 0; what < 4; what++) {
        Toy t = toy(comm, sizes[i], batches[b], what % 2 ? H5_I32 : H5_F64);
        t.work.neighbours = what > 1;
        t.work.unit = what == 1 ? batches[b] : 1;
        if (what == 2) t.work.partial = t.work.key = NULL;
        toy_ends(&t, sizes[i]);
      }
  assert_int_not_equal(access(bench_path("out.part"), F_OK), 0); /* nothing was stopped, and no minute has passed */
}

/* Stopped on `comm` by one rank's signal, gone on with on `next`, again with a stop, and then ended on `comm`. */
static void case_goes_on(Comm *comm, Comm *next, int stop_rank, int what) {
  Toy t = toy(comm, 53, 4, what % 2 ? H5_I32 : H5_F64);
  t.work.neighbours = what == 1, t.work.unit = what == 2 ? 4 : 1;
  t.stop_call = 1, t.stop_rank = stop_rank;
  t.give_up = what == 3;
  toy_forget();
  int64_t done = toy_stops(&t), more = 0, found = done;
  assert_true(done > 0);
  if (comm->rank == 0) assert_int_equal(access(t.work.partial, F_OK), 0);
  if (next) {
    t.comm = next, t.stop_call = 0, t.stop_rank = 0, t.give_up = false;
    if (comm->rank == 0) more = toy_stops(&t);
    must(comm_broadcast(comm, &more, sizeof more, 0));
    assert_true(more > done);
    found = more;
  }
  t.comm = comm, t.stop_call = NEVER, t.give_up = false;
  toy_ends(&t, 53 - found);
  toy_ends(&t, 53 - found); /* the file stays as it is */
}

static void case_stops_early_and_late(Comm *comm) {
  Toy t = toy(comm, 9, 100, H5_F64);
  toy_forget();
  if (comm->rank == comm->size - 1) raise(SIGTERM); /* before the first call */
  assert_int_equal(toy_stops(&t), 0);
  assert_int_not_equal(access(t.work.partial, F_OK), 0);
  t.stop_call = 0; /* in the only one: too late */
  toy_ends(&t, 9);
  toy_forget();
}

static void case_error_of_one(Comm *comm) {
  for (int rank = 0; rank < comm->size; rank++) {
    Toy t = toy(comm, 53, 4, H5_F64);
    void *results;
    int64_t done, computed;
    int stop;
    t.fail_rank = rank;
    toy_forget();
    assert_int_equal(toy_go(&t, &results, &done, &stop, &computed), comm->rank == rank ? ERR_DATA : ERR_ELSEWHERE);
    assert_int_equal(err_agreed(), 1);
    assert_null(results);
    err_clear();
    must(comm_barrier(comm));
  }
}

/* A partial file that cannot be written is an error after a stop. */
static void case_no_folder(Comm *comm) {
  Toy t = toy(comm, 53, 4, H5_F64);
  void *results;
  int64_t done, computed;
  int stop;
  t.work.partial = bench_path("none/out.part");
  t.stop_call = 1;
  assert_int_equal(toy_go(&t, &results, &done, &stop, &computed), comm->rank == 0 ? ERR_IO : ERR_ELSEWHERE);
  assert_null(results);
  err_clear();
}

/* A result that is NaN is computed anew. */
static void case_nan(Comm *comm) {
  Toy t = toy(comm, 53, 4, H5_F64);
  toy_forget();
  t.stop_call = 1, t.nan = 2;
  int64_t done = toy_stops(&t);
  t.stop_call = t.nan = NEVER;
  toy_ends(&t, 53 - (done - 1));
}
