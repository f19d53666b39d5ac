#include "measure/interval.h"
#include <math.h>

Interval interval_of(const double *loss, const int64_t *tokens, int64_t n) {
  double sum = 0, square = 0, count = 0; /* of sequences with scored tokens */
  Interval r = {0};
  for (int64_t i = 0; i < n; i++) {
    sum += loss[i];
    r.tokens += tokens[i];
    count += tokens[i] > 0;
  }
  r.nll = sum / (double)r.tokens;
  for (int64_t i = 0; i < n; i++) {
    double d = loss[i] - r.nll * (double)tokens[i];
    square += d * d;
  }
  double half = 1.96 * sqrt(count / (count - 1) * square) / (double)r.tokens;
  r.low = count > 1 ? r.nll - half : NAN;
  r.high = count > 1 ? r.nll + half : NAN;
  return r;
}
