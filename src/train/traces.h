/* traces — power-law averages of the weights (network/power.h), kept beside the moving average, from which mdlm mix
 * makes an average of any width after training. */
#pragma once
#include "ops/ops.h"
#include "store/checkpoint_format.h"

typedef struct Traces {
  int n;
  double sigma[CKPT_TRACES], gamma[CKPT_TRACES]; /* 0 beyond n */
  Tensor value[CKPT_TRACES];                     /* their holder allocates and frees them */
} Traces;

/** traces_parse — the widths of train.ema_traces, as in "0.05,0.10"; "" is none.
 *  Errors  ERR_USAGE for a word that is not a number, a width out of range or given twice, or too many widths */
int traces_parse(Traces *t, const char *text);
/** traces_update — the elements from `own` on of each trace, after the step that made the weights p what they are. */
int traces_update(const Traces *t, Device *dev, int64_t step, int64_t own, Tensor p);
