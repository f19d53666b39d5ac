/* HDF5 behind a file driver of ours.
 *
 * Why a driver: when a write fails, HDF5 1.10 keeps half-closed objects whose second closing, at exit or in
 * MPI_Finalize, crashes; and it tells the reason as prose. Ours remembers the first errno and lets the library believe
 * that all is well; every writing function and h5_close then report that errno. It never locks files, so read-only and
 * network file systems work and a reader may hold a file that is being extended; and it reads rows without a sieve
 * buffer.
 *
 * Files are made in the 1.8 format: it has checksums in its metadata, and no "open for writing" mark that a killed
 * process would leave behind. */
#include "store/h5.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/files.h"
#include "store/seal.h"
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if H5_VERSION_GE(1, 13, 2)
#include <H5FDdevelop.h>
#endif

enum { KEPT = 4, NAME_SIZE = 256, CHUNK_CACHE = 4 << 20 };

struct H5 {
  hid_t id;
  bool write;
  bool damaged; /* a block was not as it was sealed */
  int os_error; /* errno of the first read or write that failed, 0 if none */
  int next;     /* the kept data set to give up next */
  struct {
    char name[NAME_SIZE];
    hid_t id;
  } kept[KEPT]; /* data sets stay open: a loader reads two of them again and again */
  char path[];
};

static pthread_mutex_t h5_lock = PTHREAD_MUTEX_INITIALIZER;
static H5 *opening; /* whose file the driver is asked to open; under h5_lock */
static hid_t driver = -1;

/* ---- the driver ---- */

typedef struct DriverFile {
  H5FD_t pub;
  int fd;
  haddr_t eoa, eof;
  Seal *seal; /* of a file opened for reading that has one */
  H5 *owner;
} DriverFile;

static void driver_failed(DriverFile *d) {
  if (!d->owner->os_error) d->owner->os_error = errno;
}

/* What will be written to has to be whole, and is no longer what was sealed. */
static bool driver_unseal(DriverFile *d) {
  if (!d->seal) return true;
  bool whole = seal_holds(d->seal, d->fd, 0, seal_bytes(d->seal));
  if (whole && ftruncate(d->fd, (off_t)seal_bytes(d->seal)) != 0) driver_failed(d);
  return whole;
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr) {
  (void)fapl, (void)maxaddr;
  int how = (flags & H5F_ACC_RDWR ? O_RDWR : O_RDONLY) | (flags & H5F_ACC_TRUNC ? O_TRUNC : 0) |
            (flags & H5F_ACC_CREAT ? O_CREAT : 0) | (flags & H5F_ACC_EXCL ? O_EXCL : 0);
  DriverFile *d;
  struct stat st;
  if (mem_alloc(&d, sizeof *d) != OK) return NULL;
  d->owner = opening;
  d->fd = open(name, how | O_CLOEXEC, 0666);
  d->owner->os_error = d->fd < 0 || fstat(d->fd, &st) != 0 ? errno : 0;
  if (!d->owner->os_error)
    d->owner->damaged = seal_open(&d->seal, d->fd, st.st_size) != OK || (flags & H5F_ACC_RDWR && !driver_unseal(d));
  if (!d->owner->os_error && !d->owner->damaged) {
    d->eof = (haddr_t)(d->seal ? seal_bytes(d->seal) : st.st_size);
    if (flags & H5F_ACC_RDWR) seal_close(&d->seal);
    return &d->pub;
  }
  if (d->fd >= 0) close(d->fd);
  seal_close(&d->seal);
  mem_free(&d);
  return NULL;
}

static herr_t driver_close(H5FD_t *file) {
  DriverFile *d = (DriverFile *)file;
  if (close(d->fd) != 0 && d->owner->write) driver_failed(d);
  seal_close(&d->seal);
  mem_free(&d);
  return 0;
}

static herr_t driver_query(const H5FD_t *file, unsigned long *flags) {
  (void)file;
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA |
           H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

static haddr_t driver_eoa(const H5FD_t *file, H5FD_mem_t type) {
  (void)type;
  return ((const DriverFile *)file)->eoa;
}

static herr_t driver_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t addr) {
  (void)type;
  ((DriverFile *)file)->eoa = addr;
  return 0;
}

static haddr_t driver_eof(const H5FD_t *file, H5FD_mem_t type) {
  (void)type;
  return ((const DriverFile *)file)->eof;
}

static herr_t driver_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size, void *buffer) {
  (void)type, (void)dxpl;
  DriverFile *d = (DriverFile *)file;
  if (d->seal && !seal_holds(d->seal, d->fd, (int64_t)addr, (int64_t)size)) return d->owner->damaged = true, -1;
  int64_t n = files_read(d->fd, buffer, size, (int64_t)addr);
  if (n < 0) return driver_failed(d), -1;
  memset((char *)buffer + n, 0, size - (size_t)n); /* allocated but never written */
  return 0;
}

static herr_t driver_write(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size, const void *buffer) {
  (void)type, (void)dxpl;
  DriverFile *d = (DriverFile *)file;
  if (addr + size > d->eof) d->eof = addr + size;
  if (!d->owner->os_error && files_write(d->fd, buffer, size, (int64_t)addr) != 0) driver_failed(d);
  return 0;
}

static herr_t driver_truncate(H5FD_t *file, hid_t dxpl, hbool_t closing) {
  (void)dxpl, (void)closing;
  DriverFile *d = (DriverFile *)file;
  if (d->eoa == d->eof) return 0;
  if (!d->owner->os_error && ftruncate(d->fd, (off_t)d->eoa) != 0) driver_failed(d);
  d->eof = d->eoa;
  return 0;
}

static const H5FD_class_t driver_class = {
#if H5_VERSION_GE(1, 13, 2)
    .version = H5FD_CLASS_VERSION,
    .value = 512,
#endif
    .name = "mdlm",
    .maxaddr = (haddr_t)INT64_MAX,
    .fc_degree = H5F_CLOSE_WEAK,
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .get_eoa = driver_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_eof,
    .read = driver_read,
    .write = driver_write,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* ---- entering, leaving, failing ---- */

static void enter(void) {
  pthread_mutex_lock(&h5_lock);
  if (driver < 0) {
    H5dont_atexit(); /* exit may come while another thread is inside the library */
    driver = H5FDregister(&driver_class);
    ASSERT(driver >= 0);
  }
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static int leave(int err) {
  pthread_mutex_unlock(&h5_lock);
  return err;
}

static herr_t take_innermost(unsigned n, const H5E_error2_t *error, void *reason) {
  if (n == 0) snprintf(reason, NAME_SIZE, "%s", error->desc ? error->desc : "");
  return 0;
}

/* The reason of the failure just met: the system's if there is one, else HDF5's innermost description. To be called
 * before any other HDF5 function. */
static void why(const H5 *f, char reason[NAME_SIZE]) {
  snprintf(reason, NAME_SIZE, "no reason given");
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, reason);
  if (f->os_error) snprintf(reason, NAME_SIZE, "%s", strerror(f->os_error));
}

static int failed(const H5 *f, const char *verb, const char *name) {
  char reason[NAME_SIZE];
  why(f, reason);
  if (f->damaged || strstr(reason, "Fletcher32"))
    return RAISE(ERR_DATA, "%s is damaged: checksum error in %s; restore it or make it again", f->path, name);
  if (f->write && f->os_error) return RAISE(ERR_IO, "cannot write %s: %s", f->path, reason);
  return RAISE(f->write ? ERR_IO : ERR_DATA, "%s: cannot %s %s: %s", f->path, verb, name, reason);
}

static int wrote(const H5 *f, bool ok, const char *name) { return ok && !f->os_error ? OK : failed(f, "write", name); }

/* ---- files ---- */

static int open_failed(const H5 *f, long long bytes) {
  char reason[NAME_SIZE];
  why(f, reason);
  const char *stored = strstr(reason, "stored_eof = ");
  if (f->damaged) return RAISE(ERR_DATA, "%s is damaged: checksum error; restore it or make it again", f->path);
  if (f->os_error) return RAISE(ERR_DATA, "cannot open %s: %s", f->path, reason);
  if (stored)
    return RAISE(ERR_DATA, "%s is truncated: the file is %lld bytes, its header says %lld", f->path, bytes,
                 atoll(stored + strlen("stored_eof = ")));
  if (strstr(reason, "signature not found")) return RAISE(ERR_DATA, "%s is not an HDF5 file", f->path);
  return RAISE(ERR_DATA, "%s is damaged or truncated (%lld bytes): %s", f->path, bytes, reason);
}

/* All links and attributes stay in the object's header: HDF5 1.10 can crash on damage in the structures that it would
 * move many of them to. */
static hid_t compact(hid_t class) {
  enum { MOST = 65535 };
  hid_t list = H5Pcreate(class);
  H5Pset_link_phase_change(list, MOST, 0);
  H5Pset_attr_phase_change(list, MOST, 0);
  return list;
}

static int file_open(H5 **out, const char *path, bool write, bool create) {
  int64_t bytes = 0;
  H5 *f;
  if (!create) TRY(files_check(path, &bytes));
  TRY(mem_alloc(&f, sizeof *f + strlen(path) + 1));
  strcpy(f->path, path);
  f->write = write;
  for (int i = 0; i < KEPT; i++) f->kept[i].id = -1;
  opening = f;
  hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_driver(fapl, driver, NULL);
  if (create) H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_V18);
  hid_t fcpl = create ? compact(H5P_FILE_CREATE) : H5P_DEFAULT;
  f->id =
      create ? H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl) : H5Fopen(path, write ? H5F_ACC_RDWR : H5F_ACC_RDONLY, fapl);
  int err = OK;
  if (f->id < 0) err = create ? failed(f, "create", "the file") : open_failed(f, (long long)bytes);
  H5Pclose(fapl);
  if (create) H5Pclose(fcpl);
  opening = NULL;
  if (err != OK) mem_free(&f);
  *out = f;
  return err;
}

static int file_close(H5 *f) {
  for (int i = 0; i < KEPT; i++)
    if (f->kept[i].id >= 0) H5Dclose(f->kept[i].id);
  bool closed = H5Fclose(f->id) >= 0;
  int err = closed && !(f->write && f->os_error) ? OK : failed(f, "close", "the file");
  if (closed) mem_free(&f); /* else the library may still hold the driver's file, which points here */
  return err;
}

int h5_open(H5 **f, const char *path, bool write) { return enter(), leave(file_open(f, path, write, false)); }
int h5_create(H5 **f, const char *path) { return enter(), leave(file_open(f, path, true, true)); }

int h5_close(H5 **f) {
  H5 *file = *f;
  *f = NULL;
  return file ? (enter(), leave(file_close(file))) : OK;
}

const char *h5_path(const H5 *f) { return f->path; }

const char *h5_version(void) { return strrchr(H5_VERS_INFO, ' ') + 1; }

/* ---- groups ---- */

/* A link that cannot be looked up is there: opening it will tell why. */
static bool exists(const H5 *f, const char *name) {
  char part[NAME_SIZE];
  htri_t there = 1;
  for (const char *p = name; there > 0 && (p = strchr(p + 1, '/'));) { /* HDF5 asks one link at a time */
    snprintf(part, sizeof part, "%.*s", (int)(p - name), name);
    there = H5Lexists(f->id, part, H5P_DEFAULT);
  }
  if (there > 0 && strcmp(name, "/") != 0) there = H5Lexists(f->id, name, H5P_DEFAULT);
  return there != 0 || f->damaged; /* what a damaged block hides */
}

bool h5_exists(H5 *f, const char *name) {
  enter();
  bool is = exists(f, name);
  leave(OK);
  return is;
}

static int group_make(H5 *f, const char *name) {
  if (exists(f, name)) return OK;
  hid_t links = H5Pcreate(H5P_LINK_CREATE);
  H5Pset_create_intermediate_group(links, 1);
  hid_t group = compact(H5P_GROUP_CREATE);
  hid_t id = H5Gcreate2(f->id, name, links, group, H5P_DEFAULT);
  int err = wrote(f, id >= 0, name);
  if (id >= 0) H5Gclose(id);
  H5Pclose(group);
  H5Pclose(links);
  return err;
}

int h5_group(H5 *f, const char *name) { return enter(), leave(group_make(f, name)); }

typedef struct NameList {
  char **names;
  hsize_t n, room;
  int err;
} NameList;

static herr_t take_name(hid_t group, const char *name, const H5L_info_t *info, void *arg) {
  (void)group, (void)info;
  NameList *l = arg;
  if (l->n < l->room) l->err = mem_strdup(&l->names[l->n++], name);
  return l->err == OK ? 0 : -1;
}

static int names_list(H5 *f, const char *group, char ***names) {
  NameList l = {0};
  H5G_info_t info;
  int err;
  *names = NULL;
  if (H5Gget_info_by_name(f->id, group, &info, H5P_DEFAULT) < 0) return failed(f, "list", group);
  l.room = info.nlinks;
  TRY(mem_alloc(&l.names, (l.room + 1) * sizeof *l.names));
  herr_t seen = H5Literate_by_name(f->id, group, H5_INDEX_NAME, H5_ITER_INC, NULL, take_name, &l, H5P_DEFAULT);
  err = l.err != OK || seen >= 0 ? l.err : failed(f, "list", group);
  if (err != OK) h5_list_free(&l.names);
  *names = l.names;
  return err;
}

int h5_list(H5 *f, const char *group, char ***names) { return enter(), leave(names_list(f, group, names)); }

void h5_list_free(char ***names) {
  for (char **p = *names; p && *p; p++) mem_free(p);
  mem_free(names);
}

/* ---- data sets ---- */

static hid_t memory_type(H5Type type) {
  const hid_t ids[H5_TEXT] = {H5T_NATIVE_FLOAT, H5T_NATIVE_DOUBLE, H5T_NATIVE_INT32,  H5T_NATIVE_INT64,
                              H5T_NATIVE_UINT8, H5T_NATIVE_UINT16, H5T_NATIVE_UINT32, H5T_NATIVE_UINT64};
  ASSERT(type >= 0 && type < H5_TEXT);
  return ids[type];
}

static hid_t file_type(H5Type type) {
  const hid_t ids[H5_TEXT] = {H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_I32LE, H5T_STD_I64LE,
                              H5T_STD_U8LE,   H5T_STD_U16LE,  H5T_STD_U32LE, H5T_STD_U64LE};
  ASSERT(type >= 0 && type < H5_TEXT);
  return ids[type];
}

static H5Type type_of(hid_t id) {
  size_t size = H5Tget_size(id);
  H5T_class_t class = H5Tget_class(id);
  if (class == H5T_STRING) return H5_TEXT;
  if (class == H5T_FLOAT) return size == 4 ? H5_F32 : size == 8 ? H5_F64 : H5_OTHER;
  if (class != H5T_INTEGER) return H5_OTHER;
  if (H5Tget_sign(id) == H5T_SGN_2) return size == 4 ? H5_I32 : size == 8 ? H5_I64 : H5_OTHER;
  return size == 1 ? H5_U8 : size == 2 ? H5_U16 : size == 4 ? H5_U32 : size == 8 ? H5_U64 : H5_OTHER;
}

/* *id := the data set of that name; f keeps it open and closes it. */
static int dataset_get(H5 *f, const char *name, hid_t *id) {
  for (int i = 0; i < KEPT; i++)
    if (f->kept[i].id >= 0 && strcmp(f->kept[i].name, name) == 0) return *id = f->kept[i].id, OK;
  CHECK(strlen(name) < NAME_SIZE, ERR_USAGE, "%s: the name of data set %s is too long", f->path, name);
  CHECK(exists(f, name), ERR_DATA, "%s: data set %s is missing", f->path, name);
  hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
  H5Pset_chunk_cache(access, 4099, CHUNK_CACHE, H5D_CHUNK_CACHE_W0_DEFAULT);
  *id = H5Dopen2(f->id, name, access);
  int err = *id < 0 ? failed(f, "open", name) : OK;
  H5Pclose(access);
  if (err != OK) return err;
  int slot = f->next++ % KEPT;
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
  CHECK(info->rank >= 0 && info->rank <= 4, ERR_DATA, "%s: %s has rank %d, at most 4 was expected", f->path, name,
        info->rank);
  return OK;
}

int h5_info(H5 *f, const char *name, H5Info *info) { return enter(), leave(info_get(f, name, info)); }

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
  int err = wrote(f, id >= 0, name);
  if (id >= 0) H5Dclose(id);
  H5Sclose(space), H5Pclose(create), H5Pclose(links);
  return err;
}

int h5_make(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, int64_t chunk_rows) {
  return enter(), leave(dataset_make(f, name, type, rank, dims, chunk_rows));
}

/* Rows first … first+n−1 of a data set as a selection of its space, and the space of as many rows in memory. */
static int rows_select(H5 *f, const char *name, hid_t id, int64_t first, int64_t n, hid_t *file, hid_t *memory) {
  hsize_t dims[H5S_MAX_RANK], start[H5S_MAX_RANK] = {(hsize_t)first};
  *file = H5Dget_space(id);
  *memory = -1;
  int rank = H5Sget_simple_extent_dims(*file, dims, NULL);
  CHECK(rank > 0 && first >= 0 && n >= 0 && first + n <= (int64_t)dims[0], ERR_DATA,
        "%s: %s has %lld rows, rows %lld to %lld were asked for", f->path, name, rank > 0 ? (long long)dims[0] : 0,
        (long long)first, (long long)(first + n - 1));
  dims[0] = (hsize_t)n;
  *memory = H5Screate_simple(rank, dims, NULL);
  if (n == 0) return H5Sselect_none(*file), H5Sselect_none(*memory), OK;
  return H5Sselect_hyperslab(*file, H5S_SELECT_SET, start, NULL, dims, NULL) < 0 ? failed(f, "select rows of", name)
                                                                                 : OK;
}

static int rows_move(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, void *in, const void *out) {
  hid_t id, file = -1, memory = -1;
  int err;
  TRY(dataset_get(f, name, &id));
  TRY_TO(done, rows_select(f, name, id, first, n, &file, &memory));
  if (out) {
    err = wrote(f, H5Dwrite(id, memory_type(type), memory, file, H5P_DEFAULT, out) >= 0, name);
  } else if (H5Dread(id, memory_type(type), memory, file, H5P_DEFAULT, in) < 0) {
    char where[NAME_SIZE + 64];
    snprintf(where, sizeof where, "%s, rows %lld to %lld", name, (long long)first, (long long)(first + n - 1));
    err = failed(f, "read", where);
  }
done:
  if (memory >= 0) H5Sclose(memory);
  if (file >= 0) H5Sclose(file);
  return err;
}

int h5_read_rows(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, void *data) {
  return n == 0 ? OK : (enter(), leave(rows_move(f, name, type, first, n, data, NULL)));
}

int h5_write_rows(H5 *f, const char *name, H5Type type, int64_t first, int64_t n, const void *data) {
  return n == 0 ? OK : (enter(), leave(rows_move(f, name, type, first, n, NULL, data)));
}

static int rows_append(H5 *f, const char *name, H5Type type, int64_t n, const void *data) {
  H5Info info;
  hid_t id;
  hsize_t dims[4];
  TRY(info_get(f, name, &info));
  TRY(dataset_get(f, name, &id));
  for (int i = 0; i < info.rank; i++) dims[i] = (hsize_t)info.dims[i] + (i == 0 ? (hsize_t)n : 0);
  TRY(wrote(f, H5Dset_extent(id, dims) >= 0, name));
  return rows_move(f, name, type, info.dims[0], n, NULL, data);
}

int h5_append(H5 *f, const char *name, H5Type type, int64_t n, const void *data) {
  return n == 0 ? OK : (enter(), leave(rows_append(f, name, type, n, data)));
}

static int whole_write(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, const void *data) {
  hid_t id;
  TRY(dataset_make(f, name, type, rank, dims, 0));
  TRY(dataset_get(f, name, &id));
  return wrote(f, H5Dwrite(id, memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, name);
}

int h5_write(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, const void *data) {
  return enter(), leave(whole_write(f, name, type, rank, dims, data));
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
  return H5Dread(id, memory_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0 ? failed(f, "read", name) : OK;
}

int h5_read(H5 *f, const char *name, H5Type type, int rank, const int64_t *dims, void *data) {
  return enter(), leave(whole_read(f, name, type, rank, dims, data));
}

/* ---- strings ---- */

static hid_t text_type(void) {
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

static int text_write(H5 *f, const char *name, int64_t n, char *const *text) {
  hsize_t dims = (hsize_t)n;
  hid_t space = H5Screate_simple(1, &dims, NULL), type = text_type();
  hid_t id = H5Dcreate2(f->id, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  bool good = id >= 0 && H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0;
  int err = wrote(f, good, name);
  if (id >= 0) H5Dclose(id);
  H5Tclose(type), H5Sclose(space);
  return err;
}

int h5_write_text(H5 *f, const char *name, int64_t n, char *const *text) {
  return enter(), leave(text_write(f, name, n, text));
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
  hid_t type = text_type(), space = H5Dget_space(id);
  int err = H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) < 0
                ? failed(f, "read", name)
                : mem_alloc(text, (size_t)(n + 1) * sizeof *read);
  for (int64_t i = 0; i < n && err == OK; i++) err = mem_strdup(*text + i, read[i] ? read[i] : "");
  H5Dvlen_reclaim(type, space, H5P_DEFAULT, read);
  H5Tclose(type), H5Sclose(space);
  mem_free(&read);
  if (err != OK) h5_list_free(text);
  return err;
}

int h5_read_text(H5 *f, const char *name, int64_t n, char ***text) {
  return enter(), leave(text_read(f, name, n, text));
}

/* ---- attributes ---- */

static int attr_write(H5 *f, const char *obj, const char *name, hid_t type, hid_t memory, const void *value) {
  if (H5Aexists_by_name(f->id, obj, name, H5P_DEFAULT) > 0) H5Adelete_by_name(f->id, obj, name, H5P_DEFAULT);
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t id = H5Acreate_by_name(f->id, obj, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  int err = wrote(f, id >= 0 && H5Awrite(id, memory, value) >= 0, name);
  if (id >= 0) H5Aclose(id);
  H5Sclose(space);
  return err;
}

int h5_set_int(H5 *f, const char *obj, const char *name, int64_t value) {
  return enter(), leave(attr_write(f, obj, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value));
}

int h5_set_real(H5 *f, const char *obj, const char *name, double value) {
  return enter(), leave(attr_write(f, obj, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value));
}

int h5_set_str(H5 *f, const char *obj, const char *name, const char *value) {
  enter();
  hid_t type = text_type();
  int err = attr_write(f, obj, name, type, type, &value);
  H5Tclose(type);
  return leave(err);
}

bool h5_has(H5 *f, const char *obj, const char *name) {
  enter();
  bool has = exists(f, obj) && H5Aexists_by_name(f->id, obj, name, H5P_DEFAULT) != 0;
  leave(OK);
  return has;
}

static int attr_open(H5 *f, const char *obj, const char *name, hid_t *id, hid_t *type) {
  *id = *type = -1;
  CHECK(exists(f, obj), ERR_DATA, "%s: %s is missing", f->path, obj);
  CHECK(H5Aexists_by_name(f->id, obj, name, H5P_DEFAULT) != 0, ERR_DATA, "%s: attribute %s of %s is missing", f->path,
        name, obj);
  *id = H5Aopen_by_name(f->id, obj, name, H5P_DEFAULT, H5P_DEFAULT);
  if (*id < 0) return failed(f, "open attribute", name);
  *type = H5Aget_type(*id);
  hid_t space = H5Aget_space(*id);
  hssize_t n = H5Sget_simple_extent_npoints(space);
  H5Sclose(space);
  CHECK(n == 1, ERR_DATA, "%s: attribute %s of %s has %lld values, one was expected", f->path, name, obj, (long long)n);
  return OK;
}

/* h5py writes a Python bool as an enumeration of int8, which HDF5 converts to any integer. */
static int number_read(H5 *f, const char *obj, const char *name, bool real, void *value) {
  hid_t id, type;
  int err;
  TRY_TO(done, attr_open(f, obj, name, &id, &type));
  H5T_class_t class = H5Tget_class(type);
  if (class != H5T_INTEGER && class != (real ? H5T_FLOAT : H5T_ENUM))
    err = RAISE(ERR_DATA, "%s: attribute %s of %s is not %s", f->path, name, obj, real ? "a number" : "an integer");
  else if (H5Aread(id, real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, value) < 0)
    err = failed(f, "read attribute", name);
done:
  if (type >= 0) H5Tclose(type);
  if (id >= 0) H5Aclose(id);
  return err;
}

int h5_get_int(H5 *f, const char *obj, const char *name, int64_t *value) {
  return enter(), leave(number_read(f, obj, name, false, value));
}

int h5_get_real(H5 *f, const char *obj, const char *name, double *value) {
  return enter(), leave(number_read(f, obj, name, true, value));
}

static int str_variable(H5 *f, const char *name, hid_t id, hid_t type, char **value) {
  char *text = NULL;
  if (H5Aread(id, type, &text) < 0) return failed(f, "read attribute", name);
  int err = mem_strdup(value, text ? text : ""); /* an empty string may come as NULL */
  H5free_memory(text);
  return err;
}

static int str_fixed(H5 *f, const char *name, hid_t id, hid_t type, char **value) {
  size_t size = H5Tget_size(type) + 1;
  TRY(mem_alloc(value, size));
  H5Tset_size(type, size);
  H5Tset_strpad(type, H5T_STR_NULLTERM);
  if (H5Aread(id, type, *value) >= 0) return OK;
  int err = failed(f, "read attribute", name);
  mem_free(value);
  return err;
}

static int str_read(H5 *f, const char *obj, const char *name, char **value) {
  hid_t id, type, memory = -1;
  int err;
  *value = NULL;
  TRY_TO(done, attr_open(f, obj, name, &id, &type));
  memory = H5Tcopy(type);
  if (H5Tget_class(type) != H5T_STRING)
    err = RAISE(ERR_DATA, "%s: attribute %s of %s is not a string", f->path, name, obj);
  else
    err = (H5Tis_variable_str(type) > 0 ? str_variable : str_fixed)(f, name, id, memory, value);
done:
  if (memory >= 0) H5Tclose(memory);
  if (type >= 0) H5Tclose(type);
  if (id >= 0) H5Aclose(id);
  return err;
}

int h5_get_str(H5 *f, const char *obj, const char *name, char **value) {
  return enter(), leave(str_read(f, obj, name, value));
}

int h5_get_text(H5 *f, const char *obj, const char *name, char *text, size_t size) {
  char *value;
  int err = OK;
  TRY(h5_get_str(f, obj, name, &value));
  if (strlen(value) >= size)
    err = RAISE(ERR_DATA, "%s: attribute %s of %s has more than %zu bytes", f->path, name, obj, size - 1);
  else
    strcpy(text, value);
  mem_free(&value);
  return err;
}
