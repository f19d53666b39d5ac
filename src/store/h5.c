/* Files and groups.
 *
 * Files are created in HDF5's 1.8 format. It checksums metadata, and has no "open for writing" mark, which a killed
 * process would leave behind. */
#include "store/h5.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/files.h"
#include "store/h5_driver.h"
#include "store/h5_file.h"
#include "store/h5_foreign.h"
#include "store/seal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- files ---- */

static int open_failed(const H5 *f, long long bytes) {
  char reason[H5_NAME_SIZE];
  h5_reason(f, reason);
  const char *stored = strstr(reason, "stored_eof = ");
  if (f->damaged) return RAISE(ERR_DATA, "%s is damaged: checksum error; restore it or make it again", f->path);
  if (f->os_error) return RAISE(ERR_DATA, "cannot open %s: %s", f->path, reason);
  if (stored)
    return RAISE(ERR_DATA, "%s is truncated: the file is %lld bytes, its header says %lld", f->path, bytes,
                 atoll(stored + strlen("stored_eof = ")));
  if (strstr(reason, "signature not found")) return RAISE(ERR_DATA, "%s is not an HDF5 file", f->path);
  return RAISE(ERR_DATA, "%s is damaged or truncated (%lld bytes): %s", f->path, bytes, reason);
}

/* Keep all links and attributes in the object header: HDF5 1.10 can crash on damage in the structures to which it would
 * otherwise move them when there are many. */
static hid_t compact(hid_t class) {
  enum { MOST = 65535 };
  hid_t list = H5Pcreate(class);
  H5Pset_link_phase_change(list, MOST, 0);
  H5Pset_attr_phase_change(list, MOST, 0);
  return list;
}

int h5_file_open(H5 **out, const char *path, bool write, bool create) {
  int64_t bytes = 0;
  H5 *f;
  if (!create) TRY(files_check(path, &bytes));
  TRY(mem_alloc(&f, sizeof *f + strlen(path) + 1));
  strcpy(f->path, path);
  f->write = write;
  for (int i = 0; i < H5_KEPT; i++) f->kept[i].id = -1;
  hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
  h5_driver_set(fapl, f);
  if (create) H5Pset_libver_bounds(fapl, H5F_LIBVER_V18, H5F_LIBVER_V18);
  hid_t fcpl = create ? compact(H5P_FILE_CREATE) : H5P_DEFAULT;
  f->id =
      create ? H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl) : H5Fopen(path, write ? H5F_ACC_RDWR : H5F_ACC_RDONLY, fapl);
  int err = OK;
  if (stat(path, &f->at_path) != 0) f->at_path = f->at_open;
  f->looked = clock_now();
  if (f->id < 0) err = create ? h5_failed(f, "create", "the file") : open_failed(f, (long long)bytes);
  H5Pclose(fapl);
  if (create) H5Pclose(fcpl);
  if (err != OK) mem_free(&f);
  *out = f;
  return err;
}

int h5_file_close(H5 *f) {
  for (int i = 0; i < H5_KEPT; i++)
    if (f->kept[i].id >= 0) H5Dclose(f->kept[i].id);
  bool closed = H5Fclose(f->id) >= 0;
  int err = closed && !(f->write && f->os_error) ? OK : h5_failed(f, "close", "the file");
  if (closed) mem_free(&f); /* otherwise the library may still hold the driver's file, which points to f */
  return err;
}

/* Files that are written are our own. */
static int checked_open(H5 **f, const char *path, bool write) {
  int64_t bytes;
  *f = NULL;
  TRY(files_check(path, &bytes));
  if (!write && !seal_there(path)) TRY(h5_probe(path));
  return h5_file_open(f, path, write, false);
}

int h5_open(H5 **f, const char *path, bool write) { return h5_enter(), h5_leave(checked_open(f, path, write)); }
int h5_create(H5 **f, const char *path) { return h5_enter(), h5_leave(h5_file_open(f, path, true, true)); }

int h5_close(H5 **f) {
  H5 *file = *f;
  *f = NULL;
  return file ? (h5_enter(), h5_leave(h5_file_close(file))) : OK;
}

static int unchanged(H5 *f) {
  const struct stat *was = &f->at_open;
  struct stat is;
  if (fstat(f->fd, &is) != 0) return OK; /* reading fails too, and says why */
  CHECK(is.st_size == was->st_size, ERR_DATA,
        "%s was changed while it was in use: it has %lld bytes and had %lld; restore it, or start a new run", f->path,
        (long long)is.st_size, (long long)was->st_size);
  CHECK(is.st_mtim.tv_sec == was->st_mtim.tv_sec && is.st_mtim.tv_nsec == was->st_mtim.tv_nsec, ERR_DATA,
        "%s was changed while it was in use: it has been written to; restore it, or start a new run", f->path);
  double now = clock_now();
  if (now - f->looked < 1) return OK;
  f->looked = now;
  CHECK(stat(f->path, &is) != 0 || (is.st_dev == f->at_path.st_dev && is.st_ino == f->at_path.st_ino), ERR_DATA,
        "%s was replaced by another file while it was in use; restore it, or start a new run", f->path);
  return OK;
}

int h5_unchanged(H5 *f) { return h5_enter(), h5_leave(unchanged(f)); }

const char *h5_path(const H5 *f) { return f->path; }
bool h5_sealed(const H5 *f) { return f->sealed; }

const char *h5_version(void) { return strrchr(H5_VERS_INFO, ' ') + 1; }

/* ---- groups ---- */

bool h5_exists(H5 *f, const char *name) {
  h5_enter();
  bool is = h5_there(f, name);
  h5_leave(OK);
  return is;
}

static int group_make(H5 *f, const char *name) {
  if (h5_there(f, name)) return OK;
  hid_t links = H5Pcreate(H5P_LINK_CREATE);
  H5Pset_create_intermediate_group(links, 1);
  hid_t group = compact(H5P_GROUP_CREATE);
  hid_t id = H5Gcreate2(f->id, name, links, group, H5P_DEFAULT);
  int err = h5_wrote(f, id >= 0, name);
  if (id >= 0) H5Gclose(id);
  H5Pclose(group);
  H5Pclose(links);
  return err;
}

int h5_group(H5 *f, const char *name) { return h5_enter(), h5_leave(group_make(f, name)); }

static int link_make(H5 *f, const char *name, const char *there) {
  return h5_wrote(f, H5Lcreate_hard(f->id, there, f->id, name, H5P_DEFAULT, H5P_DEFAULT) >= 0, name);
}

int h5_link(H5 *f, const char *name, const char *there) { return h5_enter(), h5_leave(link_make(f, name, there)); }

enum { MOST_LINKS = 1 << 20 };

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
  if (H5Gget_info_by_name(f->id, group, &info, H5P_DEFAULT) < 0) return h5_failed(f, "list", group);
  CHECK(info.nlinks <= MOST_LINKS, ERR_DATA, "%s: %s has %llu links, at most %d were expected", f->path, group,
        (unsigned long long)info.nlinks, MOST_LINKS);
  l.room = info.nlinks;
  TRY(mem_alloc(&l.names, (l.room + 1) * sizeof *l.names));
  herr_t seen = H5Literate_by_name(f->id, group, H5_INDEX_NAME, H5_ITER_INC, NULL, take_name, &l, H5P_DEFAULT);
  err = l.err != OK || seen >= 0 ? l.err : h5_failed(f, "list", group);
  if (err != OK) h5_list_free(&l.names);
  *names = l.names;
  return err;
}

int h5_list(H5 *f, const char *group, char ***names) { return h5_enter(), h5_leave(names_list(f, group, names)); }

void h5_list_free(char ***names) {
  for (char **p = *names; p && *p; p++) mem_free(p);
  mem_free(names);
}
