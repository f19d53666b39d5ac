/* backends — the device list of the tests that run the kernels of cuda/ on the CPU: the f32 backend with those ops
 * replaced. */
#include "ops/ops.h"

extern const Ops ops_cpu_f32, ops_cpu_f64;
int cuda_cross_entropy(Device *, Tensor, Tensor, Tensor, Tensor, int32_t, bool);
int cuda_absorbing_bound(Device *, Tensor, Tensor, Tensor, Tensor, int32_t, bool);
int cuda_score_entropy(Device *, Tensor, Tensor, Tensor, Tensor, int32_t, bool);
int cuda_draw(Device *, Tensor, Tensor, Tensor, int32_t);
int cuda_argmax(Device *, Tensor, Tensor, int32_t);

extern const bool check_slow;
const bool check_slow = true;

static Ops emulated = {.name = "cpu"};
const Ops *const backends[] = {&emulated, &ops_cpu_f64, NULL};

__attribute__((constructor)) static void replace(void) {
  emulated = ops_cpu_f32;
  emulated.cross_entropy = cuda_cross_entropy;
  emulated.absorbing_bound = cuda_absorbing_bound;
  emulated.score_entropy = cuda_score_entropy;
  emulated.draw = cuda_draw;
  emulated.argmax = cuda_argmax;
}
