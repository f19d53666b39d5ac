#include "base/special.h"
#include <math.h>

/* The continued fraction of the incomplete beta function by Lentz's method (DLMF 8.17.22), whose convergents are built
 * from the front; fast for x < (a + 1)/(a + b + 2). */
static double beta_fraction(double a, double b, double x) {
  enum { TERMS = 10000 }; /* it takes some √max(a,b) */
  const double tiny = 1e-300;
  double c = 1, d = 1 - (a + b) * x / (a + 1);
  d = 1 / (fabs(d) < tiny ? tiny : d);
  double value = d;
  for (int m = 1; m < TERMS; m++) {
    const double terms[2] = {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                             -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))};
    double change = 1;
    for (int i = 0; i < 2; i++) {
      d = 1 + terms[i] * d;
      d = 1 / (fabs(d) < tiny ? tiny : d);
      c = 1 + terms[i] / c;
      if (fabs(c) < tiny) c = tiny;
      change = c * d;
      value *= change;
    }
    if (fabs(change - 1) < 1e-15) break;
  }
  return value;
}

/* log u, u + v = 1, both known to full relative precision. */
static double log_part(double u, double v) { return u < 0.5 ? log(u) : log1p(-v); }

double special_beta(double a, double b, double x, double y) {
  int sign;
  if (x <= 0) return 0;
  if (y <= 0) return 1;
  double scale = lgamma_r(a + b, &sign) - lgamma_r(a, &sign) - lgamma_r(b, &sign);
  double front = exp(a * log_part(x, y) + b * log_part(y, x) + scale);
  if (x < (a + 1) / (a + b + 2)) return front / a * beta_fraction(a, b, x);
  return 1 - front / b * beta_fraction(b, a, y);
}

double special_normal(double x) { return erfc(-x / sqrt(2)) / 2; }
