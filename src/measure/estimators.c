/* estimators — the menu: a table for each word of keys.def. */
#include "base/keys.def"
#include "measure/estimator.h"

#define ROW(word) extern const EstimatorTable estimator_##word;
ESTIMATORS(ROW)
#undef ROW
#define ROW(word) &estimator_##word,
const EstimatorTable *const estimators[] = {ESTIMATORS(ROW) NULL};
