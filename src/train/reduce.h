/* reduce — the sum of all micro-batches' gradients over the global batch, within a rank and across ranks.
 *
 *   tree  The micro-batches of the global batch are divided into equal runs, the leaves. The gradient of a leaf is the
 *         running sum of its micro-batches, and leaves are added up the binary tree of dist/tree.h, whose shape depends
 *         on their number alone: the sum is bitwise the same on any number of ranks that divides the leaves. A rank
 *         adds its leaves as far as they are whole nodes of the tree, and the ranks add the rest. With n leaves a
 *         rank keeps log2(n) buffers, at most twice as many where n is not a power of two, and scratch for the
 *         reduction over the ranks: half a buffer where n and the number of ranks are powers of two.
 *   fast  One running sum per rank and the communicator's own all-reduce.
 * Both overlap with the backward pass of the last micro-batch: buckets of gradients, from the last to the first, are
 * reduced as soon as they are final.
 *
 * Where the optimizer's state is divided over the ranks (shard.h), buckets are whole blocks, and a rank gets the sum of
 * its parts alone: a reduce-scatter in place of each all-reduce. With tree, the bits are the same. */
#pragma once
#include "dist/device_comm.h"
#include "model/model.h"
#include "train/shard.h"

typedef struct Reduction {
  Comm *comm;     /* not owned */
  Params *params; /* not owned */
  bool tree;
  Shard shard;                    /* by default whole */
  int64_t micro_per_leaf, leaves; /* of this rank */
  Tree shape;
  int levels;                    /* buffers: the most nodes that ever wait */
  int last_adds;                 /* waiting nodes that are added to the last leaf */
  Tensor level[TREE_NODES];      /* the sums of … */
  TreeNode node[TREE_NODES + 1]; /* … finished nodes, from left to right; behind them the latest */
  int waiting;
  Tensor exchange;   /* scratch of the all-reduce */
  DeviceComm across; /* of several ranks */
  int64_t micro;
  Ready watch;   /* on a single rank: told of final gradients in the last micro-batch of a step; by default nobody */
  int64_t begun; /* the reduction of gradients from here on has started */
} Reduction;

/** reduction_leaves — the number of leaves for so many micro-batches a step, at most `most`: a·b, where a is the largest
 *  power of two that divides the micro-batches, and b the largest number by which the rest of them can be divided. All
 *  micro-batches are leaves where there are at most `most`. */
int64_t reduction_leaves(int64_t micros, int64_t most);
/** reduction_create — for global_micro micro-batches a step over the ranks of comm. Collective; agreed as
 *  device_comm_create is. The caller may set `shard` before the first step.
 *  Errors  ERR_USAGE: with tree, ranks that cannot share the leaves equally; ERR_COMM */
int reduction_create(Reduction *r, Comm *comm, Params *params, bool tree, int64_t global_micro, int64_t tree_leaves);
void reduction_destroy(Reduction *r);
/** reduction_memory — bytes that a rank holds for the tree where that many ranks share the leaves, the most of all ranks.
 *  Not collective. */
double reduction_memory(const Reduction *r, int64_t ranks);
/** reduction_begin — zeroes the gradients at the start of a step. */
int reduction_begin(Reduction *r);
/** reduction_ready — the callback for the next backward pass: with several ranks, in the last micro-batch of a step, it
 *  starts the reduction of final gradients, which makes backward collective; on one rank it is `watch`; else there is
 *  none. */
Ready reduction_ready(Reduction *r);
/** reduction_add — a micro-batch's gradients have been added to params->grad. */
int reduction_add(Reduction *r);
/** reduction_finish — params->grad := the sum over the global batch, on all ranks, or of this rank's parts. Collective. */
int reduction_finish(Reduction *r);
/** reduction_gather — flat [params->count], of which each rank has its parts, := those of all ranks. Not in the last
 *  micro-batch of a step. Collective; errors are local. */
int reduction_gather(Reduction *r, Tensor flat);
