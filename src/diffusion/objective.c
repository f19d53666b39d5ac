#include "diffusion/objective.h"
#include "base/err.h"
#include "base/menu.h"
#include "diffusion/timestep.h"
#include <math.h>

/* The objectives that may have an option, for a message. */
static const char *with_option(ObjectiveOption option, char text[MENU_TEXT]) {
  *text = '\0';
  for (int i = 0; objectives[i]; i++)
    if (objectives[i]->options & option) menu_add(text, objectives[i]->name);
  return text;
}

/* One factor of −log p, the same at all times, where masks are drawn for it. */
static int check_change(const ObjectiveTable *table, const ObjectiveOptions *o) {
  char fit[MENU_TEXT] = "";
  CHECK(table->options & OPTION_REWEIGHT, ERR_USAGE,
        "diffusion.change_of_variables changes the weight of −log p, which diffusion.objective = %s does not have; it "
        "is for %s",
        table->name, with_option(OPTION_REWEIGHT, fit));
  CHECK(o->T == 0, ERR_USAGE, "diffusion.change_of_variables is for continuous time: diffusion.T = %lld must be 0",
        (long long)o->T);
  for (int i = 0; schedules[i]; i++)
    if (schedules[i]->invertible_weight) menu_add(fit, schedules[i]->name);
  CHECK(o->schedule->table->invertible_weight, ERR_USAGE,
        "diffusion.change_of_variables is for diffusion.schedule = %s, not %s", fit, o->schedule->table->name);
  return OK;
}

/* diffusion.time and diffusion.weight. */
static int check_training(const ObjectiveTable *table, const ObjectiveOptions *o, const Law *law) {
  char fit[MENU_TEXT], uniform[MENU_TEXT] = "", latent[MENU_TEXT] = "";
  CHECK(!o->plain || table->options & OPTION_REWEIGHT, ERR_USAGE,
        "diffusion.weight = one leaves −log p of the masked tokens, which is not the loss of diffusion.objective = %s; "
        "it is for %s",
        table->name, with_option(OPTION_REWEIGHT, fit));
  for (int i = 0; laws[i]; i++)
    if (laws[i]->replaces) menu_add(latent, laws[i]->name);
  CHECK(o->input_temperature == 0 || law->table->replaces, ERR_USAGE,
        "diffusion.input_temperature = %g softens the Gaussian noise of diffusion.time = %s, not of %s; set it to 0",
        o->input_temperature, latent, law->table->name);
  if (law->table->uniform) return OK;
  CHECK(table->options & OPTION_TIMES, ERR_USAGE,
        "diffusion.time = %s: diffusion.objective = %s has no time to draw; it is for %s", law->table->name,
        table->name, with_option(OPTION_TIMES, fit));
  for (int i = 0; objectives[i]; i++)
    if (objectives[i]->gives == GIVES_X0_UNIFORM) menu_add(uniform, objectives[i]->name);
  CHECK(!law->table->replaces || table->gives == GIVES_X0_UNIFORM, ERR_USAGE,
        "diffusion.time = %s is for noise that replaces tokens by uniform ones, diffusion.objective = %s, not %s",
        law->table->name, uniform, table->name);
  CHECK(o->T == 0, ERR_USAGE, "diffusion.time = %s is for continuous time: diffusion.T = %lld must be 0",
        law->table->name, (long long)o->T);
  CHECK(!o->change_of_variables, ERR_USAGE,
        "diffusion.time = %s and diffusion.change_of_variables both change how masks are drawn: choose one",
        law->table->name);
  return OK;
}

/* diffusion.block. In a block of one token all is masked, whatever the time. */
static int check_block(const ObjectiveTable *table, const ObjectiveOptions *o, const Law *law) {
  char fit[MENU_TEXT];
  if (o->block == 0) return OK;
  CHECK(table->options & OPTION_BLOCKS, ERR_USAGE,
        "diffusion.block = %lld: diffusion.objective = %s has no blocks; they are for %s", (long long)o->block,
        table->name, with_option(OPTION_BLOCKS, fit));
  CHECK(o->T == 0, ERR_USAGE, "diffusion.block = %lld is for continuous time: diffusion.T = %lld must be 0",
        (long long)o->block, (long long)o->T);
  CHECK(!o->change_of_variables, ERR_USAGE,
        "diffusion.block = %lld and diffusion.change_of_variables: choose one of them", (long long)o->block);
  CHECK(o->block > 1 || law->table->uniform, ERR_USAGE,
        "diffusion.time = %s: blocks of one token (diffusion.block = 1) are always masked and have no time to draw; "
        "leave it out",
        law->table->name);
  return OK;
}

/* *least … *most of n masks have a share between those of the ends of the times. An end of the whole range is none. */
static void counts(const Objective *o, int64_t n, int64_t *least, int64_t *most) {
  const double ROUNDING = 1e-9;
  const Law *law = &o->law;
  double low = law->low > o->tau ? objective_masked(o, law->low) : 0;
  double high = law->high < 1 ? objective_masked(o, law->high) : 1;
  *least = (int64_t)ceil(low * (double)n - ROUNDING);
  *most = (int64_t)floor(high * (double)n + ROUNDING);
}

/* diffusion.resample. */
static int check_resample(const Objective *o) {
  char fit[MENU_TEXT];
  int64_t least, most, block = o->options.block;
  if (!o->options.resample) return OK;
  CHECK(o->law.table->clips && block > 0, ERR_USAGE,
        "diffusion.resample keeps the share of masks of a block between those of two times: it is for diffusion.time = "
        "%s with diffusion.block",
        law_clips(fit));
  counts(o, block, &least, &most);
  CHECK(
      least <= most, ERR_USAGE,
      "diffusion.resample: %lld tokens, a block, are too few for a share of masks between that of time %g and that of "
      "time %g: set diffusion.clip_low and clip_high further apart",
      (long long)block, o->law.low, o->law.high);
  return OK;
}

/* Which options do not go together, and why. */
static int check(const ObjectiveTable *table, const ObjectiveOptions *o) {
  char fit[MENU_TEXT] = "";
  if (o->change_of_variables) TRY(check_change(table, o));
  CHECK(o->T == 0 || table->options & OPTION_STEPS, ERR_USAGE,
        "diffusion.objective = %s has no discrete time: diffusion.T = %lld must be 0", table->name, (long long)o->T);
  for (int i = 0; schedules[i]; i++)
    if (schedules[i]->linear_masking) menu_add(fit, schedules[i]->name);
  CHECK(o->T == 0 || o->schedule->table->linear_masking, ERR_USAGE,
        "the bound in diffusion.T = %lld steps assumes alpha = 1 − t: diffusion.schedule must be %s, not %s",
        (long long)o->T, fit, o->schedule->table->name);
  CHECK(!o->subs_masking || table->options & OPTION_SUBS_MASKING, ERR_USAGE,
        "diffusion.subs_masking is for diffusion.objective = %s; with %s the mask has no probability anyway",
        with_option(OPTION_SUBS_MASKING, fit), table->name);
  return table->check ? table->check(o) : OK;
}

int objective_find(const ObjectiveTable **table, const char *name) {
  MENU_FIND(*table, objectives, name);
  CHECK(*table, ERR_USAGE, "diffusion.objective = %s: no such objective", name);
  return OK;
}

int objective_create(Objective *o, const ObjectiveOptions *options) {
  const ObjectiveTable *table;
  TRY(objective_find(&table, options->name));
  TRY(check(table, options));
  *o = (Objective){.table = table, .schedule = options->schedule, .options = *options, .mask = options->mask};
  o->options.name = table->name;
  o->gives = options->subs_masking ? GIVES_X0 : table->gives;
  o->diffusion = o->gives != GIVES_NEXT;
  o->replaces = o->gives == GIVES_X0_UNIFORM;
  o->terms = options->subs_masking ? 1 : table->terms;
  o->tau = options->T > 0 ? 0 : options->tau;
  schedule_span(o->schedule, &o->low, &o->slope);
  LawOptions law = options->law;
  law.tokens = options->vocab - 1;
  TRY(law_create(&o->law, &law, o->schedule, o->tau));
  o->options.law = o->law.options;
  TRY(check_training(table, options, &o->law));
  TRY(check_block(table, options, &o->law));
  return check_resample(o);
}

double objective_time(const Objective *o, double t) {
  if (o->options.T > 0) return (floor(t * (double)o->options.T) + 1) / (double)o->options.T;
  return t;
}

double objective_train_time(const Objective *o, double t) {
  return o->law.table->uniform ? objective_time(o, t) : law_time(&o->law, t);
}

int64_t objective_blocks(const Objective *o, int64_t L) { return o->options.block > 0 ? L / o->options.block : 1; }

const char *objective_trains(const Objective *o, bool *bound) {
  *bound = !o->options.plain && !o->law.table->partial;
  if (o->options.plain) return "cross entropy of the masked tokens, per token";
  return *bound ? "bound" : "part of the bound at the times of diffusion.time";
}

double objective_share(const Objective *o) {
  if (!o->diffusion || o->options.T > 0 || o->options.block == 1) return 1;
  if (o->options.change_of_variables) return exp(o->low + o->slope) - exp(o->low);
  return (schedule_masked(o->schedule, 1) - schedule_masked(o->schedule, o->tau)) / (1 - o->tau);
}

double objective_masked(const Objective *o, double t) {
  if (!o->diffusion) return 0;
  return o->options.change_of_variables ? exp(o->low + t * o->slope) : schedule_masked(o->schedule, t);
}

double objective_time_of(const Objective *o, double share) {
  return schedule_time(o->schedule, fmin(schedule_sigma(o->schedule, 1), -log1p(-share)));
}

void objective_corrupt(const Objective *o, int32_t *z, const int32_t *x0, int64_t from, int64_t to, double t,
                       RngKey key) {
  double chance = objective_masked(o, t);
  if (o->replaces)
    timestep_replace(z, x0, from, to, o->options.vocab, o->mask, chance, key);
  else
    timestep_mask(z, x0, from, to, o->mask, chance, key);
}

void objective_corrupt_train(const Objective *o, int32_t *z, const int32_t *x0, int64_t from, int64_t to, double t,
                             RngKey key) {
  int64_t least, most;
  if (!o->options.resample) {
    objective_corrupt(o, z, x0, from, to, t, key);
    return;
  }
  counts(o, to - from, &least, &most);
  if (most < least) most = least; /* a search has found times at which the schedule hardly masks */
  timestep_mask_between(z, x0, from, to, o->mask, objective_masked(o, t), least, most, key);
}

double objective_condition(const Objective *o, double t) {
  if (!o->options.change_of_variables) return schedule_sigma(o->schedule, t);
  return fmax(0, (log(schedule_masked(o->schedule, t)) - o->low) / o->slope);
}

int objective_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                   bool gradient) {
  return o->table->loss(o, dev, loss, logits, target, weight, gradient);
}

int objective_cross_entropy(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                            bool gradient) {
  return op_cross_entropy(dev, loss, logits, target, weight, o->mask, gradient);
}

int objective_denoise(const Objective *o, Device *dev, Tensor ids, Tensor logits, Tensor uniform, Tensor keep,
                      DrawRule rule) {
  rule.forbid = o->mask;
  if (tensor_none(uniform)) return op_argmax(dev, ids, logits, o->mask);
  return op_draw(dev, ids, logits, uniform, keep, &rule);
}

void objective_log_p(const Objective *o, double *out, const float *f, int32_t z, double t) {
  o->table->log_p(o, out, f, z, t);
}

void log_softmax(double *out, const float *f, int64_t V, int32_t forbid) {
  double top = -INFINITY, sum = 0;
  for (int64_t v = 0; v < V; v++)
    if (v != forbid) top = fmax(top, (double)f[v]);
  for (int64_t v = 0; v < V; v++) {
    out[v] = v == forbid ? -INFINITY : (double)f[v] - top;
    sum += exp(out[v]);
  }
  for (int64_t v = 0; v < V; v++) out[v] -= log(sum);
}
