/* samplers — the menu: a table for each word of keys.def. */
#include "base/keys.def"
#include "sampling/sampler.h"

#define ROW(word) extern const SamplerTable sampler_##word;
SAMPLERS(ROW)
#undef ROW
#define ROW(word) &sampler_##word,
const SamplerTable *const samplers[] = {SAMPLERS(ROW) NULL};
