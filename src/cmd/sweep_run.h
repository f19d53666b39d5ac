/* sweep_run — the cells of a sweep, shared out over groups of ranks and over jobs. */
#pragma once
#include "cmd/sweep_cells.h"

/** sweep_run — evaluate the cells that are not done. Groups of sweep.ranks_per_cell ranks, also those of other jobs, claim
 *  cells by locking a file; a group keeps a network as long as cells of its checkpoint are left. A cell that fails is
 *  told, noted in its `error` on the group's ranks, and does not end the others. *stop: the signal that ended it, 0:
 *  none; finished parts of the cell are kept. Collective.
 *  Errors  ERR_IO: the directory; ERR_COMM, ERR_DEVICE */
int sweep_run(Sweep *s, Comm *comm, int *stop);
/** sweep_time — *each := seconds on one group of ranks per unit of a cell's cost, from a batch of the first cell that is
 *  not done and can be opened; cells before it that cannot have their `error`. NaN: there is no such cell, or *stop. On
 *  one rank. */
int sweep_time(Sweep *s, Comm *comm, double *each, int *stop);
