#include "measure/student.h"
#include "base/special.h"
#include <math.h>

/* The normal deviate of equal probability, for many degrees of freedom, where the continued fraction is long and loses
 * digits: G. W. Hill, Algorithm 395, Communications of the ACM 13 (1970). */
static double normal_deviate(double t, double freedom) {
  double a = freedom - 0.5, b = 48 * a * a, y = a * log1p(t * t / freedom);
  double tail = (((-0.4 * y - 3.3) * y - 24) * y - 85.5) / (0.8 * y * y + 100 + b);
  return sqrt(y) * (1 + (y + 3 + tail) / b);
}

double student_p(double t, double freedom) {
  enum { MANY = 1000 };
  if (isnan(t) || !(freedom > 0)) return NAN;
  if (t == 0) return 1;
  if (isinf(t)) return 0;
  if (freedom > MANY) return erfc(normal_deviate(t, freedom) / sqrt(2));
  return special_beta(freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t));
}

/* By bisection: p falls with t. */
double student_quantile(double p, double freedom) {
  if (!(p > 0 && p < 1 && freedom > 0)) return NAN;
  double low = 0, high = 1;
  while (student_p(high, freedom) > p && high < 1e300) low = high, high *= 2;
  while (high - low > 1e-10 * high) {
    double middle = low + (high - low) / 2;
    if (student_p(middle, freedom) > p)
      low = middle;
    else
      high = middle;
  }
  return low + (high - low) / 2;
}
