/* interval — nll in nat per token over sequences, with its 95 % interval:
 *   nll = Σ loss_i / Σ tokens_i
 *   nll ± 1.96 se,  se² = n/(n−1) Σ (loss_i − nll·tokens_i)² / (Σ tokens_i)²
 * The standard error is that of a ratio of sums over sequences of any length. */
#pragma once
#include <stdint.h>

typedef struct Interval {
  double nll, low, high; /* nat per token; low and high NaN for a single sequence */
  int64_t tokens;        /* Σ tokens */
} Interval;

/** interval_of — the interval of n sequences: loss[n] in nat, tokens[n] scored tokens of each. */
Interval interval_of(const double *loss, const int64_t *tokens, int64_t n);
