/* device_comm — collectives over ranks in device memory. One table of functions per implementation.
 *
 * Calls are asynchronous. A call starts after all work queued on the device before it, and returns at once; work queued
 * after device_comm_wait starts when all calls have completed. In between, the call owns the memory. Every rank makes
 * the same calls in the same order. Arrays are flat tensors of the device's real type.
 * After device_comm_create an error is local to its rank, and other ranks may be waiting for that rank: it must end the
 * job (main does). */
#pragma once
#include "dist/comm.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct DeviceComm DeviceComm;
typedef struct DeviceCommTable {
  const char *name;
  int (*create)(DeviceComm *);
  int (*all_reduce)(DeviceComm *, Tensor x);
  int (*tree)(DeviceComm *, const Tree *, TreePhases, void *const *arrays, Tensor scratch, int64_t n);
  int (*reduce_scatter)(DeviceComm *, Tensor x);
  int (*all_gather)(DeviceComm *, Tensor x);
  int (*wait)(DeviceComm *);
  void (*destroy)(DeviceComm *);
} DeviceCommTable;

struct DeviceComm {
  const DeviceCommTable *table;
  Comm *comm;  /* not owned */
  Device *dev; /* not owned */
  void *impl;
};

/** device_comm_bucket — bytes per call of a bucketed reduction: enough for full bandwidth, few enough that calls
 *  overlap with the rest of backward. Every rank needs the same value; tests lower it. */
extern size_t device_comm_bucket;
/** device_comm_patience — seconds that a rank waits for the others to join or to connect. Tests lower it. */
extern double device_comm_patience;

/** device_comm_create — over the ranks of comm and their devices; the device determines the implementation. Collective.
 *  Errors  ERR_USAGE: this program has no implementation for the device; ERR_COMM. Agreed, except for failures while
 *          the ranks join */
int device_comm_create(DeviceComm *c, Comm *comm, Device *dev);
/** device_comm_destroy — NULL-safe, clears c; abandons calls that were not waited for. Collective, unless a rank has
 *  failed. */
void device_comm_destroy(DeviceComm *c);

/** device_comm_all_reduce — x[n] := Σ over ranks. The library chooses the order of additions: the result is the same on
 *  all ranks, but depends on their number. */
int device_comm_all_reduce(DeviceComm *c, Tensor x);
/** device_comm_all_reduce_tree — Σ over the leaves of all ranks in the order of dist/tree.h, the same bits as
 *  comm_all_reduce_tree.
 *  nodes   [tree_own][n] in   the sums of this rank's nodes; undefined afterwards, except
 *          the last one  out  the sum
 *  scratch [≥ tree_scratch]
 *  Errors  ERR_USAGE unless the ranks can share the leaves equally */
int device_comm_all_reduce_tree(DeviceComm *c, int64_t leaves, const Tensor *nodes, Tensor scratch);
/** device_comm_reduce_scatter_tree — the same, but the last one is defined afterwards only in part tree_part of as many
 *  equal ones as ranks.
 *  Errors  also ERR_SHAPE unless n is a multiple of the number of ranks */
int device_comm_reduce_scatter_tree(DeviceComm *c, int64_t leaves, const Tensor *nodes, Tensor scratch);
/** device_comm_all_gather_tree — x[n] in equal parts, each of the rank whose tree_part has its number: every part := the
 *  values of its rank.
 *  Errors  ERR_SHAPE unless n is a multiple of the number of ranks */
int device_comm_all_gather_tree(DeviceComm *c, Tensor x);
/** device_comm_reduce_scatter — x[n] in equal parts, one per rank: this rank's part := Σ over ranks; the other parts
 *  are undefined afterwards.
 *  Errors  ERR_SHAPE unless n is a multiple of the number of ranks */
int device_comm_reduce_scatter(DeviceComm *c, Tensor x);
/** device_comm_all_gather — x[n] in equal parts, one per rank: every part := the values of its rank.
 *  Errors  ERR_SHAPE unless n is a multiple of the number of ranks */
int device_comm_all_gather(DeviceComm *c, Tensor x);
/** device_comm_wait — work queued on the device from here on waits for all calls begun so far.
 *  Errors  ERR_COMM naming the rank and what failed */
int device_comm_wait(DeviceComm *c);

#ifdef __cplusplus
}
#endif
