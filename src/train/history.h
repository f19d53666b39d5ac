/* history — the series a run records: one row a log line, one row a validation, one row a token of a sample. */
#pragma once
#include "base/config.h"
#include "store/metrics.h"
#include "store/mixture.h"

enum {
  TRAIN_STEP,
  TRAIN_LOSS,
  TRAIN_PPL,
  TRAIN_GRAD_NORM,
  TRAIN_LR,
  TRAIN_TOKENS,
  TRAIN_MASKED,
  TRAIN_RATE,
  TRAIN_MFU,
  TRAIN_SECONDS,
  TRAIN_STEP_MEDIAN,
  TRAIN_STEP_SLOWEST,
  TRAIN_SLOWEST_RANK,
  TRAIN_COLUMNS, /* then, with several sets of training data, one column for each */
  TRAIN_MOST = TRAIN_COLUMNS + MIXTURE_SETS
};
enum {
  VALID_STEP,
  VALID_NLL,
  VALID_PPL,
  VALID_LOW,
  VALID_HIGH,
  VALID_SECONDS,
  VALID_COLUMNS, /* then, with diffusion.clip_search: */
  VALID_CLIP_LOW = VALID_COLUMNS,
  VALID_CLIP_HIGH,
  VALID_VARIANCE,
  VALID_MOST
};

enum { HISTORY_TABLES = 6 };

enum { SAMPLE_STEP, SAMPLE_NUMBER, SAMPLE_POSITION, SAMPLE_TOKEN, SAMPLE_COLUMNS }; /* a row a token */

typedef struct History {
  MetricsTable train, valid, samples;
  MetricsTable *tables[HISTORY_TABLES]; /* train and valid, and those that were added; for the store */
  int n;
  MetricsColumn columns[TRAIN_MOST];
  struct {
    char name[MIXTURE_NAME + 16], description[MIXTURE_NAME + 64];
  } words[MIXTURE_SETS];
} History;

/** history_create — room for a run on that data. Must not be moved in memory afterwards. */
int history_create(History *h, const Mixture *data, const Config *cfg);
/** history_add_samples — the table of samples, with room for so many tokens. */
int history_add_samples(History *h, int64_t tokens);
/** history_add — another table, which its owner destroys after the history. */
void history_add(History *h, MetricsTable *table);
void history_destroy(History *h);
