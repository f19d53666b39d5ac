/* interval — nll in nat per token over sequences, with its 95 % interval.
 *
 * nll = Σ loss / Σ tokens, a ratio of sums over sequences; the interval is nll ± 1.96 se, se² = n/(n−1) Σ (loss_i −
 * nll·tokens_i)² / (Σ tokens)²: what differs between sequences, however long each is. */
#pragma once
#include <stdint.h>

typedef struct Interval {
  double nll, low, high; /* nat per token; low and high NaN for a single sequence */
  int64_t tokens;        /* Σ tokens */
} Interval;

/** interval_of — of n sequences: loss[n] in nat, tokens[n] scored ones of each. */
Interval interval_of(const double *loss, const int64_t *tokens, int64_t n);
