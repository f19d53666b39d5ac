#include "diffusion/network.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* The second pass of an objective has dropout of its own: streams beyond those of any number of layers. */
enum { SECOND_PASS_LAYER = 1 << 20 };

/* device.threads, or this rank's share of the cores it may use. */
static int threads_of(const Config *cfg, int share_size) {
  cpu_set_t allowed;
  int share = sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : CPU_COUNT(&allowed) / share_size;
  return cfg->device_threads > 0 ? (int)cfg->device_threads : share > 1 ? share : 1;
}

static bool causal_network(const Config *cfg) {
  return strcmp(cfg->model_name, "ar") == 0 || strcmp(cfg->model_name, "gpt2") == 0;
}

/* A left-to-right objective needs a causal network, a diffusion objective one that sees all tokens. */
static int check(const Config *cfg, const Objective *o, int64_t length) {
  const char *network = cfg->model_name, *objective = o->table->name;
  bool causal = causal_network(cfg);
  CHECK(causal || o->table->diffusion, ERR_USAGE,
        "diffusion.objective = %s predicts the next token: model.name = %s sees it already; use model.name = ar",
        objective, network);
  CHECK(o->table->diffusion || length > 1, ERR_USAGE, "diffusion.objective = %s: rows of one token have no next token",
        objective);
  CHECK(!causal || !o->table->diffusion, ERR_USAGE,
        "diffusion.objective = %s fills in masked tokens from both sides: model.name = %s sees only the left; use dit "
        "or dimamba",
        objective, network);
  CHECK(!causal || !cfg->model_time_conditioning, ERR_USAGE,
        "model.time_conditioning: model.name = %s knows no time; set it to false", network);
  CHECK(!cfg->model_mask_padding || strcmp(network, "dit") == 0, ERR_USAGE,
        "model.mask_padding hides padding from the attention of model.name = dit; %s %s", network,
        causal ? "never sees what comes after a token" : "has no attention");
  return OK;
}

static int describe(Network *n, const NetworkOptions *x) {
  const Config *cfg = x->cfg;
  TRY(schedule_create(&n->schedule, cfg->diffusion_schedule, cfg->diffusion_schedule_eps, cfg->diffusion_sigma_min,
                      cfg->diffusion_sigma_max));
  ObjectiveOptions o = {.name = cfg->diffusion_objective,
                        .schedule = &n->schedule,
                        .mask = x->mask,
                        .vocab = x->vocab,
                        .T = cfg->diffusion_T,
                        .tau = cfg->diffusion_sampling_eps,
                        .subs_masking = cfg->diffusion_subs_masking,
                        .importance_sampling = cfg->diffusion_importance_sampling,
                        .change_of_variables = cfg->diffusion_change_of_variables};
  TRY(objective_create(&n->objective, &o));
  return check(cfg, &n->objective, x->length);
}

/* A GPU's libraries and ops plan their work, and take scratch, for the shapes that they meet. They meet a whole batch
 * here, of zeros: what lacks memory does so now, when a smaller batch can still be named, and no step has to wait. */
static int warm_up(Network *n) {
  const ModelOptions *o = &n->model.options;
  ModelInput in = {.B = o->batch, .ids = n->noised.z, .sigma = n->noised.sigma};
  TRY(model_forward(&n->model, &in));
  if (!o->training) return device_sync(&n->dev);
  TRY(model_backward(&n->model, &in));
  TRY(tensor_zero(&n->dev, n->model.params.grad));
  return device_sync(&n->dev);
}

static int create(Network *n, const NetworkOptions *x) {
  const Config *cfg = x->cfg;
  int threads = threads_of(cfg, x->place.share_size);
  TRY(describe(n, x));
  DeviceOptions device = {.name = cfg->device_name,
                          .threads = threads,
                          .pin = cfg->device_pin && x->place.share_size * threads > 1,
                          .place = x->place,
                          .bf16 = strcmp(cfg->device_matmul, "bf16") == 0,
                          .deterministic = cfg->device_deterministic,
                          .row_chunk = cfg->device_row_chunk};
  TRY(device_open(&n->dev, &device));
  ModelOptions model = {.name = cfg->model_name,
                        .vocab = x->vocab,
                        .length = x->length,
                        .batch = x->batch,
                        .positions = x->positions,
                        .width = cfg->model_width,
                        .blocks = cfg->model_blocks,
                        .heads = cfg->model_heads,
                        .cond_dim = cfg->model_cond_dim,
                        .mlp_ratio = cfg->model_mlp_ratio,
                        .dropout = cfg->model_dropout,
                        .time_conditioning = cfg->model_time_conditioning,
                        .mask_padding = cfg->model_mask_padding,
                        .training = x->training};
  TRY(model_create(&n->model, &n->dev, &model));
  TRY(rows_create(&n->rows, &n->model, n->objective.terms));
  TRY(noised_create(&n->noised, x->batch, x->length, n->objective.terms));
  TRY(mem_alloc(&n->row_loss, (size_t)(x->batch * x->length) * sizeof *n->row_loss));
  return n->dev.ops->host ? OK : warm_up(n);
}

int network_create(Network *n, const NetworkOptions *options) {
  *n = (Network){0};
  int err = create(n, options);
  if (err) network_destroy(n);
  return err;
}

void network_destroy(Network *n) {
  if (n == NULL) return;
  mem_free(&n->row_loss);
  noised_destroy(&n->noised);
  rows_destroy(&n->rows);
  model_destroy(&n->model);
  device_close(&n->dev);
  *n = (Network){0};
}

/* Whether the network and as many buffers fit, and some room for what libraries keep for themselves. */
static bool fits(const NetworkOptions *options, int64_t flats) {
  const size_t LEAST = (size_t)256 << 20, SHARE = 64;
  Network n;
  void *more = NULL;
  if (network_create(&n, options) != OK) return false;
  size_t free = 0, total = 0;
  bool good = n.dev.ops->host || device_memory(&n.dev, &free, &total) == OK;
  size_t room = total / SHARE > LEAST ? total / SHARE : LEAST;
  size_t bytes = (size_t)flats * tensor_bytes(n.model.params.value) + room;
  good = good && device_alloc(&n.dev, &more, bytes) == OK;
  device_release(&n.dev, more, bytes);
  network_destroy(&n);
  return good;
}

int network_too_large(const NetworkOptions *options, const char *key, int64_t of, int64_t flats) {
  char why[512];
  NetworkOptions less = *options;
  bool good = false;
  snprintf(why, sizeof why, "%s", err_message());
  for (int64_t b = options->batch / 2; b > 0 && !good; b--) {
    less.batch = b;
    if (of ? of % b == 0 : (b & (b - 1)) == 0) good = fits(&less, flats);
  }
  err_clear();
  CHECK(good, ERR_MEMORY, "%s; no %s is small enough: take a smaller network or a larger device", why, key);
  return RAISE(ERR_MEMORY, "%s; %s = %lld is too much for it, %s = %lld fits", why, key, (long long)options->batch, key,
               (long long)less.batch);
}

/* One pass: what stands in n->noised forward, its rows' losses added up by sequence, and backward. */
static int pass(Network *n, const Dropout *dropout, bool last, bool gradient, double *loss) {
  Noised *z = &n->noised;
  ModelInput in = {.B = z->B, .ids = z->z, .sigma = z->sigma, .lengths = z->length, .dropout = *dropout};
  if (last) in.ready = n->ready;
  device_phase(&n->dev, "forward");
  TRY(model_forward(&n->model, &in));
  device_phase(&n->dev, "loss");
  TRY(rows_loss(&n->rows, &n->objective, z, gradient, loss ? n->row_loss : NULL));
  device_phase(&n->dev, "backward");
  if (gradient) TRY(model_backward(&n->model, &in));
  device_phase(&n->dev, NULL);
  for (int64_t i = 0; i < z->n_rows && loss; i++) loss[z->rows[i] / z->L] += n->row_loss[i];
  return OK;
}

int network_loss(Network *n, const Dropout *dropout, bool gradient, double *loss, int64_t *rows) {
  Dropout second = *dropout;
  bool more = n->objective.table->second != NULL;
  for (int64_t b = 0; b < n->noised.B && loss; b++) loss[b] = 0;
  TRY(pass(n, dropout, !more, gradient, loss));
  *rows += n->noised.n_rows;
  if (!more) return OK;
  second.layer += SECOND_PASS_LAYER;
  n->objective.table->second(&n->objective, &n->noised);
  TRY(pass(n, &second, true, gradient, loss));
  *rows += n->noised.n_rows;
  return OK;
}

void network_warn(const Network *n) {
  double share = objective_share(&n->objective);
  if (share < 0.99)
    log_warn("diffusion.schedule = %s covers %.3g of the bound with these ends: nll and ppl are no bounds, and too low",
             n->schedule.table->name, share);
}

int network_passes(const Network *n) { return n->objective.table->second ? 2 : 1; }

int network_same(const Config *cfg, const Config *trained, const char *path) {
#define SAME_WORD(field, key)                                                                                          \
  CHECK(strcmp(cfg->field, trained->field) == 0, ERR_USAGE, "%s was trained with %s = %s, the deck says %s", path,     \
        key, trained->field, cfg->field)
#define SAME_NUMBER(field, key)                                                                                        \
  CHECK(cfg->field == trained->field, ERR_USAGE, "%s was trained with %s = %g, the deck says %g", path, key,           \
        (double)trained->field, (double)cfg->field)
#define SAME_FLAG(field, key)                                                                                          \
  CHECK(cfg->field == trained->field, ERR_USAGE, "%s was trained with %s = %s, the deck says %s", path, key,           \
        trained->field ? "true" : "false", cfg->field ? "true" : "false")
  SAME_WORD(model_name, "model.name");
  bool attends = strcmp(cfg->model_name, "dimamba") != 0;
  SAME_NUMBER(model_width, "model.width");
  SAME_NUMBER(model_blocks, "model.blocks");
  if (attends) SAME_NUMBER(model_heads, "model.heads");
  if (attends) SAME_NUMBER(model_mlp_ratio, "model.mlp_ratio");
  if (!causal_network(cfg)) SAME_NUMBER(model_cond_dim, "model.cond_dim");
  SAME_FLAG(model_time_conditioning, "model.time_conditioning");
  SAME_FLAG(model_mask_padding, "model.mask_padding");
  SAME_WORD(diffusion_objective, "diffusion.objective");
  SAME_FLAG(diffusion_subs_masking, "diffusion.subs_masking");
  if (!cfg->model_time_conditioning) return OK;
  SAME_FLAG(diffusion_change_of_variables, "diffusion.change_of_variables");
  if (!cfg->diffusion_change_of_variables) return OK; /* else the time it is told is the schedule's */
  SAME_WORD(diffusion_schedule, "diffusion.schedule");
  SAME_NUMBER(diffusion_schedule_eps, "diffusion.schedule_eps");
  SAME_NUMBER(diffusion_sigma_min, "diffusion.sigma_min");
  SAME_NUMBER(diffusion_sigma_max, "diffusion.sigma_max");
  return OK;
#undef SAME_WORD
#undef SAME_NUMBER
#undef SAME_FLAG
}
