#include "train/lr.h"

double lr_at(int64_t n, double peak, int64_t warmup) { return n < warmup ? peak * (double)n / (double)warmup : peak; }
