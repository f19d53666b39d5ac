/* laws — the menu: a table for each word of keys.def. */
#include "base/keys.def"
#include "diffusion/law.h"

#define ROW(word) extern const LawTable law_##word;
LAWS(ROW)
#undef ROW
#define ROW(word) &law_##word,
const LawTable *const laws[] = {LAWS(ROW) NULL};
