#include "measure/student.h"
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

/* I_x(a, 1/2); y = 1 − x is given as well, since a difference from 1 loses digits. */
static double beta_half(double a, double x, double y) {
  const double log_pi = 1.1447298858494001741;
  int sign;
  double step = lgamma_r(a + 0.5, &sign) - lgamma_r(a, &sign);
  double front = exp(a * log_part(x, y) + 0.5 * log_part(y, x) + step - 0.5 * log_pi);
  if (x < (a + 1) / (a + 2.5)) return front / a * beta_fraction(a, 0.5, x);
  return 1 - front / 0.5 * beta_fraction(0.5, a, y);
}

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
  return beta_half(freedom / 2, freedom / (freedom + t * t), t * t / (freedom + t * t));
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
