#include "train/traces.h"
#include "base/err.h"
#include "network/power.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int add(Traces *t, double sigma) {
  CHECK(sigma >= POWER_NARROW && sigma <= POWER_WIDE, ERR_USAGE,
        "train.ema_traces: a width of %g is not between %g and %g", sigma, POWER_NARROW, POWER_WIDE);
  CHECK(t->n < CKPT_TRACES, ERR_USAGE, "train.ema_traces has more than %d widths", CKPT_TRACES);
  for (int i = 0; i < t->n; i++)
    CHECK(t->sigma[i] != sigma, ERR_USAGE, "train.ema_traces has the width %g twice", sigma);
  t->sigma[t->n] = sigma;
  t->gamma[t->n++] = power_gamma(sigma);
  return OK;
}

int traces_parse(Traces *t, const char *text) {
  *t = (Traces){0};
  while (*text) {
    char *end;
    double sigma = strtod(text, &end);
    end += strspn(end, " ");
    CHECK(end > text && (*end == 0 || (*end == ',' && end[1])), ERR_USAGE,
          "train.ema_traces: %s is not a list of widths such as 0.05,0.10", text);
    TRY(add(t, sigma));
    text = *end ? end + 1 : end;
  }
  return OK;
}

int traces_update(const Traces *t, Device *dev, int64_t step, int64_t own, Tensor p) {
  for (int i = 0; i < t->n; i++) {
    double fresh = power_fresh(t->gamma[i], step);
    TRY(op_blend(dev, tensor_rows(t->value[i], own, tensor_count(p)), 1 - fresh, fresh, p));
  }
  return OK;
}
