#include "network/match.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
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
  SAME_NUMBER(model_classes, "model.classes");
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

int network_deck(Config *trained, const char *deck, const char *path) {
  char *gone;
  TRY(config_load_text(trained, deck, path, &gone));
  if (gone) log_warn("%s has keys that this version of mdlm does not have; they are ignored: %s", path, gone);
  mem_free(&gone);
  return OK;
}

typedef struct Changes {
  int64_t step;
  const char *sections, *quiet;
} Changes;

/* Whether one of the words is the first n letters of `word`. */
static bool among(const char *words, const char *word, size_t n) {
  for (const char *p = words; *p; p += strcspn(p, " "), p += strspn(p, " "))
    if (strcspn(p, " ") == n && strncmp(p, word, n) == 0) return true;
  return false;
}

static void tell(void *arg, const char *key, const char *now, const char *before) {
  const Changes *c = arg;
  if (among(c->sections, key, strcspn(key, ".")) && !among(c->quiet, key, strlen(key)))
    log_warn("changed since the checkpoint: %s = %s, was %s at step %lld", key, now, before, (long long)c->step);
}

int network_changes(const Config *cfg, const Config *trained, int64_t step, const char *sections, const char *quiet) {
  Changes c = {.step = step, .sections = sections, .quiet = quiet};
  return config_compare(cfg, trained, tell, &c);
}
