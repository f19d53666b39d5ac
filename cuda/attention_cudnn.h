/* attention_cudnn — what attention.cu asks of cuDNN. */
#pragma once
#include "ops/ops.h"

/** attention_fused — the forward or the backward pass by cuDNN's fused attention. *done := whether it took the work:
 *  never without cuDNN, in f32, with lengths, and for what cuDNN has no plan for. */
int attention_fused(Device *dev, const Attention *a, bool backward, bool *done);
