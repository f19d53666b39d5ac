/* peak — the rate of matrix products that a device reaches, the 100 % of model FLOP utilisation. */
#pragma once
#include "ops/ops.h"

/** peak_measure — *flops: floating-point operations a second on square matrices of growing size, until a product takes
 *  long enough to be timed or memory is too small for the next size. Errors  ERR_MEMORY, ERR_DEVICE */
int peak_measure(Device *dev, double *flops);
