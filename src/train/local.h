/* local — checkpoints on the nodes' own disks (train.local_dir), between those in run.dir: a run that is restarted on the
 * same nodes loses less, and the file system that they share is spared.
 *
 * Every node has the whole state in DIR/ID/local.h5. ID is made of a random number in the file local_id of run.dir and of
 * the path of run.dir, so that what an earlier run with a directory of the same name has left is not taken, nor that of
 * the run from which a directory was copied. To go back to an older checkpoint, remove local_id.
 *
 * Calls are collective over the communicator unless they say otherwise. */
#pragma once
#include "dist/comm.h"
#include "train/saver.h"

#define LOCAL_NAME "local.h5"

typedef struct Local {
  Comm *comm;   /* not owned */
  Comm node;    /* the ranks of this node */
  RunDir dir;   /* of rank 0 of each node; not locked */
  Saver *saver; /* on rank 0 of each node */
  bool used;    /* train.local_dir is given */
} Local;

/** local_open — the folder of the run on this node, made if it is missing. fresh: under a new number.
 *  Errors  ERR_IO naming train.local_dir and the host */
int local_open(Local *l, const char *dir, const RunDir *run, bool fresh, Comm *comm);
/** local_begin — allocate the copy of that many groups and start its thread. Errors  ERR_MEMORY */
int local_begin(Local *l, Params *p, const History *history, CheckpointGroup groups);
/** local_newest — *step := the step of the checkpoint that every node has, whole and equal, or −1; its path on this
 *  node in path[512]. */
int local_newest(Local *l, int64_t *step, char path[512]);
/** local_warn — wait for the files that are being written, and tell of nodes that could not write theirs. */
int local_warn(Local *l);
/** local_remove — of a run that is complete. Not collective. */
void local_remove(Local *l);
/** local_close — waits for the file that is being written. Collective. */
void local_close(Local *l);
