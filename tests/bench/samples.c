#include "bench/samples.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "sampling/sampler.h"

static int draw(Samples *s, const Sampler *sampler, SamplerJob *job, int64_t count) {
  int64_t L = job->model->options.length, batch = job->model->options.batch;
  for (; job->first < count; job->first += job->n) {
    job->n = count - job->first < batch ? count - job->first : batch;
    for (int64_t i = 0; i < job->n * L; i++) job->z[i] = job->objective->mask;
    TRY(sampler_run(sampler, job));
    s->passes += job->evaluations;
    s->sequences += job->evaluated;
  }
  return OK;
}

int samples_time(Samples *s, Network *net, const Config *cfg) {
  const ModelOptions *o = &net->model.options;
  SamplerOptions options = {.cfg = cfg, .objective = &net->objective, .model = o, .label = -1, .bos = -1};
  SamplerJob job = {.model = &net->model,
                    .rows = &net->rows,
                    .objective = &net->objective,
                    .steps = cfg->sample_steps,
                    .noise_removal = cfg->sample_noise_removal,
                    .draw = {.temperature = cfg->sample_temperature, .nucleus = cfg->sample_nucleus},
                    .seed = 1};
  Sampler sampler;
  int err = OK;
  *s = (Samples){0};
  TRY(sampler_create(&sampler, &options));
  TRY_TO(done, mem_alloc(&job.z, (size_t)(o->batch * o->length) * sizeof *job.z));
  double start = clock_now();
  TRY_TO(done, draw(s, &sampler, &job, cfg->sample_count));
  s->seconds = clock_now() - start;
  s->allocated = (int64_t)net->dev.allocated;
done:
  mem_free(&job.z);
  sampler_destroy(&sampler);
  return err;
}
