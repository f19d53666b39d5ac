/* models — the menu: a table for each word of keys.def. */
#include "base/keys.def"
#include "model/model.h"

#define ROW(word) extern const ModelTable model_##word;
MODELS(ROW)
#undef ROW
#define ROW(word) &model_##word,
const ModelTable *const models[] = {MODELS(ROW) NULL};
