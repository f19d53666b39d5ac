/* files — what the store asks of the system itself: clear refusals, whole reads and writes, files that appear finished.
 */
#pragma once
#include "store/h5.h"

/** files_check — OK if path is a readable-looking regular file that is not empty; *bytes := its size.
 *  Errors  ERR_DATA: missing (with the nearest name that is there), a directory, empty, or the system's reason */
int files_check(const char *path, int64_t *bytes);
enum { FILES_PATH = 512 };
/** files_path — path := name, in the folder if it is not NULL; ERR_USAGE if that has too many bytes. */
int files_path(char path[FILES_PATH], const char *folder, const char *name);
/** files_claim — make sure before long work that a file can be written at path, which becomes the file that a link
 *  names. An older file stays as it is. Not for two ranks at a time.
 *  Errors  ERR_IO: a directory, no regular file, a link to nothing, or the system's reason */
int files_claim(char path[FILES_PATH]);
/** files_same — whether both are there and are one file, whatever they are called. */
bool files_same(const char *a, const char *b);
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
