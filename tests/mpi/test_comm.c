/* comm — the null communicator, and the MPI communicator on the ranks of this run (1 to 8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/rng.h"
#include "dist/comm.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Comm world;

static void *zeros(size_t n, size_t size) {
  void *p = calloc(n + 1, size); /* n + 1: never empty */
  assert_non_null(p);
  return p;
}

/* Numbers of very different magnitudes, so that the order of additions shows in the sum. */
static double number(int rank, size_t i) {
  RngKey k = rng_key(1, RNG_TEST, 0, 0, (uint64_t)rank);
  double u = rng_uniform(k, 2 * i) - 0.5, v = rng_uniform(k, 2 * i + 1);
  return u * (v < 0.3 ? 1e-6 : v < 0.6 ? 1.0 : 1e5);
}

/* ---- null */

static void null_is_one_rank(void **state) {
  (void)state;
  Comm c;
  float x[3] = {1, 2, 3}, scratch[3], all[3];
  void *arrays[] = {x};
  double most = -4;
  bool any = true;
  assert_int_equal(comm_null_create(&c), OK);
  assert_true(c.rank == 0 && c.size == 1 && c.place.local_rank == 0 && c.place.local_size == 1);
  assert_int_equal(comm_all_reduce(&c, x, 3, COMM_F32, COMM_SUM), OK);
  assert_int_equal(comm_all_reduce_tree(&c, 5, arrays, scratch, 3, COMM_F32), OK);
  assert_int_equal(comm_broadcast(&c, x, sizeof x, 0), OK);
  assert_int_equal(comm_gather(&c, all, x, sizeof x, 0), OK);
  assert_true(all[0] == 1 && all[1] == 2 && all[2] == 3);
  assert_int_equal(comm_barrier(&c), OK);
  assert_int_equal(comm_max(&c, &most), OK);
  assert_true(most == -4);
  assert_int_equal(comm_any(&c, false, &any), OK);
  assert_false(any);
  assert_int_equal(comm_agree(&c, OK), OK);
  assert_int_equal(comm_agree(&c, RAISE(ERR_DATA, "mine")), ERR_DATA);
  assert_int_equal(err_agreed(), 1);
  assert_string_equal(err_message(), "mine");
  err_clear();
  comm_destroy(&c);
  comm_destroy(&c);
  comm_destroy(NULL);
}

/* ---- MPI */

static void ranks_are_mpis(void **state) {
  (void)state;
  int rank, size;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  assert_true(world.rank == rank && world.size == size);
  assert_true(world.place.local_rank == rank && world.place.local_size == size); /* the tests run on one node */
}

static void set(void *x, size_t i, CommType type, int64_t v) {
  if (type == COMM_F32) ((float *)x)[i] = (float)v;
  if (type == COMM_F64) ((double *)x)[i] = (double)v;
  if (type == COMM_I64) ((int64_t *)x)[i] = v;
}

static double get(const void *x, size_t i, CommType type) {
  if (type == COMM_F32) return (double)((const float *)x)[i];
  return type == COMM_F64 ? ((const double *)x)[i] : (double)((const int64_t *)x)[i];
}

/* Rank r holds (r + 1)·(i − 5): sum, maximum and minimum are known, and the elements i < 5 are negative. */
static void reduce_case(CommType type, CommOp op, size_t n) {
  double p = world.size;
  void *x = zeros(n, sizeof(double));
  for (size_t i = 0; i < n; i++) set(x, i, type, (world.rank + 1) * ((int64_t)i - 5));
  assert_int_equal(comm_all_reduce(&world, x, n, type, op), OK);
  for (size_t i = 0; i < n; i++) {
    double one = (double)i - 5, sum = one * p * (p + 1) / 2, high = one > 0 ? one * p : one,
           low = one > 0 ? one : one * p;
    assert_true(get(x, i, type) == (op == COMM_SUM ? sum : op == COMM_MAX ? high : low));
  }
  free(x);
}

static void all_reduce_types_and_ops(void **state) {
  (void)state;
  const size_t sizes[] = {0, 1, 2, 7, 1000}, kept = comm_mpi_chunk, chunks[] = {1, 3, kept};
  for (int chunk = 0; chunk < 3; chunk++) {
    comm_mpi_chunk = chunks[chunk];
    for (CommType type = COMM_F32; type <= COMM_I64; type++)
      for (CommOp op = COMM_SUM; op <= COMM_MIN; op++)
        for (int s = 0; s < 5; s++) reduce_case(type, op, sizes[s]);
  }
  comm_mpi_chunk = kept;
}

static void sum_is_equal_on_all_ranks(void **state) {
  (void)state;
  enum { N = 1001 };
  float x[N], first[N];
  for (size_t i = 0; i < N; i++) x[i] = (float)number(world.rank, i);
  assert_int_equal(comm_all_reduce(&world, x, N, COMM_F32, COMM_SUM), OK);
  memcpy(first, x, sizeof x);
  assert_int_equal(comm_broadcast(&world, first, sizeof first, 0), OK);
  assert_memory_equal(x, first, sizeof x);
}

/* ---- the tree, whose leaf k has the numbers number(k, i) */

static int left_half(int leaves) {
  int n = 1;
  while (2 * n < leaves) n *= 2;
  return n;
}

static float tree_f32(int first, int leaves, size_t i) {
  int left = left_half(leaves);
  return leaves == 1 ? (float)number(first, i) : tree_f32(first, left, i) + tree_f32(first + left, leaves - left, i);
}

static double tree_f64(int first, int leaves, size_t i) {
  int left = left_half(leaves);
  return leaves == 1 ? number(first, i) : tree_f64(first, left, i) + tree_f64(first + left, leaves - left, i);
}

/* The sum over `ranks` leaves of the numbers k + 1, times i: exact in any order. */
static int64_t tree_i64(int first, int leaves, size_t i) {
  int64_t sum = 0;
  for (int k = first; k < first + leaves; k++) sum += (int64_t)i * (k + 1);
  return sum;
}

static void fill(void *x, CommType type, TreeNode node, size_t n) {
  int first = (int)node.first, leaves = (int)(node.end - node.first);
  for (size_t i = 0; i < n; i++) {
    if (type == COMM_F32) ((float *)x)[i] = tree_f32(first, leaves, i);
    if (type == COMM_F64) ((double *)x)[i] = tree_f64(first, leaves, i);
    if (type == COMM_I64) ((int64_t *)x)[i] = tree_i64(first, leaves, i);
  }
}

/* With `leaves` leaves, and scratch no longer than documented. */
static void tree_case(CommType type, int64_t leaves, size_t n) {
  const Tree tree = {leaves, world.rank, world.size};
  const size_t width = type == COMM_F32 ? 4 : 8;
  TreeNode nodes[TREE_NODES];
  void *arrays[TREE_NODES], *want = zeros(n, width);
  char *scratch = malloc(tree_scratch(&tree, n) * width + 1);
  int count = tree_own(nodes, &tree);
  for (int k = 0; k < count; k++) fill(arrays[k] = zeros(n, width), type, nodes[k], n);
  fill(want, type, (TreeNode){0, leaves}, n);
  assert_int_equal(comm_all_reduce_tree(&world, leaves, arrays, scratch, n, type), OK);
  assert_memory_equal(arrays[count - 1], want, n * width);
  for (int k = 0; k < count; k++) free(arrays[k]);
  free(scratch);
  free(want);
}

/* Bitwise equal to the serial sum in the order of the tree, for any number of leaves, and for lengths that are not
 * divisible by the number of ranks or are smaller. */
static void tree_equals_serial_tree(void **state) {
  (void)state;
  const size_t sizes[] = {0, 1, 2, 3, 5, 8, 17, 401}, kept = comm_mpi_chunk, chunks[] = {2, 7, kept};
  for (int chunk = 0; chunk < 3; chunk++) {
    comm_mpi_chunk = chunks[chunk];
    for (int s = 0; s < 8; s++)
      for (CommType type = COMM_F32; type <= COMM_I64; type++)
        for (int64_t leaves = 1; leaves <= (chunk == 2 ? 9 : 3); leaves++)
          tree_case(type, leaves * world.size, sizes[s]);
  }
  comm_mpi_chunk = kept;
}

/* The halves of the tree's sum: a rank's part, then all parts. The other parts are spoilt in between. */
static void halves_case(CommType type, int64_t leaves, size_t part) {
  const Tree tree = {leaves, world.rank, world.size};
  const size_t width = type == COMM_F32 ? 4 : 8, n = part * (size_t)world.size, bytes = part * width;
  const size_t mine = (size_t)tree_part(&tree) * bytes;
  TreeNode nodes[TREE_NODES];
  void *arrays[TREE_NODES];
  char *want = zeros(n, width), *scratch = malloc(tree_scratch(&tree, n) * width + 1), *kept = malloc(bytes + 1);
  int count = tree_own(nodes, &tree);
  for (int k = 0; k < count; k++) fill(arrays[k] = zeros(n, width), type, nodes[k], n);
  fill(want, type, (TreeNode){0, leaves}, n);
  assert_int_equal(comm_tree(&world, &tree, TREE_SCATTER, arrays, scratch, n, type), OK);
  char *sum = arrays[count - 1];
  assert_memory_equal(sum + mine, want + mine, bytes);
  memcpy(kept, sum + mine, bytes);
  memset(sum, 0x55, n * width);
  memcpy(sum + mine, kept, bytes);
  assert_int_equal(comm_tree(&world, &tree, TREE_GATHER, &arrays[count - 1], NULL, n, type), OK);
  assert_memory_equal(sum, want, n * width);
  for (int k = 0; k < count; k++) free(arrays[k]);
  free(kept);
  free(scratch);
  free(want);
}

static void halves_of_the_tree(void **state) {
  (void)state;
  const size_t parts[] = {0, 1, 2, 37}, kept = comm_mpi_chunk, chunks[] = {2, 7, kept};
  for (int chunk = 0; chunk < 3; chunk++) {
    comm_mpi_chunk = chunks[chunk];
    for (int s = 0; s < 4; s++)
      for (CommType type = COMM_F32; type <= COMM_I64; type++)
        for (int64_t leaves = 1; leaves <= 3; leaves++) halves_case(type, leaves * world.size, parts[s]);
  }
  comm_mpi_chunk = kept;
}

/* Integers: exact in any order. */
static void parts_case(CommType type, size_t part) {
  const size_t width = type == COMM_F32 ? 4 : 8, n = part * (size_t)world.size, bytes = part * width;
  const size_t mine = (size_t)world.rank * bytes;
  char *x = zeros(n, width), *want = zeros(n, width), *kept = malloc(bytes + 1);
  int64_t sum = world.size * (world.size + 1) / 2;
  for (size_t i = 0; i < n; i++) {
    set(x, i, type, (int64_t)(i % 100) * (world.rank + 1));
    set(want, i, type, (int64_t)(i % 100) * sum);
  }
  assert_int_equal(comm_reduce_scatter(&world, x, part, type), OK);
  assert_memory_equal(x + mine, want + mine, bytes);
  memcpy(kept, x + mine, bytes);
  memset(x, 0x55, n * width);
  memcpy(x + mine, kept, bytes);
  assert_int_equal(comm_all_gather(&world, x, bytes), OK);
  assert_memory_equal(x, want, n * width);
  free(kept);
  free(want);
  free(x);
}

static void parts_are_summed_and_gathered(void **state) {
  (void)state;
  const size_t parts[] = {0, 1, 5, 1000}, kept = comm_mpi_chunk, chunks[] = {3, 64, kept};
  for (int chunk = 0; chunk < 3; chunk++) {
    comm_mpi_chunk = chunks[chunk];
    for (CommType type = COMM_F32; type <= COMM_I64; type++)
      for (int s = 0; s < 4; s++) parts_case(type, parts[s]);
  }
  comm_mpi_chunk = kept;
}

static int count_sent(void *arg, int partner, const char *out, size_t n_out, char *in, size_t n_in) {
  (void)partner, (void)out, (void)in, (void)n_in;
  *(size_t *)arg += n_out;
  return OK;
}
static int add_nothing(void *arg, char *x, const char *y, size_t n) {
  (void)arg, (void)x, (void)y, (void)n;
  return OK;
}

/* The elements that a rank sends to sum arrays of 5,040. */
static size_t sent(const Tree *tree) {
  static char memory[16 * 5040];
  void *arrays[TREE_NODES];
  size_t count = 0;
  TreeCarrier carrier = {.arg = &count, .width = 1, .swap = count_sent, .add = add_nothing};
  for (int k = 0; k < TREE_NODES; k++) arrays[k] = memory;
  assert_int_equal(tree_run(tree, TREE_SUM, &carrier, arrays, memory, 5040), OK);
  return count;
}

/* Where every rank and group of ranks has one node, it sends 2 n (P−1)/P elements (of 15 = 3 · 5 ranks, groups of three
 * have two); with powers of two, half of the elements of scratch suffice. With three leaves of each rank, at most twice
 * as much is sent. */
static void cost(void **state) {
  (void)state;
  const int sizes[] = {2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15, 16};
  TreeNode nodes[TREE_NODES];
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int rank = 0; rank < sizes[i]; rank++) {
      const int P = sizes[i];
      const Tree one = {8 * P, rank, P}, three = {3 * P, rank, P};
      size_t least = 2 * (size_t)5040 * (size_t)(P - 1) / (size_t)P;
      bool power = (P & (P - 1)) == 0;
      assert_int_equal(tree_own(nodes, &one), 1);
      assert_in_range(sent(&one), least, P == 15 ? least / 2 * 3 : least);
      assert_in_range(sent(&three), least - 1, 2 * least);
      if (power) assert_int_equal(tree_scratch(&one, 5040), 2520);
    }
}

/* The nodes of every run of leaves: adjacent, as the definition makes them, and no two are the halves of a node. */
static bool is_node(TreeNode node, int first, int leaves) {
  int left = left_half(leaves);
  if (node.first == first && node.end == first + leaves) return true;
  if (leaves == 1) return false;
  return node.end <= first + left ? is_node(node, first, left)
                                  : node.first >= first + left && is_node(node, first + left, leaves - left);
}

static void runs_are_few_nodes(void **state) {
  (void)state;
  TreeNode nodes[TREE_NODES];
  for (int leaves = 1; leaves <= 33; leaves++)
    for (int first = 0; first < leaves; first++)
      for (int end = first + 1; end <= leaves; end++) {
        int count = tree_nodes(nodes, first, end, leaves);
        assert_true(nodes[0].first == first && nodes[count - 1].end == end);
        for (int k = 0; k < count; k++) {
          assert_true(is_node(nodes[k], 0, leaves));
          if (k == 0) continue;
          TreeNode both = {nodes[k - 1].first, nodes[k].end};
          assert_true(nodes[k - 1].end == nodes[k].first && !is_node(both, 0, leaves));
          assert_false(tree_siblings(nodes[k - 1], nodes[k], leaves));
        }
      }
  assert_int_equal(tree_nodes(nodes, 1, 65535, 65536), 30);
}

/* The numbers above distinguish orders: added from left to right they give other sums. */
static void order_matters(void **state) {
  (void)state;
  int differ = 0;
  for (size_t i = 0; i < 1000; i++) {
    float sum = 0;
    for (int r = 0; r < 4; r++) sum += (float)number(r, i);
    differ += sum != tree_f32(0, 4, i);
  }
  assert_true(differ > 50);
}

static void leaves_are_shared_equally(void **state) {
  (void)state;
  Comm three = world;
  float x[3] = {0}, scratch[3];
  void *arrays[] = {x};
  three.size = 3;
  assert_int_equal(comm_all_reduce_tree(&three, 4, arrays, scratch, 3, COMM_F32), ERR_USAGE);
  assert_non_null(strstr(err_message(), "3 ranks cannot share a tree of 4 leaves"));
  err_clear();
}

static void broadcast_from_every_root(void **state) {
  (void)state;
  const size_t kept = comm_mpi_chunk, chunks[] = {5, kept};
  for (int chunk = 0; chunk < 2; chunk++)
    for (int root = 0; root < world.size; root++) {
      unsigned char x[53];
      comm_mpi_chunk = chunks[chunk];
      for (int i = 0; i < 53; i++) x[i] = world.rank == root ? (unsigned char)(3 * i + root) : 0xee;
      assert_int_equal(comm_broadcast(&world, x, sizeof x, root), OK);
      for (int i = 0; i < 53; i++) assert_int_equal(x[i], (unsigned char)(3 * i + root));
    }
  comm_mpi_chunk = kept;
  assert_int_equal(comm_broadcast(&world, NULL, 0, 0), OK);
}

static void gather_to_every_root(void **state) {
  (void)state;
  enum { N = 53 };
  const size_t kept = comm_mpi_chunk, chunks[] = {5, N, kept};
  unsigned char *all = zeros((size_t)world.size, N), mine[N];
  for (int i = 0; i < N; i++) mine[i] = (unsigned char)(5 * i + world.rank);
  for (int chunk = 0; chunk < 3; chunk++)
    for (int root = 0; root < world.size; root++) {
      comm_mpi_chunk = chunks[chunk];
      memset(all, 0xee, (size_t)world.size * N);
      assert_int_equal(comm_gather(&world, world.rank == root ? all : NULL, mine, N, root), OK);
      for (int r = 0; r < world.size; r++)
        for (int i = 0; i < N; i++)
          assert_int_equal(all[r * N + i], world.rank == root ? (unsigned char)(5 * i + r) : 0xee);
    }
  comm_mpi_chunk = kept;
  assert_int_equal(comm_gather(&world, all, mine, 0, 0), OK);
  free(all);
}

static void any_and_max(void **state) {
  (void)state;
  int last = world.size - 1;
  bool any;
  assert_int_equal(comm_any(&world, false, &any), OK);
  assert_false(any);
  assert_int_equal(comm_any(&world, world.rank == last, &any), OK);
  assert_true(any);
  double x = world.rank == last ? -1.5 : -2.5 - world.rank;
  assert_int_equal(comm_max(&world, &x), OK);
  assert_true(x == -1.5);
}

static int fails_on(int rank) {
  CHECK(world.rank != rank, ERR_DATA, "rank %d cannot read", rank);
  return OK;
}

static int stage(int rank) {
  TRY_ALL(&world, fails_on(rank));
  return OK;
}

static void agree_on_the_outcome(void **state) {
  (void)state;
  assert_int_equal(stage(-1), OK);
  assert_int_equal(err_agreed(), 0);
  for (int culprit = 0; culprit < world.size; culprit++) {
    char own[64];
    snprintf(own, sizeof own, "rank %d cannot read", culprit);
    assert_int_equal(stage(culprit), world.rank == culprit ? ERR_DATA : ERR_ELSEWHERE);
    assert_int_equal(err_agreed(), 1);
    assert_string_equal(err_message(), world.rank == culprit ? own : "another rank failed");
    err_clear();
    assert_int_equal(stage(-1), OK); /* the communicator still works afterwards */
  }
}

/* The ranks of this node, which are all ranks here; their communicator works beside the world's. */
static void ranks_of_a_node(void **state) {
  (void)state;
  Comm node, alone;
  int32_t x = world.rank;
  assert_int_equal(comm_node(&world, &node), OK);
  assert_int_equal(node.rank, world.place.local_rank);
  assert_int_equal(node.size, world.place.local_size);
  assert_int_equal(comm_broadcast(&node, &x, sizeof x, node.size - 1), OK);
  assert_int_equal(x, world.rank - node.rank + node.size - 1);
  assert_int_equal(comm_agree(&node, node.rank == 0 ? RAISE(ERR_DATA, "mine") : OK),
                   node.rank == 0 ? ERR_DATA : ERR_ELSEWHERE);
  err_clear();
  comm_destroy(&node);
  assert_int_equal(comm_barrier(&world), OK);
  assert_int_equal(comm_null_create(&alone), OK);
  assert_int_equal(comm_node(&alone, &node), OK);
  assert_true(node.rank == 0 && node.size == 1);
}

static void mpi_errors_have_text(void **state) {
  (void)state;
  char x = 0;
  assert_int_equal(comm_broadcast(&world, &x, 1, world.size + 7), ERR_COMM);
  assert_non_null(strstr(err_message(), "MPI_Bcast failed: MPI_ERR_ROOT"));
  err_clear();
  assert_int_equal(comm_barrier(&world), OK);
}

static int create(void **state) {
  (void)state;
  return comm_mpi_create(&world);
}

static int destroy(void **state) {
  (void)state;
  comm_destroy(&world);
  return world.impl != NULL || world.table != NULL;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(null_is_one_rank),
      cmocka_unit_test(ranks_are_mpis),
      cmocka_unit_test(all_reduce_types_and_ops),
      cmocka_unit_test(sum_is_equal_on_all_ranks),
      cmocka_unit_test(tree_equals_serial_tree),
      cmocka_unit_test(halves_of_the_tree),
      cmocka_unit_test(parts_are_summed_and_gathered),
      cmocka_unit_test(order_matters),
      cmocka_unit_test(cost),
      cmocka_unit_test(runs_are_few_nodes),
      cmocka_unit_test(leaves_are_shared_equally),
      cmocka_unit_test(broadcast_from_every_root),
      cmocka_unit_test(gather_to_every_root),
      cmocka_unit_test(any_and_max),
      cmocka_unit_test(agree_on_the_outcome),
      cmocka_unit_test(ranks_of_a_node),
      cmocka_unit_test(mpi_errors_have_text),
  };
  MPI_Init(&argc, &argv);
  int failed = cmocka_run_group_tests(tests, create, destroy);
  MPI_Finalize();
  return failed;
}
