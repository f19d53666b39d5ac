/* sweep_table — what a sweep has found: a printed table, and an HDF5 file. */
#pragma once
#include "cmd/sweep_cells.h"

/** sweep_table — print the table in the form of sweep.format, and, where two checkpoints share rows and masks, their
 *  differences. *done: cells that are done. On one rank. ERR_DATA, ERR_MEMORY, ERR_IO: output that cannot be printed */
int sweep_table(const Sweep *s, int *done);
/** sweep_store — DIR/sweep.h5: every cell with its values, and the paired differences. On one rank. ERR_DATA, ERR_IO */
int sweep_store(const Sweep *s);
