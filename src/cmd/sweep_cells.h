/* sweep_cells — the cells of a sweep: checkpoints × data sets × estimators × draws × T × seeds.
 *
 * A cell is one evaluation file, DIR/cells/NAME.h5, as eval writes it. NAME is a digest of all that its values are a
 * function of: weights, data, estimator, T, draws, seed and the rest of the deck. So a changed checkpoint is a new cell,
 * and nothing is ever replaced; checkpoints with the same weights share their files. Where the network's
 * value is exact, estimators, draws, T and seeds make one cell; of an estimator without draws, draws, T and seeds do. */
#pragma once
#include "cmd/evaluation.h"

typedef struct SweepCheckpoint {
  char path[FILES_PATH];
  CheckpointState state;
  Config trained; /* its deck */
  bool exact;     /* predicts the next token: nothing is masked */
  double bytes;   /* of its file: the size of the network, for the order of the cells */
} SweepCheckpoint;

typedef struct SweepData {
  char name[64];
  char *spec;
  Shards *shards;
} SweepData;

typedef struct SweepCell {
  int checkpoint, data; /* indices */
  const char *estimator;
  bool drawn; /* else draws = 1, seed = 0 */
  int64_t draws, T, seed;
  double cost; /* relative */
  char name[33];
  char path[FILES_PATH]; /* of its file */
  char error[256];       /* why it failed in this run, "" otherwise */
} SweepCell;
enum { SWEEP_WORDS = 2 * FILES_PATH };

typedef struct Sweep {
  const Config *cfg; /* not owned */
  char dir[FILES_PATH];
  SweepCheckpoint *checkpoints;
  SweepData *data;
  SweepCell *cells;
  int n_checkpoints, n_data, n_cells;
  char *words; /* the estimators */
} Sweep;

/** sweep_create — the cells that the deck describes, those of a checkpoint together. Not collective.
 *  Errors  ERR_USAGE: an empty or wrong list; ERR_DATA: a file that cannot be read; ERR_MEMORY */
int sweep_create(Sweep *s, const Config *cfg);
void sweep_destroy(Sweep *s);
/** sweep_config — the deck of a cell: that of its checkpoint, with this cell's options on the device of the sweep's
 *  deck. Its strings belong to others. */
Config sweep_config(const Sweep *s, const SweepCell *cell);
/** sweep_done — whether the cell's file is there. */
bool sweep_done(const SweepCell *cell);
/** sweep_words — text := the cell as people know it; returns text. */
const char *sweep_words(const Sweep *s, const SweepCell *cell, char text[SWEEP_WORDS]);
/** sweep_digest — of all cells: the same on ranks that have seen the same files. */
uint64_t sweep_digest(const Sweep *s);
