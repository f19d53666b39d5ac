/* shard — the part of the optimizer's state that a rank holds: of the moments m and v and of the moving average.
 *
 * A flat buffer is divided into equal blocks, of about the size of a bucket of the reduction; the last one may be
 * shorter. Each block is divided into equal parts, one per rank. A rank gets the sum of the gradients of its parts,
 * updates their weights, and keeps their state, part after part, in buffers of whole/parts elements. Every part begins
 * with a chunk of op_squares, so that the terms of the gradient's norm are the same on any number of ranks. */
#pragma once
#include "dist/comm.h"
#include "ops/ops.h"

typedef struct Shard {
  int64_t whole;   /* elements of a flat buffer */
  int64_t block;   /* of a block */
  int parts, part; /* of a block; this rank's. Not divided: a single block of one part */
} Shard;

typedef struct ShardBlock {
  int64_t first, n;   /* its elements in a flat buffer */
  int64_t part, size; /* this rank's part: where it begins in a flat buffer, and its elements */
  int64_t own;        /* where the part begins in the rank's own buffers */
} ShardBlock;

/** shard_whole — not divided: every rank has all `count` elements. */
Shard shard_whole(int64_t count);
/** shard_ranks — divided over the ranks of comm; `count` as params_commit pads it for as many parts. tree: the parts are
 *  those of device_comm_reduce_scatter_tree, else of device_comm_reduce_scatter. */
Shard shard_ranks(const Device *dev, const Comm *comm, int64_t count, bool tree);
/** shard_own — elements of a rank's own buffer. */
int64_t shard_own(const Shard *s);
/** shard_next — *b := the block that begins at `first`; false if that is the end of the buffer. */
bool shard_next(const Shard *s, int64_t first, ShardBlock *b);
/** shard_start — where the block of that element begins. */
int64_t shard_start(const Shard *s, int64_t element);
/** shard_take — own := this rank's parts of a flat buffer. */
int shard_take(const Shard *s, Device *dev, Tensor own, Tensor flat);
/** shard_put — this rank's parts of a flat buffer := own. */
int shard_put(const Shard *s, Device *dev, Tensor flat, Tensor own);
