/* checkpoint — the state of a run as one HDF5 file, independent of rank count and device.
 *
 * Format "mdlm-checkpoint", version 1:
 *   /params /ema /adam_m /adam_v   groups of float32 data sets, one per parameter, under its name, dots included
 *   /trace_1 /trace_2              the same, where train.ema_traces asks for them: power-law averages
 *   /vocab                         as in a data file (shards.h)
 *   /metrics/<group>/<series>      as in metrics.h5 (metrics.h), with HDF5's fletcher32
 *   /mixture                       of a run on several sets (mixture.h): attribute start; a group for each set, in the order
 *                                  of their names, with the attributes digest, rows, share, first, drawn
 *   attributes of /                format, format_version, version, step, sequences, tokens, masked_tokens, seed, length,
 *                                  deck, git, data_digest, wrap, detokenizer, source, split, valid_nll, saved,
 *                                  class_names, one a line (where the data name their classes), init_digest (with run.init), trace_1_sigma and trace_2_sigma, their relative widths
 * The data sets of the parameter groups and of /vocab have the attribute xxh3: XXH3-64 of their little-endian bytes, in
 * hex. A seal (seal.h) covers the whole file. */
#pragma once
#include "store/checkpoint_format.h"
#include "store/h5.h"
#include "store/metrics.h"
#include "store/mixture.h"
#include "store/shards.h"

typedef struct CheckpointArray { /* one parameter on the host */
  const char *name;
  int rank;
  int64_t dims[4];
  float *data;
} CheckpointArray;

typedef struct CheckpointState {
  int64_t step, tokens, masked_tokens, seed, length; /* length: L of the training sequences */
  int64_t sequences; /* drawn from the data so far; −1: not in the file, which an older version wrote */
  double valid_nll;  /* nat per token of the best validation so far, NaN if none */
  char *deck;        /* resolved deck; owned after a read, and so is the next */
  char *class_names; /* of the training data, one a line; NULL: none */
  char git[64], data_digest[40];
  double trace_sigma[CKPT_TRACES]; /* relative widths of the traces; 0: there is none */
  char init_digest[33];            /* of the weights that the run began with (run.init), or "" */
  char weights_digest[33];         /* of checkpoint_digest; filled by a read */
  Protocol protocol;
  MixtureState mixture; /* n = 0: not in the file, of one set from which all sequences were drawn */
  Vocab vocab;          /* owned after a read */
} CheckpointState;

/** checkpoint_save — write a checkpoint: to path.tmp first, renamed when complete and on disk (draft.h). Call on one
 *  rank. groups[g] is an array of n arrays, or NULL to leave the group out.
 *  Errors  ERR_IO naming path and the system's reason; an older file at path is untouched */
int checkpoint_save(const char *path, const CheckpointState *state, CheckpointArray *const groups[CKPT_GROUPS], int n,
                    MetricsTable *const *tables, int n_tables);
/** checkpoint_begin — the same array by array: *f := a new checkpoint under its temporary name, with the state and without
 *  metrics. Then checkpoint_put, and draft_publish in the end. ERR_IO */
int checkpoint_begin(H5 **f, const char *path, const CheckpointState *state);
/** checkpoint_put — write one array of a group, with its checksum. ERR_IO */
int checkpoint_put(H5 *f, CheckpointGroup group, const CheckpointArray *a);
/** checkpoint_link — make `as` a second name of a group that is written, without a copy. ERR_IO */
int checkpoint_link(H5 *f, CheckpointGroup as, CheckpointGroup group);
/** checkpoint_open — open it and check its format; h5_close it. What is read through one handle belongs together, even
 *  while a running job replaces the file.
 *  Errors  ERR_DATA; ERR_USAGE: a newer format */
int checkpoint_open(H5 **f, const char *path);
/** checkpoint_state — read and check the attributes and the vocabulary only. ERR_DATA */
int checkpoint_state(H5 *f, CheckpointState *state);
/** checkpoint_digest — XXH3-128, in hex, over the names and checksums of the arrays in /params and /ema: equal weights
 *  have equal digests, whatever else the file holds. Does not read the values. ERR_DATA */
int checkpoint_digest(H5 *f, char digest[33]);
/** checkpoint_read — open, state, close. */
int checkpoint_read(const char *path, CheckpointState *state);
/** checkpoint_load — fill the arrays of one group. The group must have exactly these names and dims, and every checksum
 *  must match.
 *  Errors  ERR_DATA naming file, data set and what differs */
int checkpoint_load(H5 *f, CheckpointGroup group, CheckpointArray *arrays, int n);
/** checkpoint_shape — rank and dims of the array a->name of a group, or *exists = false. ERR_DATA */
int checkpoint_shape(H5 *f, CheckpointGroup group, CheckpointArray *a, bool *exists);
/** checkpoint_array — fill one array, which must have that shape; its checksum must match. ERR_DATA */
int checkpoint_array(H5 *f, CheckpointGroup group, const CheckpointArray *a);
/** checkpoint_names — the names of a group's arrays; free them with h5_list_free. ERR_DATA */
int checkpoint_names(H5 *f, CheckpointGroup group, char ***names);
/** checkpoint_metrics — load the tables' rows from a checkpoint; series that the file does not have become NaN. */
int checkpoint_metrics(H5 *f, MetricsTable *const *tables, int n_tables);
/** checkpoint_verify — read every data set and check every checksum. */
int checkpoint_verify(const char *path);
void checkpoint_state_destroy(CheckpointState *state);
