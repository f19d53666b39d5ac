/* entropy — of token frequencies: low where a sampler repeats itself, which a small perplexity alone would hide. */
#pragma once
#include <stdint.h>

/** entropy — −Σ (count/n) log(count/n) over the tokens of ids[n], in nat; 0 for n = 0. */
double entropy(const int32_t *ids, int64_t n);
