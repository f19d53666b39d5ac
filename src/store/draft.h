/* draft — an HDF5 file under a temporary name, which gets its own name only when it is complete. */
#pragma once
#include "store/h5.h"

/** draft_create — a new HDF5 file under the temporary name path.tmp. */
int draft_create(H5 **f, const char *path);
/** draft_publish — close the draft *f. If err is OK, seal it (seal.h), flush it, rename it to `path` and flush the
 *  directory. If err is not OK, or if one of these steps fails, remove the draft; an older file at path is untouched.
 *  A file under another name than a draft's, as partial_open gives it, is published too, but never removed.
 *  Returns err, or the error met here. */
int draft_publish(H5 **f, int err, const char *path);
