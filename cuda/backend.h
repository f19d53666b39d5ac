/* backend — the ops of the CUDA backend, in the order of the table in cuda.cu, and setting up the libraries. */
#pragma once
#include "ops/ops.h"

/* elements of a flat buffer whose squares one block sums: Ops.chunk */
enum { UPDATE_CHUNK = 16384 };

/** dense_open / dense_close — cuBLASLt and its plans. attention_open / attention_close — cuDNN and its plans. */
int dense_open(Device *dev);
void dense_close(Device *dev);
int attention_open(Device *dev);
void attention_close(Device *dev);

int cuda_dense(Device *, Tensor y, Tensor pre, Tensor x, Tensor w, Tensor b);
int cuda_dense_backward(Device *, Tensor dx, bool dx_add, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w);
int cuda_gelu_backward(Device *, Tensor dy, Tensor pre, Tensor db);
int cuda_dense_gelu_backward(Device *, Tensor dx, Tensor dy, Tensor w, Tensor pre, bool *done);
int cuda_embed(Device *, Tensor x, Tensor ids, Tensor table);
int cuda_embed_backward(Device *, Tensor dtable, Tensor dx, Tensor ids);
int cuda_embed_mix(Device *, Tensor x, const Mixture *, Tensor table);
int cuda_embed_mix_backward(Device *, Tensor dtable, Tensor dx, const Mixture *);
int cuda_residual_norm(Device *, const ResidualNorm *);
int cuda_residual_norm_backward(Device *, const ResidualNorm *);
int cuda_rotary(Device *, Tensor x, int64_t heads, int64_t L, int64_t first, bool inverse);
int cuda_attention(Device *, const Attention *);
int cuda_attention_backward(Device *, const Attention *);
int cuda_attention_step(Device *, const AttentionStep *);
int cuda_conv(Device *, const Conv *);
int cuda_conv_backward(Device *, const Conv *);
int cuda_scan(Device *, const Scan *);
int cuda_scan_backward(Device *, const Scan *);
int cuda_gate(Device *, Tensor o, Tensor y, Tensor z);
int cuda_gate_backward(Device *, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z);
int cuda_silu(Device *, Tensor y, Tensor x);
int cuda_silu_backward(Device *, Tensor dx, Tensor dy, Tensor x);
int cuda_sinusoid(Device *, Tensor y, Tensor sigma);
int cuda_gather_rows(Device *, Tensor y, Tensor x, Tensor rows);
int cuda_scatter_rows(Device *, Tensor y, Tensor x, Tensor rows);
int cuda_cross_entropy(Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                       bool gradient);
int cuda_absorbing_bound(Device *, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                         bool gradient);
int cuda_score_entropy(Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask, bool gradient);
int cuda_uniform_bound(Device *, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask, bool gradient);
int cuda_prediction(Device *, Tensor out, Tensor logits, Tensor target, int32_t forbid);
int cuda_draw(Device *, Tensor ids, Tensor logits, Tensor uniform, Tensor keep, const DrawRule *);
int cuda_argmax(Device *, Tensor ids, Tensor logits, int32_t forbid);
int cuda_confidence(Device *, Tensor out, Tensor logits, Tensor ids, int32_t forbid);
int cuda_exclude(Device *, Tensor logits, int32_t id);
int cuda_add(Device *, Tensor y, Tensor x);
int cuda_blend(Device *, Tensor y, double a, double b, Tensor x);
int cuda_sum(Device *, Tensor total, Tensor x);
int cuda_squares(Device *, Tensor terms, Tensor x);
int cuda_sum_terms(Device *, Tensor sum, Tensor terms);
int cuda_adamw(Device *, const AdamW *);
int cuda_to_bf16(Device *, Tensor y, Tensor x);
