/* lr — the learning rate of each step. */
#pragma once
#include <stdint.h>

/** lr_at — peak·min(1, n/warmup); step n counts from 0, so the first step moves nothing. */
double lr_at(int64_t n, double peak, int64_t warmup);
