/* backends — the list of devices this binary knows. */
#include "ops/ops.h"

extern const Ops ops_cpu_f32, ops_cpu_f64, ops_cuda;

const Ops *const backends[] = {&ops_cpu_f32, &ops_cpu_f64,
#ifdef HAVE_CUDA
                               &ops_cuda,
#endif
                               NULL};
