/* share — this rank's part of n items: each rank gets `part` of them in order, the last ranks fewer. */
#pragma once
#include "dist/comm.h"

typedef struct Share {
  int64_t part;  /* items of a full rank: the room a gather needs for each */
  int64_t first; /* first item of this rank */
  int64_t n;     /* items of this rank */
} Share;

/** share_of — n items in units of `unit` (1: any), which stay on one rank. */
static inline Share share_of(const Comm *comm, int64_t n, int64_t unit) {
  int64_t units = (n + unit - 1) / unit;
  Share s = {.part = (units + comm->size - 1) / comm->size * unit};
  s.first = s.part * comm->rank < n ? s.part * comm->rank : n;
  s.n = n - s.first < s.part ? n - s.first : s.part;
  return s;
}
