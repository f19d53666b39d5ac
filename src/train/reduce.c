#include "train/reduce.h"
#include "base/err.h"
#include <stdio.h>

static int buffer(Params *p, Tensor *t, int64_t n) {
  void *data;
  TRY(device_alloc(p->dev, &data, (size_t)n * dtype_size(p->grad.type)));
  *t = tensor_1d(data, p->grad.type, n);
  return OK;
}

/* Powers of two first: they divide most numbers of ranks, and so the order of sums is that of versions which had only
 * them. */
int64_t reduction_leaves(int64_t micros, int64_t most) {
  int64_t a = 1, b;
  while (micros % (2 * a) == 0 && 2 * a <= most) a *= 2;
  for (b = most / a < micros / a ? most / a : micros / a; micros / a % b != 0;) b--;
  return a * b;
}

static int refuse(int64_t micros, int64_t ranks, int64_t tree_leaves) {
  const int64_t LIMIT = 65536; /* of dist.tree_leaves */
  int64_t better = tree_leaves;
  do better++;
  while (better <= LIMIT && (micros % better != 0 || reduction_leaves(micros, better) % ranks != 0));
  char advice[64] = "raise train.micro_batch";
  if (better <= LIMIT) snprintf(advice, sizeof advice, "set dist.tree_leaves = %lld", (long long)better);
  return RAISE(
      ERR_USAGE,
      "dist.tree_leaves = %lld: the %lld micro-batches of a step make %lld leaves, which %lld ranks cannot share "
      "equally: %s, or dist.reduce = fast",
      (long long)tree_leaves, (long long)micros, (long long)reduction_leaves(micros, tree_leaves), (long long)ranks,
      advice);
}

/* A leaf of the rank is done: the latest node, which becomes the one that waiting nodes, one for each add, make with
 * it. Returns the number of adds. */
static int push(const Tree *t, TreeNode *node, int *waiting) {
  int adds = 0, top = *waiting;
  int64_t first = top > 0 ? node[top - 1].end : t->leaves / t->size * t->rank;
  TreeNode it = {first, first + 1};
  while (top > 0 && tree_siblings(node[top - 1], it, t->leaves)) {
    it.first = node[--top].first;
    adds++;
  }
  node[top] = it;
  *waiting = top;
  return adds;
}

/* The most nodes that wait on a rank, and the adds to its last leaf. */
static int count_levels(const Tree *t, int *last_adds) {
  TreeNode node[TREE_NODES + 1];
  int waiting = 0, most = 0;
  for (int64_t i = 0; i < t->leaves / t->size; i++) {
    waiting += i > 0; /* so does the latest */
    most = waiting > most ? waiting : most;
    *last_adds = push(t, node, &waiting);
  }
  return most;
}

static int plan(Reduction *r, int64_t global_micro, int64_t tree_leaves) {
  Params *p = r->params;
  int64_t size = r->comm->size, leaves = reduction_leaves(global_micro, tree_leaves);
  if (!r->tree) return OK;
  if (leaves % size != 0) return refuse(global_micro, size, tree_leaves);
  r->shape = (Tree){leaves, r->comm->rank, r->comm->size};
  r->leaves = leaves / size;
  r->micro_per_leaf = global_micro / leaves;
  int levels = count_levels(&r->shape, &r->last_adds);
  for (; r->levels < levels; r->levels++) TRY(buffer(p, &r->level[r->levels], p->count));
  int64_t scratch = (int64_t)tree_scratch(&r->shape, (size_t)p->count);
  return scratch > 0 ? buffer(p, &r->exchange, scratch) : OK;
}

double reduction_memory(const Reduction *r, int64_t ranks) {
  double most = 0, flat = (double)tensor_bytes(r->params->grad);
  int adds;
  for (int64_t i = 0; r->tree && i < ranks; i++) {
    const Tree t = {r->shape.leaves, (int)i, (int)ranks};
    double scratch = (double)tree_scratch(&t, (size_t)r->params->count) / (double)r->params->count;
    double bytes = flat * (count_levels(&t, &adds) + scratch);
    most = bytes > most ? bytes : most;
  }
  return most;
}

int reduction_create(Reduction *r, Comm *comm, Params *params, bool tree, int64_t global_micro, int64_t tree_leaves) {
  *r = (Reduction){.comm = comm,
                   .params = params,
                   .tree = tree,
                   .shard = shard_whole(params->count),
                   .leaves = 1,
                   .micro_per_leaf = global_micro / comm->size};
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
  r->micro = r->waiting = 0;
  r->begun = r->params->count;
  return tensor_zero(r->params->dev, r->params->grad);
}

/* The sum over the ranks of n gradients from `first` on. */
static int begin_across(Reduction *r, int64_t first, int64_t n) {
  Tensor nodes[TREE_NODES], part = tensor_rows(r->params->grad, first, n);
  bool divided = r->shard.parts > 1;
  if (r->comm->size == 1) return OK;
  if (!r->tree)
    return divided ? device_comm_reduce_scatter(&r->across, part) : device_comm_all_reduce(&r->across, part);
  int others = r->waiting - r->last_adds;
  for (int i = 0; i < others; i++) nodes[i] = tensor_rows(r->level[i], first, n);
  nodes[others] = part;
  return divided ? device_comm_reduce_scatter_tree(&r->across, r->shape.leaves, nodes, r->exchange)
                 : device_comm_all_reduce_tree(&r->across, r->shape.leaves, nodes, r->exchange);
}

/* Reduces the gradients from `first` on whose reduction has not started: with tree, adds to the last leaf the nodes that
 * wait for it, then over the ranks. The order of an element's additions does not depend on its bucket. */
static int begin_sum(Reduction *r, int64_t first) {
  int64_t n = r->begun - first;
  if (n == 0) return OK;
  r->begun = first;
  Tensor part = tensor_rows(r->params->grad, first, n);
  for (int i = 1; i <= r->last_adds; i++)
    TRY(op_add(r->params->dev, part, tensor_rows(r->level[r->waiting - i], first, n)));
  return begin_across(r, first, n);
}

/* The blocks that are final and whose reduction has not started, from the last to the first. */
static int begin_blocks(Reduction *r, int64_t first) {
  while (r->begun > first) {
    int64_t start = shard_start(&r->shard, r->begun - 1);
    if (start < first) break;
    TRY(begin_sum(r, start));
  }
  return OK;
}

static int final_from(void *arg, int64_t first) {
  Reduction *r = arg;
  ASSERT(first <= r->begun);
  if (r->shard.parts > 1) return begin_blocks(r, first);
  bool full = (size_t)(r->begun - first) * dtype_size(r->params->grad.type) >= device_comm_bucket;
  return full ? begin_sum(r, first) : OK;
}

Ready reduction_ready(Reduction *r) {
  bool last = r->micro + 1 == r->leaves * r->micro_per_leaf;
  if (!last) return (Ready){0};
  return r->comm->size > 1 ? (Ready){final_from, r} : r->watch;
}

/* A leaf is done, not the last one: add to it the nodes that wait for it, and let the sum wait. */
static int leaf_done(Reduction *r) {
  Params *p = r->params;
  int top = r->waiting, adds = push(&r->shape, r->node, &r->waiting);
  for (int i = 1; i <= adds; i++) TRY(op_add(p->dev, p->grad, r->level[top - i]));
  TRY(tensor_copy(p->dev, r->level[r->waiting++], p->grad));
  return tensor_zero(p->dev, p->grad);
}

int reduction_add(Reduction *r) {
  bool leaf = ++r->micro % r->micro_per_leaf == 0, last = r->micro == r->leaves * r->micro_per_leaf;
  return leaf && !last ? leaf_done(r) : OK;
}

int reduction_finish(Reduction *r) {
  ASSERT(r->micro == r->leaves * r->micro_per_leaf);
  TRY(r->shard.parts > 1 ? begin_blocks(r, 0) : begin_sum(r, 0));
  return r->comm->size > 1 ? device_comm_wait(&r->across) : OK;
}

int reduction_gather(Reduction *r, Tensor flat) {
  ShardBlock b;
  if (r->shard.parts == 1) return OK;
  for (int64_t at = 0; shard_next(&r->shard, at, &b); at += b.n) {
    Tensor block = tensor_rows(flat, b.first, b.n);
    TRY(r->tree ? device_comm_all_gather_tree(&r->across, block) : device_comm_all_gather(&r->across, block));
  }
  return device_comm_wait(&r->across);
}
