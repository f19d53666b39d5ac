/* attention_cudnn — what attention.cu asks of cuDNN. */
#pragma once
#include "ops/ops.h"

enum { ATTENTION_REASON = 320 };

/** attention_fused — the forward or the backward pass by cuDNN's fused attention. *done := whether it was computed. If
 *  not, the reason is written: a build without cuDNN, f32, lengths, a shape or a plan that cuDNN does not support.
 *  Errors  ERR_DEVICE, ERR_MEMORY */
int attention_fused(Device *dev, const Attention *a, bool backward, bool *done, char reason[ATTENTION_REASON]);
