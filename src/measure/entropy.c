#include "measure/entropy.h"
#include <math.h>

/* −(1/n) Σ_i log(count of ids[i] / n): the same sum by positions, without a table of the vocabulary. */
double entropy(const int32_t *ids, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t count = 0;
    for (int64_t k = 0; k < n; k++) count += ids[k] == ids[i];
    sum += log((double)n / (double)count);
  }
  return n ? sum / (double)n : 0;
}
