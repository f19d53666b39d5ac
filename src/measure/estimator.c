#include "measure/estimator.h"
#include "base/err.h"
#include "base/menu.h"
#include <string.h>

/* Estimators with draws go from the one that suits every objective to the one with the least variance. Those without
 * draws take a pass of the network per token. */
static const EstimatorTable *best(const Objective *o) {
  const EstimatorTable *found = estimators[0];
  for (int i = 1; estimators[i]; i++)
    if (estimators[i]->noise && (!estimators[i]->check || estimators[i]->check(o) == OK)) found = estimators[i];
  err_clear();
  return found;
}

int estimator_find(const EstimatorTable **table, const char *name, const Objective *o) {
  if (strcmp(name, "auto") == 0) return *table = best(o), OK;
  MENU_FIND(*table, estimators, name);
  CHECK(*table, ERR_USAGE, "eval.estimator = %s: no such estimator", name);
  return (*table)->check ? (*table)->check(o) : OK;
}

static bool lists(const EstimatorTable *e, const char *key) {
  for (const char *const *k = e->keys; *k; k++)
    if (strcmp(*k, key) == 0) return true;
  return false;
}

bool estimator_reads(const EstimatorTable *e, const char *key) {
  bool listed = false;
  for (int i = 0; estimators[i] && !listed; i++) listed = lists(estimators[i], key);
  return !listed || (e && lists(e, key));
}
