#include "sampling/sampler.h"
#include "base/err.h"
#include "base/menu.h"

/* The first sampler that takes what the objective gives; one that needs no network without time, if `timed`. */
static const char *suited(const Objective *o, bool timed) {
  for (int i = 0; samplers[i]; i++)
    if (samplers[i]->takes & TAKES(o->gives) && !(timed && samplers[i]->skips)) return samplers[i]->name;
  return "none";
}

/* Why an objective cannot be sampled from, by what it gives. */
static const char *const unfit[] = {
    [GIVES_NEXT] = "predicts the next token, so it writes from left to right",
    [GIVES_X0] = "fills in masked tokens, in any order",
    [GIVES_X0_OR_MASK] = "gives the mask a probability, unless diffusion.subs_masking = true",
    [GIVES_SCORE] = "gives ratios of probabilities, not p(x0 | z)",
};

static int check(const SamplerTable *s, const SamplerOptions *x) {
  const Objective *o = x->objective;
  bool timed = x->model->time_conditioning;
  CHECK(s->takes & TAKES(o->gives), ERR_USAGE, "sample.sampler = %s: diffusion.objective = %s %s; use %s", s->name,
        o->table->name, unfit[o->gives], suited(o, timed));
  CHECK(!(s->skips && timed), ERR_USAGE,
        "sample.sampler = %s leaves out steps that change nothing, but with model.time_conditioning = true the output "
        "of the network changes in each of them; use %s",
        s->name, suited(o, true));
  CHECK(strcmp(x->cfg->sample_draw, "f32") != 0 || s->f32 & TAKES(o->gives), ERR_USAGE,
        "sample.draw = f32 draws at every masked position in every step, which sample.sampler = %s with "
        "diffusion.objective = %s does not; use sample.draw = f64",
        s->name, o->table->name);
  return OK;
}

int sampler_create(Sampler *s, const SamplerOptions *options) {
  *s = (Sampler){0};
  MENU_FIND(s->table, samplers, options->cfg->sample_sampler);
  CHECK(s->table, ERR_USAGE, "sample.sampler = %s: no such sampler", options->cfg->sample_sampler);
  TRY(check(s->table, options));
  return s->table->create ? s->table->create(&s->own, options) : OK;
}

int sampler_run(const Sampler *s, SamplerJob *job) {
  job->evaluations = job->evaluated = 0;
  return s->table->run(job, s->own);
}

void sampler_destroy(Sampler *s) {
  if (s == NULL) return;
  if (s->own) s->table->destroy(&s->own);
  *s = (Sampler){0};
}
