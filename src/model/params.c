#include "model/params.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int params_add(Params *p, int *index, InitKind init, double bound, bool matrix, int rank, const int64_t *dims,
               const char *name_format, ...) {
  if (p->n == p->capacity) {
    int more = p->capacity ? 2 * p->capacity : 64;
    TRY(mem_realloc(&p->list, (size_t)p->capacity * sizeof(Param), (size_t)more * sizeof(Param)));
    p->capacity = more;
  }
  Param *x = &p->list[p->n];
  *x = (Param){.rank = rank, .init = init, .bound = bound, .matrix = matrix, .count = 1, .padded = dims[0]};
  for (int i = 0; i < rank; i++) x->count *= x->dims[i] = dims[i];
  va_list args;
  va_start(args, name_format);
  vsnprintf(x->name, sizeof x->name, name_format, args);
  va_end(args);
  *index = p->n++;
  return OK;
}

static int64_t whole_units(int64_t n) { return (n + PARAMS_UNIT - 1) / PARAMS_UNIT * PARAMS_UNIT; }

void params_pad(Params *p, int index) { p->list[index].padded = whole_units(p->list[index].dims[0]); }

Tensor params_padded(const Param *x, Tensor t) {
  t.dims[0] = x->padded;
  return t;
}

static void lay_out(Params *p) {
  p->count = 0;
  for (Param *x = p->list; x < p->list + p->n; x++) {
    x->offset = p->count;
    p->count += whole_units(x->count / x->dims[0] * x->padded);
  }
}

static Tensor view(const Param *x, Tensor flat) {
  Tensor part = tensor_rows(flat, x->offset, x->count);
  return tensor_make(part.data, flat.type, x->rank, x->dims);
}

int params_bind(Params *p, Tensor values) {
  p->bindings++;
  if (!tensor_none(p->low)) TRY(op_to_bf16(p->dev, p->low, values));
  for (int i = 0; i < p->n; i++) {
    Param *x = &p->list[i];
    x->value = view(x, values);
    x->low = tensor_none(p->low) ? TENSOR_NONE : view(x, p->low);
    x->weight = x->matrix && !tensor_none(x->low) ? x->low : x->value;
  }
  return OK;
}

static int flat(Device *dev, Tensor *t, DType type, int64_t n) {
  void *data;
  TRY(device_alloc(dev, &data, (size_t)n * dtype_size(type)));
  *t = tensor_1d(data, type, n);
  return OK;
}

int params_commit(Params *p, Device *dev, bool training) {
  int64_t unit = p->parts > 0 ? p->parts * dev->ops->chunk : 1;
  p->dev = dev;
  lay_out(p);
  p->count = (p->count + unit - 1) / unit * unit;
  TRY(flat(dev, &p->value, dev->real, p->count));
  if (dev->bf16) TRY(flat(dev, &p->low, DT_BF16, p->count));
  if (training) {
    TRY(flat(dev, &p->grad, dev->real, p->count));
    for (int i = 0; i < p->n; i++) p->list[i].grad = view(&p->list[i], p->grad);
  }
  return params_bind(p, p->value);
}

/* Box-Muller: two uniforms give elements 2k and 2k+1. */
static double normal(RngKey key, uint64_t i) {
  double radius = sqrt(-2 * log(1 - rng_uniform(key, i & ~(uint64_t)1)));
  double angle = 2 * acos(-1) * rng_uniform(key, i | 1);
  return radius * (i & 1 ? sin(angle) : cos(angle));
}

/* softplus⁻¹ of a step size, log-uniform in [1e-3, 1e-1] */
static double step_bias(double uniform) {
  double step = exp(log(1e-3) + uniform * (log(1e-1) - log(1e-3)));
  return step + log(-expm1(-step));
}

static double initial(const Param *x, RngKey key, int64_t i) {
  switch (x->init) {
  case INIT_ZERO:
    return 0;
  case INIT_ONE:
    return 1;
  case INIT_UNIFORM:
    return x->bound * (2 * rng_uniform(key, (uint64_t)i) - 1);
  case INIT_NORMAL:
    return x->bound * normal(key, (uint64_t)i);
  case INIT_LOG_INDEX:
    return log((double)(i % x->dims[x->rank - 1] + 1));
  case INIT_STEP:
    return step_bias(rng_uniform(key, (uint64_t)i));
  }
  return 0;
}

static void fill(const Param *x, uint64_t seed, int index, double *host) {
  RngKey key = rng_key(seed, RNG_INIT, (uint32_t)index, 0, 0);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < x->count; i++) host[i] = initial(x, key, i);
}

int params_init(Params *p, uint64_t seed) {
  int64_t largest = 0;
  for (int i = 0; i < p->n; i++) largest = p->list[i].count > largest ? p->list[i].count : largest;
  double *host = NULL;
  void *scratch = NULL;
  int err = OK;
  TRY_TO(done, mem_alloc(&host, (size_t)largest * sizeof *host));
  TRY_TO(done, mem_alloc(&scratch, (size_t)largest * sizeof *host));
  for (int i = 0; i < p->n; i++) {
    fill(&p->list[i], seed, i, host);
    TRY_TO(done, tensor_from_f64(p->dev, view(&p->list[i], p->value), host, scratch));
  }
  TRY_TO(done, params_bind(p, p->value));
done:
  mem_free(&host);
  mem_free(&scratch);
  return err;
}

Param *params_find(Params *p, const char *name) {
  for (int i = 0; i < p->n; i++)
    if (strcmp(p->list[i].name, name) == 0) return &p->list[i];
  return NULL;
}

int64_t params_elements(const Params *p) {
  int64_t n = 0;
  for (int i = 0; i < p->n; i++) n += p->list[i].count;
  return n;
}

void params_destroy(Params *p) {
  if (p == NULL) return;
  if (p->dev) {
    device_release(p->dev, p->value.data, tensor_bytes(p->value));
    device_release(p->dev, p->grad.data, tensor_bytes(p->grad));
    device_release(p->dev, p->low.data, tensor_bytes(p->low));
  }
  mem_free(&p->list);
  *p = (Params){0};
}
