/* profile_file — the HDF5 file of `mdlm profile`: what it holds, and what is shown of it.
 *
 * profile.h5, format "mdlm-profile", version 1: what an evaluation holds (loss, square, tokens of each sequence), and
 *   /share, /position, /frequency, /distance   a data set [bins] per quantity
 *   /calibration                               [shares, tenths]; its shares are those of /share
 *   /residual/rms                              [1 + branches] of the residual stream; a transformer's block has two branches
 *   each data set                              attributes unit, description
 *   attributes of /                            those of an evaluation; accuracy, confidence, prediction_entropy, ece;
 *                                              variance_rows, variance_draws (interval.h)
 * Without masks there is neither /share nor /distance, and /calibration has one row. */
#pragma once
#include "cmd/evaluation.h"
#include "measure/profile.h"

typedef struct ProfileOutput {
  const Evaluation *evaluation; /* not owned, nor the next */
  const Profile *profile;
} ProfileOutput;

/** profile_fill — write it all; arg: a ProfileOutput. For task_publish. */
int profile_fill(H5 *f, const void *arg);
/** profile_line — text := " accuracy=… confidence=… entropy=… ece=…". Rank 0. */
enum { PROFILE_LINE = 128 };
const char *profile_line(char text[PROFILE_LINE], const ProfileOutput *o);
/** profile_show — print the tables of a file. Reads all its groups. Errors  ERR_DATA */
int profile_show(H5 *f);
