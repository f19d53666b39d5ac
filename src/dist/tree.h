/* tree — the fixed order in which ranks sum arrays, whatever library carries the data.
 *
 * Reduce-scatter by recursive halving: partners at distance 1, then 2, 4, … exchange halves of the range that they
 * share, and each adds its partner's half to its own. After the exchange at distance d, a rank holds for its part of
 * the range the sum over its aligned group of 2d ranks, formed as
 *   (left half of the group) + (right half of the group),
 * which is the binary tree over the ranks. The two partners swap the operands; IEEE addition is commutative bit for
 * bit. The all-gather takes the same steps in reverse. */
#pragma once
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { TREE_STEPS = 31 };

typedef struct TreeRange { /* elements */
  size_t start, n;
} TreeRange;

/* Reduce-scatter: send `other`, receive the partner's values of `mine` and add them.
 * All-gather: send `mine`, receive `other`. Either range may be empty. */
typedef struct TreeStep {
  int partner;
  TreeRange mine, other;
} TreeStep;

/** tree_check — ERR_USAGE unless the number of ranks is a power of two. */
int tree_check(int size);
/** tree_plan — steps[] := those of a rank for an array of n elements; returns their number. */
int tree_plan(TreeStep *steps, int rank, int size, size_t n);

#ifdef __cplusplus
}
#endif
