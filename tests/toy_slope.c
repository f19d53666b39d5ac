#include "toy_slope.h"

#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

enum { DIRECTIONS = 3 };

/* The loss along a line in parameter space: one element, or a direction of all. */
typedef struct Probe {
  Network *n;
  ToyLoss loss;
  const void *arg;
  double *values, *direction, *moved; /* [params.count] */
  int64_t element;
} Probe;

/* All weighted losses are positive, so the sum of the magnitudes is the loss itself. */
static double loss_here(const Probe *p, double *size) {
  double loss = p->loss(p->n, p->arg, false);
  *size = fabs(loss);
  return loss;
}

static double along(void *arg, double step, double *size) {
  const Probe *p = arg;
  Params *params = &p->n->model.params;
  for (int64_t i = 0; i < params->count; i++) p->moved[i] = p->values[i] + step * p->direction[i];
  MUST(tensor_upload(&p->n->dev, params->value, p->moved));
  return loss_here(p, size);
}

static void set_element(const Probe *p, double x) {
  MUST(tensor_upload(&p->n->dev, tensor_rows(p->n->model.params.value, p->element, 1), &x));
}

static double beside(void *arg, double step, double *size) {
  const Probe *p = arg;
  set_element(p, p->values[p->element] + step);
  return loss_here(p, size);
}

static int64_t largest_of(const Param *x, const double *grad) {
  int64_t best = x->offset;
  for (int64_t i = x->offset; i < x->offset + x->count; i++)
    if (fabs(grad[i]) > fabs(grad[best])) best = i;
  return best;
}

/* Elements of a parameter: all of them, or `most` random ones and the one with the largest gradient. */
static void measure_elements(ToySlopes *s, Probe *p, const Param *x, const double *grad, int64_t most) {
  RngKey key = rng_key(11, RNG_TEST, 0, 0, 0);
  bool all = most >= x->count;
  int64_t n = all ? x->count : most + 1;
  for (int64_t i = 0; i < n; i++) {
    int64_t drawn = (int64_t)(rng_uniform(key, (uint64_t)i) * (double)x->count);
    p->element = all ? x->offset + i : i < most ? x->offset + drawn : largest_of(x, grad);
    s->list[s->n++] = (ToySlope){slope_measure(beside, p), p->element};
    set_element(p, p->values[p->element]);
  }
}

static double *direction_of(const ToySlopes *s, int d) { return s->directions + d * s->params->count; }

static void measure_directions(ToySlopes *s, Probe *p) {
  for (int d = 0; d < DIRECTIONS; d++) {
    RngKey key = rng_key(12, RNG_TEST, (uint32_t)d, 0, 0);
    p->direction = direction_of(s, d);
    /* scaled by 1/√count, so that the step is at most one unit long */
    double norm = 1 / sqrt((double)s->params->count);
    for (int64_t i = 0; i < s->params->count; i++) p->direction[i] = norm * (2 * rng_uniform(key, (uint64_t)i) - 1);
    s->along[d] = slope_measure(along, p);
  }
  MUST(tensor_upload(&p->n->dev, p->n->model.params.value, p->values));
}

double *toy_slopes_measure(ToySlopes *s, Network *n, ToyLoss loss, const void *arg, int64_t most) {
  const Params *params = &n->model.params;
  size_t count = (size_t)params->count;
  *s = (ToySlopes){.params = params};
  MUST(mem_alloc(&s->list, count * sizeof *s->list));
  MUST(mem_alloc(&s->directions, DIRECTIONS * count * sizeof(double)));
  MUST(tensor_zero(&n->dev, params->grad));
  loss(n, arg, true);
  double *grad = toy_values(n, params->grad);
  Probe p = {.n = n, .loss = loss, .arg = arg, .values = toy_values(n, params->value)};
  MUST(mem_alloc(&p.moved, count * sizeof *p.moved));
  for (int i = 0; i < params->n; i++) measure_elements(s, &p, &params->list[i], grad, most);
  measure_directions(s, &p);
  mem_free(&p.moved);
  mem_free(&p.values);
  return grad;
}

void toy_slopes_free(ToySlopes *s) {
  mem_free(&s->list);
  mem_free(&s->directions);
}

static const Param *param_of(const Params *params, int64_t element) {
  int i = 0;
  while (element >= params->list[i].offset + params->list[i].count) i++;
  return &params->list[i];
}

static bool element_agrees(const ToySlopes *s, const ToySlope *at, const double *grad, ToyWhy why) {
  const Param *x = param_of(s->params, at->element);
  double g = grad[at->element];
  bool largest = at->element == largest_of(x, grad);
  if (slope_agrees(at->slope, g) && (!largest || g == 0 || at->slope.error <= SLOPE_SHARP * fabs(g))) return true;
  snprintf(why, sizeof(ToyWhy), "%s[%lld]: the gradient is %.12g, finite differences give %.12g ± %.2g", x->name,
           (long long)(at->element - x->offset), g, at->slope.value, at->slope.error);
  return false;
}

static bool direction_agrees(const ToySlopes *s, int d, const double *grad, ToyWhy why) {
  int64_t count = s->params->count;
  double want = check_dot(grad, direction_of(s, d), count);
  double typical = sqrt(check_dot(grad, grad, count) / (double)count);
  if (slope_agrees(s->along[d], want) && s->along[d].error <= SLOPE_SHARP * fmax(fabs(want), typical)) return true;
  snprintf(why, sizeof(ToyWhy), "direction %d: the gradient gives %.12g, finite differences %.12g ± %.2g", d, want,
           s->along[d].value, s->along[d].error);
  return false;
}

bool toy_slopes_agree(const ToySlopes *s, const double *grad, ToyWhy why) {
  for (int64_t i = 0; i < s->n; i++)
    if (!element_agrees(s, &s->list[i], grad, why)) return false;
  for (int d = 0; d < DIRECTIONS; d++)
    if (!direction_agrees(s, d, grad, why)) return false;
  return true;
}

void toy_slopes(Network *n, ToyLoss loss, const void *arg, int64_t most) {
  ToySlopes s;
  ToyWhy why;
  double *grad = toy_slopes_measure(&s, n, loss, arg, most);
  if (!toy_slopes_agree(&s, grad, why))
    fail_msg("%s, %s time: %s", n->model.options.name, n->model.options.time_conditioning ? "with" : "without", why);
  toy_slopes_free(&s);
  mem_free(&grad);
}

double toy_cross_entropy(Network *n, const ModelInput *in, const int32_t *target, const double *weight, bool gradient) {
  int64_t R = in->B * n->model.options.length;
  double scratch[64], sum = 0;
  assert_true(R <= 64 && R <= n->rows.chunk);
  Tensor logits = tensor_rows(n->rows.logits, 0, R);
  Tensor loss = tensor_rows(n->rows.loss, 0, R), weights = tensor_rows(n->rows.weight, 0, R);
  Tensor targets = tensor_rows(n->rows.target, 0, R);
  MUST(tensor_upload(&n->dev, targets, target));
  MUST(tensor_from_f64(&n->dev, weights, weight, scratch));
  MUST(model_forward(&n->model, in));
  Tensor h = tensor_rows(n->model.h, 0, R);
  MUST(model_logits(&n->model, logits, h));
  MUST(op_cross_entropy(&n->dev, loss, tensor_cols(logits, 0, n->model.options.vocab), targets, weights, -1, gradient));
  if (gradient) {
    MUST(model_logits_backward(&n->model, tensor_rows(n->model.dh, 0, R), logits, h));
    MUST(model_backward(&n->model, in));
  }
  double *losses = toy_values(n, loss);
  for (int64_t r = 0; r < R; r++) sum += losses[r];
  mem_free(&losses);
  return sum;
}

typedef struct Pass {
  const ToyBatch *batch;
  int first, count;
  Dropout dropout;
} Pass;

static double pass_loss(Network *n, const void *arg, bool gradient) {
  const Pass *p = arg;
  return toy_pass(n, p->batch, p->first, p->count, p->dropout, gradient);
}

void toy_pass_slopes(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, int64_t most) {
  Pass p = {b, first, count, dropout};
  toy_slopes(n, pass_loss, &p, most);
}
