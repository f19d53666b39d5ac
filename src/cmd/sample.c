/* mdlm sample DECK [key=value…] — text from a checkpoint, to the terminal and to HDF5. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/deck_job.h"
#include "cmd/task.h"
#include "measure/entropy.h"
#include "measure/items.h"
#include "sampling/strides.h"
#include "store/prompt.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A result is the passes and sequences of a batch, divided among its samples, the drawn tokens of the sample, the passes
 * for the cache, divided, the length of the sample, and then the tokens. */
enum { PASSES, SEQUENCES, DRAWN, CACHED, COUNTS, LENGTH = COUNTS, ROW_HEAD };

typedef struct Sampling {
  Task task;
  Sampler sampler;
  Strides strides;
  Prompts prompts;
  int32_t label;    /* class of the samples, −1: none */
  int64_t length;   /* tokens of a sample */
  int64_t batch;    /* samples of a call, at most */
  void *results;    /* rank 0: rows of ROW_HEAD + length */
  int32_t *all;     /* [count,length], rank 0, as the next two */
  char **text;      /* [count], NULL-ended */
  double *entropy;  /* [count] nat */
  int32_t *lengths; /* [count] tokens up to the end of each sample */
  double mean;      /* of the entropies */
  int64_t count[COUNTS];
  Progress progress;
  int64_t steps; /* of the finished batches of this rank */
} Sampling;

static int open_sampler(Sampling *s, const Config *cfg) {
  const Network *net = &s->task.net;
  const Vocab *v = &s->task.state.vocab;
  SamplerOptions o = {.cfg = cfg,
                      .objective = &net->objective,
                      .model = &net->model.options,
                      .label = s->label,
                      .bos = v->bos,
                      .eos = v->eos,
                      .pad = v->pad};
  TRY(sampler_create(&s->sampler, &o));
  return strides_fits(&s->strides, &net->objective, s->task.state.length);
}

static int open_all(Sampling *s, const Config *cfg, Comm *comm) {
  TaskOptions o = {.format = "mdlm-samples",
                   .checkpoint = cfg->sample_checkpoint,
                   .which = cfg->sample_weights,
                   .output = cfg->sample_output,
                   .name = "samples.h5",
                   .input = cfg->sample_prompt};
  TRY(task_begin(&s->task, cfg, comm, &o));
  const CheckpointState *state = &s->task.state;
  s->strides = (Strides){.count = cfg->sample_num_strides, .stride = cfg->sample_stride_length};
  s->length = strides_length(&s->strides, state->length);
  int64_t part = (cfg->sample_count + comm->size - 1) / comm->size;
  s->batch = cfg->sample_batch < part ? cfg->sample_batch : part;
  TRY(deck_label(cfg, state->class_names, &s->label));
  CHECK(cfg->sample_guidance == 1 || s->label >= 0 || *cfg->sample_prompt, ERR_USAGE,
        "sample.guidance = %g is the weight of a class or of a prompt: set sample.label or sample.prompt, or leave it "
        "at 1",
        cfg->sample_guidance);
  int64_t passes = guidance_pairs(s->label, cfg->sample_guidance) ? 2 : 1;
  TRY(task_open(&s->task, state->length, "sample.batch", passes * s->batch));
  TRY(open_sampler(s, cfg));
  TRY(*cfg->sample_prompt ? prompts_read(&s->prompts, cfg->sample_prompt, &state->vocab, s->length)
                          : prompts_none(&s->prompts, &state->vocab, s->length));
  char stamp[FILES_STAMP];
  files_stamp(cfg->sample_prompt, stamp);
  return task_key(&s->task, cfg, "sample", NULL, "seed = %lld\nprompt = %s\n", (long long)cfg->run_seed, stamp);
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

static int show(void *arg, int64_t step) {
  Sampling *s = arg;
  progress_show(&s->progress, s->steps + step);
  return items_stop();
}

static SamplerJob job_at(Sampling *s, int64_t first, int64_t n, int32_t *z) {
  SamplerJob job = deck_job(s->task.cfg, &s->task.net, s->label);
  job.first = first;
  job.n = n;
  job.z = z;
  job.progress = show;
  job.progress_arg = s;
  return job;
}

/* The tokens of a sample that were not fixed, up to its end. */
static int32_t drawn(const Sampling *s, const SamplerJob *job, int64_t b) {
  const int32_t *fixed = prompts_of(&s->prompts, job->first + b), *z = job->z + b * s->length, m = job->objective->mask;
  int32_t n = 0;
  for (int64_t l = 0; l < job->lengths[b]; l++) n += fixed[l] == m && z[l] != m;
  return n;
}

/* Sample b's part of a number that belongs to a batch of n. */
static int32_t part_of(int64_t whole, int64_t b, int64_t n) { return (int32_t)(whole / n + (b < whole % n)); }

static int draw_batch(void *arg, const int64_t *items, int64_t n, void *results) {
  Sampling *s = arg;
  int32_t *z = NULL; /* [n,length], then the lengths */
  TRY(mem_alloc(&z, (size_t)(n * (s->length + 1)) * sizeof *z));
  SamplerJob job = job_at(s, items[0], n, z);
  job.lengths = z + n * s->length;
  for (int64_t b = 0; b < n; b++) job.lengths[b] = (int32_t)s->length;
  start(s, &job);
  int err = strides_run(&s->strides, &s->sampler, &job);
  if (err == ERR_NUMERIC)
    err = RAISE(ERR_NUMERIC, "%s: the network's output is NaN: its weights are damaged", s->task.checkpoint);
  if (err == OK) check_fixed(s, &job);
  for (int64_t b = 0; b < n && err == OK; b++) {
    int32_t *row = (int32_t *)results + b * (ROW_HEAD + s->length);
    row[PASSES] = part_of(job.evaluations, b, n);
    row[SEQUENCES] = part_of(job.evaluated, b, n);
    row[DRAWN] = drawn(s, &job, b);
    row[CACHED] = part_of(job.cached, b, n);
    row[LENGTH] = job.lengths[b];
    memcpy(row + ROW_HEAD, z + b * s->length, (size_t)s->length * sizeof *z);
  }
  mem_free(&z);
  s->steps += s->task.cfg->sample_steps * (s->strides.count + 1);
  return err;
}

/* All samples to rank 0. */
static int draw_all(Sampling *s, Comm *comm, int64_t *done, int *stop) {
  int64_t count = s->task.cfg->sample_count;
  ItemsWork items = {.n = count,
                     .batch = s->batch,
                     .unit = 1,
                     .neighbours = true,
                     .type = H5_I32,
                     .columns = ROW_HEAD + s->length,
                     .run = draw_batch,
                     .arg = s,
                     .partial = s->task.partial,
                     .key = s->task.key,
                     .units = "samples"};
  int64_t part = (count + comm->size - 1) / comm->size, batches = (part + s->batch - 1) / s->batch;
  progress_start(&s->progress, "sampling", "steps", batches * s->task.cfg->sample_steps * (s->strides.count + 1));
  TRY(items_run(&items, comm, &s->results, done, stop));
  progress_end(&s->progress, s->steps);
  return OK;
}

/* Rank 0: the tokens of all samples next to each other, and the passes they took. */
static int unpack(Sampling *s) {
  s->all = s->results;
  TRY(mem_alloc(&s->lengths, (size_t)s->task.cfg->sample_count * sizeof *s->lengths));
  for (int64_t i = 0; i < s->task.cfg->sample_count; i++) {
    const int32_t *row = (int32_t *)s->results + i * (ROW_HEAD + s->length);
    for (int k = 0; k < COUNTS; k++) s->count[k] += row[k];
    s->lengths[i] = row[LENGTH];
    memmove(s->all + i * s->length, row + ROW_HEAD, (size_t)s->length * sizeof *s->all);
  }
  return OK;
}

/* Text and entropy of every sample. */
static int read_samples(Sampling *s, const Config *cfg) {
  int64_t n = cfg->sample_count;
  TRY(mem_alloc(&s->text, (size_t)(n + 1) * sizeof *s->text));
  TRY(mem_alloc(&s->entropy, (size_t)n * sizeof *s->entropy));
  for (int64_t i = 0; i < n; i++) {
    TRY(vocab_text(&s->task.state.vocab, s->all + i * s->length, s->lengths[i], VOCAB_DROP, &s->text[i]));
    s->entropy[i] = entropy(s->all + i * s->length, s->lengths[i]);
    s->mean += s->entropy[i] / (double)n;
  }
  return OK;
}

/* Drawn tokens for each pass of a sequence through the network. */
static double rate(const Sampling *s) {
  return (double)s->count[DRAWN] / (double)(s->count[SEQUENCES] > 0 ? s->count[SEQUENCES] : 1);
}

static int fill_label(H5 *f, const Sampling *s) {
  char *name;
  if (s->label < 0) return OK;
  TRY(h5_set_int(f, "/", "label", s->label));
  TRY(deck_label_name(s->task.state.class_names, s->label, &name));
  int err = *name ? h5_set_str(f, "/", "label_name", name) : OK;
  mem_free(&name);
  return err;
}

static int fill_options(H5 *f, const Sampling *s) {
  const Config *cfg = s->task.cfg;
  TRY(h5_set_str(f, "/", "sampler", s->sampler.table->name));
  TRY(h5_set_int(f, "/", "seed", cfg->run_seed));
  TRY(h5_set_int(f, "/", "steps", cfg->sample_steps));
  TRY(h5_set_int(f, "/", "noise_removal", cfg->sample_noise_removal));
  TRY(h5_set_str(f, "/", "remask", cfg->sample_remask));
  TRY(h5_set_real(f, "/", "remask_eta", cfg->sample_remask_eta));
  TRY(h5_set_real(f, "/", "kappa", cfg->sample_kappa));
  TRY(h5_set_str(f, "/", "kappa_from", cfg->sample_kappa_from));
  TRY(h5_set_real(f, "/", "hold", cfg->sample_hold));
  TRY(h5_set_real(f, "/", "hold_time", cfg->sample_hold_time));
  TRY(fill_label(f, s));
  TRY(h5_set_real(f, "/", "guidance", cfg->sample_guidance));
  TRY(h5_set_str(f, "/", "draw", cfg->sample_draw));
  TRY(h5_set_real(f, "/", "temperature", cfg->sample_temperature));
  TRY(h5_set_real(f, "/", "nucleus", cfg->sample_nucleus));
  TRY(h5_set_str(f, "/", "nucleus_rule", cfg->sample_nucleus_rule));
  TRY(h5_set_int(f, "/", "num_strides", s->strides.count));
  TRY(h5_set_int(f, "/", "stride_length", s->strides.count ? s->strides.stride : 0));
  TRY(h5_set_str(f, "/", "prompt", cfg->sample_prompt));
  TRY(h5_set_int(f, "/", "evaluations", s->count[PASSES]));
  TRY(h5_set_int(f, "/", "evaluated", s->count[SEQUENCES]));
  TRY(h5_set_int(f, "/", "cache_passes", s->count[CACHED]));
  TRY(h5_set_int(f, "/", "drawn", s->count[DRAWN]));
  TRY(h5_set_real(f, "/", "tokens_per_evaluation", rate(s)));
  TRY(h5_set_str(f, "/", "tokenizer", s->task.state.vocab.tokenizer));
  return h5_set_str(f, "/", "tokenizer_hash", s->task.state.vocab.hash);
}

static int fill_output(H5 *f, const void *arg) {
  const Sampling *s = arg;
  int64_t dims[2] = {s->task.cfg->sample_count, s->length};
  TRY(fill_options(f, s));
  TRY(h5_write(f, "/tokens", H5_I32, 2, dims, s->all));
  TRY(h5_set_str(f, "/tokens", "description", "token ids, one sample a row"));
  if (s->task.cfg->sample_stop_at_eos)
    TRY(output_series(f, "/lengths", H5_I32, dims[0], s->lengths, "token", "of each sample, up to its end"));
  TRY(h5_write_text(f, "/text", dims[0], s->text));
  TRY(h5_set_str(f, "/text", "description", "the text they spell, without bos, eos and pads"));
  TRY(h5_write(f, "/entropy", H5_F64, 1, dims, s->entropy));
  TRY(h5_set_str(f, "/entropy", "unit", "nat"));
  return h5_set_str(f, "/entropy", "description", "of the frequencies of a sample's tokens");
}

/* For the terminal: sequences and documents on lines of their own. */
static int print_text(const Sampling *s) {
  int err = OK;
  for (int64_t i = 0; i < s->task.cfg->sample_count; i++) {
    char *text = NULL;
    TRY(vocab_text(&s->task.state.vocab, s->all + i * s->length, s->lengths[i], VOCAB_BREAK, &text));
    log_info("--- sample %lld", (long long)i);
    if (log_text(text) != OK) err = ERR_IO;
    mem_free(&text);
  }
  return err;
}

/* Rank 0 has all the samples: writes and prints them. */
static int publish(Sampling *s) {
  Task *t = &s->task;
  TRY(unpack(s));
  TRY(read_samples(s, t->cfg));
  int err = output_write(t->output, t->format, t->cfg, t->checkpoint, &t->state, t->which, fill_output, s);
  if (err == OK) task_done(t);
  int printed = print_text(s); /* also without the file: then they are all that is left of the work */
  TRY(err);
  if (printed != ERR_IO) return printed;
  return RAISE(ERR_IO, "cannot write the texts to standard output; they are in %s", t->output);
}

static int run(Sampling *s, const Config *cfg, Comm *comm, int *exit_code) {
  const Task *t = &s->task;
  int64_t done;
  int stop;
  TRY(task_agree(&s->task, comm, open_all(s, cfg, comm)));
  double begun = clock_now();
  TRY(draw_all(s, comm, &done, &stop));
  if (stop) return task_stopped(t, stop, done, cfg->sample_count, "samples", exit_code), OK;
  double seconds = clock_now() - begun;
  TRY_ALL(comm, comm->rank == 0 ? publish(s) : OK);
  char cache[48] = "";
  if (s->count[CACHED] > 0)
    snprintf(cache, sizeof cache, " and %lld passes for the cache", (long long)s->count[CACHED]);
  log_info("%lld samples of %lld tokens from %s: %s, %lld network evaluations%s, %.1f s; in %s",
           (long long)cfg->sample_count, (long long)s->length, t->checkpoint, s->sampler.table->name,
           (long long)s->count[PASSES], cache, seconds, t->output);
  log_info("entropy=%.4f nat a sample, of at most %.4f for %lld tokens; %.1f evaluations a sample, %.2f tokens an "
           "evaluation",
           s->mean, log((double)(s->length < t->state.vocab.size ? s->length : t->state.vocab.size)),
           (long long)s->length, (double)s->count[SEQUENCES] / (double)cfg->sample_count, rate(s));
  return OK;
}

static int sample(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Sampling s;
  int err = run(&s, cfg, comm, exit_code);
  sampler_destroy(&s.sampler);
  mem_free(&s.results);
  mem_free(&s.entropy);
  mem_free(&s.lengths);
  h5_list_free(&s.text);
  prompts_destroy(&s.prompts);
  task_end(&s.task);
  return err;
}

extern const Command command_sample;
const Command command_sample = {
    .name = "sample",
    .arguments = "DECK [key=value…]",
    .purpose = "draw text from a checkpoint",
    .deck = true,
    .stops = true,
    .run = sample,
    .about =
        "Draws samples and prints them. sample.label is their class, sample.prompt fixes some of their tokens, "
        "sample.num_strides makes them longer than the sequences of the network. A sample is a function of run.seed "
        "and its number, whatever "
        "the batch and the number of ranks. "
        "A stop (SIGTERM, SIGUSR1, SIGINT, SIGHUP) ends it after the current pass of the network and keeps what is "
        "finished in OUTPUT.part, as does every minute; the same command goes on from there, on any number of ranks.",
    .reads = "sample.checkpoint (or the best of run.dir) and sample.prompt",
    .writes = "sample.output (or samples.h5 in run.dir): token ids, text, entropies",
    .sections = "run model diffusion sample device dist",
    .example = "mdlm sample deck.cfg run.dir=runs/a sample.count=4 sample.sampler=event"};
