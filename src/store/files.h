/* files — the file system below HDF5: checks with clear errors, complete reads and writes, flushing to disk. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FILES_PATH = 512, FILES_STAMP = 80 };
#define FILES_DRAFT ".tmp" /* suffix of an unfinished file */

/** files_check — OK if path is a non-empty regular file; *bytes := its size.
 *  Errors  ERR_DATA: missing (with the nearest existing name), a directory, empty, or the system's reason */
int files_check(const char *path, int64_t *bytes);
/** files_path — path := name, inside folder unless that is NULL; ERR_USAGE if it is too long. */
int files_path(char path[FILES_PATH], const char *folder, const char *name);
/** files_matching — add(arg, path) for each file that the glob pattern matches, sorted; a file whose name is the pattern
 *  itself is that file.
 *  Errors  ERR_DATA: no match, a directory that cannot be read; add's */
int files_matching(const char *pattern, int (*add)(void *arg, const char *path), void *arg);
/** files_claim — check, before a long computation, that a file can be written at path. A link is resolved: path becomes
 *  its target. An existing file stays as it is. Not for two ranks at once.
 *  Errors  ERR_IO: a directory, not a regular file, a dangling link, or the system's reason */
int files_claim(char path[FILES_PATH]);
/** files_next — the next part of a list, without white space around it, cut out in place; empty parts are left out. NULL
 *  at its end. */
char *files_next(char **list, const char *separator);
/** files_stamp — text := size and time of the last change of the file at path, "" if there is none. */
void files_stamp(const char *path, char text[FILES_STAMP]);
/** files_same — whether both paths exist and name the same file. */
bool files_same(const char *a, const char *b);
/** files_read — to[n] := bytes from position `at`; returns how many were read: fewer than n only at the end of the
 *  file, -1 with errno set on failure. */
int64_t files_read(int fd, void *to, size_t n, int64_t at);
/** files_write — 0 if all n bytes were written, else -1 with errno set. */
int files_write(int fd, const void *from, size_t n, int64_t at);
/** files_flush — fsync the file at path. ERR_IO. */
int files_flush(const char *path);
/** files_flush_folder — fsync the directory that holds path. ERR_IO. */
int files_flush_folder(const char *path);
