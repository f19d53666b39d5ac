#include "cmd/deck_job.h"
#include <string.h>

SamplerJob deck_job(const Config *cfg, Network *net) {
  return (SamplerJob){.model = &net->model,
                      .rows = &net->rows,
                      .objective = &net->objective,
                      .steps = cfg->sample_steps,
                      .noise_removal = cfg->sample_noise_removal,
                      .draw = {.temperature = cfg->sample_temperature,
                               .nucleus = cfg->sample_nucleus,
                               .within = strcmp(cfg->sample_nucleus_rule, "bd3lm") == 0,
                               .f32 = strcmp(cfg->sample_draw, "f32") == 0},
                      .guided = cfg->sample_guidance != 1,
                      .guidance = cfg->sample_guidance,
                      .seed = (uint64_t)cfg->run_seed};
}
