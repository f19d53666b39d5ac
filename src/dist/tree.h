/* tree — how ranks add up arrays in one fixed order, whatever carries the numbers from one to another.
 *
 * A recursive halving: partners at distance 1, then 2, 4, … exchange halves of the range that they share, and each adds
 * its partner's half to its own. After the exchange at distance d a rank holds, of its part of the range, the sum over
 * its aligned group of 2d ranks, formed as (left half of the group) + (right half): the binary tree over the ranks.
 * Which of the two is the left operand differs between partners, and does not matter: an IEEE addition commutes, bit
 * for bit. An all-gather walks the same way back. */
#pragma once
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { TREE_STEPS = 31 };

typedef struct TreeRange { /* elements */
  size_t start, n;
} TreeRange;

/* There: send `other`, receive the partner's numbers of `mine` and add them. Back: send `mine`, receive `other`. Either
 * may be empty. */
typedef struct TreeStep {
  int partner;
  TreeRange mine, other;
} TreeStep;

/** tree_check — ERR_USAGE unless the number of ranks is a power of two. */
int tree_check(int size);
/** tree_plan — the steps of a rank for an array of n; their number. */
int tree_plan(TreeStep *steps, int rank, int size, size_t n);

#ifdef __cplusplus
}
#endif
