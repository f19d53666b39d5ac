#include "store/draft.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/files.h"
#include "store/seal.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int draft_create(H5 **f, const char *path) {
  char *name;
  size_t size = strlen(path) + sizeof FILES_DRAFT;
  *f = NULL;
  TRY(mem_alloc(&name, size));
  snprintf(name, size, "%s" FILES_DRAFT, path);
  int err = h5_create(f, name);
  mem_free(&name);
  return err;
}

static int put(const char *draft, const char *path) {
  TRY(seal_append(draft));
  TRY(files_flush(draft));
  CHECK(rename(draft, path) == 0, ERR_IO, "cannot rename %s to %s: %s", draft, path, strerror(errno));
  return files_flush_folder(path);
}

static bool is_draft(const char *name) {
  size_t n = strlen(name), suffix = strlen(FILES_DRAFT);
  return n > suffix && strcmp(name + n - suffix, FILES_DRAFT) == 0;
}

int draft_publish(H5 **f, int err, const char *path) {
  char *name = NULL;
  if (!*f) return err;
  int copied = mem_strdup(&name, h5_path(*f)), closed = h5_close(f);
  if (err == OK) err = copied != OK ? copied : closed;
  if (err == OK) err = put(name, path);
  if (err != OK && name && is_draft(name)) unlink(name); /* fails harmlessly once the file is renamed */
  mem_free(&name);
  return err;
}
