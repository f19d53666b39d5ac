#include "cmd/output.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/version.h"
#include "store/files.h"
#include <stdio.h>

int output_path(const Config *cfg, const char *given, const char *name, char path[512]) {
  CHECK(*given || *cfg->run_dir, ERR_USAGE, "no place for %s: set its key or run.dir", name);
  if (*given) {
    snprintf(path, 512, "%s", given);
  } else {
    snprintf(path, 512, "%s/%s", cfg->run_dir, name);
  }
  return OK;
}

static int attributes(H5 *f, const char *format, const Config *cfg, const char *checkpoint,
                      const CheckpointState *state, const char *weights) {
  char *deck = NULL;
  TRY(h5_set_str(f, "/", "format", format));
  TRY(h5_set_int(f, "/", "format_version", 1));
  TRY(h5_set_str(f, "/", "checkpoint", checkpoint));
  TRY(h5_set_str(f, "/", "checkpoint_digest", state->weights_digest));
  TRY(h5_set_int(f, "/", "step", state->step));
  TRY(h5_set_str(f, "/", "weights", weights));
  TRY(h5_set_int(f, "/", "seed", cfg->run_seed));
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
  TRY(files_draft(&f, path));
  int err = attributes(f, format, cfg, checkpoint, state, weights);
  if (err == OK) err = fill(f, arg);
  return files_publish(&f, err, path);
}

int output_series(H5 *f, const char *name, H5Type type, int64_t n, const void *data, const char *unit,
                  const char *description) {
  TRY(h5_write(f, name, type, 1, &n, data));
  TRY(h5_set_str(f, name, "unit", unit));
  return h5_set_str(f, name, "description", description);
}
