#include "measure/interval.h"
#include <math.h>

Interval interval_of(const double *loss, const int64_t *tokens, int64_t n) {
  double sum = 0, square = 0, count = (double)n;
  Interval r = {0};
  for (int64_t i = 0; i < n; i++) {
    sum += loss[i];
    r.tokens += tokens[i];
  }
  r.nll = sum / (double)r.tokens;
  for (int64_t i = 0; i < n; i++) {
    double d = loss[i] - r.nll * (double)tokens[i];
    square += d * d;
  }
  double half = 1.96 * sqrt(count / (count - 1) * square) / (double)r.tokens;
  r.low = n > 1 ? r.nll - half : NAN;
  r.high = n > 1 ? r.nll + half : NAN;
  return r;
}
