/* freeze — parameters that training leaves as they are: train.freeze. */
#pragma once
#include "model/params.h"

/** freeze_params — mark (Param.frozen) those whose names match one of the patterns, separated by commas. "": none.
 *  Errors  ERR_USAGE: a pattern that matches no name, or nothing left to train; ERR_MEMORY */
int freeze_params(Params *p, const char *patterns);
/** freeze_next — the next range of elements in [first, end) of a flat buffer that is trained: *n elements from *from on.
 *  false: there is none. */
bool freeze_next(const Params *p, int64_t first, int64_t end, int64_t *from, int64_t *n);
