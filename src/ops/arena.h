/* arena — many tensors out of one device allocation, sized once.
 *
 * The owner's plan function asks for its tensors twice: on an arena that only measures (arena_measure) and,
 * after arena_commit has allocated that much, on the real one. A step then allocates nothing. */
#pragma once
#include "ops/ops.h"

typedef struct Arena {
  Device *dev; /* not owned */
  char *base;  /* NULL while measuring */
  size_t used, size;
} Arena;

/** arena_measure — start counting. */
void arena_measure(Arena *a, Device *dev);
/** arena_commit — allocate (zeroed) what was counted and start again from its beginning. ERR_MEMORY with the size. */
int arena_commit(Arena *a);
/** arena_destroy — release the memory; NULL-safe, clears a. */
void arena_destroy(Arena *a);
/** arena_tensor — the next [d0,d1] tensor (d1 = 0: [d0]), aligned to 256 bytes. */
Tensor arena_tensor(Arena *a, DType type, int64_t d0, int64_t d1);
