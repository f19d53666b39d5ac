/* reduce — the gradients of a step are reduced over ranks (1 to 8) during backward, in buckets. The result equals that
 * of a reduction at the end; with `tree` bit for bit, and it is the same on one rank. */
#include "toy_network.h"

#include <mpi.h>

#include "base/mem.h"
#include "train/reduce.h"

enum { MICROS = 3 }; /* per rank, so that a rank's leaves are several nodes of the tree */

static Comm world, alone;

/* The gradients [count] after a step of MICROS · world.size micro-batches, each with other sequences, on the ranks of
 * comm; free them with mem_free. Without `overlap` backward has no callback, so the reduction begins at the end. *early:
 * the number of gradients whose reduction had begun when backward ended. */
static double *step(Network *n, Comm *comm, bool tree, bool overlap, int64_t *early) {
  Reduction r;
  int64_t global_micro = MICROS * world.size, micros = global_micro / comm->size;
  MUST(reduction_create(&r, comm, &n->model.params, tree, global_micro, global_micro));
  MUST(reduction_begin(&r));
  for (int64_t i = 0; i < micros; i++) {
    Ready ready = reduction_ready(&r);
    assert_true((ready.call != NULL) == (comm->size > 1 && i == micros - 1));
    if (overlap) n->ready = ready;
    toy_pass(n, &toy_mixed, (int)(comm->rank * micros + i) % TOY_B, 1, toy_quarter, true);
    n->ready = (Ready){0};
    if (early) *early = n->model.params.count - r.begun;
    MUST(reduction_add(&r));
  }
  MUST(reduction_finish(&r));
  double *grad = toy_values(n, n->model.params.grad);
  reduction_destroy(&r);
  return grad;
}

static void compare(const ToyNetwork *x, const char *backend, double tolerance) {
  Network n;
  int64_t early;
  Toy t = toy_network(x->name, backend, x->timed);
  t.model.blocks = 3;
  t.device.place = world.place;
  t.device.deterministic = true; /* else each rank may choose other algorithms */
  toy_network_open(&n, &t);
  const Params *p = &n.model.params;
  const size_t kept = device_comm_bucket, buckets[] = {256, 4096, 20000, kept};
  double *want = step(&n, &world, false, false, NULL), *tree = step(&n, &world, true, false, NULL);
  double *one = step(&n, &alone, true, false, NULL);
  toy_near("tree", p, tree, want, tolerance);
  toy_same("the tree on one rank", tree, one, p->count);
  for (int i = 0; i < 4; i += check_slow ? 3 : 1) {
    device_comm_bucket = buckets[i];
    double *got = step(&n, &world, false, true, &early), *same = step(&n, &world, true, true, NULL);
    bool all = i == 0, none = buckets[i] > (size_t)p->count * 8;
    assert_true(world.size == 1 || none ? early == 0 : all ? early == p->count : early > 0);
    if (world.size <= 2) /* a sum of two numbers has one order */
      toy_same("in buckets", got, want, p->count);
    toy_near("in buckets", p, got, want, tolerance);
    toy_same("the tree in buckets", same, tree, p->count);
    mem_free(&got);
    mem_free(&same);
  }
  device_comm_bucket = kept;
  mem_free(&one);
  mem_free(&want);
  mem_free(&tree);
  network_destroy(&n);
}

static void buckets_give_the_same(void **state) {
  const ToyNetwork *x = *state;
  toy_network_skip_slow(x);
  compare(x, "cpu_f64", 1e-13);
  compare(x, check_device, 1e-4);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(buckets_give_the_same)};
  MPI_Init(&argc, &argv);
  if (comm_mpi_create(&world) || comm_null_create(&alone)) return 1;
  int failed = toy_networks_main(tests, 1);
  comm_destroy(&world);
  MPI_Finalize();
  return failed;
}
