/* h5 — the only interface to HDF5. The library is not thread-safe: a lock is held around every call, and threads get it
 * in the order in which they ask. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct H5 H5; /* an open file */
typedef enum H5Type {
  H5_F32,
  H5_F64,
  H5_I8,
  H5_I16,
  H5_I32,
  H5_I64,
  H5_U8,
  H5_U16,
  H5_U32,
  H5_U64,
  H5_TEXT,
  H5_OTHER
} H5Type;
typedef struct H5Info {
  H5Type type;
  int rank;
  int64_t dims[4];
  bool chunked, checksummed;
} H5Info;

/** h5_open — open for reading, or with `write` for reading and writing. ERR_DATA: missing, unreadable, not HDF5,
 *  truncated, damaged. */
int h5_open(H5 **f, const char *path, bool write);
/** h5_create — a new file at path; ERR_IO with the system's reason. */
int h5_create(H5 **f, const char *path);
/** h5_close — flush and close; ERR_IO if a write did not reach the file (a full disk). NULL-safe, clears the handle. */
int h5_close(H5 **f);
/** h5_unchanged — whether the file is still what was opened: its size, its time of modification and, looked at once a
 *  second, the file at its path, since another may take that while the old one stays open. A path that leads nowhere is
 *  no change: what is open can still be read. Costs an fstat.
 *  Errors  ERR_DATA naming the file and what changed */
int h5_unchanged(H5 *f);
const char *h5_path(const H5 *f);
/** h5_sealed — whether a seal covers the file (seal.h). */
bool h5_sealed(const H5 *f);

/** h5_exists — whether the file has an object of that path. */
bool h5_exists(H5 *f, const char *name);
/** h5_group — create a group unless it exists. */
int h5_group(H5 *f, const char *name);
/** h5_link — a second name for a group or data set of the file (a hard link). */
int h5_link(H5 *f, const char *name, const char *there);
/** h5_list — *names := NULL-terminated list of the children of group, sorted by name; free with h5_list_free. */
int h5_list(H5 *f, const char *group, char ***names);
void h5_list_free(char ***names);
int h5_info(H5 *f, const char *name, H5Info *info);
/** h5_whole — whether the type is an integer type. */
bool h5_whole(H5Type type);
/** h5_dims_text — text := the dims as in "[3072,768]"; returns text. */
const char *h5_dims_text(char text[96], int rank, const int64_t *dims);

/** h5_write — create data set `name` [dims], stored as `type`, and fill it; other threads can use the library between
 *  pieces of a few MiB. */
int h5_write(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, const void *data);
/** h5_make — create a data set without data; with chunk_rows > 0 chunked, checksummed and extendible in the first
 *  dimension. */
int h5_make(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, int64_t chunk_rows);
/** h5_append — append n rows to an extendible data set. */
int h5_append(H5 *f, const char *name, H5Type type, int64_t n, const void *data);
/** h5_write_rows — overwrite rows first … first+n−1. */
int h5_write_rows(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, const void *data);
/** h5_read — the whole data set, converted to `type`; ERR_DATA unless its dims are those given. */
int h5_read(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, void *data);
/** h5_read_rows — rows first … first+n−1 (first dimension), converted to `type`. */
int h5_read_rows(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, void *data);

/** h5_write_text — create data set `name` [n] of UTF-8 strings. */
int h5_write_text(H5 *f, const char *name, int64_t n, char *const *text);
/** h5_read_text — *text := NULL-terminated list of the n strings of a data set [n]; free with h5_list_free. */
int h5_read_text(H5 *f, const char *name, int64_t n, char ***text);

/* Attributes; obj is "/" or the path of a group or data set. The caller frees the strings that h5_get_str returns
 * (mem_free). */
int h5_set_int(H5 *f, const char *obj, const char *name, int64_t value);
int h5_set_real(H5 *f, const char *obj, const char *name, double value);
int h5_set_str(H5 *f, const char *obj, const char *name, const char *value);
/** h5_unset — remove an attribute, if it is there. */
int h5_unset(H5 *f, const char *obj, const char *name);
bool h5_has(H5 *f, const char *obj, const char *name);
int h5_get_int(H5 *f, const char *obj, const char *name, int64_t *value);
/** h5_get_within — an integer attribute; ERR_DATA unless it is between low and high. */
int h5_get_within(H5 *f, const char *obj, const char *name, int64_t low, int64_t high, int64_t *value);
int h5_get_real(H5 *f, const char *obj, const char *name, double *value);
int h5_get_str(H5 *f, const char *obj, const char *name, char **value);
/** h5_get_text — a string attribute into text[size]; ERR_DATA if it does not fit. */
int h5_get_text(H5 *f, const char *obj, const char *name, char *text, size_t size);
/** h5_set_format — the attributes format, format_version and version, that of the program, of a file of ours. */
int h5_set_format(H5 *f, const char *format, int64_t version);
/** h5_check_format — whether the file has that format; `what` names the format in the message ("a checkpoint").
 *  Errors  ERR_DATA if not; ERR_USAGE if its version is above `newest`: the file is good, the program too old */
int h5_check_format(H5 *f, const char *what, const char *format, int64_t newest);
/** h5_describe — the attributes unit and description of a data set. */
int h5_describe(H5 *f, const char *name, const char *unit, const char *description);
/** h5_version — version of the library. */
const char *h5_version(void);
