/* slope — a derivative by finite differences, and a bound on its error.
 *
 * With the values of f at ±h and ±2h,
 *   D2 = (f(h) − f(−h)) / 2h                             = f′ + h²f‴/6 + …
 *   D4 = (8(f(h) − f(−h)) − (f(2h) − f(−2h))) / 12h      = f′ − h⁴f⁽⁵⁾/30 + …
 * The slope is D4. Its error is at most the sum of
 *   truncation  |D4 − D2| ≈ h²|f‴|/6. It exceeds h⁴|f⁽⁵⁾|/30 as long as h²|f⁽⁵⁾| < 5|f‴|: the step is short enough for
 *               D4 to be better than D2.
 *   rounding    (8 + 8 + 1 + 1)/12h = 1.5/h times the error of one f. That error is taken as SLOPE_ROUNDINGS·ε times
 *               the sum of the magnitudes of the terms of f, since terms may cancel.
 * Processors differ in the order of additions and in fused multiply-adds; the bound does not depend on the order. The
 * tests' networks and ops need less than 1 ε beyond the truncation; SLOPE_ROUNDINGS leaves a margin. */
#pragma once
#include <stdbool.h>

static const double SLOPE_STEP = 1e-3, SLOPE_ROUNDINGS = 16;
/* The largest error of a slope, relative to the gradients, that still lets it reveal a gradient error of 1e-4. */
static const double SLOPE_SHARP = 3e-5;

/* f(step) along some line. *size is set to Σ |terms of f|. */
typedef double (*SlopeFunction)(void *arg, double step, double *size);

typedef struct Slope {
  double value, error; /* the derivative at 0 and the bound on its error */
} Slope;

/** slope_measure — the derivative of f at step 0. */
Slope slope_measure(SlopeFunction f, void *arg);
/** slope_agrees — whether the claimed derivative differs from the slope by no more than the slope's error. */
bool slope_agrees(Slope s, double claimed);
