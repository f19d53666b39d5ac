/* sweep_table — what a sweep has found: a printed table, and an HDF5 file. */
#pragma once
#include "cmd/sweep_cells.h"

/** sweep_report — print the table in the form of sweep.format and, for people, the differences of checkpoints with the
 *  same rows and masks; then, if `stores`, write DIR/sweep.h5: every cell with its values, and the differences. *done:
 *  cells that are done. On one rank. ERR_DATA, ERR_MEMORY, ERR_IO, ERR_BUSY: another job keeps sweep.h5 locked */
int sweep_report(const Sweep *s, bool stores, int *done);
