#include "store/h5_foreign.h"
#include "base/err.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_RANK = 4, PROBE_SECONDS = 5, PROBE_BYTES = 16 << 20, PATIENCE = 20000 /* ms */ };
static const hsize_t MOST_VALUES = (hsize_t)1 << 48; /* sizes in bytes computed from it do not overflow */

/* ---- data sets ---- */

static int filters_check(const H5 *f, const char *name, hid_t create) {
  for (int i = 0, n = H5Pget_nfilters(create); i < n; i++) {
    char filter[64] = "";
    unsigned flags;
    size_t parts = 0;
    H5Z_filter_t id = H5Pget_filter2(create, (unsigned)i, &flags, &parts, NULL, sizeof filter, filter, NULL);
    CHECK(id >= 0 && H5Zfilter_avail(id) > 0, ERR_DATA,
          "%s: %s needs the HDF5 filter %.63s (number %d), which is not installed: write it with gzip or uncompressed",
          f->path, name, *filter ? filter : "without a name", (int)id);
  }
  return OK;
}

/* *n := the number of values. */
static int shape_check(const H5 *f, const char *name, hid_t space, hsize_t dims[H5S_MAX_RANK], hsize_t *n) {
  int rank = H5Sget_simple_extent_dims(space, dims, NULL);
  CHECK(rank >= 0 && rank <= MOST_RANK, ERR_DATA, "%s: %s has rank %d, at most %d was expected", f->path, name, rank,
        MOST_RANK);
  CHECK(H5Sget_simple_extent_type(space) != H5S_NULL, ERR_DATA, "%s: %s has no values and no shape", f->path, name);
  *n = 1;
  for (int i = 0; i < rank; i++) {
    CHECK(*n == 0 || dims[i] <= MOST_VALUES / *n, ERR_DATA, "%s: %s claims to hold more than 2^48 values", f->path,
          name);
    *n *= dims[i];
  }
  return OK;
}

static bool contiguous_written(const H5 *f, hid_t id, hsize_t n) {
  hid_t type = H5Dget_type(id);
  hsize_t bytes = H5Dget_storage_size(id), all = (hsize_t)f->at_open.st_size;
  haddr_t first = H5Dget_offset(id);
  bool fits = bytes / n >= H5Tget_size(type) && bytes <= all && first <= all - bytes; /* HADDR_UNDEF is large */
  H5Tclose(type);
  return fits;
}

/* Whether as many values are in the file as the dims say. */
static bool is_written(const H5 *f, hid_t id, hid_t create, hid_t space, const hsize_t *dims, hsize_t n) {
  hsize_t chunk[H5S_MAX_RANK], have = 0, want = 1;
  if (n == 0 || H5Pget_layout(create) == H5D_COMPACT) return true;
  if (H5Pget_layout(create) != H5D_CHUNKED) return contiguous_written(f, id, n);
  int rank = H5Pget_chunk(create, H5S_MAX_RANK, chunk);
  for (int i = 0; i < rank; i++) want *= (dims[i] - 1) / chunk[i] + 1; /* at most n */
  return rank > 0 && H5Dget_num_chunks(id, space, &have) >= 0 && have == want;
}

static int parts_check(const H5 *f, const char *name, hid_t id, hid_t create, hid_t space) {
  hsize_t dims[H5S_MAX_RANK], n = 0;
  bool alone = H5Pget_layout(create) != H5D_VIRTUAL && H5Pget_external_count(create) <= 0;
  CHECK(alone, ERR_DATA, "%s: the values of %s are in other files: copy them into this one", f->path, name);
  TRY(filters_check(f, name, create));
  TRY(shape_check(f, name, space, dims, &n));
  CHECK(f->sealed || is_written(f, id, create, space, dims, n), ERR_DATA,
        "%s: %s was never written, or only in part: its shape claims more values than the file holds", f->path, name);
  return OK;
}

int h5_dataset_check(const H5 *f, const char *name, hid_t id) {
  hid_t create = H5Dget_create_plist(id);
  if (create < 0) return h5_failed(f, "read the properties of", name);
  hid_t space = H5Pget_layout(create) == H5D_VIRTUAL ? -1 : H5Dget_space(id); /* a virtual one opens other files */
  int err = parts_check(f, name, id, create, space);
  if (space >= 0) H5Sclose(space);
  H5Pclose(create);
  return err;
}

/* ---- the probe: errors do not matter here, since the parent meets them, too ---- */

static herr_t probe_attribute(hid_t object, const char *name, const H5A_info_t *info, void *f) {
  (void)info;
  char *value = NULL;
  hid_t id = H5Aopen(object, name, H5P_DEFAULT), type = H5Aget_type(id), space = H5Aget_space(id);
  if (H5Tget_class(type) == H5T_STRING && H5Sget_simple_extent_npoints(space) == 1)
    h5_attribute_text(f, "/", name, id, &value);
  mem_free(&value);
  H5Sclose(space), H5Tclose(type), H5Aclose(id);
  return 0;
}

/* Strings, and numbers that a filter decodes. */
static void probe_values(hid_t id) {
  hid_t space = H5Dget_space(id), stored = H5Dget_type(id), create = H5Dget_create_plist(id), type = H5T_NATIVE_DOUBLE;
  H5T_class_t class = H5Tget_class(stored);
  hssize_t n = H5Sget_simple_extent_npoints(space);
  bool text = class == H5T_STRING && H5Tis_variable_str(stored) > 0;
  if (text) type = h5_text_type();
  bool coded = H5Pget_nfilters(create) > 0 && (class == H5T_INTEGER || class == H5T_FLOAT);
  if ((text || coded) && n > 0 && n <= PROBE_BYTES / (hssize_t)sizeof(double)) {
    void *values = calloc((size_t)n, sizeof(double));
    if (values) H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  }
}

static herr_t probe_object(hid_t file, const char *name, const H5O_info_t *info, void *f) {
  hid_t id = H5Oopen(file, name, H5P_DEFAULT);
  H5Aiterate2(id, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, probe_attribute, f);
  if (info->type == H5O_TYPE_DATASET && h5_dataset_check(f, name, id) == OK) probe_values(id);
  H5Oclose(id);
  return 0;
}

static void probe(const char *path, int done) {
  H5 *f;
  struct rlimit cpu = {.rlim_cur = PROBE_SECONDS, .rlim_max = PROBE_SECONDS + 1}, core = {0};
  const int signals[] = {SIGXCPU, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], SIG_DFL);
  int nowhere = open("/dev/null", O_RDWR);
  dup2(nowhere, STDOUT_FILENO), dup2(nowhere, STDERR_FILENO); /* the parent reports */
  setrlimit(RLIMIT_CPU, &cpu), setrlimit(RLIMIT_CORE, &core);
  if (h5_file_open(&f, path, false, false) == OK) {
    H5Ovisit(f->id, H5_INDEX_NAME, H5_ITER_NATIVE, probe_object, f);
    h5_file_close(f);
  }
  _exit(write(done, "", 1) == 1 ? 0 : 1);
}

/* A child's probe within `patience` ms, -1: without a limit. */
typedef struct Probe {
  bool late, done; /* killed, because it took longer; came to its end */
  int status;      /* of waitpid */
} Probe;
static int probe_in_child(Probe *p, const char *path, int patience) {
  int ends[2], ready = 1;
  ssize_t got = 0;
  char byte;
  CHECK(pipe2(ends, O_CLOEXEC) == 0, ERR_MEMORY, "cannot check %s: %s", path, strerror(errno));
  pid_t child = fork();
  if (child == 0) probe(path, ends[1]);
  int reason = errno;
  close(ends[1]);
  struct pollfd end = {.fd = ends[0], .events = POLLIN};
  while (child > 0 && (ready = poll(&end, 1, patience)) < 0 && errno == EINTR) continue;
  p->late = ready == 0;
  if (p->late) kill(child, SIGKILL);
  while (child > 0 && (got = read(ends[0], &byte, 1)) < 0 && errno == EINTR) continue;
  close(ends[0]);
  CHECK(child > 0, ERR_MEMORY, "cannot start a process to check %s: %s", path, strerror(reason));
  while (waitpid(child, &p->status, 0) < 0 && errno == EINTR) continue;
  p->done = got == 1;
  return OK;
}

/* A child may hang in a lock that another thread held during fork, such as one of AddressSanitizer's allocator: a late child
 * is replaced. The second one may take its time, for a slow disk's sake. */
int h5_probe(const char *path) {
  Probe p = {0};
  TRY(probe_in_child(&p, path, PATIENCE));
  if (p.late) TRY(probe_in_child(&p, path, -1));
  CHECK(p.done, ERR_DATA, "%s is damaged: the HDF5 library %s when it reads it; restore it or make it again", path,
        WIFSIGNALED(p.status) && WTERMSIG(p.status) == SIGXCPU ? "does not end" : "crashes");
  return OK;
}
