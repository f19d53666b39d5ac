/* objectives — the menu: a table for each word of keys.def. */
#include "base/keys.def"
#include "diffusion/objective.h"

#define ROW(word) extern const ObjectiveTable objective_##word;
OBJECTIVES(ROW)
#undef ROW
#define ROW(word) &objective_##word,
const ObjectiveTable *const objectives[] = {OBJECTIVES(ROW) NULL};
