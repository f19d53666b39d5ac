/* roofline — where the time of a step goes, beside the least time that its work can take on this device. */
#pragma once
#include "ops/ops.h"

/* Ceilings — what a device reaches. */
typedef struct Ceilings {
  double flops; /* floating-point operations a second in products of large matrices, of the device's type of products */
  double bytes; /* bytes a second, read and written, in the sum of two large arrays */
} Ceilings;

/* Work — of a step on one rank, per group of ops. */
typedef struct Work {
  double seconds[GROUPS], flops[GROUPS], bytes[GROUPS];
} Work;

/** ceilings_sums — measures *bytes of Ceilings, in less than a second; peak_measure has the other one.
 *  Errors  ERR_MEMORY, ERR_DEVICE */
int ceilings_sums(Device *dev, double *bytes);
/** work_add — *w += times · what the device has counted since device_profile_reset. */
void work_add(Work *w, const Device *dev, double times);
/** roofline_floor — seconds that the group's work takes at least: its operations or its bytes at the ceiling, whichever
 *  takes longer. */
double roofline_floor(const Work *w, const Ceilings *c, OpGroup g);
/** roofline_other — seconds of a step of `seconds` on a device with other ceilings, where each group of ops reaches the
 *  share of its floor that it reaches here, and the rest takes as long. */
double roofline_other(const Work *w, const Ceilings *here, const Ceilings *other, double seconds);
/** roofline_print — the table in the log of rank 0; seconds: of the whole step. */
void roofline_print(const Work *w, const Ceilings *c, double seconds);
