#include "diffusion/sampler.h"
#include "base/err.h"
#include <string.h>

extern const Sampler sampler_ancestral;
static const Sampler *const samplers[] = {&sampler_ancestral, NULL};

int sampler_find(const Sampler **s, const char *name) {
  for (int i = 0; samplers[i]; i++)
    if (strcmp(samplers[i]->name, name) == 0) return *s = samplers[i], OK;
  return RAISE(ERR_USAGE, "sample.sampler = %s: no such sampler", name);
}

double sampler_time(int64_t i, int64_t steps) { return 1 - (double)i * (1 - 1e-5) / (double)steps; }
