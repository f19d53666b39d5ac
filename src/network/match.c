#include "network/match.h"
#include "base/err.h"
#include "model/model.h"
#include <string.h>

#define SAME_WORD(field, key)                                                                                          \
  CHECK(strcmp(cfg->field, trained->field) == 0, ERR_USAGE, "%s was trained with %s = %s, the deck says %s", path,     \
        key, trained->field, cfg->field)
#define SAME_NUMBER(field, key)                                                                                        \
  CHECK(cfg->field == trained->field, ERR_USAGE, "%s was trained with %s = %g, the deck says %g", path, key,           \
        (double)trained->field, (double)cfg->field)
#define SAME_FLAG(field, key)                                                                                          \
  CHECK(cfg->field == trained->field, ERR_USAGE, "%s was trained with %s = %s, the deck says %s", path, key,           \
        trained->field ? "true" : "false", cfg->field ? "true" : "false")

static int match_model(const Config *cfg, const Config *trained, const char *path) {
  const ModelTable *model;
  SAME_WORD(model_name, "model.name");
  TRY(model_find(&model, cfg->model_name));
  SAME_NUMBER(model_width, "model.width");
  SAME_NUMBER(model_blocks, "model.blocks");
  if (model->attends) SAME_NUMBER(model_heads, "model.heads");
  if (model->attends) SAME_NUMBER(model_mlp_ratio, "model.mlp_ratio");
  if (model->timed) SAME_NUMBER(model_cond_dim, "model.cond_dim");
  SAME_FLAG(model_time_conditioning, "model.time_conditioning");
  SAME_FLAG(model_mask_padding, "model.mask_padding");
  return OK;
}

int network_match(const Config *cfg, const Config *trained, const char *path) {
  TRY(match_model(cfg, trained, path));
  SAME_WORD(diffusion_objective, "diffusion.objective");
  SAME_FLAG(diffusion_subs_masking, "diffusion.subs_masking");
  if (!cfg->model_time_conditioning) return OK;
  SAME_FLAG(diffusion_change_of_variables, "diffusion.change_of_variables");
  if (!cfg->diffusion_change_of_variables) return OK; /* else the network is conditioned on the schedule's time */
  SAME_WORD(diffusion_schedule, "diffusion.schedule");
  SAME_NUMBER(diffusion_schedule_eps, "diffusion.schedule_eps");
  SAME_NUMBER(diffusion_sigma_min, "diffusion.sigma_min");
  SAME_NUMBER(diffusion_sigma_max, "diffusion.sigma_max");
  return OK;
}
