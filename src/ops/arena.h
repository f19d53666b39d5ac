/* arena — many tensors in one device allocation.
 *
 * The owner requests its tensors twice, in the same order: after arena_measure, which only counts, and after
 * arena_commit, which has allocated the memory:
 *   arena_measure(&a, dev);  plan(&a);  arena_commit(&a);  plan(&a);
 * A training step then allocates nothing. */
#pragma once
#include "ops/ops.h"

typedef struct Arena {
  Device *dev; /* not owned */
  char *base;  /* NULL while measuring */
  size_t used, size;
} Arena;

/** arena_measure — start counting bytes. */
void arena_measure(Arena *a, Device *dev);
/** arena_commit — allocate the bytes counted, zeroed, and start again at offset 0. ERR_MEMORY with the size. */
int arena_commit(Arena *a);
/** arena_destroy — release the memory; NULL-safe, clears a. */
void arena_destroy(Arena *a);
/** arena_tensor — the next [d0,d1] tensor (d1 = 0: [d0]), aligned to 256 bytes. */
Tensor arena_tensor(Arena *a, DType type, int64_t d0, int64_t d1);
