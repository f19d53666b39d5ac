/* device_comm — the public calls: the choice of an implementation and the checks in front of it. Also the
 * implementation for host memory, which forwards to the ranks' communicator and completes before a call returns. */
#include "dist/device_comm.h"
#include "base/activity.h"
#include "base/err.h"
#include <string.h>

size_t device_comm_bucket = (size_t)25 << 20;
double device_comm_patience = 600;

/* ---- host memory */
static CommType type_of(DType type) { return type == DT_F64 ? COMM_F64 : COMM_F32; }
static size_t count_of(Tensor x) { return (size_t)tensor_count(x); }

static int host_create(DeviceComm *c) {
  (void)c;
  return OK;
}

static int host_all_reduce(DeviceComm *c, Tensor x) {
  return comm_all_reduce(c->comm, x.data, count_of(x), type_of(x.type), COMM_SUM);
}

static int host_tree(DeviceComm *c, const Tree *t, TreePhases phases, void *const *arrays, Tensor scratch, int64_t n) {
  return comm_tree(c->comm, t, phases, arrays, scratch.data, (size_t)n, type_of(c->dev->real));
}

static int host_reduce_scatter(DeviceComm *c, Tensor x) {
  return comm_reduce_scatter(c->comm, x.data, count_of(x) / (size_t)c->comm->size, type_of(x.type));
}

static int host_all_gather(DeviceComm *c, Tensor x) {
  return comm_all_gather(c->comm, x.data, tensor_bytes(x) / (size_t)c->comm->size);
}

static int host_wait(DeviceComm *c) {
  (void)c;
  return OK;
}

static void host_destroy(DeviceComm *c) { (void)c; }

static const DeviceCommTable comm_host = {
    .name = "host",
    .create = host_create,
    .all_reduce = host_all_reduce,
    .tree = host_tree,
    .reduce_scatter = host_reduce_scatter,
    .all_gather = host_all_gather,
    .wait = host_wait,
    .destroy = host_destroy,
};

/* ---- the choice: host memory above, device memory in the CUDA backend's library */
static int find(DeviceComm *c) {
  if (!c->dev->ops->host) return backend_symbol("comm_nccl", (const void **)&c->table);
  c->table = &comm_host;
  return OK;
}

int device_comm_create(DeviceComm *c, Comm *comm, Device *dev) {
  *c = (DeviceComm){.comm = comm, .dev = dev};
  TRY_ALL(comm, find(c));
  int err = c->table->create(c);
  if (err) device_comm_destroy(c);
  return err;
}

void device_comm_destroy(DeviceComm *c) {
  if (!c) return;
  if (c->table) c->table->destroy(c);
  memset(c, 0, sizeof *c);
}

static int check(const DeviceComm *c, Tensor x, const char *what) {
  CHECK(x.rank == 1 && x.type == c->dev->real, ERR_SHAPE, "%s takes a flat array of %s", what,
        dtype_name(c->dev->real));
  return OK;
}

static int check_parts(const DeviceComm *c, Tensor x, const char *what) {
  TRY(check(c, x, what));
  CHECK(x.dims[0] % c->comm->size == 0, ERR_SHAPE, "%s: %lld elements do not divide into %d equal parts", what,
        (long long)x.dims[0], c->comm->size);
  return OK;
}

int device_comm_all_reduce(DeviceComm *c, Tensor x) {
  TRY(check(c, x, "an all-reduce"));
  return c->table->all_reduce(c, x);
}

static int sum_tree(DeviceComm *c, TreePhases phases, int64_t leaves, const Tensor *nodes, Tensor scratch) {
  const Tree t = {leaves, c->comm->rank, c->comm->size};
  TreeNode own[TREE_NODES];
  void *arrays[TREE_NODES];
  TRY(tree_check(&t));
  int count = tree_own(own, &t);
  for (int i = 0; i < count; i++) {
    TRY(phases & TREE_GATHER ? check(c, nodes[i], "an all-reduce") : check_parts(c, nodes[i], "a reduce-scatter"));
    CHECK(nodes[i].dims[0] == nodes[0].dims[0], ERR_SHAPE, "the nodes of a tree have equal lengths");
    arrays[i] = nodes[i].data;
  }
  size_t n = count_of(nodes[0]), need = tree_scratch(&t, n);
  CHECK(n == 0 || need == 0 || (scratch.type == nodes[0].type && count_of(scratch) >= need), ERR_SHAPE,
        "a tree sum of %zu elements needs scratch for %zu", n, need);
  return c->table->tree(c, &t, phases, arrays, scratch, (int64_t)n);
}

int device_comm_all_reduce_tree(DeviceComm *c, int64_t leaves, const Tensor *nodes, Tensor scratch) {
  return sum_tree(c, TREE_SUM, leaves, nodes, scratch);
}

int device_comm_reduce_scatter_tree(DeviceComm *c, int64_t leaves, const Tensor *nodes, Tensor scratch) {
  return sum_tree(c, TREE_SCATTER, leaves, nodes, scratch);
}

int device_comm_all_gather_tree(DeviceComm *c, Tensor x) {
  const Tree t = {c->comm->size, c->comm->rank, c->comm->size};
  TRY(check_parts(c, x, "an all-gather"));
  return c->table->tree(c, &t, TREE_GATHER, &x.data, TENSOR_NONE, x.dims[0]);
}

int device_comm_reduce_scatter(DeviceComm *c, Tensor x) {
  TRY(check_parts(c, x, "a reduce-scatter"));
  return c->table->reduce_scatter(c, x);
}

int device_comm_all_gather(DeviceComm *c, Tensor x) {
  TRY(check_parts(c, x, "an all-gather"));
  return c->table->all_gather(c, x);
}

int device_comm_wait(DeviceComm *c) {
  activity_begin(ACTIVITY_DEVICE, "collectives of its device");
  int err = c->table->wait(c);
  activity_end();
  return err;
}
