#include "store/h5_file.h"
#include "base/err.h"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* First come, first served: a thread that writes piece by piece would take a plain mutex again before a waiting thread
 * has woken up. */
static pthread_mutex_t h5_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t h5_free = PTHREAD_COND_INITIALIZER;
static uint64_t tickets, serving;
static bool started;

/* ---- entering, leaving, failing ---- */

void h5_enter(void) {
  pthread_mutex_lock(&h5_lock);
  for (uint64_t mine = tickets++; mine != serving;) pthread_cond_wait(&h5_free, &h5_lock);
  pthread_mutex_unlock(&h5_lock);
  if (!started) {
    H5dont_atexit();                  /* exit may come while another thread is inside the library */
    H5Lunregister(H5L_TYPE_EXTERNAL); /* a link must not lead to another file, or to a pipe */
  }
  started = true;
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

int h5_leave(int err) {
  pthread_mutex_lock(&h5_lock);
  serving++;
  pthread_cond_broadcast(&h5_free);
  pthread_mutex_unlock(&h5_lock);
  return err;
}

static herr_t take_innermost(unsigned n, const H5E_error2_t *error, void *reason) {
  if (n == 0) snprintf(reason, H5_NAME_SIZE, "%s", error->desc ? error->desc : "");
  return 0;
}

void h5_reason(const H5 *f, char reason[H5_NAME_SIZE]) {
  snprintf(reason, H5_NAME_SIZE, "no reason given");
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, reason);
  if (f->os_error) snprintf(reason, H5_NAME_SIZE, "%s", strerror(f->os_error));
}

int h5_failed(const H5 *f, const char *verb, const char *name) {
  char reason[H5_NAME_SIZE];
  h5_reason(f, reason);
  if (f->damaged || strstr(reason, "Fletcher32"))
    return RAISE(ERR_DATA, "%s is damaged: checksum error in %s; restore it or make it again", f->path, name);
  if (f->write && f->os_error) return RAISE(ERR_IO, "cannot write %s: %s", f->path, reason);
  return RAISE(f->write ? ERR_IO : ERR_DATA, "%s: cannot %s %s: %s", f->path, verb, name, reason);
}

int h5_wrote(const H5 *f, bool ok, const char *name) { return ok && !f->os_error ? OK : h5_failed(f, "write", name); }

/* ---- names and types ---- */

bool h5_there(const H5 *f, const char *name) {
  char part[H5_NAME_SIZE];
  htri_t there = 1;
  for (const char *p = name; there > 0 && (p = strchr(p + 1, '/'));) { /* H5Lexists needs every link before the last */
    snprintf(part, sizeof part, "%.*s", (int)(p - name), name);
    there = H5Lexists(f->id, part, H5P_DEFAULT);
  }
  if (there > 0 && strcmp(name, "/") != 0) there = H5Lexists(f->id, name, H5P_DEFAULT);
  return there != 0 || f->damaged; /* a damaged block may hide the link */
}

hid_t h5_text_type(void) {
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}
