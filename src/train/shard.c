#include "train/shard.h"
#include "base/err.h"
#include "dist/device_comm.h"

Shard shard_whole(int64_t count) { return (Shard){.whole = count, .block = count, .parts = 1}; }

Shard shard_ranks(const Device *dev, const Comm *comm, int64_t count, bool tree) {
  int64_t unit = dev->ops->chunk * comm->size, bucket = (int64_t)(device_comm_bucket / dtype_size(dev->real));
  const Tree t = {comm->size, comm->rank, comm->size};
  ASSERT(count % unit == 0);
  if (comm->size == 1) return shard_whole(count);
  return (Shard){.whole = count,
                 .block = bucket > unit ? bucket / unit * unit : unit,
                 .parts = comm->size,
                 .part = tree ? tree_part(&t) : comm->rank};
}

int64_t shard_own(const Shard *s) { return s->whole / s->parts; }

bool shard_next(const Shard *s, int64_t first, ShardBlock *b) {
  int64_t left = s->whole - first, n = left < s->block ? left : s->block, size = n / s->parts;
  *b = (ShardBlock){.first = first, .n = n, .part = first + s->part * size, .size = size, .own = first / s->parts};
  return left > 0;
}

int64_t shard_start(const Shard *s, int64_t element) { return element / s->block * s->block; }

int shard_take(const Shard *s, Device *dev, Tensor own, Tensor flat) {
  ShardBlock b;
  for (int64_t at = 0; shard_next(s, at, &b); at += b.n)
    TRY(tensor_copy(dev, tensor_rows(own, b.own, b.size), tensor_rows(flat, b.part, b.size)));
  return OK;
}

int shard_put(const Shard *s, Device *dev, Tensor flat, Tensor own) {
  ShardBlock b;
  for (int64_t at = 0; shard_next(s, at, &b); at += b.n)
    TRY(tensor_copy(dev, tensor_rows(flat, b.part, b.size), tensor_rows(own, b.own, b.size)));
  return OK;
}
