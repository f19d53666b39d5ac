#include "cmd/deck_job.h"
#include "base/err.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

/* The line of that text, −1: none. */
static int64_t line_of(const char *lines, const char *text) {
  size_t n = strlen(text);
  for (int64_t i = 0; lines && *lines; i++) {
    size_t length = strcspn(lines, "\n");
    if (length == n && strncmp(lines, text, n) == 0) return i;
    lines += length + (lines[length] != 0);
  }
  return -1;
}

int deck_label(const Config *cfg, const char *names, int32_t *label) {
  const char *word = cfg->sample_label;
  char *end;
  *label = -1;
  if (!*word) return OK;
  CHECK(cfg->model_classes > 0, ERR_USAGE, "sample.label = %s: the network knows no classes (model.classes = 0)", word);
  long long class = line_of(names, word);
  if (class < 0) {
    class = strtoll(word, &end, 10);
    if (*end || *word < '0' || *word > '9') class = -1;
  }
  CHECK(class >= 0 && class < cfg->model_classes, ERR_USAGE,
        "sample.label = %s: neither %s nor a number from 0 to %lld", word,
        names && *names ? "the name of a class, as mdlm info tells of the training data,"
                        : "a name of the training data",
        (long long)cfg->model_classes - 1);
  *label = (int32_t) class;
  return OK;
}

int deck_label_name(const char *names, int32_t label, char **name) {
  for (int32_t i = 0; names && i < label; i++) {
    names = strchr(names, '\n');
    if (names) names++;
  }
  TRY(mem_strdup(name, names ? names : ""));
  (*name)[strcspn(*name, "\n")] = '\0';
  return OK;
}

SamplerJob deck_job(const Config *cfg, Network *net, int32_t label) {
  SamplerJob job = {.model = &net->model,
                    .rows = &net->rows,
                    .objective = &net->objective,
                    .steps = cfg->sample_steps,
                    .noise_removal = cfg->sample_noise_removal,
                    .draw = {.temperature = cfg->sample_temperature,
                             .nucleus = cfg->sample_nucleus,
                             .within = strcmp(cfg->sample_nucleus_rule, "bd3lm") == 0,
                             .f32 = strcmp(cfg->sample_draw, "f32") == 0},
                    .seed = (uint64_t)cfg->run_seed};
  guidance_set(&job, label, cfg->sample_guidance);
  return job;
}
