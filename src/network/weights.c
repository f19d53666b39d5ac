#include "network/weights.h"
#include "base/err.h"
#include "network/fit.h"
#include "network/flat.h"
#include "network/match.h"
#include <string.h>
#include <unistd.h>

int weights_path(const Config *cfg, const char *given, char path[FILES_PATH]) {
  static const char *const names[] = {"best.h5", "last.h5", "previous.h5"};
  if (*given) return files_path(path, NULL, given);
  CHECK(*cfg->run_dir, ERR_USAGE, "no checkpoint: give one by its key, or run.dir");
  for (int i = 0; i < 3; i++) {
    TRY(files_path(path, cfg->run_dir, names[i]));
    if (access(path, F_OK) == 0) return OK;
  }
  return RAISE(ERR_DATA, "run.dir = %s holds no checkpoint: train first, or name one", cfg->run_dir);
}

int weights_state(const Config *cfg, H5 *f, CheckpointState *state) {
  Config trained;
  TRY(checkpoint_state(f, state));
  TRY(network_deck(&trained, state->deck, h5_path(f)));
  int err = network_match(cfg, &trained, h5_path(f));
  if (err == OK) err = network_changes(cfg, &trained, state->step, "diffusion", "");
  config_free(&trained);
  return err;
}

int weights_open(Network *net, const Config *cfg, const Comm *comm, H5 *f, const char *which,
                 const CheckpointState *state, int64_t length, const char *key, int64_t batch) {
  const Vocab *v = &state->vocab;
  NetworkOptions network = {.cfg = cfg,
                            .place = comm->place,
                            .vocab = v->size,
                            .length = length,
                            .mask = v->mask,
                            .batch = batch,
                            .positions = state->length};
  int err = network_create(net, &network);
  if (err == ERR_MEMORY) return network_too_large(&network, key, 0, 0);
  TRY(err);
  Params *p = &net->model.params;
  err = flat_load(f, strcmp(which, "live") == 0 ? CKPT_PARAMS : CKPT_EMA, p, p->value, NULL);
  if (err == OK) err = params_bind(p, p->value);
  if (err) network_destroy(net);
  return err;
}
