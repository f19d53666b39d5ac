/* h5_foreign — what a file made or changed by another program may hold: it has no seal, so nothing of it is trusted. */
#pragma once
#include "store/h5_file.h"

/** h5_probe — read the structure, attributes and small data sets of the file in a child process with a limit of CPU time:
 *  HDF5 1.10 can crash or loop on damaged structure. What the child finds out about good files is not used. A child that
 *  has not ended after 20 s is replaced by a second one, without a limit of elapsed time.
 *  Errors  ERR_DATA: the library crashed or did not end; ERR_MEMORY: no process could be started */
int h5_probe(const char *path);
/** h5_dataset_check — whether the data set lies in this file alone, can be decoded, has at most 4 dimensions and, in a
 *  file without a seal, is written as a whole: its size is then no larger than the file accounts for. ERR_DATA */
int h5_dataset_check(const H5 *f, const char *name, hid_t id);
