#include "train/freeze.h"
#include "base/err.h"
#include "base/mem.h"
#include <fnmatch.h>
#include <string.h>

static int mark(Params *p, const char *pattern) {
  int found = 0;
  for (int i = 0; i < p->n; i++) {
    if (fnmatch(pattern, p->list[i].name, 0) != 0) continue;
    p->list[i].frozen = true;
    found++;
  }
  CHECK(found > 0, ERR_USAGE, "train.freeze: no parameter of this network is called %s; mdlm info FILE lists them",
        pattern);
  return OK;
}

int freeze_params(Params *p, const char *patterns) {
  char *copy, *save = NULL;
  int err = OK, trained = 0;
  TRY(mem_strdup(&copy, patterns));
  for (char *word = strtok_r(copy, ", ", &save); word && err == OK; word = strtok_r(NULL, ", ", &save))
    err = mark(p, word);
  mem_free(&copy);
  TRY(err);
  for (int i = 0; i < p->n; i++) trained += !p->list[i].frozen;
  CHECK(trained > 0, ERR_USAGE, "train.freeze = %s leaves no parameter to be trained", patterns);
  return OK;
}

/* Where the parameter's elements end, the gap behind them included. */
static int64_t end_of(const Params *p, int i) { return i + 1 < p->n ? p->list[i + 1].offset : p->count; }

bool freeze_next(const Params *p, int64_t first, int64_t end, int64_t *from, int64_t *n) {
  int i = 0;
  while (i < p->n && (end_of(p, i) <= first || p->list[i].frozen)) i++;
  if (first >= end || i == p->n || p->list[i].offset >= end) return false;
  *from = p->list[i].offset > first ? p->list[i].offset : first;
  while (i < p->n && !p->list[i].frozen) i++;
  int64_t last = i < p->n ? p->list[i].offset : p->count;
  *n = (last < end ? last : end) - *from;
  return true;
}
