/* mdlm sample DECK [key=value…] — text from a checkpoint, to the terminal and to HDF5. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "cmd/weights.h"
#include "diffusion/semi_ar.h"
#include "measure/entropy.h"
#include "store/prompt.h"
#include <math.h>
#include <string.h>

typedef struct Sampling {
  const Config *cfg; /* not owned */
  char checkpoint[FILES_PATH], output[FILES_PATH];
  CheckpointState state;
  const Sampler *sampler;
  SemiAr blocks;
  Network net;
  Prompts prompts;
  int64_t length;   /* tokens of a sample */
  int64_t part;     /* samples a rank draws; the last ranks may draw fewer */
  int32_t *mine;    /* [part,length] */
  int32_t *all;     /* [part·ranks,length], rank 0, as the next two */
  char **text;      /* [count], NULL-ended */
  double *entropy;  /* [count] nat */
  double mean;      /* of the entropies */
  int64_t count[2]; /* passes of the network; sequences that went through */
  Progress progress;
  int64_t done; /* samples of this rank in finished batches */
} Sampling;

static int open_all(Sampling *s, const Config *cfg, const Comm *comm) {
  TRY(sampler_find(&s->sampler, cfg->sample_sampler));
  TRY(weights_path(cfg, cfg->sample_checkpoint, s->checkpoint));
  TRY(weights_state(cfg, s->checkpoint, &s->state));
  int64_t L = s->state.length;
  s->blocks = (SemiAr){.strides = cfg->sample_num_strides, .stride = cfg->sample_stride_length};
  s->length = semi_ar_length(&s->blocks, L);
  TRY(output_path(cfg, cfg->sample_output, "samples.h5", s->output));
  TRY(output_claim(comm, s->output, "mdlm-samples", cfg->sample_prompt));
  s->part = (cfg->sample_count + comm->size - 1) / comm->size;
  int64_t batch = cfg->sample_batch < s->part ? cfg->sample_batch : s->part;
  TRY(weights_open(&s->net, cfg, comm, s->checkpoint, cfg->sample_weights, &s->state, L, "sample.batch", batch));
  TRY(s->sampler->fits(&s->net.objective, &s->net.model.options));
  TRY(semi_ar_fits(&s->blocks, &s->net.objective, L));
  TRY(*cfg->sample_prompt ? prompts_read(&s->prompts, cfg->sample_prompt, &s->state.vocab, s->length)
                          : prompts_none(&s->prompts, &s->state.vocab, s->length));
  int err = mem_alloc(&s->mine, (size_t)(s->part * s->length) * sizeof *s->mine);
  if (err == OK && comm->rank == 0)
    err = mem_alloc(&s->all, (size_t)(s->part * comm->size * s->length) * sizeof *s->all);
  CHECK(err != ERR_MEMORY, ERR_MEMORY,
        "out of memory: sample.count = %lld samples of %lld tokens; ask for fewer, and for others by another run.seed",
        (long long)cfg->sample_count, (long long)s->length);
  return err;
}

static void start(const Sampling *s, const SamplerJob *job) {
  for (int64_t b = 0; b < job->n; b++)
    memcpy(job->z + b * s->length, prompts_of(&s->prompts, job->first + b), (size_t)s->length * sizeof *job->z);
}

static void check_fixed(const Sampling *s, const SamplerJob *job) {
  for (int64_t b = 0; b < job->n; b++) {
    const int32_t *fixed = prompts_of(&s->prompts, job->first + b);
    for (int64_t l = 0; l < s->length; l++)
      ASSERT(fixed[l] == job->objective->mask || fixed[l] == job->z[b * s->length + l]);
  }
}

static void show(void *arg, int64_t step) {
  Sampling *s = arg;
  progress_show(&s->progress, s->done + step);
}

static int draw_part(Sampling *s, const Config *cfg, const Comm *comm) {
  int64_t batch = s->net.model.options.batch, first = s->part * comm->rank;
  int64_t steps = cfg->sample_steps * (s->blocks.strides + 1);
  int64_t n = first >= cfg->sample_count            ? 0
              : cfg->sample_count - first < s->part ? cfg->sample_count - first
                                                    : s->part;
  progress_start(&s->progress, "sampling", "steps", (n + batch - 1) / batch * steps);
  for (int64_t at = 0; at < n; at += batch) {
    SamplerJob job = {.model = &s->net.model,
                      .rows = &s->net.rows,
                      .objective = &s->net.objective,
                      .steps = cfg->sample_steps,
                      .noise_removal = cfg->sample_noise_removal,
                      .draw = {cfg->sample_temperature, cfg->sample_nucleus, strcmp(cfg->sample_draw, "f32") == 0},
                      .bos = s->state.vocab.bos,
                      .cache = cfg->sample_cache,
                      .remask = cfg->sample_remask,
                      .remask_eta = cfg->sample_remask_eta,
                      .seed = (uint64_t)cfg->run_seed,
                      .first = first + at,
                      .n = n - at < batch ? n - at : batch,
                      .z = s->mine + at * s->length,
                      .progress = show,
                      .progress_arg = s};
    start(s, &job);
    int err = semi_ar_run(&s->blocks, s->sampler, &job);
    CHECK(err != ERR_NUMERIC, ERR_NUMERIC, "%s: the network's output is not a number: its weights are not sound",
          s->checkpoint);
    TRY(err);
    check_fixed(s, &job);
    s->count[0] += job.evaluations;
    s->count[1] += job.evaluated;
    s->done += steps;
  }
  progress_end(&s->progress, s->done);
  return OK;
}

/* Text and entropy of every sample. */
static int read_samples(Sampling *s, const Config *cfg) {
  int64_t n = cfg->sample_count;
  TRY(mem_alloc(&s->text, (size_t)(n + 1) * sizeof *s->text));
  TRY(mem_alloc(&s->entropy, (size_t)n * sizeof *s->entropy));
  for (int64_t i = 0; i < n; i++) {
    TRY(vocab_text(&s->state.vocab, s->all + i * s->length, s->length, 0, &s->text[i]));
    s->entropy[i] = entropy(s->all + i * s->length, s->length);
    s->mean += s->entropy[i] / (double)n;
  }
  return OK;
}

static int fill_options(H5 *f, const Sampling *s) {
  const Config *cfg = s->cfg;
  TRY(h5_set_str(f, "/", "sampler", s->sampler->name));
  TRY(h5_set_int(f, "/", "steps", cfg->sample_steps));
  TRY(h5_set_int(f, "/", "noise_removal", cfg->sample_noise_removal));
  TRY(h5_set_str(f, "/", "remask", cfg->sample_remask));
  TRY(h5_set_real(f, "/", "remask_eta", cfg->sample_remask_eta));
  TRY(h5_set_str(f, "/", "draw", cfg->sample_draw));
  TRY(h5_set_real(f, "/", "temperature", cfg->sample_temperature));
  TRY(h5_set_real(f, "/", "nucleus", cfg->sample_nucleus));
  TRY(h5_set_int(f, "/", "num_strides", s->blocks.strides));
  TRY(h5_set_int(f, "/", "stride_length", s->blocks.strides ? s->blocks.stride : 0));
  TRY(h5_set_str(f, "/", "prompt", cfg->sample_prompt));
  TRY(h5_set_int(f, "/", "evaluations", s->count[0]));
  TRY(h5_set_int(f, "/", "evaluated", s->count[1]));
  TRY(h5_set_str(f, "/", "tokenizer", s->state.vocab.tokenizer));
  return h5_set_str(f, "/", "tokenizer_hash", s->state.vocab.hash);
}

static int fill_output(H5 *f, const void *arg) {
  const Sampling *s = arg;
  int64_t dims[2] = {s->cfg->sample_count, s->length};
  TRY(fill_options(f, s));
  TRY(h5_write(f, "/tokens", H5_I32, 2, dims, s->all));
  TRY(h5_set_str(f, "/tokens", "description", "token ids, one sample a row"));
  TRY(h5_write_text(f, "/text", dims[0], s->text));
  TRY(h5_set_str(f, "/text", "description", "the text they spell, without bos, eos and pads"));
  TRY(h5_write(f, "/entropy", H5_F64, 1, dims, s->entropy));
  TRY(h5_set_str(f, "/entropy", "unit", "nat"));
  return h5_set_str(f, "/entropy", "description", "of the frequencies of a sample's tokens");
}

static int print_text(const Sampling *s) {
  int err = OK;
  for (int64_t i = 0; s->text[i]; i++) {
    log_info("--- sample %lld", (long long)i);
    if (log_text(s->text[i]) != OK) err = ERR_IO;
  }
  return err;
}

/* What rank 0 makes of the samples. */
static int leave(Sampling *s, const Config *cfg) {
  TRY(read_samples(s, cfg));
  int err = output_write(s->output, "mdlm-samples", cfg, s->checkpoint, &s->state, cfg->sample_weights, fill_output, s);
  int printed = print_text(s); /* without the file it is what is left of the work */
  TRY(err);
  CHECK(printed == OK, ERR_IO, "cannot write the texts to standard output; they are in %s", s->output);
  return OK;
}

static int run(Sampling *s, const Config *cfg, Comm *comm) {
  TRY_ALL(comm, open_all(s, cfg, comm));
  double start = clock_now();
  TRY_ALL(comm, draw_part(s, cfg, comm));
  double seconds = clock_now() - start;
  size_t bytes = (size_t)(s->part * s->length) * sizeof *s->mine;
  TRY(comm_gather(comm, s->all, s->mine, bytes, 0));
  TRY(comm_all_reduce(comm, s->count, 2, COMM_I64, COMM_SUM));
  TRY_ALL(comm, comm->rank == 0 ? leave(s, cfg) : OK);
  log_info("%lld samples of %lld tokens from %s: %s, %lld network evaluations, %.1f s; in %s",
           (long long)cfg->sample_count, (long long)s->length, s->checkpoint, s->sampler->name, (long long)s->count[0],
           seconds, s->output);
  log_info("entropy=%.4f nat a sample, of at most %.4f for %lld tokens", s->mean,
           log((double)(s->length < s->state.vocab.size ? s->length : s->state.vocab.size)), (long long)s->length);
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
  mem_free(&s.entropy);
  h5_list_free(&s.text);
  prompts_destroy(&s.prompts);
  checkpoint_state_destroy(&s.state);
  return err;
}

extern const Command command_sample;
const Command command_sample = {"sample", "DECK [key=value…]", "draw text from a checkpoint", true, sample};
