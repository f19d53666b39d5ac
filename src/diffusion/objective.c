#include "diffusion/objective.h"
#include "base/err.h"
#include "base/mem.h"
#include "diffusion/timestep.h"
#include <math.h>
#include <string.h>

extern const ObjectiveTable objective_subs, objective_d3pm, objective_sedd, objective_ar;
static const ObjectiveTable *const objectives[] = {&objective_subs, &objective_d3pm, &objective_sedd, &objective_ar,
                                                   NULL};

/* What does not go together, and why. */
static int check(const ObjectiveTable *table, const ObjectiveOptions *o) {
  const char *schedule = o->schedule->table->name;
  bool subs = table == &objective_subs, d3pm = table == &objective_d3pm, loglinear = strcmp(schedule, "loglinear") == 0;
  const char *change = o->importance_sampling ? "importance_sampling" : "change_of_variables";
  CHECK(!(o->importance_sampling && o->change_of_variables), ERR_USAGE,
        "diffusion.importance_sampling and diffusion.change_of_variables are two ways to the same loss: choose one");
  if (o->importance_sampling || o->change_of_variables) {
    CHECK(subs, ERR_USAGE,
          "diffusion.%s changes the weight of −log p, which only diffusion.objective = subs has, not %s", change,
          table->name);
    CHECK(o->T == 0, ERR_USAGE, "diffusion.%s is for continuous time: diffusion.T = %lld must be 0", change,
          (long long)o->T);
    CHECK(loglinear || strcmp(schedule, "linear") == 0, ERR_USAGE,
          "diffusion.%s is for diffusion.schedule = loglinear or linear, not %s", change, schedule);
  }
  CHECK(!d3pm || o->T > 0, ERR_USAGE,
        "diffusion.objective = d3pm is a bound in discrete time: set diffusion.T, for example to 1000");
  CHECK(subs || d3pm || o->T == 0, ERR_USAGE,
        "diffusion.objective = %s has no discrete time: diffusion.T = %lld must be 0", table->name, (long long)o->T);
  CHECK(o->T == 0 || loglinear, ERR_USAGE,
        "the bound of diffusion.T = %lld steps holds for alpha = 1 − t: diffusion.schedule must be loglinear, not %s",
        (long long)o->T, schedule);
  CHECK(d3pm || !o->subs_masking, ERR_USAGE, "diffusion.subs_masking belongs to diffusion.objective = d3pm; %s %s",
        table->name, subs ? "does so always" : "has no p(m)");
  return OK;
}

int objective_create(Objective *o, const ObjectiveOptions *options) {
  const ObjectiveTable *table = NULL;
  for (int i = 0; objectives[i]; i++)
    if (strcmp(objectives[i]->name, options->name) == 0) table = objectives[i];
  CHECK(table, ERR_USAGE, "diffusion.objective = %s: no such objective", options->name);
  TRY(check(table, options));
  *o = (Objective){.table = table, .schedule = options->schedule, .options = *options, .mask = options->mask};
  o->options.name = table->name;
  o->terms = table == &objective_d3pm && !options->subs_masking ? 4 : 1;
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
  bool uniform = o->options.importance_sampling || o->options.change_of_variables;
  if (!o->table->diffusion || o->options.T > 0) return 1;
  if (uniform) return exp(o->low + o->slope) - exp(o->low);
  return (schedule_masked(o->schedule, 1) - schedule_masked(o->schedule, o->tau)) / (1 - o->tau);
}

double objective_masked(const Objective *o, double t) {
  if (!o->table->diffusion) return 0;
  return o->options.change_of_variables ? exp(o->low + t * o->slope) : schedule_masked(o->schedule, t);
}

double objective_condition(const Objective *o, double t) {
  if (!o->options.change_of_variables) return schedule_sigma(o->schedule, t);
  return fmax(0, (log(schedule_masked(o->schedule, t)) - o->low) / o->slope);
}

int noised_create(Noised *n, int64_t capacity, int64_t L, int terms) {
  size_t rows = (size_t)(capacity * L);
  *n = (Noised){.capacity = capacity, .L = L};
  TRY(mem_alloc(&n->x0, rows * sizeof *n->x0));
  TRY(mem_alloc(&n->z, rows * sizeof *n->z));
  TRY(mem_alloc(&n->length, (size_t)capacity * sizeof *n->length));
  TRY(mem_alloc(&n->sigma, (size_t)capacity * sizeof *n->sigma));
  TRY(mem_alloc(&n->rows, rows * sizeof *n->rows));
  TRY(mem_alloc(&n->target, rows * sizeof *n->target));
  return mem_alloc(&n->weight, rows * (size_t)terms * sizeof *n->weight);
}

void noised_destroy(Noised *n) {
  mem_free(&n->x0);
  mem_free(&n->z);
  mem_free(&n->length);
  mem_free(&n->sigma);
  mem_free(&n->rows);
  mem_free(&n->target);
  mem_free(&n->weight);
  *n = (Noised){0};
}

void noised_begin(Noised *n, int64_t B) {
  ASSERT(B <= n->capacity);
  n->B = B;
  n->n_rows = n->masked = n->scored = 0;
}

void noised_add(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t) {
  memcpy(n->x0 + b * n->L, x0, (size_t)n->L * sizeof *x0);
  n->length[b] = (int32_t)length;
  n->sigma[b] = o->options.change_of_variables ? t : schedule_sigma(o->schedule, t);
  n->scored += o->table->diffusion ? length : length - 1;
  for (int64_t l = 0; l < length && o->table->diffusion; l++) n->masked += n->z[b * n->L + l] == o->mask;
  o->table->score(o, n, b, t);
}

void noised_draw(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t, RngKey mask) {
  t = objective_time(o, t);
  timestep_mask(n->z + b * n->L, x0, n->L, o->mask, objective_masked(o, t), mask);
  noised_add(o, n, b, x0, length, t);
}

void noised_count(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t, RngKey mask) {
  int64_t k = 1 + (int64_t)(t * (double)n->L), first = n->n_rows;
  if (k > n->L) k = n->L;
  t = schedule_time(o->schedule, fmin(schedule_sigma(o->schedule, 1), -log1p(-(double)k / (double)n->L)));
  timestep_mask_count(n->z + b * n->L, x0, n->L, o->mask, k, mask);
  noised_add(o, n, b, x0, length, t);
  n->sigma[b] = objective_condition(o, t);
  for (int64_t i = first; i < n->n_rows; i++) n->weight[i] = (double)n->L / (double)k;
}

double *noised_row(const Objective *o, Noised *n, int64_t b, int64_t l, int32_t target) {
  n->rows[n->n_rows] = (int32_t)(b * n->L + l);
  n->target[n->n_rows] = target;
  return n->weight + n->n_rows++ * o->terms;
}

void noised_masked_rows(const Objective *o, Noised *n, int64_t b, double weight) {
  for (int64_t l = 0; l < n->length[b]; l++)
    if (n->z[b * n->L + l] == o->mask) *noised_row(o, n, b, l, n->x0[b * n->L + l]) = weight;
}

int objective_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                   bool gradient) {
  return o->table->loss(o, dev, loss, logits, target, weight, gradient);
}

int objective_cross_entropy(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                            bool gradient) {
  return op_cross_entropy(dev, loss, logits, target, weight, o->mask, gradient);
}

int objective_denoise(const Objective *o, Device *dev, Draw how) {
  how.forbid = o->mask;
  return tensor_none(how.uniform) ? op_argmax(dev, how.ids, how.logits, o->mask) : op_draw(dev, &how);
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
