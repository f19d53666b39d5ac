/* tree — the fixed order in which the leaves of a global batch are summed, on any number of ranks, whatever library
 * carries the data.
 *
 * Leaves 0 … n−1 form one binary tree. A node of several leaves is the sum of its two halves, the left one as large a
 * power of two as fits:
 *   T(n) = T(2^k) + T(n − 2^k),  2^k < n ≤ 2^(k+1)
 * so that the nodes are the runs [i·2^k, (i+1)·2^k), cut at n. The two operands of a sum may be swapped: IEEE addition
 * is commutative bit for bit.
 *
 * Each of P ranks has n/P consecutive leaves and sums them to as few nodes as possible, at most two of each size: one
 * where n/P is a power of two. The sum over ranks then takes one stage for each prime factor f of P, the smallest first:
 * f neighbouring groups of d ranks, d the product of the factors before, become one group. Reduce-scatter: ranks at the
 * same place of the f groups divide their range of elements into f parts, each takes one, receives all nodes of the
 * others for it, and adds siblings. At the end one node is left, and the all-gather takes the stages in reverse. Where
 * all groups are one node, a rank sends 2 N (P−1)/P of N elements, as with recursive halving, which this is for powers of
 * two; where they are c nodes, the reduce-scatter sends c times as much. Either half can be had alone. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { TREE_NODES = 34 }; /* that any run of up to 2^16 leaves consists of */

typedef enum TreePhases { TREE_SCATTER = 1, TREE_GATHER = 2, TREE_SUM = 3 } TreePhases;

typedef struct TreeNode { /* a run of leaves */
  int64_t first, end;
} TreeNode;

typedef struct Tree {
  int64_t leaves; /* a multiple of size */
  int rank, size;
} Tree;

/* Moves and adds the data. */
typedef struct TreeCarrier {
  void *arg;
  size_t width; /* bytes of an element */
  /* Send `out` to the partner and receive `in` from it, which makes the mirror image of the call; either may be empty. */
  int (*swap)(void *arg, int partner, const char *out, size_t n_out, char *in, size_t n_in);
  int (*add)(void *arg, char *x, const char *y, size_t n); /* x += y */
} TreeCarrier;

/** tree_check — ERR_USAGE unless the ranks can share the leaves equally. */
int tree_check(const Tree *t);
/** tree_siblings — whether two adjacent nodes are the halves of a node. */
bool tree_siblings(TreeNode left, TreeNode right, int64_t leaves);
/** tree_nodes — nodes[] := the fewest nodes that make up the leaves first … end−1, from left to right; returns their
 *  number. */
int tree_nodes(TreeNode nodes[TREE_NODES], int64_t first, int64_t end, int64_t leaves);
/** tree_own — the same for the leaves of this rank. */
int tree_own(TreeNode nodes[TREE_NODES], const Tree *t);
/** tree_scratch — the elements of scratch that tree_run needs for arrays of up to n elements. */
size_t tree_scratch(const Tree *t, size_t n);
/** tree_part — where n elements divide into equal parts, one per rank: the number of the part that a reduce-scatter
 *  leaves on this rank. */
int tree_part(const Tree *t);
/** tree_run — arrays[k][n]. Collective.
 *  TREE_SUM      in: the sums of this rank's nodes. The last array := the sum of all leaves, the others are undefined
 *                afterwards
 *  TREE_SCATTER  the same, but of the last array too only this rank's part is defined afterwards
 *  TREE_GATHER   one array, whose parts := those of their ranks; no scratch */
int tree_run(const Tree *t, TreePhases phases, const TreeCarrier *carrier, void *const *arrays, void *scratch,
             size_t n);

#ifdef __cplusplus
}
#endif
