#include "diffusion/sampler.h"
#include "base/err.h"
#include "diffusion/draws.h"
#include <string.h>

extern const Sampler sampler_analytic, sampler_ancestral, sampler_ar, sampler_cached, sampler_event,
    sampler_first_hitting, sampler_remask;
static const Sampler *const samplers[] = {&sampler_ancestral, &sampler_analytic,      &sampler_ar,     &sampler_cached,
                                          &sampler_event,     &sampler_first_hitting, &sampler_remask, NULL};

int sampler_find(const Sampler **s, const char *name) {
  for (int i = 0; samplers[i]; i++)
    if (strcmp(samplers[i]->name, name) == 0) return *s = samplers[i], OK;
  return RAISE(ERR_USAGE, "sample.sampler = %s: no such sampler", name);
}

double sampler_time(int64_t i, int64_t steps) { return 1 - (double)i * (1 - 1e-5) / (double)steps; }

double sampler_chance(const SamplerJob *job, int64_t step) {
  const Schedule *s = job->objective->schedule;
  double now = schedule_masked(s, sampler_time(step, job->steps)),
         next = schedule_masked(s, sampler_time(step + 1, job->steps));
  return (now - next) / now;
}

const char *sampler_suited(const Objective *o) {
  return !o->table->diffusion ? "ar" : strcmp(o->table->name, "sedd") == 0 ? "analytic" : "ancestral";
}

int sampler_draws_x0(const char *sampler, const Objective *o) {
  const char *name = o->table->name;
  CHECK(o->table->diffusion, ERR_USAGE,
        "sample.sampler = %s unmasks tokens in any order; diffusion.objective = %s writes from left to right; use %s",
        sampler, name, sampler_suited(o));
  CHECK(strcmp(name, "sedd") != 0, ERR_USAGE,
        "sample.sampler = %s draws from p(x0 | z); diffusion.objective = sedd has ratios of probabilities in its "
        "place; use %s",
        sampler, sampler_suited(o));
  CHECK(o->terms == 1, ERR_USAGE,
        "sample.sampler = %s needs p(m) = 0; diffusion.objective = %s has it with diffusion.subs_masking = true only; "
        "use %s",
        sampler, name, sampler_suited(o));
  return OK;
}

int sampler_timeless(const char *sampler, const ModelOptions *model) {
  CHECK(!model->time_conditioning, ERR_USAGE,
        "sample.sampler = %s leaves out steps that change nothing, but with model.time_conditioning = true the network "
        "answers otherwise at each of them; use ancestral",
        sampler);
  return OK;
}

int sampler_draws_f64(const char *sampler, const SamplerJob *job) {
  CHECK(!job->draw.f32, ERR_USAGE,
        "sample.draw = f32 is the way of published samplers, which draw at every masked position in every step; "
        "sample.sampler = %s does not: use ancestral or cached, or sample.draw = f64",
        sampler);
  return OK;
}

int sampler_walk(SamplerJob *job, Walk how) {
  Draws d;
  int err = OK;
  bool all = how.weighing != WEIGH_NOTHING || job->draw.f32, changed = true;
  job->evaluations = job->evaluated = 0;
  TRY_TO(done, draws_create(&d, job->n * job->model->options.length));
  for (int64_t i = 0; i < job->steps; i++) {
    double chance = sampler_chance(job, i);
    if (all)
      draws_masked(&d, job, i, chance, how.weighing);
    else
      draws_chosen(&d, job, i, chance);
    if (how.every_step || (changed && d.n > 0))
      TRY_TO(done, draws_look(job, job->z, job->n, sampler_time(i, job->steps)));
    TRY_TO(done, draws_fill(job, &d, job->z, false, d.n > 0 ? &changed : NULL));
    if (job->progress) job->progress(job->progress_arg, i + 1);
  }
  TRY_TO(done, draws_finish(job, &d, !how.draw_last));
done:
  draws_destroy(&d);
  return err;
}
