/* items — a computation on the ranks of this run: stopped by any of them, gone on with on one rank and on all. */
#include "toy_items.h"

#include <mpi.h>

static Comm world, one;

static void completes(void **state) { (void)state, case_complete(&world); }

static void goes_on(void **state) {
  (void)state;
  for (int what = 0; what < 4; what++)
    for (int rank = 0; rank < world.size; rank++) case_goes_on(&world, NULL, rank, what);
}

static void goes_on_on_one_rank(void **state) {
  (void)state;
  for (int what = 0; what < 4; what++) case_goes_on(&world, &one, world.size - 1, what);
}

/* The other way round: one rank begins. */
static void one_rank_begins(void **state) {
  (void)state;
  Toy t = toy(&one, 53, 4, H5_F64);
  int64_t done = 0;
  toy_forget();
  t.stop_call = 2;
  if (world.rank == 0) done = toy_stops(&t);
  must(comm_broadcast(&world, &done, sizeof done, 0));
  assert_int_equal(done, 12);
  t.comm = &world, t.stop_call = NEVER;
  toy_ends(&t, 53 - 12);
}

static void stops_early_and_late(void **state) { (void)state, case_stops_early_and_late(&world); }
static void error_of_one_ends_all(void **state) { (void)state, case_error_of_one(&world); }
static void no_folder(void **state) { (void)state, case_no_folder(&world); }
static void nan_is_not_kept(void **state) { (void)state, case_nan(&world); }

static int setup(void **state) { return bench_setup(state) || comm_null_create(&one) || comm_mpi_create(&world); }

static int teardown(void **state) {
  comm_destroy(&one);
  comm_destroy(&world);
  return bench_teardown(state);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(completes),
      cmocka_unit_test(goes_on),
      cmocka_unit_test(goes_on_on_one_rank),
      cmocka_unit_test(one_rank_begins),
      cmocka_unit_test(stops_early_and_late),
      cmocka_unit_test(error_of_one_ends_all),
      cmocka_unit_test(no_folder),
      cmocka_unit_test(nan_is_not_kept),
  };
  stop_block(); /* before MPI starts its threads */
  MPI_Init(&argc, &argv);
  int failed = cmocka_run_group_tests(tests, setup, teardown);
  MPI_Finalize();
  return failed;
}
