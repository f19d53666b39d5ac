#include "diffusion/network.h"
#include "base/err.h"
#include <sched.h>
#include <string.h>

/* device.threads, or this rank's share of the cores it may use. */
static int threads_of(const Config *cfg, int share_size) {
  cpu_set_t allowed;
  int share = sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : CPU_COUNT(&allowed) / share_size;
  return cfg->device_threads > 0 ? (int)cfg->device_threads : share > 1 ? share : 1;
}

static int create(Network *n, const Config *cfg, int share_rank, int share_size, int64_t vocab, int64_t length,
                  int32_t mask, int64_t batch, bool training) {
  DeviceOptions device = {.name = cfg->device_name,
                          .threads = threads_of(cfg, share_size),
                          .pin = cfg->device_pin && share_size * threads_of(cfg, share_size) > 1,
                          .share_rank = share_rank,
                          .bf16 = strcmp(cfg->device_matmul, "bf16") == 0,
                          .row_chunk = cfg->device_row_chunk};
  TRY(device_open(&n->dev, &device));
  ModelOptions model = {.name = cfg->model_name,
                        .vocab = vocab,
                        .length = length,
                        .batch = batch,
                        .width = cfg->model_width,
                        .blocks = cfg->model_blocks,
                        .heads = cfg->model_heads,
                        .cond_dim = cfg->model_cond_dim,
                        .mlp_ratio = cfg->model_mlp_ratio,
                        .dropout = cfg->model_dropout,
                        .time_conditioning = cfg->model_time_conditioning,
                        .training = training};
  TRY(model_create(&n->model, &n->dev, &model));
  TRY(rows_create(&n->rows, &n->model));
  TRY(schedule_create(&n->schedule, cfg->diffusion_schedule, cfg->diffusion_schedule_eps));
  TRY(objective_create(&n->objective, cfg->diffusion_objective, &n->schedule, mask));
  return noised_create(&n->noised, batch, length);
}

int network_create(Network *n, const Config *cfg, int share_rank, int share_size, int64_t vocab, int64_t length,
                   int32_t mask, int64_t batch, bool training) {
  *n = (Network){0};
  int err = create(n, cfg, share_rank, share_size, vocab, length, mask, batch, training);
  if (err) network_destroy(n);
  return err;
}

void network_destroy(Network *n) {
  if (n == NULL) return;
  noised_destroy(&n->noised);
  rows_destroy(&n->rows);
  model_destroy(&n->model);
  device_close(&n->dev);
  *n = (Network){0};
}
