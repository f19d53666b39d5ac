/* checkpoint — the state of a run as one HDF5 file, independent of rank count and device.
 *
 * Format "mdlm-checkpoint", version 1: groups /params /ema /adam_m /adam_v, each with one float32 data set per
 * parameter under its name (dots stay in the name); these and those of /vocab have the attribute xxh3 (hex of XXH3-64
 * of their little-endian bytes). /vocab as in a data file. /metrics/<group>/<series> as in metrics.h5, with HDF5's
 * fletcher32. A seal (seal.h) covers the whole file. Attributes of /: format, format_version, step, tokens,
 * masked_tokens, seed, length, deck, git, data_digest, wrap, detokenizer, source, valid_nll, saved. */
#pragma once
#include "store/metrics.h"
#include "store/shards.h"

typedef struct CheckpointArray { /* one parameter on the host */
  const char *name;
  int rank;
  int64_t dims[4];
  float *data;
} CheckpointArray;

typedef struct CheckpointState {
  int64_t step, tokens, masked_tokens, seed, length; /* length: L of the sequences trained on */
  double valid_nll;                                  /* nat per token of the best validation so far, NaN if none */
  char *deck;                                        /* resolved deck; owned after a read */
  char git[64], data_digest[40];
  char weights_digest[33]; /* of checkpoint_digest, where somebody has asked for it; "" else */
  Protocol protocol;
  Vocab vocab; /* owned after a read */
} CheckpointState;

typedef enum CheckpointGroup { CKPT_PARAMS, CKPT_EMA, CKPT_ADAM_M, CKPT_ADAM_V, CKPT_GROUPS } CheckpointGroup;

/** checkpoint_save — write path: to path.tmp, flushed, fsynced, renamed, directory fsynced. Call on one rank.
 *  groups[g] is an array of n arrays, or NULL for a group left out. What stood under path stays until the rename.
 *  Errors  ERR_IO naming path and the system's reason; the previous file is untouched */
int checkpoint_save(const char *path, const CheckpointState *state, CheckpointArray *const groups[CKPT_GROUPS], int n,
                    MetricsTable *const *tables, int n_tables);
/** checkpoint_state — read and check the attributes and the vocabulary only. */
int checkpoint_state(const char *path, CheckpointState *state);
/** checkpoint_digest — XXH3-128, in hex, over names and checksums of the arrays in /params and /ema: equal for equal
 *  weights, whatever else the file holds. Values are not read. */
int checkpoint_digest(const char *path, char digest[33]);
/** checkpoint_load — fill the arrays of one group: every name must be there with exactly these dims, every checksum
 * must hold. Errors  ERR_DATA naming file, data set and what differs */
int checkpoint_load(const char *path, CheckpointGroup group, CheckpointArray *arrays, int n);
/** checkpoint_metrics — refill the tables (rows, in memory) from a checkpoint; series unknown to the file become NaN.
 */
int checkpoint_metrics(const char *path, MetricsTable *const *tables, int n_tables);
/** checkpoint_verify — read every data set and check every checksum. */
int checkpoint_verify(const char *path);
void checkpoint_state_destroy(CheckpointState *state);
