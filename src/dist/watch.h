/* watch — the watchdog: it ends the job when a rank is stopped or lost, or when nothing has moved for too long.
 *
 * A thread of every rank sends what its rank is doing (base/activity.h) to rank 0 by UDP, once a second; rank 0 answers
 * with its own. What follows from the pulses is said in peers.h. The thread makes no MPI calls. The rank that finds a
 * fault prints one line and exits with ERR_COMM; rank 0 tells the others, which exit too, and the launcher ends what is
 * left. Rank 0 is reachable by IPv4; where datagrams do not arrive it warns once, and each rank watches itself. */
#pragma once
#include "dist/comm.h"

/** watch_start — start the thread; the calling thread is the one that is watched. timeout, silence: seconds, see
 *  peers.h; timeout 0: no watchdog, only
 *  the activity is followed. Collective.
 *  Errors  ERR_COMM, ERR_MEMORY, agreed */
int watch_start(Comm *comm, double timeout, double silence);
/** watch_stop — tell the others that this rank leaves, and end the thread; harmless without watch_start. Not
 *  collective; after the last collective call. */
void watch_stop(void);
