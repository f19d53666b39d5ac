/* median — the median of a few timings. */
#pragma once

/** median — the middle element of t[n], for even n the upper one; sorts t. */
double median(double *t, int n);
