#include "dist/tree.h"
#include "base/err.h"
#include <stdbool.h>

int tree_check(int size) {
  CHECK((size & (size - 1)) == 0, ERR_USAGE,
        "dist.reduce = \"tree\" needs 1, 2, 4, 8, … ranks, there are %d; start a power of two or use \"fast\"", size);
  return OK;
}

static TreeRange half_of(TreeRange r, bool upper) {
  size_t low = r.n / 2;
  return upper ? (TreeRange){r.start + low, r.n - low} : (TreeRange){r.start, low};
}

int tree_plan(TreeStep *steps, int rank, int size, size_t n) {
  TreeRange shared = {0, n}; /* by this rank and its partner */
  int count = 0;
  for (int d = 1; d < size; d *= 2) {
    bool upper = rank & d;
    TreeStep *s = &steps[count++];
    *s = (TreeStep){rank ^ d, half_of(shared, upper), half_of(shared, !upper)};
    shared = s->mine;
  }
  return count;
}
