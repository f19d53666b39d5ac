/* Data sets: read and written as a whole, by rows, and as strings. */
#include "base/err.h"
#include "base/mem.h"
#include "store/h5.h"
#include "store/h5_file.h"
#include "store/h5_foreign.h"
#include <stdio.h>
#include <string.h>

enum { CHUNK_CACHE = 4 << 20, PIECE = 4 << 20 }; /* bytes */

static hid_t memory_type(H5Type type) {
  const hid_t ids[H5_TEXT] = {H5T_NATIVE_FLOAT,  H5T_NATIVE_DOUBLE, H5T_NATIVE_INT8,  H5T_NATIVE_INT16,
                              H5T_NATIVE_INT32,  H5T_NATIVE_INT64,  H5T_NATIVE_UINT8, H5T_NATIVE_UINT16,
                              H5T_NATIVE_UINT32, H5T_NATIVE_UINT64};
  ASSERT(type >= 0 && type < H5_TEXT);
  return ids[type];
}

static hid_t file_type(H5Type type) {
  const hid_t ids[H5_TEXT] = {H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_I8LE,  H5T_STD_I16LE, H5T_STD_I32LE,
                              H5T_STD_I64LE,  H5T_STD_U8LE,   H5T_STD_U16LE, H5T_STD_U32LE, H5T_STD_U64LE};
  ASSERT(type >= 0 && type < H5_TEXT);
  return ids[type];
}

static H5Type type_of(hid_t id) {
  size_t size = H5Tget_size(id);
  H5T_class_t class = H5Tget_class(id);
  if (class == H5T_STRING) return H5_TEXT;
  if (class == H5T_FLOAT) return size == 4 ? H5_F32 : size == 8 ? H5_F64 : H5_OTHER;
  if (class != H5T_INTEGER) return H5_OTHER;
  if (H5Tget_sign(id) == H5T_SGN_2)
    return size == 1 ? H5_I8 : size == 2 ? H5_I16 : size == 4 ? H5_I32 : size == 8 ? H5_I64 : H5_OTHER;
  return size == 1 ? H5_U8 : size == 2 ? H5_U16 : size == 4 ? H5_U32 : size == 8 ? H5_U64 : H5_OTHER;
}

static int64_t type_bytes(H5Type type) {
  static const int64_t bytes[H5_TEXT] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8};
  ASSERT(type >= 0 && type < H5_TEXT);
  return bytes[type];
}

/* *id := the data set of that name. f keeps it open and closes it. */
static int dataset_get(H5 *f, const char *name, hid_t *id) {
  for (int i = 0; i < H5_KEPT; i++)
    if (f->kept[i].id >= 0 && strcmp(f->kept[i].name, name) == 0) return *id = f->kept[i].id, OK;
  CHECK(strlen(name) < H5_NAME_SIZE, ERR_USAGE, "%s: the name of data set %s is too long", f->path, name);
  CHECK(h5_there(f, name), ERR_DATA, "%s: data set %s is missing", f->path, name);
  hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
  H5Pset_chunk_cache(access, 4099, CHUNK_CACHE, H5D_CHUNK_CACHE_W0_DEFAULT);
  *id = H5Dopen2(f->id, name, access);
  int err = *id < 0 ? h5_failed(f, "open", name) : OK;
  H5Pclose(access);
  if (err == OK && !f->write) err = h5_dataset_check(f, name, *id);
  if (err != OK && *id >= 0) H5Dclose(*id);
  if (err != OK) return err;
  int slot = f->next++ % H5_KEPT;
  if (f->kept[slot].id >= 0) H5Dclose(f->kept[slot].id);
  f->kept[slot].id = *id;
  strcpy(f->kept[slot].name, name);
  return OK;
}

static int info_get(H5 *f, const char *name, H5Info *info) {
  hid_t id;
  hsize_t dims[H5S_MAX_RANK];
  memset(info, 0, sizeof *info);
  TRY(dataset_get(f, name, &id));
  hid_t type = H5Dget_type(id), space = H5Dget_space(id), plist = H5Dget_create_plist(id);
  info->type = type_of(type);
  info->rank = H5Sget_simple_extent_dims(space, dims, NULL);
  for (int i = 0; i < info->rank && i < 4; i++) info->dims[i] = (int64_t)dims[i];
  info->chunked = H5Pget_layout(plist) == H5D_CHUNKED;
  for (int i = 0, n = H5Pget_nfilters(plist); i < n; i++) {
    size_t parts = 0;
    unsigned flags, config;
    if (H5Pget_filter2(plist, (unsigned)i, &flags, &parts, NULL, 0, NULL, &config) == H5Z_FILTER_FLETCHER32)
      info->checksummed = true;
  }
  H5Tclose(type), H5Sclose(space), H5Pclose(plist);
  return OK;
}

bool h5_whole(H5Type type) { return type >= H5_I8 && type <= H5_U64; }

int h5_info(H5 *f, const char *name, H5Info *info) { return h5_enter(), h5_leave(info_get(f, name, info)); }

const char *h5_dims_text(char text[96], int rank, const int64_t *dims) {
  int at = snprintf(text, 96, "[");
  for (int i = 0; i < rank; i++) at += snprintf(text + at, 96 - (size_t)at, i ? ",%lld" : "%lld", (long long)dims[i]);
  snprintf(text + at, 96 - (size_t)at, "]");
  return text;
}

static int dataset_make(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, int64_t chunk_rows) {
  hsize_t now[4], most[4], chunk[4];
  ASSERT(rank >= 0 && rank <= 4 && chunk_rows >= 0 && (rank > 0 || chunk_rows == 0));
  for (int i = 0; i < rank; i++) now[i] = most[i] = chunk[i] = (hsize_t)dims[i];
  hid_t links = H5Pcreate(H5P_LINK_CREATE), create = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_create_intermediate_group(links, 1);
  if (chunk_rows > 0) {
    most[0] = H5S_UNLIMITED;
    chunk[0] = (hsize_t)chunk_rows;
    H5Pset_chunk(create, rank, chunk);
    H5Pset_fletcher32(create);
  }
  hid_t space = H5Screate_simple(rank, now, most);
  hid_t id = H5Dcreate2(f->id, name, file_type(type), space, links, create, H5P_DEFAULT);
  int err = h5_wrote(f, id >= 0, name);
  if (id >= 0) H5Dclose(id);
  H5Sclose(space), H5Pclose(create), H5Pclose(links);
  return err;
}

int h5_make(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, int64_t chunk_rows) {
  return h5_enter(), h5_leave(dataset_make(f, name, type, rank, dims, chunk_rows));
}

/* *file := rows first … first+n−1, selected in the data set's space; *memory := the space of n rows in memory. */
static int rows_select(H5 *f, const char *name, hid_t id, int64_t first, int64_t n, hid_t *file, hid_t *memory) {
  hsize_t dims[H5S_MAX_RANK], start[H5S_MAX_RANK] = {(hsize_t)first};
  *file = H5Dget_space(id);
  *memory = -1;
  int rank = H5Sget_simple_extent_dims(*file, dims, NULL);
  CHECK(rank > 0 && first >= 0 && n >= 0 && first + n <= (int64_t)dims[0], ERR_DATA,
        "%s: %s has %lld rows, rows %lld to %lld are out of range", f->path, name, rank > 0 ? (long long)dims[0] : 0,
        (long long)first, (long long)(first + n - 1));
  dims[0] = (hsize_t)n;
  *memory = H5Screate_simple(rank, dims, NULL);
  if (n == 0) return H5Sselect_none(*file), H5Sselect_none(*memory), OK;
  return H5Sselect_hyperslab(*file, H5S_SELECT_SET, start, NULL, dims, NULL) < 0 ? h5_failed(f, "select rows of", name)
                                                                                 : OK;
}

static int rows_move(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, void *in, const void *out) {
  hid_t id, file = -1, memory = -1;
  int err;
  TRY(dataset_get(f, name, &id));
  TRY_TO(done, rows_select(f, name, id, first, n, &file, &memory));
  if (out) {
    err = h5_wrote(f, H5Dwrite(id, memory_type(type), memory, file, H5P_DEFAULT, out) >= 0, name);
  } else if (H5Dread(id, memory_type(type), memory, file, H5P_DEFAULT, in) < 0) {
    char where[H5_NAME_SIZE + 64];
    snprintf(where, sizeof where, "%s, rows %lld to %lld", name, (long long)first, (long long)(first + n - 1));
    err = h5_failed(f, "read", where);
  }
done:
  if (memory >= 0) H5Sclose(memory);
  if (file >= 0) H5Sclose(file);
  return err;
}

int h5_read_rows(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, void *data) {
  return n == 0 ? OK : (h5_enter(), h5_leave(rows_move(f, name, type, first, n, data, NULL)));
}

int h5_write_rows(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, const void *data) {
  return n == 0 ? OK : (h5_enter(), h5_leave(rows_move(f, name, type, first, n, NULL, data)));
}

static int rows_append(H5 *f, const char *name, H5Type type, int64_t n, const void *data) {
  H5Info info;
  hid_t id;
  hsize_t dims[4];
  TRY(info_get(f, name, &info));
  TRY(dataset_get(f, name, &id));
  for (int i = 0; i < info.rank; i++) dims[i] = (hsize_t)info.dims[i] + (i == 0 ? (hsize_t)n : 0);
  TRY(h5_wrote(f, H5Dset_extent(id, dims) >= 0, name));
  return rows_move(f, name, type, info.dims[0], n, NULL, data);
}

int h5_append(H5 *f, const char *name, H5Type type, int64_t n, const void *data) {
  return n == 0 ? OK : (h5_enter(), h5_leave(rows_append(f, name, type, n, data)));
}

static int whole_write(H5 *f, const char *name, H5Type type, const void *data) {
  hid_t id;
  TRY(dataset_get(f, name, &id));
  return h5_wrote(f, H5Dwrite(id, memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, name);
}

/* In pieces, each under a lock of its own: a large array on a slow file system must not keep other threads from reading. */
int h5_write(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, const void *data) {
  TRY(h5_make(f, name, type, rank, dims, 0));
  int64_t rows = rank > 0 ? dims[0] : 1, row_bytes = type_bytes(type);
  for (int i = 1; i < rank; i++) row_bytes *= dims[i];
  int64_t most = row_bytes > 0 && row_bytes < PIECE ? PIECE / row_bytes : 1;
  if (rank == 0 || rows <= most) return h5_enter(), h5_leave(whole_write(f, name, type, data));
  for (int64_t i = 0, n; i < rows; i += n) {
    n = rows - i < most ? rows - i : most;
    TRY(h5_write_rows(f, name, type, i, n, (const char *)data + i * row_bytes));
  }
  return OK;
}

static int whole_read(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, void *data) {
  H5Info info;
  hid_t id;
  char have[96], want[96];
  TRY(info_get(f, name, &info));
  TRY(dataset_get(f, name, &id));
  CHECK(info.rank == rank && memcmp(info.dims, dims, (size_t)rank * sizeof *dims) == 0, ERR_DATA,
        "%s: %s is %s in the file, %s was expected", f->path, name, h5_dims_text(have, info.rank, info.dims),
        h5_dims_text(want, rank, dims));
  return H5Dread(id, memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0 ? h5_failed(f, "read", name) : OK;
}

int h5_read(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, void *data) {
  return h5_enter(), h5_leave(whole_read(f, name, type, rank, dims, data));
}

/* ---- strings ---- */

static int text_write(H5 *f, const char *name, int64_t n, char *const *text) {
  hsize_t dims = (hsize_t)n;
  hid_t space = H5Screate_simple(1, &dims, NULL), type = h5_text_type();
  hid_t id = H5Dcreate2(f->id, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  bool good = id >= 0 && H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0;
  int err = h5_wrote(f, good, name);
  if (id >= 0) H5Dclose(id);
  H5Tclose(type), H5Sclose(space);
  return err;
}

int h5_write_text(H5 *f, const char *name, int64_t n, char *const *text) {
  return h5_enter(), h5_leave(text_write(f, name, n, text));
}

static int text_read(H5 *f, const char *name, int64_t n, char ***text) {
  H5Info info;
  hid_t id;
  char **read = NULL;
  *text = NULL;
  TRY(info_get(f, name, &info));
  TRY(dataset_get(f, name, &id));
  hid_t stored = H5Dget_type(id);
  bool variable = H5Tis_variable_str(stored) > 0;
  H5Tclose(stored);
  CHECK(info.type == H5_TEXT && variable && info.rank == 1 && info.dims[0] == n, ERR_DATA,
        "%s: %s is not a list of %lld strings", f->path, name, (long long)n);
  TRY(mem_alloc(&read, (size_t)(n + 1) * sizeof *read));
  hid_t type = h5_text_type(), space = H5Dget_space(id);
  int err = H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) < 0
                ? h5_failed(f, "read", name)
                : mem_alloc(text, (size_t)(n + 1) * sizeof *read);
  for (int64_t i = 0; i < n && err == OK; i++) err = mem_strdup(*text + i, read[i] ? read[i] : "");
  H5Dvlen_reclaim(type, space, H5P_DEFAULT, read);
  H5Tclose(type), H5Sclose(space);
  mem_free(&read);
  if (err != OK) h5_list_free(text);
  return err;
}

int h5_read_text(H5 *f, const char *name, int64_t n, char ***text) {
  return h5_enter(), h5_leave(text_read(f, name, n, text));
}
