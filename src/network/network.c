#include "network/network.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/menu.h"
#include <sched.h>
#include <string.h>

/* The second pass of an objective has its own dropout streams, beyond those of any number of layers. */
enum { SECOND_PASS_LAYER = 1 << 20 };

/* device.threads, or this rank's share of the cores it may use. */
static int threads_of(const Config *cfg, int share_size) {
  cpu_set_t allowed;
  int share = sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : CPU_COUNT(&allowed) / share_size;
  return cfg->device_threads > 0 ? (int)cfg->device_threads : share > 1 ? share : 1;
}

/* The networks that see all tokens, or only those before, and can be trained if need be, for a message. */
static const char *causal_or_not(bool causal, bool training, char text[MENU_TEXT]) {
  *text = '\0';
  for (int i = 0; models[i]; i++)
    if (models[i]->causal == causal && (models[i]->backward || !training)) menu_add(text, models[i]->name);
  return text;
}

/* The past of a block is clean, and its own noise is no single level. */
static int check_block(const NetworkOptions *x, const ModelTable *model, const Objective *o) {
  long long block = o->options.block;
  char fit[MENU_TEXT] = "";
  if (block == 0) return OK;
  for (int i = 0; models[i]; i++)
    if (models[i]->halves) menu_add(fit, models[i]->name);
  CHECK(model->halves, ERR_USAGE, "diffusion.block = %lld: model.name = %s has no block diffusion; use model.name = %s",
        block, model->name, fit);
  CHECK(x->length % block == 0, ERR_USAGE, "diffusion.block = %lld does not divide the %lld tokens of a row", block,
        (long long)x->length);
  CHECK(!x->cfg->model_time_conditioning, ERR_USAGE,
        "model.time_conditioning: with diffusion.block = %lld the blocks of a row have different noise levels; set it "
        "to false",
        block);
  return OK;
}

/* A left-to-right objective needs a causal network, a diffusion objective one that sees all tokens. */
static int check(const NetworkOptions *x, const ModelTable *model, const Objective *o) {
  const Config *cfg = x->cfg;
  const char *objective = o->table->name;
  char fit[MENU_TEXT];
  CHECK(model->causal || o->diffusion, ERR_USAGE,
        "diffusion.objective = %s predicts the next token, which model.name = %s sees as input; use model.name = %s",
        objective, model->name, causal_or_not(true, x->training, fit));
  CHECK(o->diffusion || x->length > 1, ERR_USAGE, "diffusion.objective = %s: rows of one token have no next token",
        objective);
  CHECK(!model->causal || !o->diffusion || o->options.block > 0, ERR_USAGE,
        "diffusion.objective = %s fills in masked tokens from both sides: model.name = %s sees only the left; use "
        "model.name = %s",
        objective, model->name, causal_or_not(false, x->training, fit));
  CHECK(model->timed || !cfg->model_time_conditioning, ERR_USAGE,
        "model.time_conditioning: model.name = %s has no time conditioning; set it to false", model->name);
  CHECK(model->timed || cfg->model_classes == 0, ERR_USAGE,
        "model.classes = %lld: model.name = %s cannot be conditioned on a class; set it to 0",
        (long long)cfg->model_classes, model->name);
  CHECK(!o->table->timed || cfg->model_time_conditioning, ERR_USAGE,
        "diffusion.objective = %s: the network cannot see which tokens are noise, so it must know how many are: set "
        "model.time_conditioning to true",
        objective);
  CHECK(!cfg->model_mask_padding || (model->attends && (!model->causal || o->options.block > 0)), ERR_USAGE,
        "model.mask_padding hides padding from bidirectional attention: model.name = %s %s", model->name,
        model->causal ? "never sees what comes after a token" : "has no attention");
  return check_block(x, model, o);
}

int network_objective(Objective *objective, Schedule *schedule, const Config *cfg, int64_t vocab, int32_t mask) {
  TRY(schedule_create(schedule, cfg->diffusion_schedule, cfg->diffusion_schedule_eps, cfg->diffusion_sigma_min,
                      cfg->diffusion_sigma_max));
  ObjectiveOptions o = {.name = cfg->diffusion_objective,
                        .schedule = schedule,
                        .mask = mask,
                        .vocab = vocab,
                        .T = cfg->diffusion_T,
                        .tau = cfg->diffusion_sampling_eps,
                        .subs_masking = cfg->diffusion_subs_masking,
                        .change_of_variables = cfg->diffusion_change_of_variables,
                        .block = cfg->diffusion_block,
                        .plain = strcmp(cfg->diffusion_weight, "one") == 0,
                        .resample = cfg->diffusion_resample,
                        .input_temperature = cfg->diffusion_input_temperature,
                        .law = {.name = cfg->diffusion_time,
                                .search = cfg->diffusion_clip_search,
                                .clip_low = cfg->diffusion_clip_low,
                                .clip_high = cfg->diffusion_clip_high,
                                .normal_mean = cfg->diffusion_normal_mean,
                                .normal_width = cfg->diffusion_normal_width,
                                .gamma_low = cfg->diffusion_gamma_low,
                                .gamma_high = cfg->diffusion_gamma_high,
                                .beta_a = cfg->diffusion_beta_a,
                                .beta_b = cfg->diffusion_beta_b}};
  return objective_create(objective, &o);
}

static int describe(Network *n, const NetworkOptions *x) {
  const ModelTable *model;
  TRY(network_objective(&n->objective, &n->schedule, x->cfg, x->vocab, x->mask));
  TRY(model_find(&model, x->cfg->model_name));
  return check(x, model, &n->objective);
}

/* All softened tokens of a batch with all their entries, so that the first step needs no more memory than the warm-up. */
static void widest(TokenMix *m, int64_t rows, int64_t entries) {
  for (m->n = 0; m->n < rows * entries; m->n++) {
    m->ids[m->n] = 0, m->weights[m->n] = 1 / (double)entries;
    m->rows[m->n] = (int32_t)(m->n / entries);
  }
  for (int64_t r = 0; r <= rows; r++) m->begin[r] = (int32_t)(r * entries);
}

/* Libraries plan their work, and allocate memory, per shape. Run a batch of zeros once: on a GPU for all rows, so that
 * out-of-memory errors surface here, where a smaller batch can still be suggested, and no step has to wait. Where the
 * library creates a primitive per shape (bf16 on the CPU), for 2^k − 1 rows: numbers of rows are composed of such. */
static int warm_up(Network *n) {
  const ModelOptions *o = &n->model.options;
  ModelInput in = {.B = o->batch, .draws = o->draws, .ids = n->noised.z, .sigma = n->noised.sigma};
  if (o->block > 0) in.clean = n->noised.x0;
  if (o->mixed > 0) {
    widest(&n->noised.mix, o->batch * o->length, o->mixed);
    in.mix = &n->noised.mix;
  }
  if (n->dev.ops->host) {
    for (in.n_rows = 1; 2 * in.n_rows + 1 <= o->batch * o->length;) in.n_rows = 2 * in.n_rows + 1;
    for (int64_t i = 0; i < in.n_rows; i++) n->noised.rows[i] = (int32_t)i;
    in.rows = n->noised.rows;
  }
  TRY(model_forward(&n->model, &in));
  if (!o->training) return device_sync(&n->dev);
  TRY(model_backward(&n->model, &in));
  TRY(tensor_zero(&n->dev, n->model.params.grad));
  return device_sync(&n->dev);
}

static int create(Network *n, const NetworkOptions *x) {
  const Config *cfg = x->cfg;
  int threads = threads_of(cfg, x->place.share_size);
  int64_t draws = x->draws > 0 ? x->draws : 1, batch = draws * x->batch;
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
                        .batch = batch,
                        .draws = draws,
                        .positions = x->positions,
                        .width = cfg->model_width,
                        .blocks = cfg->model_blocks,
                        .heads = cfg->model_heads,
                        .cond_dim = cfg->model_cond_dim,
                        .mlp_ratio = cfg->model_mlp_ratio,
                        .dropout = cfg->model_dropout,
                        .time_conditioning = cfg->model_time_conditioning,
                        .mask_padding = cfg->model_mask_padding,
                        .classes = cfg->model_classes,
                        .training = x->training,
                        .mixed = x->training && n->objective.options.input_temperature > 0 ? LATENT_MOST : 0,
                        .parts = x->parts,
                        .block = cfg->diffusion_block};
  TRY(model_create(&n->model, &n->dev, &model));
  TRY(rows_create(&n->rows, &n->model, n->objective.terms));
  TRY(noised_create(&n->noised, batch, x->length, n->objective.terms));
  if (model.mixed > 0) TRY(noised_soften(&n->noised));
  TRY(mem_alloc(&n->row_loss, (size_t)(batch * x->length) * sizeof *n->row_loss));
  return n->dev.ops->host && !(x->training && n->dev.bf16) ? OK : warm_up(n);
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

static ModelInput input_of(const Network *n, const Dropout *dropout) {
  const Noised *z = &n->noised;
  return (ModelInput){.B = z->B,
                      .draws = z->draws,
                      .ids = z->z,
                      .mix = z->mix.n > 0 ? &z->mix : NULL,
                      .clean = n->model.options.block > 0 ? z->x0 : NULL,
                      .sigma = z->sigma,
                      .labels = z->label,
                      .lengths = z->length,
                      .rows = z->rows,
                      .n_rows = z->n_rows,
                      .dropout = *dropout};
}

/* One pass: forward on n->noised, the rows' losses summed by sequence, backward. */
static int pass(Network *n, const Dropout *dropout, bool last, bool gradient, double *loss) {
  Noised *z = &n->noised;
  ModelInput in = input_of(n, dropout);
  if (last) in.ready = n->ready;
  activity_phase("the forward pass");
  device_phase(&n->dev, "forward");
  TRY(model_forward(&n->model, &in));
  device_phase(&n->dev, "loss");
  TRY(rows_loss(&n->rows, &n->objective, z, gradient, loss ? n->row_loss : NULL));
  if (gradient) activity_phase("the backward pass");
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

int network_predict(Network *n, int pass, Prediction *list) {
  const Dropout none = {0};
  Noised *z = &n->noised;
  if (pass > 0) n->objective.table->second(&n->objective, z);
  ModelInput in = input_of(n, &none);
  in.tap = n->tap;
  activity_phase("the forward pass");
  TRY(model_forward(&n->model, &in));
  return rows_predict(&n->rows, &n->objective, z, n->row_loss, list);
}

void network_warn(const Network *n) {
  double share = objective_share(&n->objective);
  if (share < 0.99)
    log_warn("diffusion.schedule = %s covers only %.3g of the bound between its end points: nll and ppl are too low, "
             "and not bounds",
             n->schedule.table->name, share);
}

int network_passes(const Network *n) { return n->objective.table->second ? 2 : 1; }
