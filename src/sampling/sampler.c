#include "sampling/sampler.h"
#include "base/err.h"
#include "base/menu.h"
#include "sampling/guidance.h"

/* The first sampler that takes what the objective gives; if `timed`, one that also works with a network conditioned on
 * time. */
static const char *suited(const Objective *o, bool timed) {
  for (int i = 0; samplers[i]; i++)
    if (samplers[i]->takes & TAKES(o->gives) && !(timed && samplers[i]->skips)) return samplers[i]->name;
  return "none";
}

/* Why a sampler of masked tokens cannot sample from an objective, by what that gives. */
static const char *const unfit[] = {
    [GIVES_NEXT] = "predicts the next token, so it writes from left to right",
    [GIVES_X0] = "gives p(x0 | z) without the mask",
    [GIVES_X0_OR_MASK] = "gives the mask a probability, unless diffusion.subs_masking = true",
    [GIVES_SCORE] = "gives ratios of probabilities, not p(x0 | z)",
    [GIVES_X0_UNIFORM] = "replaces tokens by others instead of masking them",
};

/* The samplers that draw in f32 from what the objective gives, for a message. */
static const char *drawn_in_f32(const Objective *o, char text[MENU_TEXT]) {
  *text = '\0';
  for (int i = 0; samplers[i]; i++)
    if (samplers[i]->f32 & TAKES(o->gives)) menu_add(text, samplers[i]->name);
  return *text ? text : "no sampler";
}

/* The samplers that end a sample at eos themselves. */
static const char *that_stop(char text[MENU_TEXT]) {
  *text = '\0';
  for (int i = 0; samplers[i]; i++)
    if (samplers[i]->stops) menu_add(text, samplers[i]->name);
  return text;
}

/* Whether a row of logits says nothing but which token it is. */
static bool certain(const Objective *o) { return o->gives != GIVES_X0_OR_MASK && o->gives != GIVES_SCORE; }

/* Where the mask has a probability, mixing would change how many tokens unmask. */
static int check_guidance(const SamplerOptions *x) {
  const Objective *o = x->objective;
  const Config *cfg = x->cfg;
  if (!guidance_pairs(x->label, cfg->sample_guidance)) return OK;
  CHECK(
      x->label < 0 || o->gives == GIVES_X0 || o->gives == GIVES_X0_UNIFORM, ERR_USAGE,
      "sample.guidance mixes what the network gives with and without a class: diffusion.objective = %s %s; set it to 1",
      o->table->name, unfit[o->gives]);
  CHECK(x->label >= 0 || o->gives == GIVES_X0, ERR_USAGE,
        "sample.guidance compares a prompt with a masked one: diffusion.objective = %s %s; set it to 1", o->table->name,
        unfit[o->gives]);
  CHECK(o->gives == GIVES_X0 || (cfg->sample_temperature == 1 && cfg->sample_nucleus == 1), ERR_USAGE,
        "sample.guidance with uniform noise mixes the distributions of a step as they are: set sample.temperature and "
        "sample.nucleus to 1");
  return OK;
}

static int check(const SamplerTable *s, const SamplerOptions *x) {
  const Objective *o = x->objective;
  bool timed = x->model->time_conditioning, left_to_right = s->takes == TAKES(GIVES_NEXT);
  char fit[MENU_TEXT];
  CHECK(s->takes & TAKES(o->gives), ERR_USAGE, "sample.sampler = %s%s: diffusion.objective = %s %s; use %s", s->name,
        left_to_right ? " writes from left to right" : "", o->table->name,
        left_to_right ? "fills in masked tokens, in any order" : unfit[o->gives], suited(o, timed));
  CHECK(!(s->skips && timed), ERR_USAGE,
        "sample.sampler = %s leaves out steps that change nothing, but with model.time_conditioning = true the output "
        "of the network changes in each of them; use %s",
        s->name, suited(o, true));
  CHECK(s->stops || x->model->block > 0 || !x->cfg->sample_stop_at_eos, ERR_USAGE,
        "sample.stop_at_eos is for sample.sampler = %s and for diffusion.block: %s would not stop; set it to false",
        that_stop(fit), s->name);
  CHECK(
      strcmp(x->cfg->sample_draw, "f32") != 0 || s->f32 & TAKES(o->gives), ERR_USAGE,
      "sample.draw = f32 is not for sample.sampler = %s; with diffusion.objective = %s it is for %s: use sample.draw = "
      "f64",
      s->name, o->table->name, drawn_in_f32(o, fit));
  TRY(check_guidance(x));
  CHECK(x->cfg->sample_temperature > 0 || (strcmp(x->cfg->sample_draw, "f32") != 0 && certain(o)), ERR_USAGE,
        "sample.temperature = 0 takes the most likely token, for which sample.draw must be f64 and the objective give "
        "no probability to the mask; use a small one, such as 1e-3");
  return OK;
}

int sampler_stops(const SamplerOptions *x) {
  if (!x->cfg->sample_stop_at_eos) return OK;
  CHECK(x->eos >= 0, ERR_USAGE, "sample.stop_at_eos: the tokenizer has no token that ends a text");
  CHECK(x->cfg->sample_num_strides == 0, ERR_USAGE,
        "sample.stop_at_eos ends a sample within the network's length: set sample.num_strides to 0");
  return OK;
}

int32_t sampler_fill(const SamplerOptions *x) { return x->pad >= 0 ? x->pad : x->eos; }

/* What block diffusion asks of any sampler. */
static int check_blocks(const SamplerOptions *x) {
  const Config *cfg = x->cfg;
  if (x->model->block == 0) return OK;
  CHECK(cfg->sample_noise_removal, ERR_USAGE,
        "sample.noise_removal = false leaves masks, but with diffusion.block = %lld a block must be complete before "
        "the next one; set it to true",
        (long long)x->model->block);
  CHECK(cfg->sample_block_length == 0, ERR_USAGE,
        "sample.block_length = %lld: with diffusion.block = %lld the blocks are those of the network; set it to 0",
        (long long)cfg->sample_block_length, (long long)x->model->block);
  CHECK(x->label >= 0 || cfg->sample_guidance == 1, ERR_USAGE,
        "sample.guidance = %g: with diffusion.block = %lld only a class guides; set sample.label, or sample.guidance "
        "to 1",
        cfg->sample_guidance, (long long)x->model->block);
  return sampler_stops(x);
}

int sampler_create(Sampler *s, const SamplerOptions *options) {
  *s = (Sampler){0};
  MENU_FIND(s->table, samplers, options->cfg->sample_sampler);
  CHECK(s->table, ERR_USAGE, "sample.sampler = %s: no such sampler", options->cfg->sample_sampler);
  TRY(check(s->table, options));
  TRY(check_blocks(options));
  s->blocks = (Blocks){.cache = options->cfg->sample_cache,
                       .stop = options->cfg->sample_stop_at_eos,
                       .eos = options->eos,
                       .fill = sampler_fill(options)};
  return s->table->create ? s->table->create(&s->own, options) : OK;
}

static int run(const Sampler *s, SamplerJob *job) {
  if (job->model->options.block == 0) return s->table->run(job, s->own);
  return blocks_run(&s->blocks, s->table->run, s->own, job);
}

int sampler_run(const Sampler *s, SamplerJob *job) {
  job->evaluations = job->evaluated = job->cached = 0;
  job->length = job->model->options.length;
  if (!job->guided) return run(s, job);
  int err = guidance_begin(job);
  if (err == OK) err = run(s, job);
  guidance_end(job);
  return err;
}

void sampler_destroy(Sampler *s) {
  if (s == NULL) return;
  if (s->own) s->table->destroy(&s->own);
  *s = (Sampler){0};
}
