/* reduce — the sum of all micro-batches' gradients over the global batch, within a rank and across ranks.
 *
 *   tree  The micro-batches of the global batch are divided into `leaves` equal runs. The gradient of a leaf is the
 *         running sum of its micro-batches, and leaves are added pairwise, (l0+l1)+(l2+l3), …, up one binary tree.
 *         A rank holds a whole subtree, so the ranks only add the top of the tree: the sum is bitwise the same on
 *         1, 2, 4 … ranks. Costs log2(leaves/ranks) buffers and, with several ranks, another half.
 *   fast  One running sum per rank and the communicator's own all-reduce.
 * Both overlap with the backward pass of the last micro-batch: buckets of gradients, from the last to the first, are
 * reduced as soon as they are final. */
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
  Ready watch;   /* on a single rank: told of final gradients in the last micro-batch of a step; by default nobody */
  int64_t begun; /* the reduction of gradients from here on has started */
} Reduction;

/** reduction_create — for global_micro micro-batches a step over the ranks of comm. Collective; agreed as
 *  device_comm_create is.
 *  Errors  ERR_USAGE: with tree, a number of ranks that is not a power of two or exceeds tree_leaves; ERR_COMM */
int reduction_create(Reduction *r, Comm *comm, Params *params, bool tree, int64_t global_micro, int64_t tree_leaves);
void reduction_destroy(Reduction *r);
/** reduction_begin — zeroes the gradients at the start of a step. */
int reduction_begin(Reduction *r);
/** reduction_ready — the callback for the next backward pass: with several ranks, in the last micro-batch of a step, it
 *  starts the reduction of final gradients, which makes backward collective; on one rank it is `watch`; else there is
 *  none. */
Ready reduction_ready(Reduction *r);
/** reduction_add — a micro-batch's gradients have been added to params->grad. */
int reduction_add(Reduction *r);
/** reduction_finish — params->grad := the sum over the global batch, on all ranks. Collective. */
int reduction_finish(Reduction *r);
