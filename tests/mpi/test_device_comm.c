/* device_comm — reductions over ranks in device memory, on the ranks of this run (1 to 8). Linked with another
 * check_device it tests that device. `test_device_comm fault` reduces until something fails and then exits as main
 * does; in `test_device_comm absent` rank 0 waits for ranks that never join. */
#include "check.h"

#include "base/err.h"
#include "base/rng.h"
#include "dist/device_comm.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 10000 };

static Comm world;
static Device dev;
static DeviceComm comm;
static float mine[MOST], want[MOST], got[MOST];

/* Numbers of very different magnitudes, so that the order of additions shows in the sum. */
static float number(int rank, int64_t i) {
  RngKey k = rng_key(1, RNG_TEST, 0, 0, (uint64_t)rank);
  double u = rng_uniform(k, 2 * (uint64_t)i) - 0.5, v = rng_uniform(k, 2 * (uint64_t)i + 1);
  return (float)(u * (v < 0.3 ? 1e-6 : v < 0.6 ? 1.0 : 1e5));
}
/* Small integers: their sum is exact in any order. */
static float whole(int rank, int64_t i) { return (float)(100 * rank + i % 97); }

static Tensor array(int64_t n) {
  void *p;
  MUST(device_alloc(&dev, &p, (size_t)(n + 1) * sizeof(float))); /* n + 1: never empty */
  return tensor_1d(p, DT_F32, n);
}

static Tensor filled(int64_t n, float (*f)(int rank, int64_t i)) {
  Tensor x = array(n);
  for (int64_t i = 0; i < n; i++) mine[i] = f(world.rank, i);
  MUST(tensor_upload(&dev, x, mine));
  return x;
}

static void release(Tensor x) { device_release(&dev, x.data, tensor_bytes(x) + sizeof(float)); }

static void same(Tensor x, const char *what, int64_t first, int64_t n) {
  MUST(tensor_download(&dev, got, x));
  for (int64_t i = first; i < first + n; i++)
    if (memcmp(&got[i], &want[i], sizeof *got) != 0)
      fail_msg("%s of %lld: element %lld is %.9g, not %.9g", what, (long long)x.dims[0], (long long)i, (double)got[i],
               (double)want[i]);
}

static const int64_t sizes[] = {0, 1, 2, 3, 5, 8, 17, 1000, 4099};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* With buckets of several sizes and slices at any offset. */
static void all_reduce_adds(void **state) {
  (void)state;
  const size_t kept = device_comm_bucket, buckets[] = {4, 28, 4000, kept};
  for (int b = 0; b < 4; b++)
    for (int s = 0; s < SIZES; s++) {
      int64_t n = sizes[s], first = n / 3;
      device_comm_bucket = buckets[b] < kept && n > 1000 ? 4000 : buckets[b];
      Tensor x = filled(n, whole);
      MUST(device_comm_all_reduce(&comm, tensor_rows(x, first, n - first)));
      MUST(device_comm_wait(&comm));
      for (int64_t i = 0; i < n; i++) {
        want[i] = i < first ? whole(world.rank, i) : 0;
        for (int r = 0; r < world.size && i >= first; r++) want[i] += whole(r, i);
      }
      same(x, "a sum", 0, n);
      release(x);
    }
  device_comm_bucket = kept;
}

static void sum_is_equal_on_all_ranks(void **state) {
  (void)state;
  Tensor x = filled(1001, number);
  MUST(device_comm_all_reduce(&comm, x));
  MUST(device_comm_wait(&comm));
  MUST(tensor_download(&dev, want, x));
  MUST(comm_broadcast(&world, want, 1001 * sizeof *want, 0));
  same(x, "rank 0's sum", 0, 1001);
  release(x);
}

/* Work enqueued before a call is complete when the call starts, and work enqueued after the wait sees its result. Two
 * calls may be in flight. */
static void calls_stand_in_line(void **state) {
  (void)state;
  enum { N = 3000 };
  Tensor x = array(N), y = array(N), z = array(N), from = filled(N, whole);
  MUST(tensor_copy(&dev, x, from));
  MUST(device_comm_all_reduce(&comm, x));
  MUST(tensor_copy(&dev, y, from));
  MUST(device_comm_all_reduce(&comm, y));
  MUST(device_comm_wait(&comm));
  MUST(tensor_copy(&dev, z, y));
  for (int64_t i = 0; i < N; i++) {
    want[i] = 0;
    for (int r = 0; r < world.size; r++) want[i] += whole(r, i);
  }
  same(x, "the first sum", 0, N);
  same(z, "the second sum", 0, N);
  Tensor all[] = {x, y, z, from};
  for (int i = 0; i < 4; i++) release(all[i]);
}

/* The arrays of this rank's nodes: rotations of its numbers. */
static void tree_case(int64_t leaves, int64_t n) {
  static float host[TREE_NODES][MOST], scratch[8 * MOST];
  const Tree tree = {leaves, world.rank, world.size};
  TreeNode nodes[TREE_NODES];
  Tensor x[TREE_NODES];
  void *arrays[TREE_NODES];
  size_t need = tree_scratch(&tree, (size_t)n);
  int count = tree_own(nodes, &tree);
  assert_true(need <= 8 * MOST);
  for (int k = 0; k < count; k++) {
    x[k] = filled(n, number);
    for (int64_t i = 0; i < n; i++) host[k][i] = mine[(i + k) % n];
    MUST(tensor_upload(&dev, x[k], host[k]));
    arrays[k] = host[k];
  }
  Tensor space = array((int64_t)need);
  MUST(device_comm_all_reduce_tree(&comm, leaves, x, space));
  MUST(device_comm_wait(&comm));
  MUST(comm_all_reduce_tree(&world, leaves, arrays, scratch, (size_t)n, COMM_F32));
  memcpy(want, host[count - 1], sizeof want);
  same(x[count - 1], "the tree's sum", 0, n);
  for (int k = 0; k < count; k++) release(x[k]);
  release(space);
}

/* The halves of the same sum, with the other parts spoilt in between. */
static void halves_case(int64_t part) {
  static float scratch[8 * MOST];
  const Tree tree = {world.size, world.rank, world.size};
  int64_t n = part * world.size, first = tree_part(&tree) * part;
  Tensor x = filled(n, number), space = array((int64_t)tree_scratch(&tree, (size_t)n));
  void *host = want;
  memcpy(want, mine, sizeof want);
  MUST(comm_all_reduce_tree(&world, world.size, &host, scratch, (size_t)n, COMM_F32));
  MUST(device_comm_reduce_scatter_tree(&comm, world.size, &x, space));
  MUST(device_comm_wait(&comm));
  same(x, "the own part's sum", first, part);
  memset(mine, 0x55, sizeof mine);
  memcpy(mine + first, got + first, (size_t)part * sizeof *mine);
  MUST(tensor_upload(&dev, x, mine));
  MUST(device_comm_all_gather_tree(&comm, x));
  MUST(device_comm_wait(&comm));
  same(x, "the gathered sums", 0, n);
  release(x);
  release(space);
}

static void halves_of_the_tree(void **state) {
  (void)state;
  const int64_t parts[] = {0, 1, 3, 251, 1001};
  for (int s = 0; s < 5; s++) halves_case(parts[s]);
}

/* Bitwise equal to the tree sum in host memory, with scratch no longer than documented. */
static void tree_equals_the_hosts(void **state) {
  (void)state;
  for (int64_t share = 1; share <= 7; share += 3) /* leaves of a rank */
    for (int s = 0; s < SIZES; s++) tree_case(share * world.size, sizes[s]);
}

static void parts_are_added_and_gathered(void **state) {
  (void)state;
  const int64_t parts[] = {0, 1, 3, 251, 1001};
  for (int s = 0; s < 5; s++) {
    int64_t part = parts[s], n = part * world.size;
    Tensor x = filled(n, whole);
    for (int64_t i = 0; i < n; i++) {
      want[i] = 0;
      for (int r = 0; r < world.size; r++) want[i] += whole(r, i);
    }
    MUST(device_comm_reduce_scatter(&comm, x));
    MUST(device_comm_wait(&comm));
    same(x, "the own part's sum", part * world.rank, part);
    MUST(device_comm_all_gather(&comm, x));
    MUST(device_comm_wait(&comm));
    same(x, "all parts' sums", 0, n);
    release(x);
  }
}

static void wrong_arguments_are_refused(void **state) {
  (void)state;
  Tensor x = array(world.size + 1), low = tensor_1d(x.data, DT_BF16, 1), short_one = array(1);
  check_refused(device_comm_all_reduce(&comm, low), ERR_SHAPE, "bf16");
  if (world.size > 1) {
    check_refused(device_comm_reduce_scatter(&comm, x), ERR_SHAPE, "unequal parts");
    check_refused(device_comm_all_gather(&comm, x), ERR_SHAPE, "unequal parts");
    check_refused(device_comm_reduce_scatter_tree(&comm, world.size, &x, x), ERR_SHAPE, "unequal parts");
    check_refused(device_comm_all_gather_tree(&comm, x), ERR_SHAPE, "unequal parts");
    check_refused(device_comm_all_reduce_tree(&comm, world.size, &x, short_one), ERR_SHAPE, "too little scratch");
  }
  Comm three = world;
  three.size = 3;
  comm.comm = &three;
  check_refused(device_comm_all_reduce_tree(&comm, 4, &x, x), ERR_USAGE, "a tree of four on three ranks");
  comm.comm = &world;
  release(x);
  release(short_one);
}

/* Device memory other than the host's needs the CUDA library, which is not installed beside this program. */
static void a_device_without_its_library_is_refused(void **state) {
  (void)state;
  if (strcmp(check_device, "cpu") != 0) return;
  Ops ops = *dev.ops;
  Device other = dev;
  DeviceComm c;
  ops.name = "remote";
  ops.host = false;
  other.ops = &ops;
  assert_int_equal(device_comm_create(&c, &world, &other), ERR_USAGE);
  assert_non_null(strstr(err_message(), "CUDA library"));
  assert_int_equal(err_agreed(), 1);
  err_clear();
}

static void one_more_and_none_left(void **state) {
  (void)state;
  DeviceComm other;
  Tensor x = filled(10, whole);
  MUST(device_comm_create(&other, &world, &dev));
  MUST(device_comm_all_reduce(&other, x));
  device_comm_destroy(&other); /* without a wait before */
  assert_null(other.impl);
  device_comm_destroy(&other);
  device_comm_destroy(NULL);
  MUST(comm_barrier(&world));
  release(x);
}

static int create(void **state) {
  (void)state;
  DeviceOptions options = {.name = check_device, .threads = 1, .place = world.place};
  MUST(device_open(&dev, &options));
  MUST(device_comm_create(&comm, &world, &dev));
  return 0;
}

static int destroy(void **state) {
  (void)state;
  device_comm_destroy(&comm);
  device_close(&dev);
  return 0;
}

/* ---- for tests/emulation/test_nccl.sh */

static int add_up(void) {
  Tensor x = array(1000), half = array(1000);
  for (int i = 0; i < 8; i++) {
    TRY(device_comm_all_reduce(&comm, x));
    TRY(device_comm_wait(&comm));
    TRY(device_comm_all_reduce_tree(&comm, world.size, &x, half));
    TRY(device_comm_wait(&comm));
  }
  release(x);
  release(half);
  return OK;
}

static int meet(void) {
  DeviceOptions options = {.name = check_device, .threads = 1, .place = world.place};
  TRY(device_open(&dev, &options));
  return device_comm_create(&comm, &world, &dev);
}

/* What a run with several ranks does when a step fails on one: free everything, print the error, abort the others. */
static int end(int err) {
  device_comm_destroy(&comm);
  device_close(&dev);
  if (err) fprintf(stderr, "test: %s\n", err_message());
  if (err) MPI_Abort(MPI_COMM_WORLD, err);
  return err;
}

static int fault(void) {
  int err = meet();
  return end(err ? err : add_up());
}

/* The other ranks take part in the MPI calls of device_comm_create, but never join the device communicator. */
static int absent(void) {
  char id[128];
  device_comm_patience = 0.3;
  if (world.rank == 0) return end(meet());
  MUST(comm_agree(&world, OK));
  for (int r = 0; r < world.size; r++) {
    char uuid[16] = "another GPU";
    MUST(comm_broadcast(&world, uuid, sizeof uuid, r));
  }
  for (int i = 0; i < 2; i++) MUST(comm_agree(&world, OK));
  MUST(comm_broadcast(&world, id, sizeof id, 0));
  return comm_barrier(&world); /* blocks for ever */
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_reduce_adds),
      cmocka_unit_test(sum_is_equal_on_all_ranks),
      cmocka_unit_test(calls_stand_in_line),
      cmocka_unit_test(tree_equals_the_hosts),
      cmocka_unit_test(halves_of_the_tree),
      cmocka_unit_test(parts_are_added_and_gathered),
      cmocka_unit_test(wrong_arguments_are_refused),
      cmocka_unit_test(a_device_without_its_library_is_refused),
      cmocka_unit_test(one_more_and_none_left),
  };
  MPI_Init(&argc, &argv);
  if (comm_mpi_create(&world)) return 1;
  const char *how = argc > 1 ? argv[1] : "";
  int failed = strcmp(how, "fault") == 0    ? fault()
               : strcmp(how, "absent") == 0 ? absent()
                                            : cmocka_run_group_tests(tests, create, destroy);
  comm_destroy(&world);
  MPI_Finalize();
  return failed;
}
