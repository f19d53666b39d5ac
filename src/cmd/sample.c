/* mdlm sample DECK [key=value…] — text from a checkpoint: to the terminal, and as token ids to HDF5. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "cmd/weights.h"
#include "diffusion/sampler.h"
#include <string.h>

typedef struct Sampling {
  const Config *cfg; /* not owned */
  char checkpoint[512], output[512];
  CheckpointState state;
  const Sampler *sampler;
  Network net;
  int64_t part;  /* samples a rank draws; the last ranks may draw fewer */
  int32_t *mine; /* [part,L] */
  int32_t *all;  /* [part·ranks,L], rank 0 */
  int64_t evaluations;
  Progress progress;
  int64_t done; /* samples of this rank in finished batches */
} Sampling;

static int open_all(Sampling *s, const Config *cfg, const Comm *comm) {
  int64_t L;
  TRY(sampler_find(&s->sampler, cfg->sample_sampler));
  TRY(weights_path(cfg, cfg->sample_checkpoint, s->checkpoint));
  TRY(weights_state(cfg, s->checkpoint, &s->state));
  L = s->state.length;
  TRY(output_path(cfg, cfg->sample_output, "samples.h5", s->output));
  s->part = (cfg->sample_count + comm->size - 1) / comm->size;
  TRY(mem_alloc(&s->mine, (size_t)(s->part * L) * sizeof *s->mine));
  if (comm->rank == 0) TRY(mem_alloc(&s->all, (size_t)(s->part * comm->size * L) * sizeof *s->all));
  int64_t batch = cfg->sample_batch < s->part ? cfg->sample_batch : s->part;
  TRY(weights_open(&s->net, cfg, comm, s->checkpoint, cfg->sample_weights, &s->state, L, "sample.batch", batch));
  return s->sampler->fits(&s->net.objective, &s->net.model.options);
}

static void show(void *arg, int64_t step) {
  Sampling *s = arg;
  progress_show(&s->progress, s->done + step);
}

static int draw_part(Sampling *s, const Config *cfg, const Comm *comm) {
  int64_t L = s->net.model.options.length, batch = s->net.model.options.batch, first = s->part * comm->rank;
  int64_t n = first >= cfg->sample_count            ? 0
              : cfg->sample_count - first < s->part ? cfg->sample_count - first
                                                    : s->part;
  progress_start(&s->progress, "sampling", "steps", (n + batch - 1) / batch * cfg->sample_steps);
  for (int64_t at = 0; at < n; at += batch) {
    int32_t *z = s->mine + at * L;
    SamplerJob job = {.model = &s->net.model,
                      .rows = &s->net.rows,
                      .objective = &s->net.objective,
                      .steps = cfg->sample_steps,
                      .noise_removal = cfg->sample_noise_removal,
                      .draw = {cfg->sample_temperature, cfg->sample_nucleus, strcmp(cfg->sample_draw, "f32") == 0},
                      .bos = s->state.vocab.bos,
                      .cache = cfg->sample_cache,
                      .seed = (uint64_t)cfg->run_seed,
                      .first = first + at,
                      .n = n - at < batch ? n - at : batch,
                      .z = z,
                      .progress = show,
                      .progress_arg = s};
    for (int64_t i = 0; i < job.n * L; i++) z[i] = s->net.objective.mask;
    int err = s->sampler->run(&job);
    CHECK(err != ERR_NUMERIC, ERR_NUMERIC, "%s: the network's output is not a number: its weights are not sound",
          s->checkpoint);
    TRY(err);
    s->evaluations += job.evaluations;
    s->done += cfg->sample_steps;
  }
  progress_end(&s->progress, s->done);
  return OK;
}

static int fill_output(H5 *f, const void *arg) {
  const Sampling *s = arg;
  int64_t dims[2] = {s->cfg->sample_count, s->net.model.options.length};
  TRY(h5_set_str(f, "/", "sampler", s->sampler->name));
  TRY(h5_set_int(f, "/", "steps", s->cfg->sample_steps));
  TRY(h5_set_str(f, "/", "draw", s->cfg->sample_draw));
  TRY(h5_set_real(f, "/", "temperature", s->cfg->sample_temperature));
  TRY(h5_set_real(f, "/", "nucleus", s->cfg->sample_nucleus));
  TRY(h5_set_int(f, "/", "evaluations", s->evaluations));
  TRY(h5_set_str(f, "/", "tokenizer", s->state.vocab.tokenizer));
  TRY(h5_set_str(f, "/", "tokenizer_hash", s->state.vocab.hash));
  TRY(h5_write(f, "/tokens", H5_I32, 2, dims, s->all));
  return h5_set_str(f, "/tokens", "description", "token ids, one sample a row");
}

static int print_text(const Sampling *s, const Config *cfg) {
  int64_t L = s->net.model.options.length;
  for (int64_t i = 0; i < cfg->sample_count; i++) {
    char *text = NULL;
    TRY(vocab_text(&s->state.vocab, s->all + i * L, L, 0, &text));
    log_info("--- sample %lld", (long long)i);
    log_text(text);
    mem_free(&text);
  }
  return OK;
}

static int run(Sampling *s, const Config *cfg, Comm *comm) {
  TRY_ALL(comm, open_all(s, cfg, comm));
  double start = clock_now();
  TRY_ALL(comm, draw_part(s, cfg, comm));
  double seconds = clock_now() - start;
  size_t bytes = (size_t)(s->part * s->net.model.options.length) * sizeof *s->mine;
  TRY(comm_gather(comm, s->all, s->mine, bytes, 0));
  TRY(comm_all_reduce(comm, &s->evaluations, 1, COMM_I64, COMM_SUM));
  int err = OK;
  if (comm->rank == 0)
    err = output_write(s->output, "mdlm-samples", cfg, s->checkpoint, &s->state, cfg->sample_weights, fill_output, s);
  if (comm->rank == 0 && err == OK) err = print_text(s, cfg);
  TRY(comm_agree(comm, err));
  log_info("%lld samples of %lld tokens from %s: %s, %lld steps, %lld network evaluations, %.1f s; token ids in %s",
           (long long)cfg->sample_count, (long long)s->net.model.options.length, s->checkpoint, s->sampler->name,
           (long long)cfg->sample_steps, (long long)s->evaluations, seconds, s->output);
  return OK;
}

static int sample(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv, (void)exit_code;
  static Sampling s;
  s.cfg = cfg;
  int err = run(&s, cfg, comm);
  network_destroy(&s.net);
  mem_free(&s.mine);
  mem_free(&s.all);
  checkpoint_state_destroy(&s.state);
  return err;
}

extern const Command command_sample;
const Command command_sample = {"sample", "DECK [key=value…]", "draw text from a checkpoint", true, sample};
