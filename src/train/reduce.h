/* reduce — the sum of all micro-batches' gradients over the global batch, within a rank and across ranks.
 *
 * tree: the global batch's micro-batches are cut into `leaves` equal runs; a leaf's gradient is the running sum of its
 * micro-batches, and leaves are added pairwise, (l0+l1)+(l2+l3), …, up one binary tree. A rank holds a whole subtree,
 * so the ranks only add the tree's top: the sum is bitwise the same on 1, 2, 4 … ranks. Costs log2(leaves/ranks)
 * buffers and, with several ranks, half a buffer more. fast: one running sum per rank and the communicator's own
 * all-reduce. Either begins during the last micro-batch's backward: a bucket of gradients, from the last to the first,
 * is on its way as soon as it is final. */
#pragma once
#include "dist/device_comm.h"
#include "model/model.h"

typedef struct Reduction {
  Comm *comm;     /* not owned */
  Params *params; /* not owned */
  bool tree;
  int64_t micro_per_leaf, leaves; /* of this rank */
  int levels;
  Tensor level[17];  /* finished subtrees waiting for their right sibling */
  Tensor exchange;   /* scratch of the all-reduce */
  DeviceComm across; /* of several ranks */
  int64_t micro, leaf;
  int64_t begun; /* gradients from here on are on their way */
} Reduction;

/** reduction_create — for global_micro micro-batches a step over the ranks of comm. Collective; agreed as
 *  device_comm_create is.
 *  Errors  ERR_USAGE: with tree, a number of ranks that is no power of two or exceeds tree_leaves; ERR_COMM */
int reduction_create(Reduction *r, Comm *comm, Params *params, bool tree, int64_t global_micro, int64_t tree_leaves);
void reduction_destroy(Reduction *r);
/** reduction_begin — gradients zero, at the start of a step. */
int reduction_begin(Reduction *r);
/** reduction_ready — who is to be told, in the backward that comes next, which gradients are final: of several
 *  ranks, in the last micro-batch of a step, the reduction (backward then is collective), else nobody. */
Ready reduction_ready(Reduction *r);
/** reduction_add — a micro-batch's gradients have been added to params->grad. */
int reduction_add(Reduction *r);
/** reduction_finish — params->grad := the sum over the global batch, on all ranks. Collective. */
int reduction_finish(Reduction *r);
