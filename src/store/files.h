/* files — what the store asks of the file system itself: clear refusals, and finished files that appear at once. */
#pragma once
#include "store/h5.h"

/** files_check — OK if path is a readable-looking regular file that is not empty; *bytes := its size.
 *  Errors  ERR_DATA: missing (with the nearest name that is there), a directory, empty, or the system's reason */
int files_check(const char *path, int64_t *bytes);
/** files_draft — a new HDF5 file under the temporary name path.tmp. */
int files_draft(H5 **f, const char *path);
/** files_publish — close the draft *f. If err is OK, give it the name `path`: fsync, rename, fsync of the directory.
 *  Else, or when that fails, remove it: what stood under path is untouched. Returns err, or what went wrong here. */
int files_publish(H5 **f, int err, const char *path);
