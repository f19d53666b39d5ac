#include "train/history.h"
#include "base/err.h"

static const MetricsColumn train_columns[TRAIN_COLUMNS] = {
    {"step", "step", "optimizer steps taken"},
    {"loss", "nat/token", "training loss with the weights of diffusion.weight, mean since the last row"},
    {"ppl", "", "exp(loss); NaN where the loss is not the bound"},
    {"grad_norm", "", "2-norm of the gradient before clipping"},
    {"lr", "", "learning rate of the last step"},
    {"tokens", "token", "tokens seen since the start, padding left out"},
    {"masked_tokens", "token", "tokens masked since the start, padding included"},
    {"tokens_per_s", "token/s", "tokens trained on per second, all ranks, mean since the last row"},
    {"mfu", "1",
     "floating-point operations of the model per second over the matrix-product rate measured at the start"},
    {"seconds", "s", "time since this process started training"},
    {"step_median", "s", "time of a step on the median rank, waiting for other ranks left out; CPU only, NaN on GPUs"},
    {"step_slowest", "s", "the same on the slowest rank"},
    {"slowest_rank", "", "which rank that is"},
};
static const MetricsColumn valid_columns[VALID_COLUMNS] = {
    {"step", "step", "optimizer steps taken"},
    {"nll", "nat/token", "bound on the negative log-likelihood of the validation data, moving-average weights"},
    {"ppl", "", "exp(nll)"},
    {"ppl_low", "", "lower end of the 95 % interval of ppl over sequences"},
    {"ppl_high", "", "upper end of the 95 % interval of ppl over sequences"},
    {"seconds", "s", "time the validation took"},
};

int history_create(History *h, int64_t steps, int64_t log_every, int64_t valid_every) {
  *h = (History){0};
  h->tables[0] = &h->train;
  h->tables[1] = &h->valid;
  int64_t validations = 2 + (valid_every ? steps / valid_every : 0);
  TRY(metrics_table_create(&h->train, "train", train_columns, TRAIN_COLUMNS, 2 + steps / log_every));
  return metrics_table_create(&h->valid, "valid", valid_columns, VALID_COLUMNS, validations);
}

void history_destroy(History *h) {
  metrics_table_destroy(&h->train);
  metrics_table_destroy(&h->valid);
}
