/* network — a model with its schedule, objective and scored rows, as a deck describes it: what training, evaluation and
 * sampling all hold. */
#pragma once
#include "base/config.h"
#include "diffusion/rows.h"

typedef struct Network {
  Device dev;
  Model model;
  Rows rows;
  Schedule schedule;
  Objective objective;
  Noised noised; /* one batch on the host */
} Network;

/** network_create — for sequences of `length` tokens over `vocab` ids with mask token `mask`, `batch` sequences a pass.
 *  share_rank of share_size ranks that use the same cores. Weights are zero. Not movable once made. Not
 * collective. Errors  ERR_USAGE, ERR_MEMORY, ERR_DEVICE */
int network_create(Network *n, const Config *cfg, int share_rank, int share_size, int64_t vocab, int64_t length,
                   int32_t mask, int64_t batch, bool training);
/** network_destroy — NULL-safe, clears n. */
void network_destroy(Network *n);
