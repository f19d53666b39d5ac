/* profile_bins — into which bins a scored row of a profile falls, one in each cut. In block diffusion, where a token sees
 * the clean blocks before its own and nothing behind it, share and distance are those of that view.
 *
 *   share        j/n: masked tokens of the sequence, or of the block, over its real positions; 0: none, as in a pass that
 *                reconstructs or where the next token is predicted; else tenths (0, 0.1], (0.1, 0.2] …
 *   position     of the target in its sequence
 *   frequency    of the target: token types in the order of their count in the evaluated sequences, cut into tenths of
 *                all tokens; 0: the most frequent. A type is in the tenth that its middle falls into, so that one with
 *                more than a tenth of the tokens leaves a bin empty
 *   distance     to the nearest visible token: 0, 1, 2, 3–4, 5–8, …; the last: nothing is visible
 *   calibration  share × the largest p, in tenths [0, 0.1), [0.1, 0.2) … [0.9, 1] */
#pragma once
#include "diffusion/rows.h"

typedef enum Cut { CUT_SHARE, CUT_POSITION, CUT_FREQUENCY, CUT_DISTANCE, CUT_CALIBRATION, CUTS } Cut;
enum { PROFILE_SHARES = 11, PROFILE_TENTHS = 10 };

typedef struct ProfileBins {
  int64_t L, V;
  int64_t first[CUTS + 1]; /* bins of cut c: first[c] … first[c + 1] − 1 of all */
  int64_t types[PROFILE_TENTHS], low[PROFILE_TENTHS], high[PROFILE_TENTHS]; /* of the bins of frequency: token types,
                                                                             * the least and the largest count */
  uint8_t *tenth;                                                           /* [V] bin of frequency */
  int64_t sequence, from; /* the one that share and distance are of, and its block's first position; −1: none */
  int64_t share;          /* its bin */
  int32_t *distance;      /* [L] bins of its positions */
} ProfileBins;

/** profile_bins_create — for sequences of L tokens out of V. ERR_MEMORY */
int profile_bins_create(ProfileBins *b, int64_t L, int64_t V);
void profile_bins_destroy(ProfileBins *b);
/** profile_bins_count — the bins of frequency from the count[V] of each token. ERR_MEMORY */
int profile_bins_count(ProfileBins *b, const int64_t *count);
/** profile_bins_begin — another pass: rows of any sequence may come next. */
void profile_bins_begin(ProfileBins *b);
/** profile_bins_row — bin[CUTS] of row i of the pass, which comes in the order of the sequences. */
void profile_bins_row(ProfileBins *b, const Objective *o, const Noised *z, int64_t i, const Prediction *p,
                      int64_t bin[CUTS]);
/** profile_bins_distance — the distances of bin k: low … high; low = high = L: nothing is visible. */
void profile_bins_distance(const ProfileBins *b, int64_t k, int64_t *low, int64_t *high);
