/* Why a driver of our own:
 *   - After a failed write HDF5 1.10 keeps half-closed objects, and crashes when it closes them again at exit or in
 *     MPI_Finalize; and it returns errors as text only. This driver records the first errno and reports success to the
 *     library; every writing function and h5_close then report that errno.
 *   - It never locks files, so read-only and network file systems work, and a file can be read while it is extended.
 *   - It checks each block against the file's seal before HDF5 sees it.
 *   - It reads rows without a sieve buffer. */
#include "store/h5_driver.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/files.h"
#include "store/seal.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#if H5_VERSION_GE(1, 13, 2)
#include <H5FDdevelop.h>
#endif

static H5 *opening; /* the owner of the file that the driver opens next */

typedef struct DriverFile {
  H5FD_t pub;
  int fd;
  haddr_t eoa, eof;
  Seal *seal; /* of a sealed file opened for reading, else NULL */
  H5 *owner;
} DriverFile;

static void driver_failed(DriverFile *d) {
  if (!d->owner->os_error) d->owner->os_error = errno;
}

/* A sealed file that is opened for writing must be intact, and loses its seal. */
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
    d->owner->fd = d->fd;
    d->owner->sealed = d->seal != NULL;
    d->owner->at_open = st;
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

/* HDF5 walks from object to object of a global heap, which holds strings of any length, and never ends at one whose size
 * is 0 or wraps around: whether each step leads forward, inside the heap. */
static bool heap_ends(const DriverFile *d, haddr_t addr, const char *head) {
  uint64_t size, need, at = 16; /* of the heap's header */
  memcpy(&size, head + 8, sizeof size);
  if (addr > d->eof || size > d->eof - addr) return false;
  while (at + 16 <= size) {
    char object[16];
    uint16_t index;
    if (files_read(d->fd, object, sizeof object, (int64_t)(addr + at)) != (int64_t)sizeof object) return false;
    memcpy(&index, object, sizeof index);
    memcpy(&need, object + 8, sizeof need);
    if (need > size - at || (index == 0 && need < sizeof object))
      return false; /* index 0: free space, header included */
    at += index == 0 ? need : sizeof object + (need + 7) / 8 * 8;
  }
  return true;
}

static herr_t driver_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size, void *buffer) {
  (void)type, (void)dxpl;
  DriverFile *d = (DriverFile *)file;
  if (d->seal && !seal_holds(d->seal, d->fd, (int64_t)addr, (int64_t)size)) return d->owner->damaged = true, -1;
  int64_t n = files_read(d->fd, buffer, size, (int64_t)addr);
  if (n < 0) return driver_failed(d), -1;
  memset((char *)buffer + n, 0, size - (size_t)n); /* allocated but never written */
  bool heap = !d->owner->write && !d->seal && n >= 16 && memcmp(buffer, "GCOL\1\0\0", 8) == 0;
  return heap && !heap_ends(d, addr, buffer) ? -1 : 0;
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

void h5_driver_set(hid_t fapl, H5 *f) {
  static hid_t driver = -1;
  if (driver < 0) driver = H5FDregister(&driver_class);
  ASSERT(driver >= 0);
  H5Pset_driver(fapl, driver, NULL);
  opening = f;
}
