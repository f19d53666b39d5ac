/* local — which checkpoint on the nodes' own disks is taken: here every rank is a node with a disk of its own. */
#include "check.h"
#include "train/local.h"
#include "unit/store_bench.h"

#include <math.h>
#include <mpi.h>

enum { SIZE = 6 };
static Comm world;

static const char *file_of_node(void) { return bench_path(LOCAL_NAME); }

/* This node's checkpoint at that step, with weights that depend on `salt`. */
static void save(int64_t step, float salt) {
  float values[SIZE] = {1, 2, salt, 4, 5, 6};
  CheckpointArray array = {"blocks.0.norm1.weight", 1, {SIZE}, values};
  CheckpointArray *groups[CKPT_GROUPS] = {&array, &array, &array, &array};
  CheckpointState state = {.step = step,
                           .length = 8,
                           .seed = 5,
                           .valid_nll = NAN,
                           .git = "abc",
                           .data_digest = "0123456789abcdef0123456789abcdef",
                           .protocol = {.wrap = 1, .detokenizer = "lm1b", .source = "test", .split = "train"},
                           .deck = "model {\n  width = 8;\n}\n",
                           .vocab = data_vocab(20)};
  must(checkpoint_save(file_of_node(), &state, groups, 1, NULL, 0));
  vocab_destroy(&state.vocab);
}

/* The step that all nodes have. */
static int64_t newest(void) {
  Local l = {.comm = &world, .used = true};
  int64_t step;
  char path[512];
  compose(l.dir.path, "%s", bench_folder);
  must(comm_split(&world, world.rank, &l.node));
  must(local_newest(&l, &step, path));
  assert_string_equal(path, file_of_node());
  local_close(&l);
  return step;
}

static void all_have_it(void **state) {
  (void)state;
  save(40, 1);
  assert_int_equal(newest(), 40);
}

/* What is wrong on one node, whichever it is. */
static void one_has_not(void **state) {
  (void)state;
  for (int node = 0; node < world.size && world.size > 1; node++) {
    save(world.rank == node ? 41 : 40, 1); /* another step */
    assert_int_equal(newest(), -1);
    save(40, world.rank == node ? 2 : 1); /* other weights */
    assert_int_equal(newest(), -1);
    save(40, 1);
    if (world.rank == node) remove(file_of_node());
    assert_int_equal(newest(), -1);
    save(40, 1);
    if (world.rank == node) bench_flip(file_of_node(), 3000, 1);
    assert_int_equal(newest(), -1);
    save(40, 1);
    assert_int_equal(newest(), 40);
  }
}

static void none_has_it(void **state) {
  (void)state;
  remove(file_of_node());
  assert_int_equal(newest(), -1);
}

static int setup(void **state) { return bench_setup(state) || comm_mpi_create(&world); }

static int teardown(void **state) {
  comm_destroy(&world);
  return bench_teardown(state);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_have_it),
      cmocka_unit_test(one_has_not),
      cmocka_unit_test(none_has_it),
  };
  MPI_Init(&argc, &argv);
  int failed = cmocka_run_group_tests(tests, setup, teardown);
  MPI_Finalize();
  return failed;
}
