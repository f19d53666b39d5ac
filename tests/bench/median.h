/* median — of a few timings. */
#pragma once

/** median — the middle of t[n], the upper of two; t is sorted afterwards. */
double median(double *t, int n);
