/* student — Student's t distribution, for any finite number of degrees of freedom > 0, whole or not. */
#pragma once

/** student_p — two-sided p value: the probability of |T| ≥ |t|,
 *    p = I_x(ν/2, 1/2),  x = ν/(ν + t²)   (the regularised incomplete beta function)
 *  to a relative error below 1e-9 down to p = 1e-40; NaN stays NaN. */
double student_p(double t, double freedom);
/** student_quantile — the t > 0 beyond whose ± the probability `p` lies, 0 < p < 1: 12.706 for p = 0.05, ν = 1.
 *  Relative error below 1e-8. NaN unless freedom > 0. */
double student_quantile(double p, double freedom);
