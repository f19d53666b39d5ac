#include "measure/estimator.h"
#include "base/err.h"
#include "base/menu.h"

int estimator_find(const EstimatorTable **table, const char *name, const Objective *o) {
  MENU_FIND(*table, estimators, name);
  CHECK(*table, ERR_USAGE, "eval.estimator = %s: no such estimator", name);
  return (*table)->check ? (*table)->check(o) : OK;
}
