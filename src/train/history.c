#include "train/history.h"
#include "base/err.h"
#include <stdio.h>
#include <string.h>

static const MetricsColumn train_columns[TRAIN_COLUMNS] = {
    {"step", "step", "optimizer steps taken"},
    {"loss", "nat/token", "training loss with the weights of diffusion.weight, mean since the last row"},
    {"ppl", "", "exp(loss); NaN where the loss is not the bound"},
    {"grad_norm", "", "2-norm of the gradient before clipping"},
    {"lr", "", "learning rate of the last step"},
    {"tokens", "token", "tokens seen since the start, once for each of train.draws, padding left out"},
    {"masked_tokens", "token", "tokens masked since the start, in all draws, padding left out"},
    {"tokens_per_s", "token/s", "tokens trained on per second, all ranks, mean since the last row"},
    {"mfu", "1",
     "floating-point operations of the model per second over the matrix-product rate measured at the start"},
    {"seconds", "s", "time since this process started training"},
    {"step_median", "s", "time of a step on the median rank, waiting for other ranks left out; CPU only, NaN on GPUs"},
    {"step_slowest", "s", "the same on the slowest rank"},
    {"slowest_rank", "", "which rank that is"},
};
static const MetricsColumn valid_columns[VALID_MOST] = {
    {"step", "step", "optimizer steps taken"},
    {"nll", "nat/token", "bound on the negative log-likelihood of the validation data, moving-average weights"},
    {"ppl", "", "exp(nll)"},
    {"ppl_low", "", "lower end of the 95 % interval of ppl over sequences"},
    {"ppl_high", "", "upper end of the 95 % interval of ppl over sequences"},
    {"seconds", "s", "time the validation took"},
    {"clip_low", "", "smallest time of training from here on"},
    {"clip_high", "", "largest time of training from here on"},
    {"clip_variance", "nat2/token2", "variance of the mean loss of a block between these times"},
};
static const MetricsColumn sample_columns[SAMPLE_COLUMNS] = {
    {"step", "step", "optimizer steps taken"},
    {"sample", "", "number of the sample: its noise and prompt are always the same"},
    {"position", "", "position of the token in the sample"},
    {"token", "", "token id, of the vocabulary in this file"},
};

/* One more column for each set of several; returns the number of all. */
static int columns_make(History *h, const Mixture *data) {
  int n = mixture_sets(data) > 1 ? mixture_sets(data) : 0;
  memcpy(h->columns, train_columns, sizeof train_columns);
  for (int i = 0; i < n; i++) {
    snprintf(h->words[i].name, sizeof h->words[i].name, "sequences_%s", mixture_name(data, i));
    snprintf(h->words[i].description, sizeof h->words[i].description, "sequences drawn of the set %s since the start",
             mixture_name(data, i));
    h->columns[TRAIN_COLUMNS + i] = (MetricsColumn){h->words[i].name, "sequence", h->words[i].description};
  }
  return TRAIN_COLUMNS + n;
}

int history_create(History *h, const Mixture *data, const Config *cfg) {
  int64_t steps = cfg->train_steps, every = cfg->train_valid_every;
  *h = (History){0};
  history_add(h, &h->train);
  history_add(h, &h->valid);
  TRY(metrics_table_create(&h->train, "train", h->columns, columns_make(h, data), 2 + steps / cfg->train_log_every));
  return metrics_table_create(&h->valid, "valid", valid_columns,
                              cfg->diffusion_clip_search ? (int)VALID_MOST : (int)VALID_COLUMNS,
                              2 + (every ? steps / every : 0));
}

void history_add(History *h, MetricsTable *table) {
  ASSERT(h->n < HISTORY_TABLES);
  h->tables[h->n++] = table;
}

int history_add_samples(History *h, int64_t tokens) {
  history_add(h, &h->samples);
  return metrics_table_create(&h->samples, "samples", sample_columns, SAMPLE_COLUMNS, tokens);
}

void history_destroy(History *h) {
  metrics_table_destroy(&h->samples);
  metrics_table_destroy(&h->train);
  metrics_table_destroy(&h->valid);
}
