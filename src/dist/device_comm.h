/* device_comm — what ranks do together with numbers in device memory. One table of functions per implementation.
 *
 * A call begins when all is done that the device has been asked for before it, and returns at once; what the device is
 * asked for after device_comm_wait begins when all of it is done. In between the memory belongs to the call. Every rank
 * makes the same calls in the same order. Arrays are flat tensors of the device's real type. Errors after a successful
 * device_comm_create are a rank's own: the others may wait for it, so it must end the job (main does). */
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
  int (*all_reduce_tree)(DeviceComm *, Tensor x, Tensor scratch);
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

/** device_comm_bucket — bytes of an array that are worth a call of their own: enough for the full rate, few enough for
 *  the rest to be computed meanwhile. Every rank has the same value; tests make it small. */
extern size_t device_comm_bucket;
/** device_comm_patience — seconds for which a rank waits for the others to join, or to connect. Tests make it small. */
extern double device_comm_patience;

/** device_comm_create — of the ranks of comm and their devices, in the way that suits the device. Collective.
 *  Errors  ERR_USAGE: this program has none that does; ERR_COMM. Agreed, but for what happens while the ranks join */
int device_comm_create(DeviceComm *c, Comm *comm, Device *dev);
/** device_comm_destroy — NULL-safe, clears c; what nobody has waited for is given up. Collective, unless a rank has
 * failed. */
void device_comm_destroy(DeviceComm *c);

/** device_comm_all_reduce — x[n] := Σ over ranks. The order of the additions is the library's: equal on all ranks, not
 *  fixed over rank counts. */
int device_comm_all_reduce(DeviceComm *c, Tensor x);
/** device_comm_all_reduce_tree — x[n] := Σ over ranks in the order of dist/tree.h, bitwise comm_all_reduce_tree's.
 *  scratch [≥ ⌈n/2⌉].
 *  Errors  ERR_USAGE: the number of ranks is no power of two */
int device_comm_all_reduce_tree(DeviceComm *c, Tensor x, Tensor scratch);
/** device_comm_reduce_scatter — of the equal parts of x[n], one for each rank, this rank's := Σ over ranks; the others
 *  are no longer of use.
 *  Errors  ERR_SHAPE: n is no multiple of the number of ranks */
int device_comm_reduce_scatter(DeviceComm *c, Tensor x);
/** device_comm_all_gather — of the equal parts of x[n] each := that of its rank.
 *  Errors  ERR_SHAPE: n is no multiple of the number of ranks */
int device_comm_all_gather(DeviceComm *c, Tensor x);
/** device_comm_wait — the device goes on when all that was begun is done.
 *  Errors  ERR_COMM with the rank and what failed */
int device_comm_wait(DeviceComm *c);

#ifdef __cplusplus
}
#endif
