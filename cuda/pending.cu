/* pending — ops that have no kernel yet. */
#include "backend.h"
#include "base/err.h"
#define PENDING __attribute__((weak))
PENDING int dense_open(Device *) { return OK; }
PENDING void dense_close(Device *) {}
PENDING int attention_open(Device *) { return OK; }
PENDING void attention_close(Device *) {}
PENDING int cuda_dense(Device *, Tensor, Tensor, Tensor, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_dense: no kernel yet");
}
PENDING int cuda_dense_backward(Device *, Tensor, bool, Tensor, Tensor, Tensor, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_dense_backward: no kernel yet");
}
PENDING int cuda_gelu_backward(Device *, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_gelu_backward: no kernel yet");
}
PENDING int cuda_embed(Device *, Tensor, Tensor, Tensor) { return RAISE(ERR_DEVICE, "cuda_embed: no kernel yet"); }
PENDING int cuda_embed_backward(Device *, Tensor, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_embed_backward: no kernel yet");
}
PENDING int cuda_residual_norm(Device *, const ResidualNorm *) {
  return RAISE(ERR_DEVICE, "cuda_residual_norm: no kernel yet");
}
PENDING int cuda_residual_norm_backward(Device *, const ResidualNorm *) {
  return RAISE(ERR_DEVICE, "cuda_residual_norm_backward: no kernel yet");
}
PENDING int cuda_rotary(Device *, Tensor, int64_t, int64_t, bool) {
  return RAISE(ERR_DEVICE, "cuda_rotary: no kernel yet");
}
PENDING int cuda_attention(Device *, const Attention *) { return RAISE(ERR_DEVICE, "cuda_attention: no kernel yet"); }
PENDING int cuda_attention_backward(Device *, const Attention *) {
  return RAISE(ERR_DEVICE, "cuda_attention_backward: no kernel yet");
}
PENDING int cuda_conv(Device *, const Conv *) { return RAISE(ERR_DEVICE, "cuda_conv: no kernel yet"); }
PENDING int cuda_conv_backward(Device *, const Conv *) {
  return RAISE(ERR_DEVICE, "cuda_conv_backward: no kernel yet");
}
PENDING int cuda_scan(Device *, const Scan *) { return RAISE(ERR_DEVICE, "cuda_scan: no kernel yet"); }
PENDING int cuda_scan_backward(Device *, const Scan *) {
  return RAISE(ERR_DEVICE, "cuda_scan_backward: no kernel yet");
}
PENDING int cuda_gate(Device *, Tensor, Tensor, Tensor) { return RAISE(ERR_DEVICE, "cuda_gate: no kernel yet"); }
PENDING int cuda_gate_backward(Device *, Tensor, Tensor, Tensor, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_gate_backward: no kernel yet");
}
PENDING int cuda_silu(Device *, Tensor, Tensor) { return RAISE(ERR_DEVICE, "cuda_silu: no kernel yet"); }
PENDING int cuda_silu_backward(Device *, Tensor, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_silu_backward: no kernel yet");
}
PENDING int cuda_sinusoid(Device *, Tensor, Tensor) { return RAISE(ERR_DEVICE, "cuda_sinusoid: no kernel yet"); }
PENDING int cuda_gather_rows(Device *, Tensor, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_gather_rows: no kernel yet");
}
PENDING int cuda_scatter_rows(Device *, Tensor, Tensor, Tensor) {
  return RAISE(ERR_DEVICE, "cuda_scatter_rows: no kernel yet");
}
PENDING int cuda_cross_entropy(Device *, Tensor, Tensor, Tensor, Tensor, int32_t, bool) {
  return RAISE(ERR_DEVICE, "cuda_cross_entropy: no kernel yet");
}
PENDING int cuda_absorbing_bound(Device *, Tensor, Tensor, Tensor, Tensor, int32_t, bool) {
  return RAISE(ERR_DEVICE, "cuda_absorbing_bound: no kernel yet");
}
PENDING int cuda_score_entropy(Device *, Tensor, Tensor, Tensor, Tensor, int32_t, bool) {
  return RAISE(ERR_DEVICE, "cuda_score_entropy: no kernel yet");
}
PENDING int cuda_draw(Device *, Tensor, Tensor, Tensor, int32_t) {
  return RAISE(ERR_DEVICE, "cuda_draw: no kernel yet");
}
PENDING int cuda_argmax(Device *, Tensor, Tensor, int32_t) { return RAISE(ERR_DEVICE, "cuda_argmax: no kernel yet"); }
PENDING int cuda_add(Device *, Tensor, Tensor) { return RAISE(ERR_DEVICE, "cuda_add: no kernel yet"); }
PENDING int cuda_sum_squares(Device *, Tensor, Tensor) { return RAISE(ERR_DEVICE, "cuda_sum_squares: no kernel yet"); }
PENDING int cuda_adamw(Device *, const AdamW *) { return RAISE(ERR_DEVICE, "cuda_adamw: no kernel yet"); }
PENDING int cuda_to_bf16(Device *, Tensor, Tensor) { return RAISE(ERR_DEVICE, "cuda_to_bf16: no kernel yet"); }
