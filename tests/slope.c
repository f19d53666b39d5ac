#include "slope.h"

#include <float.h>
#include <math.h>

Slope slope_measure(SlopeFunction f, void *arg) {
  static const double points[] = {1, -1, 2, -2};
  const double h = SLOPE_STEP;
  double y[4], size = 0;
  for (int i = 0; i < 4; i++) {
    double terms = 0;
    y[i] = f(arg, points[i] * h, &terms);
    size = fmax(size, terms);
  }
  double d2 = (y[0] - y[1]) / (2 * h), d4 = (8 * (y[0] - y[1]) - (y[2] - y[3])) / (12 * h);
  double truncation = fabs(d4 - d2), rounding = 1.5 / h * SLOPE_ROUNDINGS * DBL_EPSILON * size;
  return (Slope){d4, truncation + rounding};
}

bool slope_agrees(Slope s, double claimed) { return fabs(s.value - claimed) <= s.error; }
