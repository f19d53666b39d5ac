/* comm — the public calls: checks in front of the table, and small agreements built on all_reduce. */
#include "dist/comm.h"

#include "base/activity.h"
#include "base/err.h"

#include <string.h>

void comm_destroy(Comm *c) {
  if (!c) return;
  if (c->table) c->table->destroy(c);
  memset(c, 0, sizeof *c);
}

/* The watchdog sees where a rank waits, and the time does not count as the rank's own. */
static int waited(int err) {
  activity_end();
  return err;
}

int comm_node(Comm *c, Comm *node) {
  activity_begin(ACTIVITY_COLLECTIVE, "a split of the ranks");
  return waited(c->table->node(c, node));
}

int comm_all_reduce(Comm *c, void *x, size_t n, CommType type, CommOp op) {
  activity_begin(ACTIVITY_COLLECTIVE, "an all-reduce");
  return waited(c->table->all_reduce(c, x, n, type, op));
}

int comm_all_reduce_tree(Comm *c, int64_t leaves, void *const *arrays, void *scratch, size_t n, CommType type) {
  const Tree t = {leaves, c->rank, c->size};
  return comm_tree(c, &t, TREE_SUM, arrays, scratch, n, type);
}

int comm_tree(Comm *c, const Tree *t, TreePhases phases, void *const *arrays, void *scratch, size_t n, CommType type) {
  const char *const names[] = {
      [TREE_SCATTER] = "a reduce-scatter", [TREE_GATHER] = "an all-gather", [TREE_SUM] = "an all-reduce"};
  TRY(tree_check(t));
  activity_begin(ACTIVITY_COLLECTIVE, names[phases]);
  return waited(c->table->tree(c, t, phases, arrays, scratch, n, type));
}

int comm_reduce_scatter(Comm *c, void *x, size_t part, CommType type) {
  activity_begin(ACTIVITY_COLLECTIVE, "a reduce-scatter");
  return waited(c->table->reduce_scatter(c, x, part, type));
}

int comm_all_gather(Comm *c, void *all, size_t bytes) {
  activity_begin(ACTIVITY_COLLECTIVE, "an all-gather");
  return waited(c->table->all_gather(c, all, bytes));
}

int comm_broadcast(Comm *c, void *x, size_t bytes, int root) {
  activity_begin(ACTIVITY_COLLECTIVE, "a broadcast");
  return waited(c->table->broadcast(c, x, bytes, root));
}

int comm_gather(Comm *c, void *all, const void *mine, size_t bytes, int root) {
  activity_begin(ACTIVITY_COLLECTIVE, "a gather");
  return waited(c->table->gather(c, all, mine, bytes, root));
}

int comm_split(Comm *c, int color, Comm *part) {
  activity_begin(ACTIVITY_COLLECTIVE, "a split of the ranks");
  return waited(c->table->split(c, color, part));
}

int comm_barrier(Comm *c) {
  activity_begin(ACTIVITY_COLLECTIVE, "a barrier");
  return waited(c->table->barrier(c));
}

int comm_any(Comm *c, bool flag, bool *any) {
  int64_t x = flag;
  TRY(comm_all_reduce(c, &x, 1, COMM_I64, COMM_MAX));
  *any = x != 0;
  return OK;
}

int comm_max(Comm *c, double *x) { return comm_all_reduce(c, x, 1, COMM_F64, COMM_MAX); }

int comm_agree(Comm *c, int code) {
  int64_t failed = code != OK;
  int err = comm_all_reduce(c, &failed, 1, COMM_I64, COMM_MAX);
  if (err != OK) return code != OK ? code : err; /* the agreement itself failed */
  if (!failed) return OK;
  if (code == OK) code = RAISE(ERR_ELSEWHERE, "another rank failed");
  err_set_agreed(1);
  return code;
}
