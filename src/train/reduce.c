#include "train/reduce.h"
#include "base/err.h"

static int buffer(Params *p, Tensor *t, int64_t n) {
  void *data;
  TRY(device_alloc(p->dev, &data, (size_t)n * dtype_size(p->grad.type)));
  *t = tensor_1d(data, p->grad.type, n);
  return OK;
}

static int plan_tree(Reduction *r, int64_t global_micro, int64_t tree_leaves) {
  int64_t size = r->comm->size, leaves = 1;
  CHECK((size & (size - 1)) == 0, ERR_USAGE,
        "dist.reduce = tree needs 1, 2, 4, 8 … ranks, not %lld; with this number use dist.reduce = fast",
        (long long)size);
  CHECK(tree_leaves >= size, ERR_USAGE, "dist.tree_leaves = %lld is less than the %lld ranks", (long long)tree_leaves,
        (long long)size);
  while (global_micro % (2 * leaves) == 0 && 2 * leaves <= tree_leaves) leaves *= 2;
  ASSERT(leaves % size == 0); /* size is a power of two that divides global_micro */
  r->leaves = leaves / size;
  r->micro_per_leaf = global_micro / leaves;
  while ((INT64_C(1) << r->levels) < r->leaves) r->levels++;
  return OK;
}

static int plan(Reduction *r, int64_t global_micro, int64_t tree_leaves) {
  Params *p = r->params;
  if (!r->tree) return OK;
  TRY(plan_tree(r, global_micro, tree_leaves));
  for (int i = 0; i < r->levels; i++) TRY(buffer(p, &r->level[i], p->count));
  return r->comm->size > 1 ? buffer(p, &r->exchange, p->count / 2 + 1) : OK;
}

int reduction_create(Reduction *r, Comm *comm, Params *params, bool tree, int64_t global_micro, int64_t tree_leaves) {
  *r = (Reduction){
      .comm = comm, .params = params, .tree = tree, .leaves = 1, .micro_per_leaf = global_micro / comm->size};
  TRY_ALL(comm, plan(r, global_micro, tree_leaves));
  return comm->size > 1 ? device_comm_create(&r->across, comm, params->dev) : OK;
}

void reduction_destroy(Reduction *r) {
  if (r == NULL || r->params == NULL) return;
  Device *dev = r->params->dev;
  device_comm_destroy(&r->across); /* first: it may still use the memory */
  for (int i = 0; i < r->levels; i++) device_release(dev, r->level[i].data, tensor_bytes(r->level[i]));
  device_release(dev, r->exchange.data, tensor_bytes(r->exchange));
  *r = (Reduction){0};
}

int reduction_begin(Reduction *r) {
  r->micro = r->leaf = 0;
  r->begun = r->params->count;
  return tensor_zero(r->params->dev, r->params->grad);
}

/* Reduces the gradients from `first` on whose reduction has not started: with tree, adds the last leaf to the subtrees
 * that wait for it, then over the ranks. The order of an element's additions does not depend on its bucket. */
static int begin_sum(Reduction *r, int64_t first) {
  int64_t n = r->begun - first;
  if (n == 0) return OK;
  r->begun = first;
  Tensor part = tensor_rows(r->params->grad, first, n);
  for (int i = 0; i < r->levels; i++) TRY(op_add(r->params->dev, part, tensor_rows(r->level[i], first, n)));
  if (r->comm->size == 1) return OK;
  return r->tree ? device_comm_all_reduce_tree(&r->across, part, r->exchange)
                 : device_comm_all_reduce(&r->across, part);
}

static int final_from(void *arg, int64_t first) {
  Reduction *r = arg;
  ASSERT(first <= r->begun);
  bool full = (size_t)(r->begun - first) * dtype_size(r->params->grad.type) >= device_comm_bucket;
  return full ? begin_sum(r, first) : OK;
}

Ready reduction_ready(Reduction *r) {
  bool last = r->micro + 1 == r->leaves * r->micro_per_leaf;
  if (!last) return (Ready){0};
  return r->comm->size > 1 ? (Ready){final_from, r} : r->watch;
}

/* A leaf is done, not the last one: add to it the subtrees that wait for it, as carries in a binary counter. */
static int leaf_done(Reduction *r) {
  Params *p = r->params;
  int level = 0;
  for (int64_t i = r->leaf++; i & 1; i >>= 1) TRY(op_add(p->dev, p->grad, r->level[level++]));
  TRY(tensor_copy(p->dev, r->level[level], p->grad));
  return tensor_zero(p->dev, p->grad);
}

int reduction_add(Reduction *r) {
  bool leaf = ++r->micro % r->micro_per_leaf == 0, last = r->micro == r->leaves * r->micro_per_leaf;
  return leaf && !last ? leaf_done(r) : OK;
}

int reduction_finish(Reduction *r) {
  ASSERT(r->micro == r->leaves * r->micro_per_leaf);
  TRY(begin_sum(r, 0));
  return r->comm->size > 1 ? device_comm_wait(&r->across) : OK;
}
