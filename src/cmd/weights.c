#include "cmd/weights.h"
#include "base/err.h"
#include "train/trainer.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int weights_path(const Config *cfg, const char *given, char path[512]) {
  static const char *const names[] = {"best.h5", "last.h5", "previous.h5"};
  if (*given) return snprintf(path, 512, "%s", given), OK;
  CHECK(*cfg->run_dir, ERR_USAGE, "no checkpoint: give one by its key, or run.dir");
  for (int i = 0; i < 3; i++) {
    snprintf(path, 512, "%s/%s", cfg->run_dir, names[i]);
    if (access(path, F_OK) == 0) return OK;
  }
  return RAISE(ERR_DATA, "run.dir = %s holds no checkpoint: train first, or name one", cfg->run_dir);
}

/* The keys that decide what the weights mean. */
static int same_network(const Config *a, const Config *b, const char *path) {
#define SAME(field, key)                                                                                               \
  CHECK(a->field == b->field, ERR_DATA, "%s was trained with %s = %lld, the deck says %lld", path, key,                \
        (long long)b->field, (long long)a->field)
  CHECK(strcmp(a->model_name, b->model_name) == 0, ERR_DATA, "%s was trained with model.name = %s, the deck says %s",
        path, b->model_name, a->model_name);
  SAME(model_width, "model.width");
  SAME(model_blocks, "model.blocks");
  SAME(model_heads, "model.heads");
  SAME(model_cond_dim, "model.cond_dim");
  SAME(model_mlp_ratio, "model.mlp_ratio");
  SAME(model_time_conditioning, "model.time_conditioning");
  SAME(model_mask_padding, "model.mask_padding");
  CHECK(strcmp(a->diffusion_objective, b->diffusion_objective) == 0, ERR_DATA,
        "%s was trained with diffusion.objective = %s, the deck says %s", path, b->diffusion_objective,
        a->diffusion_objective);
  SAME(diffusion_subs_masking, "diffusion.subs_masking");
  if (a->model_time_conditioning) SAME(diffusion_change_of_variables, "diffusion.change_of_variables");
#undef SAME
  return OK;
}

int weights_state(const Config *cfg, const char *path, CheckpointState *state) {
  Config trained;
  TRY(checkpoint_state(path, state));
  TRY(config_load_text(&trained, state->deck, path));
  int err = same_network(cfg, &trained, path);
  config_free(&trained);
  return err;
}

int weights_open(Network *net, const Config *cfg, const Comm *comm, const char *path, const char *which,
                 const CheckpointState *state, int64_t length, int64_t batch) {
  TRY(network_create(net, cfg, comm->share_rank, comm->share_size, state->vocab.size, length, state->vocab.mask, batch,
                     false));
  int err = weights_load(net, path, strcmp(which, "live") == 0 ? CKPT_PARAMS : CKPT_EMA);
  if (err) network_destroy(net);
  return err;
}
