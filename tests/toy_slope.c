#include "toy_slope.h"

#include <math.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

/* (8(f(h) − f(−h)) − (f(2h) − f(−2h)))/12h is off by h⁴f⁽⁵⁾/30 and by 10⁻¹⁵/h of rounding. */
typedef struct Probe {
  Network *n;
  ToyLoss loss;
  const void *arg;
  double *values, *direction, *moved; /* [params.count] */
} Probe;

static double along(const Probe *p, double step) {
  Params *params = &p->n->model.params;
  for (int64_t i = 0; i < params->count; i++) p->moved[i] = p->values[i] + step * p->direction[i];
  MUST(tensor_upload(&p->n->dev, params->value, p->moved));
  return p->loss(p->n, p->arg, false);
}

static double beside(const Probe *p, int64_t element, double step) {
  double x = p->values[element] + step;
  MUST(tensor_upload(&p->n->dev, tensor_rows(p->n->model.params.value, element, 1), &x));
  return p->loss(p->n, p->arg, false);
}

static double slope_along(const Probe *p) {
  const double h = 1e-4;
  return (8 * (along(p, h) - along(p, -h)) - (along(p, 2 * h) - along(p, -2 * h))) / (12 * h);
}

static double slope_beside(const Probe *p, int64_t element) {
  const double h = 1e-3;
  double near_by = beside(p, element, h) - beside(p, element, -h);
  double farther = beside(p, element, 2 * h) - beside(p, element, -2 * h);
  beside(p, element, 0);
  return (8 * near_by - farther) / (12 * h);
}

/* Elements of a parameter: all of them, or `most` drawn ones. An error is relative to the element, or to a hundredth of
 * the parameter's largest gradient where that is more. */
static void compare_elements(const Probe *p, const Param *x, const double *grad, int64_t most) {
  RngKey key = rng_key(11, RNG_TEST, 0, 0, 0);
  double largest = 0;
  for (int64_t i = 0; i < x->count; i++) largest = fmax(largest, fabs(grad[x->offset + i]));
  int64_t n = most < x->count ? most : x->count;
  for (int64_t i = 0; i < n; i++) {
    int64_t k = x->offset + (most < x->count ? (int64_t)(rng_uniform(key, (uint64_t)i) * (double)x->count) : i);
    double slope = slope_beside(p, k), error = fabs(slope - grad[k]);
    if (!(error <= 1e-6 * fmax(fabs(grad[k]), 0.01 * largest)))
      fail_msg("%s[%lld] of %s: the gradient is %.12g, finite differences give %.12g (%s time)", x->name,
               (long long)(k - x->offset), p->n->model.options.name, grad[k], slope,
               p->n->model.options.time_conditioning ? "with" : "without");
  }
}

static void compare_directions(const Probe *p, const double *grad) {
  int64_t count = p->n->model.params.count;
  for (uint32_t d = 0; d < 3; d++) {
    double norm = 0;
    RngKey key = rng_key(12, RNG_TEST, d, 0, 0);
    for (int64_t i = 0; i < count; i++) {
      p->direction[i] = 2 * rng_uniform(key, (uint64_t)i) - 1;
      norm += p->direction[i] * p->direction[i] * grad[i] * grad[i];
    }
    double slope = slope_along(p), want = check_dot(grad, p->direction, count);
    if (!(fabs(slope - want) <= 1e-7 * sqrt(norm)))
      fail_msg("direction %u: the gradient gives %.12g, finite differences %.12g", d, want, slope);
  }
  MUST(tensor_upload(&p->n->dev, p->n->model.params.value, p->values));
}

void toy_slopes(Network *n, ToyLoss loss, const void *arg, int64_t most) {
  Params *params = &n->model.params;
  size_t bytes = (size_t)params->count * sizeof(double);
  MUST(tensor_zero(&n->dev, params->grad));
  loss(n, arg, true);
  double *grad = toy_values(n, params->grad);
  Probe p = {.n = n, .loss = loss, .arg = arg, .values = toy_values(n, params->value)};
  MUST(mem_alloc(&p.direction, bytes));
  MUST(mem_alloc(&p.moved, bytes));
  for (int i = 0; i < params->n; i++) compare_elements(&p, &params->list[i], grad, most);
  compare_directions(&p, grad);
  mem_free(&p.direction);
  mem_free(&p.moved);
  mem_free(&p.values);
  mem_free(&grad);
}

double toy_cross_entropy(Network *n, const ModelInput *in, const int32_t *target, const double *weight, bool gradient) {
  int64_t R = in->B * n->model.options.length;
  double scratch[64], sum = 0;
  assert_true(R <= 64 && R <= n->rows.chunk);
  Tensor h = tensor_rows(n->model.h, 0, R), logits = tensor_rows(n->rows.logits, 0, R);
  Tensor loss = tensor_rows(n->rows.loss, 0, R), weights = tensor_rows(n->rows.weight, 0, R);
  Tensor targets = tensor_rows(n->rows.target, 0, R);
  MUST(tensor_upload(&n->dev, targets, target));
  MUST(tensor_from_f64(&n->dev, weights, weight, scratch));
  MUST(model_forward(&n->model, in));
  MUST(model_logits(&n->model, logits, h));
  MUST(op_cross_entropy(&n->dev, loss, logits, targets, weights, -1, gradient));
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
