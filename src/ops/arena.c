#include "ops/arena.h"
#include "base/err.h"

enum { ALIGN = 256 };

void arena_measure(Arena *a, Device *dev) { *a = (Arena){.dev = dev}; }

int arena_commit(Arena *a) {
  ASSERT(a->base == NULL);
  a->size = a->used;
  a->used = 0;
  void *p = NULL;
  TRY(device_alloc(a->dev, &p, a->size));
  a->base = p;
  return OK;
}

void arena_destroy(Arena *a) {
  if (a == NULL || a->dev == NULL) return;
  if (a->base != NULL) device_release(a->dev, a->base, a->size);
  *a = (Arena){0};
}

Tensor arena_tensor(Arena *a, DType type, int64_t d0, int64_t d1) {
  char *at = a->base ? a->base + a->used : NULL;
  Tensor t = d1 ? tensor_2d(at, type, d0, d1) : tensor_1d(at, type, d0);
  a->used += (tensor_bytes(t) + ALIGN - 1) / ALIGN * ALIGN;
  ASSERT(a->base == NULL || a->used <= a->size);
  return t;
}
