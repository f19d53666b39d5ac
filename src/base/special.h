/* special — special functions that the C library lacks. */
#pragma once

/** special_beta — I_x(a, b), the regularised incomplete beta function, a and b > 0, 0 ≤ x ≤ 1. y = 1 − x is given as
 *  well, since a difference from 1 loses digits. Relative error below 1e-9 where a and b are at most 1,000. */
double special_beta(double a, double b, double x, double y);
/** special_normal — the probability that a standard normal deviate is below x. */
double special_normal(double x);
