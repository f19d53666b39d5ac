#include "diffusion/objective.h"
#include "base/err.h"
#include "base/menu.h"
#include <math.h>

bool objective_reweights(const ObjectiveOptions *o) { return o->importance_sampling || o->change_of_variables; }

/* The objectives that may have an option, for a message. */
static const char *with_option(ObjectiveOption option, char text[MENU_TEXT]) {
  *text = '\0';
  for (int i = 0; objectives[i]; i++)
    if (objectives[i]->options & option) menu_add(text, objectives[i]->name);
  return text;
}

static int check_reweighting(const ObjectiveTable *table, const ObjectiveOptions *o) {
  const char *key = o->importance_sampling ? "importance_sampling" : "change_of_variables";
  char fit[MENU_TEXT] = "";
  CHECK(!(o->importance_sampling && o->change_of_variables), ERR_USAGE,
        "diffusion.importance_sampling and diffusion.change_of_variables are two ways to the same loss: choose one");
  CHECK(table->options & OPTION_REWEIGHT, ERR_USAGE,
        "diffusion.%s changes the weight of −log p, which diffusion.objective = %s does not have; it is for %s", key,
        table->name, with_option(OPTION_REWEIGHT, fit));
  CHECK(o->T == 0, ERR_USAGE, "diffusion.%s is for continuous time: diffusion.T = %lld must be 0", key,
        (long long)o->T);
  for (int i = 0; schedules[i]; i++)
    if (schedules[i]->invertible_weight) menu_add(fit, schedules[i]->name);
  CHECK(o->schedule->table->invertible_weight, ERR_USAGE, "diffusion.%s is for diffusion.schedule = %s, not %s", key,
        fit, o->schedule->table->name);
  return OK;
}

/* Which options do not go together, and why. */
static int check(const ObjectiveTable *table, const ObjectiveOptions *o) {
  char fit[MENU_TEXT] = "";
  if (objective_reweights(o)) TRY(check_reweighting(table, o));
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
  o->terms = options->subs_masking ? 1 : table->terms;
  o->tau = options->T > 0 ? 0 : options->tau;
  double least, most;
  schedule_ends(o->schedule, &least, &most);
  o->low = log(-expm1(-least));
  o->slope = log(-expm1(-most)) - o->low;
  return OK;
}

double objective_time(const Objective *o, double t) {
  if (o->options.T > 0) return (floor(t * (double)o->options.T) + 1) / (double)o->options.T;
  return o->options.importance_sampling ? schedule_time(o->schedule, -log1p(-exp(o->low + t * o->slope))) : t;
}

double objective_share(const Objective *o) {
  if (!o->diffusion || o->options.T > 0) return 1;
  if (objective_reweights(&o->options)) return exp(o->low + o->slope) - exp(o->low);
  return (schedule_masked(o->schedule, 1) - schedule_masked(o->schedule, o->tau)) / (1 - o->tau);
}

double objective_masked(const Objective *o, double t) {
  if (!o->diffusion) return 0;
  return o->options.change_of_variables ? exp(o->low + t * o->slope) : schedule_masked(o->schedule, t);
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
