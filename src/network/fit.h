/* fit — the batch that fits into memory, where the requested one does not. */
#pragma once
#include "network/network.h"

/** network_too_large — turns network_create's ERR_MEMORY into advice: `key` = batch does not fit, and the largest
 *  divisor of `of` (`of` 0: power of two) up to half of it that does, found by trying with `flats` further buffers of
 *  the weights' size. Returns ERR_MEMORY. Not collective. */
int network_too_large(const NetworkOptions *options, const char *key, int64_t of, int64_t flats);
