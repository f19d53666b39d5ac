/* comm_null — a run of one rank, where reductions and broadcasts are no-ops. */
#include "base/err.h"
#include "dist/comm.h"

#include <string.h>

static int null_all_reduce(Comm *c, void *x, size_t n, CommType type, CommOp op) {
  (void)c, (void)x, (void)n, (void)type, (void)op;
  return OK;
}

static int null_tree(Comm *c, const Tree *t, TreePhases phases, void *const *arrays, void *scratch, size_t n,
                     CommType type) {
  (void)c, (void)t, (void)phases, (void)arrays, (void)scratch, (void)n, (void)type;
  return OK;
}

static int null_reduce_scatter(Comm *c, void *x, size_t part, CommType type) {
  (void)c, (void)x, (void)part, (void)type;
  return OK;
}

static int null_all_gather(Comm *c, void *all, size_t bytes) {
  (void)c, (void)all, (void)bytes;
  return OK;
}

static int null_broadcast(Comm *c, void *x, size_t bytes, int root) {
  (void)c, (void)x, (void)bytes, (void)root;
  return OK;
}

static int null_gather(Comm *c, void *all, const void *mine, size_t bytes, int root) {
  (void)c, (void)root;
  if (bytes > 0) memmove(all, mine, bytes);
  return OK;
}

static int null_barrier(Comm *c) {
  (void)c;
  return OK;
}

static int null_split(Comm *c, int color, Comm *part) {
  (void)c, (void)color;
  return comm_null_create(part);
}

static int null_node(Comm *c, Comm *node) { return (void)c, comm_null_create(node); }

static void null_destroy(Comm *c) { (void)c; }

static const CommTable comm_null = {
    .name = "null",
    .all_reduce = null_all_reduce,
    .tree = null_tree,
    .reduce_scatter = null_reduce_scatter,
    .all_gather = null_all_gather,
    .broadcast = null_broadcast,
    .gather = null_gather,
    .barrier = null_barrier,
    .split = null_split,
    .node = null_node,
    .destroy = null_destroy,
};

int comm_null_create(Comm *c) {
  *c = (Comm){.table = &comm_null, .rank = 0, .size = 1, .place = {.local_size = 1, .share_size = 1}};
  return OK;
}
