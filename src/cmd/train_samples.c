#include "cmd/train_samples.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "cmd/deck_job.h"
#include "measure/items.h"
#include <string.h>

static int step_done(void *arg, int64_t step) {
  (void)arg, (void)step;
  activity_tick();
  return items_stop();
}

/* Samples first … first+n−1 into s->tokens. */
static int draw_batch(TrainSamples *s, int64_t first, int64_t n) {
  Trainer *t = s->trainer;
  SamplerJob job = deck_job(t->cfg, &t->net, s->label);
  job.first = first;
  job.n = n;
  job.z = s->z;
  job.progress = step_done;
  for (int64_t b = 0; b < n; b++)
    memcpy(s->z + b * t->length, prompts_of(&s->prompts, first + b), (size_t)t->length * sizeof *s->z);
  TRY(sampler_run(&s->sampler, &job));
  for (int64_t i = 0; i < n * t->length; i++) s->tokens[first * t->length + i] = s->z[i];
  return OK;
}

/* This rank's samples; those of the others stay 0. */
static int draw_part(TrainSamples *s) {
  const Trainer *t = s->trainer;
  int64_t count = t->cfg->train_sample_count, batch = t->cfg->train_micro_batch;
  int64_t part = (count + t->comm->size - 1) / t->comm->size, first = part * t->comm->rank;
  int64_t end = first + part < count ? first + part : count;
  memset(s->tokens, 0, (size_t)(count * t->length) * sizeof *s->tokens);
  for (; first < end; first += batch) TRY(draw_batch(s, first, end - first < batch ? end - first : batch));
  return OK;
}

static int add_rows(TrainSamples *s) {
  Trainer *t = s->trainer;
  double row[SAMPLE_COLUMNS] = {0};
  row[SAMPLE_STEP] = (double)t->optimizer.step;
  for (int64_t i = 0; i < t->cfg->train_sample_count * t->length; i++) {
    row[SAMPLE_NUMBER] = (double)(i / t->length);
    row[SAMPLE_POSITION] = (double)(i % t->length);
    row[SAMPLE_TOKEN] = (double)s->tokens[i];
    TRY(metrics_add(&t->history.samples, row));
  }
  return OK;
}

/* A line of the log for each, cut where a line of a terminal would be very long. */
static int tell(TrainSamples *s) {
  enum { MOST = 160 };
  const Trainer *t = s->trainer;
  for (int64_t i = 0; i < t->cfg->train_sample_count; i++) {
    char *text;
    for (int64_t l = 0; l < t->length; l++) s->z[l] = (int32_t)s->tokens[i * t->length + l];
    TRY(vocab_text(mixture_vocab(t->train), s->z, t->length, VOCAB_DROP, &text));
    size_t n = strlen(text), end = n < MOST ? n : MOST;
    while (end < n && end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80) end--; /* not inside a character */
    text[end] = 0;
    for (char *c = text; *c; c++)
      if (*c == '\n' || *c == '\r') *c = ' ';
    log_info("step %lld  sample %lld: %s%s", (long long)t->optimizer.step, (long long)i, text, end < n ? " …" : "");
    mem_free(&text);
  }
  return OK;
}

static int draw(void *arg, int *stop) {
  TrainSamples *s = arg;
  Trainer *t = s->trainer;
  int64_t request = 0;
  int err = draw_part(s);
  if (err == ERR_STOPPED) {
    err_clear();
    err = OK;
    request = stop_requested(NULL);
  }
  if (err == ERR_NUMERIC)
    err = RAISE(ERR_NUMERIC, "step %lld: the network's output is NaN; the last checkpoint is kept. Lower train.lr",
                (long long)t->optimizer.step);
  TRY(comm_agree(t->comm, err));
  TRY(comm_all_reduce(t->comm, &request, 1, COMM_I64, COMM_MAX));
  *stop = (int)request;
  if (request) return OK;
  size_t n = (size_t)(t->cfg->train_sample_count * t->length);
  TRY(comm_all_reduce(t->comm, s->tokens, n, COMM_I64, COMM_SUM));
  err = add_rows(s);
  if (err == OK && t->comm->rank == 0) err = tell(s);
  return comm_agree(t->comm, err);
}

static int open_samples(void *arg, Trainer *t) {
  TrainSamples *s = arg;
  const Config *cfg = t->cfg;
  const Vocab *vocab = mixture_vocab(t->train);
  TRY(deck_label(cfg, mixture_class_names(t->train), &s->label));
  SamplerOptions o = {.cfg = cfg,
                      .label = s->label,
                      .objective = &t->net.objective,
                      .model = &t->net.model.options,
                      .bos = vocab->bos,
                      .eos = vocab->eos,
                      .pad = vocab->pad};
  CHECK(cfg->sample_guidance == 1, ERR_USAGE,
        "sample.guidance = %g: samples during training have no guidance; set it to 1, or train.sample_every to 0",
        cfg->sample_guidance);
  s->trainer = t;
  TRY(sampler_create(&s->sampler, &o));
  TRY(*cfg->sample_prompt ? prompts_read(&s->prompts, cfg->sample_prompt, vocab, t->length)
                          : prompts_none(&s->prompts, vocab, t->length));
  TRY(mem_alloc(&s->z, (size_t)(cfg->train_micro_batch * t->length) * sizeof *s->z));
  return mem_alloc(&s->tokens, (size_t)(cfg->train_sample_count * t->length) * sizeof *s->tokens);
}

void train_samples_init(TrainSamples *s) {
  *s = (TrainSamples){.callbacks = {.open = open_samples, .draw = draw, .arg = s}};
}

void train_samples_destroy(TrainSamples *s) {
  sampler_destroy(&s->sampler);
  prompts_destroy(&s->prompts);
  mem_free(&s->z);
  mem_free(&s->tokens);
}
