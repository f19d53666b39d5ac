#include "cmd/output.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/version.h"
#include "store/draft.h"
#include <string.h>
#include <sys/stat.h>

int output_path(const Config *cfg, const char *given, const char *name, char path[FILES_PATH]) {
  CHECK(*given || *cfg->run_dir, ERR_USAGE, "no path for %s: set its key or run.dir", name);
  return *given ? files_path(path, NULL, given) : files_path(path, cfg->run_dir, name);
}

/* Whether that is a file of the format, of any version. */
static bool is_output(const char *path, const char *format) {
  H5 *f = NULL;
  char found[64] = "";
  if (h5_open(&f, path, false) == OK) h5_get_text(f, "/", "format", found, sizeof found);
  h5_close(&f);
  err_clear();
  return strcmp(found, format) == 0;
}

int output_claim(const Comm *comm, const char *run_dir, char path[FILES_PATH], const char *format, const char *input) {
  struct stat st;
  if (comm->rank != 0) return OK;
  CHECK(!files_same(path, input), ERR_USAGE, "%s is both read and written: choose another output", path);
  size_t n = strlen(run_dir);
  if (n > 0 && strncmp(path, run_dir, n) == 0 && path[n] == '/') mkdir(run_dir, 0777); /* a failure shows below */
  TRY(files_claim(path));
  CHECK(stat(path, &st) != 0 || st.st_size == 0 || is_output(path, format), ERR_USAGE,
        "%s exists and is not a %s file: choose another output, or remove it", path, format);
  return OK;
}

int output_attributes(H5 *f, const char *format, const Config *cfg, const char *checkpoint,
                      const CheckpointState *state, const char *weights) {
  char *deck = NULL;
  TRY(h5_set_format(f, format, 1));
  TRY(h5_set_str(f, "/", "checkpoint", checkpoint));
  TRY(h5_set_str(f, "/", "checkpoint_digest", state->weights_digest));
  TRY(h5_set_int(f, "/", "step", state->step));
  TRY(h5_set_str(f, "/", "weights", weights));
  TRY(h5_set_str(f, "/", "git", version_git()));
  TRY(h5_set_str(f, "/", "created", clock_stamp()));
  TRY(config_resolved(cfg, &deck));
  int err = h5_set_str(f, "/", "deck", deck);
  mem_free(&deck);
  return err;
}

int output_write(const char *path, const char *format, const Config *cfg, const char *checkpoint,
                 const CheckpointState *state, const char *weights, int (*fill)(H5 *f, const void *arg),
                 const void *arg) {
  H5 *f = NULL;
  TRY(draft_create(&f, path));
  int err = output_attributes(f, format, cfg, checkpoint, state, weights);
  if (err == OK) err = fill(f, arg);
  return draft_publish(&f, err, path);
}

int output_series(H5 *f, const char *name, H5Type type, int64_t n, const void *data, const char *unit,
                  const char *description) {
  TRY(h5_write(f, name, type, 1, &n, data));
  TRY(h5_set_str(f, name, "unit", unit));
  return h5_set_str(f, name, "description", description);
}
