/* profile — where the bound of a data set comes from: the passes of nelbo.h, with every scored row put into bins.
 *
 * A cut (profile_bins.h) puts each scored row of each draw into one bin, so with the losses of the objective
 *   nll = Σ over the bins of a cut of loss / (draws · tokens)
 * for every cut. Each sum over rows is taken in the order of the sequences in groups of a fixed size: the same bits on any
 * number of ranks and after an interruption. */
#pragma once
#include "measure/nelbo.h"
#include "measure/profile_bins.h"

typedef struct ProfileCell { /* sums over the rows of a bin */
  double rows;
  double nll, square;        /* −log p(target), without weights, and its square */
  double loss;               /* the objective's, with weights */
  double hits, top, entropy; /* of Prediction */
} ProfileCell;

typedef struct ProfileNorm { /* sums over the predicted positions of the first pass of each draw */
  double squares, rows;      /* of the residual stream's D values; positions */
} ProfileNorm;

typedef struct Profile {
  ProfileBins bins;
  ProfileCell *cells; /* [bins.first[CUTS]] rank 0, as the next */
  ProfileNorm *norms; /* [seams] after 0, 1, … branches */
  int64_t seams;
} Profile;

/** profile_run — *r := what nelbo_run gives, bit for bit, and the profile. Collective. A stop signal is obeyed after a
 *  pass of the network; what is finished is kept in the partial file by groups of sequences.
 *  Errors  those of nelbo_run; ERR_NUMERIC: a logit is NaN */
int profile_run(Profile *p, Nelbo *r, Network *net, Shards *data, Comm *comm, const NelboOptions *options);
void profile_destroy(Profile *p);
/** profile_cut — the bins of the cut that the objective has rows for: *first of the cut's own, and how many; 0: the cut
 *  says nothing here. Of the calibration: shares. */
int64_t profile_cut(const Profile *p, const Network *net, Cut cut, int64_t *first);
/** profile_total — the sum of n cells. */
ProfileCell profile_total(const ProfileCell *cells, int64_t n);
/** profile_ece — the expected calibration error of n shares from number `first` on:
 *    Σ over tenths of |hits − Σ top| / rows      the shares taken together; NaN without rows */
double profile_ece(const Profile *p, int64_t first, int64_t n);
