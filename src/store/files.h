/* files — what the store asks of the system itself: clear refusals, whole reads and writes, files that appear finished.
 */
#pragma once
#include "store/h5.h"

/** files_check — OK if path is a readable-looking regular file that is not empty; *bytes := its size.
 *  Errors  ERR_DATA: missing (with the nearest name that is there), a directory, empty, or the system's reason */
int files_check(const char *path, int64_t *bytes);
/** files_read — bytes read into to[n] from position `at`: fewer than n only at the end of the file; -1: see errno. */
int64_t files_read(int fd, void *to, size_t n, int64_t at);
/** files_write — 0, or -1 and errno if not all n bytes could be written. */
int files_write(int fd, const void *from, size_t n, int64_t at);
/** files_draft — a new HDF5 file under the temporary name path.tmp. */
int files_draft(H5 **f, const char *path);
/** files_publish — close the draft *f. If err is OK, seal it (seal.h) and give it the name `path`: fsync, rename,
 *  fsync of the directory.
 *  Else, or when that fails, remove it: what stood under path is untouched. Returns err, or what went wrong here. */
int files_publish(H5 **f, int err, const char *path);
