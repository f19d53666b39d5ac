/* clip_search — between which two times the loss of a block has the least variance: the ends of the times of training with
 * diffusion.clip_search.
 *
 * A candidate (low, high) stands for times uniform between the two. Those of an evaluation are uniform in [τ,1], so its
 * blocks whose times happen to lie there are draws of the candidate: one evaluation serves all candidates, and they share
 * its random numbers. The value of a block is the mean loss over its real tokens with the weights of training, but for the
 * constant factor of the width of the candidate; without diffusion.block the row is the block.
 * Source: arXiv:2503.09573 §5.3, which evaluates each candidate by itself */
#pragma once
#include "network/network.h"

enum { CLIP_PIECES = 20 }; /* equal parts of [0,1]: all ends are ends of such */

typedef struct ClipPiece { /* blocks with a time in one of them */
  double blocks, sum, squares;
} ClipPiece;

typedef struct ClipChoice {
  double low, high, variance;
  int64_t blocks;
} ClipChoice;

/** clip_search_add — the blocks of sequence b of the last network_loss, of one pass, into sums[CLIP_PIECES]. */
void clip_search_add(ClipPiece *sums, const Network *net, int64_t b);
/** clip_search_between — the candidate from piece `first` to before piece `last`; its variance is NaN with less than two
 *  blocks, or if all losses are 0, where no token was noised and there is nothing to learn. */
ClipChoice clip_search_between(const ClipPiece *sums, int first, int last);
/** clip_search_pick — the candidate of the least variance, of equal ones the first. False: none has a variance. */
bool clip_search_pick(ClipChoice *best, const ClipPiece *sums);
