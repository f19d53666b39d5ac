/* slope — a derivative by finite differences, and a bound of its error.
 *
 * With the values of f at ±h and ±2h,
 *   D2 = (f(h) − f(−h)) / 2h                             = f′ + h²f‴/6 + …
 *   D4 = (8(f(h) − f(−h)) − (f(2h) − f(−2h))) / 12h      = f′ − h⁴f⁽⁵⁾/30 + …
 * The slope is D4. Its error is at most the sum of
 *   truncation  |D4 − D2| ≈ h²|f‴|/6. It exceeds h⁴|f⁽⁵⁾|/30 as long as h²|f⁽⁵⁾| < 5|f‴|: the step is short enough for
 *               D4 to be better than D2.
 *   rounding    (8 + 8 + 1 + 1)/12h = 1.5/h times the error of one f. That is ROUNDINGS units of the last place, ε, of
 *               the sum of the magnitudes of the terms of f, which may cancel.
 * Processors differ in the order of additions and in fused multiply-adds; the bound counts roundings, whatever their
 * order. The tests' networks and ops need less than 1 unit beyond the truncation; SLOPE_ROUNDINGS leaves a margin. */
#pragma once
#include <stdbool.h>

static const double SLOPE_STEP = 1e-3, SLOPE_ROUNDINGS = 16;
/* What the error of a slope may be, relative to the gradients at hand, if it is to show a gradient off by 1e-4. */
static const double SLOPE_SHARP = 3e-5;

/* f(step) along some line. *size is set to Σ |terms of f|. */
typedef double (*SlopeFunction)(void *arg, double step, double *size);

typedef struct Slope {
  double value, error; /* the derivative at 0 and the bound of its error */
} Slope;

/** slope_measure — the derivative of f at step 0. */
Slope slope_measure(SlopeFunction f, void *arg);
/** slope_agrees — whether the slope and a claimed derivative differ by no more than the error of the slope. */
bool slope_agrees(Slope s, double claimed);
