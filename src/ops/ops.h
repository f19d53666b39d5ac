/* ops — the device interface, on one page.
 *
 * A backend is one table of functions (Ops), filled in one file. The public calls below check shapes and types, record
 * time and work per group, and call the table. There is no graph, no autograd, no silent fallback.
 *
 *   Letters  R rows (tokens), D width, V vocabulary, B sequences, L length, H heads, G modulation groups (1 or B);
 *            in the state-space ops E channels, S states per channel, W taps
 *   real     the device's floating type, f32 (f64 in the oracle): weights, gradients, sums, the residual stream
 *   act      the type of activations, the operands of products: real, or bf16 if the backend computes in it
 *            Tensors are `real` unless another type is given.
 *   +=       marks outputs that are added to
 *   Where    on the device's stream; not collective
 *   Errors   ERR_SHAPE for inconsistent arguments, ERR_DEVICE, ERR_MEMORY
 *   Repeat   bitwise, for any number of threads; the exception is attention_backward on a GPU without `deterministic`
 *   Tested   tests/ops */
#pragma once
#include "ops/tensor.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct Device Device;

typedef enum OpGroup {
  GROUP_MEMORY,
  GROUP_DENSE,
  GROUP_ATTENTION,
  GROUP_SCAN,
  GROUP_BLOCK,
  GROUP_LOSS,
  GROUP_UPDATE,
  GROUPS
} OpGroup;
typedef enum NormKind { NORM_LAYER, NORM_RMS } NormKind;

/* Place — the position of this rank among the ranks of its node, and among those that may use the same cores. */
typedef struct Place {
  int local_rank, local_size, share_rank, share_size;
} Place;

typedef struct DeviceOptions {
  const char *name; /* a backend: "cpu", "cpu_f64", "cuda" */
  int threads;      /* CPU threads */
  bool pin;         /* pin each thread to a core of its own */
  Place place;
  bool bf16;          /* products take bf16 factors: the model keeps bf16 copies of its weights */
  bool deterministic; /* exclude kernels whose results depend on thread scheduling */
  int64_t row_chunk;  /* rows of logits in memory at a time; 0: as many as fit in 64 MiB */
} DeviceOptions;

/* Dropout — the key of the random bits; p = 0 disables it. There are 16 bits per unit, so p is rounded to 2^-16.
 * With `clean`, the rows from `clean` on are the clean half of the pass, a sequence for every `draws` noisy ones: their
 * bits follow those of the noisy rows in the stream of the first of these. */
typedef struct Dropout {
  double p;
  uint64_t seed, step;
  uint32_t layer;
  int64_t first; /* index of the first sequence in the global batch */
  int64_t L;     /* rows per sequence */
  int64_t clean; /* the first row of the clean half; 0: none */
  int64_t draws; /* with clean: noisy sequences to each clean one */
} Dropout;

/* ResidualNorm — gated residual addition, norm and modulation:
 *   x_out = x + gate ⊙ dropout(branch)
 *   h     = norm(x_out)·weight·(1 + scale) + shift
 * Row r belongs to group r / rows_per_group. Without branch, x_out is x; with one it may alias x. Defaults: gate 1,
 * scale 0, shift 0. A scale needs a shift. With `index`, row r is row index[r] of the batch, which decides its dropout. */
typedef struct ResidualNorm {
  NormKind kind;
  int64_t rows_per_group;
  Dropout dropout;
  Tensor index;              /* [R] i32 in; may be none: row r of the batch */
  Tensor x, branch;          /* [R,D] in; branch is act, and may be none */
  Tensor gate, shift, scale; /* [G,D] in, rows may be strided; may be none */
  Tensor weight;             /* [D]   in */
  Tensor x_out, h;           /* [R,D] out; h is act */
  Tensor mean, rstd;         /* [R]   out; backward: in; no mean for NORM_RMS */
  /* backward only */
  Tensor dh;                    /* [R,D] in, act */
  Tensor dx;                    /* [R,D] in: gradient of x_out from later layers; out: gradient of x */
  Tensor dbranch;               /* [R,D] out, act */
  Tensor dgate, dshift, dscale; /* [G,D] out, rows may be strided */
  Tensor dweight;               /* [D]   += */
} ResidualNorm;

/* Mixture — R rows that are weighted sums of rows of a table: those of row r are entries begin[r] … begin[r+1]−1 of n. */
typedef struct Mixture {
  Tensor begin;     /* [R+1] i32: begin[0] = 0, begin[R] = n */
  Tensor ids, rows; /* [n] i32: the row of the table of each entry, and the row that it is a part of */
  Tensor weights;   /* [n] real */
} Mixture;

/* Attention — per head, over the L rows of each sequence, K = D/H:
 *   o = softmax(q kᵀ/√K) v
 * The columns of qkv are (q|k|v) × H × K. Causal: row l attends to keys 0 … l. With lengths, only the first `length`
 * rows of a sequence are read; o, lse and dqkv of the others are 0. Padding costs no work, but device->flops counts all
 * L rows. If act is bf16, the probabilities and their gradients may be rounded to it as factors of products; sums are
 * real.
 *
 * With `block` the attention is that of block diffusion: R = (draws + 1)·B·L rows, those of draws·B noisy sequences,
 * then those of the B clean ones; noisy sequence b belongs to clean sequence b/draws. Position i is in block
 * b(i) = i/block. Its query, in either half, attends to the positions before its block in the clean half, and to those of
 * its block in its own sequence: positions 0 … (b(i) + 1)·block − 1.
 * Source: arXiv:2503.09573 §3 */
typedef struct Attention {
  int64_t heads, L;
  bool causal;
  bool keys_only;   /* with block: the clean half has no queries; its rows of o and lse are not written, its dq is 0 */
  int64_t block;    /* positions of a block, a divisor of L; 0: none. Not with causal */
  int64_t draws;    /* with block: noisy sequences to each clean one, at least 1 */
  Tensor lengths;   /* [B] i32 in, 1 … L, with block of the draws·B noisy sequences; none: all L */
  Tensor qkv;       /* [R,3D] in, act  */
  Tensor o;         /* [R,D]  out, act */
  Tensor lse;       /* [R,H]  out; backward: in. log Σ exp of each row of scores, laid out as [R/L,H,L] */
  Tensor d_o, dqkv; /* backward: [R,D] in, [R,3D] out; act */
} Attention;
/** attention_noisy — the sequences of the noisy half; without block all. */
static inline int64_t attention_noisy(const Attention *a) {
  int64_t n = rows_of(a->o) / a->L;
  return a->block ? n / (a->draws + 1) * a->draws : n;
}

/* AttentionStep — attention for the rows position … position+count−1 of B sequences, which see each other and all earlier
 * rows. The keys and values of earlier rows are in the cache, and those of these rows are written to it. The columns of
 * the cache are (k|v) × H × K; rows from position + count on are not read. On the CPU, a step equals op_attention bit for
 * bit: causal attention for count 1 and block 0, else attention in blocks for the same block and count, at a block's first
 * position. */
typedef struct AttentionStep {
  int64_t heads, L, position, count; /* count ≥ 1, position + count ≤ L */
  int64_t block;                     /* of the attention that the step is a part of: decides the order of sums */
  Tensor qkv;                        /* [B·count,3D] in, act: the rows from `position` on of each sequence */
  Tensor cache;                      /* [B·L,2D] in/out, act: written only at these positions of each sequence */
  Tensor o;                          /* [B·count,D] out, act */
} AttentionStep;

/* Conv — a causal convolution of each channel with its own W ≤ CONV_TAPS taps, and SiLU:
 *   y[l] = silu(bias + Σ_j weight[:,j] ⊙ x[l−(W−1)+j]),  x = 0 before the sequence
 *   reverse:                               x[l+(W−1)−j],  x = 0 after it
 * reverse is the same as flipping the sequence, convolving and flipping back. */
enum { CONV_TAPS = 8 };
typedef struct Conv {
  int64_t L;
  bool reverse;
  bool add;              /* backward: dx += instead of = */
  Tensor x;              /* [R,E] in, act, rows may be strided */
  Tensor weight, bias;   /* [E,W], [E] in */
  Tensor y;              /* [R,E] out, act, rows may be strided */
  Tensor dy, dx;         /* backward: [R,E] in, [R,E] out, act, rows may be strided */
  Tensor dweight, dbias; /* backward: [E,W], [E] += */
} Conv;

/* Scan — the selective state-space recurrence, S states per channel, from zero, over the L rows of each sequence:
 *   Δ   = softplus(dt)
 *   A   = −exp(A_log)
 *   h_l = exp(Δ_l A) h_{l−1} + Δ_l B_l x_l
 *   y_l = C_l·h_l + D x_l
 * reverse: from the last row to the first. The states are stored only before every SCAN_CHUNK-th step; backward
 * recomputes those in between. exp(Δ A) is bounded below by about 1e-35 (f64: 1e-304). x, dt, B, C, y and their
 * gradients are act, the rest real.
 * Source: arXiv:2312.00752 §3 */
enum { SCAN_CHUNK = 64 };
typedef struct Scan {
  int64_t L;
  bool reverse;
  bool add;        /* forward: y += instead of = */
  Tensor x, dt;    /* [R,E] in, rows may be strided */
  Tensor B, C;     /* [R,S] in, rows may be strided */
  Tensor A_log, D; /* [E,S], [E] in */
  Tensor y;        /* [R,E] out, rows may be strided */
  Tensor states;   /* [R/L·⌈L/SCAN_CHUNK⌉, E·S] out, may be none; backward: in. In the backend's own order */
  /* backward only */
  Tensor dy;         /* [R,E] in, rows may be strided */
  Tensor dx, ddt;    /* [R,E] out, rows may be strided */
  Tensor dB, dC;     /* [R,S] out, rows may be strided */
  Tensor dA_log, dD; /* [E,S], [E] += */
} Scan;

/* KeepRule — what decides whether a position keeps its mask, the token `forbid`, given keep[r].
 *   KEEP_NEVER   nothing: it never does
 *   KEEP_CHANCE  it does with probability keep[r]; f32 draws only
 *   KEEP_SCORE   it does where S ≤ keep[r],  S = Σ_{y≠forbid} exp(f_y)/(V − 1), an unnormalised score
 *   KEEP_ODDS    it does where S ≤ keep[r],  S = Σ_{y≠forbid} exp(f_y − f_forbid), the odds against the mask;
 *                f32 draws: keep[r] is a probability, and 1 − keep[r] is shrunk by S/(1 + S) */
typedef enum KeepRule { KEEP_NEVER, KEEP_CHANCE, KEEP_SCORE, KEEP_ODDS } KeepRule;

/* DrawRule — how a token is drawn from a row of logits f, one struct from deck to kernel.
 *   p = softmax(f/temperature) without `forbid` (< 0: none), restricted to the likeliest tokens that make up `nucleus`
 *       of it (ties with the least likely of them included), or with `within` to those that make up at most `nucleus`
 *       (ties with the first one beyond it excluded), at least the likeliest
 *   ids[r] = the smallest y whose cumulative probability exceeds uniform[r]
 * Sums are in f64: a token of probability 1e-10 is drawn once in 1e10. ids[r] = −1 where the row holds a NaN.
 * f32: as published samplers draw, with f32 noise, which truncates tokens below about 1e-7 of the likeliest:
 *   ids[r] = argmax_y q_y/(1e-10 − log(u_y + 1e-10)),  u_y on the 2^-24 grid of [0,1), from the bits of uniform[r]
 *   q_forbid = keep[r],  other q_y = (1 − keep[r])·p_y  (KEEP_NEVER: keep[r] = 0)
 * Source: arXiv:2409.02908 §5; the behaviour of the public implementation of arXiv:2406.07524 */
typedef struct DrawRule {
  double temperature; /* > 0; 1: the network's own distribution */
  double nucleus;     /* in (0, 1]; 1: all tokens */
  bool within;        /* the token that crosses the nucleus is left out */
  bool f32;
  KeepRule keep;
  int32_t forbid;
} DrawRule;

/* AdamW — clipping, AdamW, moving average and bf16 copy in one pass over flat buffers of n elements:
 *   factor = scale·min(1, clip/(scale·√squares + 1e-6))
 *   g'  = factor·g
 *   m   ← beta1·m + (1 − beta1)·g'
 *   v   ← beta2·v + (1 − beta2)·g'²
 *   p   ← (1 − lr·weight_decay)·p − lr·(m/correct1)/(√(v/correct2) + eps)
 *   ema ← ema_decay·ema + (1 − ema_decay)·p
 *   low ← bf16(p)
 * The norm of the gradient stays on the device: clipping does not wait for the host. If squares is NaN or infinite,
 * nothing is changed. */
typedef struct AdamW {
  Tensor p, g, m, v, ema, low;                                               /* [n]; low may be none */
  Tensor squares;                                                            /* [1] f64 in: Σ g², from sum_terms */
  double scale, clip;                                                        /* clip 0: no clipping */
  double lr, beta1, beta2, eps, weight_decay, correct1, correct2, ema_decay; /* correct = 1 − beta^n */
} AdamW;

typedef struct Ops {
  const char *name;
  DType real;
  bool host;                    /* device memory is host memory */
  bool low_activations;         /* act is bf16 if products are */
  int64_t chunk;                /* of op_squares */
  const char *(*library)(void); /* name and version of the math library */
  int (*open)(Device *, const DeviceOptions *);
  void (*close)(Device *);
  int (*sync)(Device *);
  int (*memory)(Device *, size_t *free, size_t *total);
  void (*phase)(Device *, const char *name); /* may be NULL */
  int (*alloc)(Device *, void **p, size_t bytes);
  void (*release)(Device *, void *p);
  int (*upload)(Device *, void *dst, const void *host, size_t bytes);
  int (*download)(Device *, void *host, const void *src, size_t bytes);
  int (*copy)(Device *, void *dst, const void *src, size_t bytes);
  int (*zero)(Device *, void *dst, size_t bytes);
  int (*dense)(Device *, Tensor y, Tensor pre, Tensor x, Tensor w, Tensor b);
  int (*dense_backward)(Device *, Tensor dx, bool dx_add, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w);
  int (*gelu_backward)(Device *, Tensor dy, Tensor pre, Tensor db);
  /* dx = dy w ⊙ gelu_tanh'(pre) as one product, if that is faster; *done: whether it was. May be NULL: it never is. */
  int (*dense_gelu_backward)(Device *, Tensor dx, Tensor dy, Tensor w, Tensor pre, bool *done);
  int (*embed)(Device *, Tensor x, Tensor ids, Tensor table);
  int (*embed_backward)(Device *, Tensor dtable, Tensor dx, Tensor ids);
  int (*embed_mix)(Device *, Tensor x, const Mixture *, Tensor table);
  int (*embed_mix_backward)(Device *, Tensor dtable, Tensor dx, const Mixture *);
  int (*residual_norm)(Device *, const ResidualNorm *);
  int (*residual_norm_backward)(Device *, const ResidualNorm *);
  int (*rotary)(Device *, Tensor x, int64_t heads, int64_t L, int64_t first, bool inverse);
  int (*attention)(Device *, const Attention *);
  int (*attention_backward)(Device *, const Attention *);
  int (*attention_step)(Device *, const AttentionStep *);
  int (*conv)(Device *, const Conv *);
  int (*conv_backward)(Device *, const Conv *);
  int (*scan)(Device *, const Scan *);
  int (*scan_backward)(Device *, const Scan *);
  int (*gate)(Device *, Tensor o, Tensor y, Tensor z);
  int (*gate_backward)(Device *, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z);
  int (*silu)(Device *, Tensor y, Tensor x);
  int (*silu_backward)(Device *, Tensor dx, Tensor dy, Tensor x);
  int (*sinusoid)(Device *, Tensor y, Tensor sigma);
  int (*gather_rows)(Device *, Tensor y, Tensor x, Tensor rows);
  int (*scatter_rows)(Device *, Tensor y, Tensor x, Tensor rows);
  int (*cross_entropy)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                       bool gradient);
  int (*absorbing_bound)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                         bool gradient);
  int (*score_entropy)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask, bool gradient);
  int (*uniform_bound)(Device *, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask, bool gradient);
  int (*prediction)(Device *, Tensor out, Tensor logits, Tensor target, int32_t forbid);
  int (*draw)(Device *, Tensor ids, Tensor logits, Tensor uniform, Tensor keep, const DrawRule *rule);
  int (*argmax)(Device *, Tensor ids, Tensor logits, int32_t forbid);
  int (*confidence)(Device *, Tensor out, Tensor logits, Tensor ids, int32_t forbid);
  int (*exclude)(Device *, Tensor logits, int32_t id);
  int (*add)(Device *, Tensor y, Tensor x);
  int (*blend)(Device *, Tensor y, double a, double b, Tensor x);
  int (*sum)(Device *, Tensor total, Tensor x);
  int (*squares)(Device *, Tensor terms, Tensor x);
  int (*sum_terms)(Device *, Tensor sum, Tensor terms);
  int (*adamw)(Device *, const AdamW *);
  int (*to_bf16)(Device *, Tensor y, Tensor x);
} Ops;

struct Device {
  const Ops *ops;
  DType real; /* type of master weights, gradients and sums */
  DType act;  /* type of activations: real or bf16 */
  bool bf16;  /* weights have a bf16 copy, which large products use */
  bool deterministic;
  int threads;
  bool serial; /* wait for each op, so that `seconds` are of its work also where ops are asynchronous */
  int64_t row_chunk;
  void *impl;
  double seconds[GROUPS], flops[GROUPS], bytes[GROUPS]; /* since device_profile_reset */
  size_t allocated;                                     /* bytes of device memory in use */
  const char *attention; /* kernel of attention on a GPU: "cudnn", "own" once any pass used that; NULL: none so far */
};

extern const Ops *const backends[]; /* those linked into the program; NULL-terminated */
/** backend_find — the backend of that name; loads the CUDA backend's library. ERR_USAGE names the choices, or says why
 *  the library cannot be loaded. */
int backend_find(const char *name, const Ops **ops);
/** backend_symbol — *p := the address of a symbol of the CUDA backend's library. ERR_USAGE as for backend_find. */
int backend_symbol(const char *name, const void **p);

/** device_open — open the backend called options->name. Errors: those of backend_find, ERR_DEVICE, ERR_MEMORY. */
int device_open(Device *dev, const DeviceOptions *options);
void device_close(Device *dev);
void device_profile_reset(Device *dev);
const char *op_group_name(OpGroup g);
/** device_sync — wait for all work queued on the device. */
int device_sync(Device *dev);
/** device_memory — bytes of device memory: free, and total. */
int device_memory(Device *dev, size_t *free, size_t *total);
/** device_phase — label the work queued from here on, for profilers; NULL: no label. */
void device_phase(Device *dev, const char *name);

/* memory */
int device_alloc(Device *dev, void **p, size_t bytes); /* zeroed, 256-byte aligned */
void device_release(Device *dev, void *p, size_t bytes);
int tensor_upload(Device *dev, Tensor t, const void *host); /* t contiguous; host holds t's type */
int tensor_download(Device *dev, void *host, Tensor t);
int tensor_copy(Device *dev, Tensor dst, Tensor src);
int tensor_zero(Device *dev, Tensor t);
int tensor_from_f64(Device *dev, Tensor t, const double *host, void *scratch); /* scratch: tensor_bytes(t) */
int tensor_to_f32(Device *dev, float *host, Tensor t, void *scratch);          /* scratch: tensor_bytes(t) */
int tensor_from_f32(Device *dev, Tensor t, const float *host, void *scratch);

/* dense:     y[R,N] = x[R,K] w[N,K]ᵀ + b[N];  with pre [R,N]: pre = x wᵀ + b, y = gelu_tanh(pre)
 *            pre may be y itself: then only y is kept, and nothing is written for a backward pass
 * backward:  dx = dy w (+= if dx_add),  dw += dyᵀ x,  db += Σ_r dy;  each may be none
 * types:     x is act or real, and b has its type; w is real or bf16, and must be bf16 if x is; y and pre have x's type
 *            or are real; dx, dy and x have the same type
 * If w is bf16, the other factor of each product (backward: dy and x) is rounded to bf16; sums are real. */
int op_dense(Device *dev, Tensor y, Tensor pre, Tensor x, Tensor w, Tensor b);
int op_dense_backward(Device *dev, Tensor dx, bool dx_add, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w);
/* dy ← dy·gelu_tanh'(pre), act; then db[N] += Σ_r dy, may be none: the bias gradient, in the same pass on a GPU */
int op_gelu_backward(Device *dev, Tensor dy, Tensor pre, Tensor db);
/* dx = dy w ⊙ gelu_tanh'(pre), act; then db[K] += Σ_r dx, may be none: dx of op_dense_backward, then op_gelu_backward,
 * or fewer passes on a GPU */
int op_dense_gelu_backward(Device *dev, Tensor dx, Tensor dy, Tensor w, Tensor pre, Tensor db);

/* block */
int op_embed(Device *dev, Tensor x, Tensor ids, Tensor table);            /* x[r] = table[ids[r]]     */
int op_embed_backward(Device *dev, Tensor dtable, Tensor dx, Tensor ids); /* dtable[ids[r]] += dx[r]  */
/* x[r] = Σ_e weights[e]·table[ids[e]] over the entries e of row r, in order */
int op_embed_mix(Device *dev, Tensor x, const Mixture *m, Tensor table);
/* dtable[ids[e]] += weights[e]·dx[rows[e]] */
int op_embed_mix_backward(Device *dev, Tensor dtable, Tensor dx, const Mixture *m);
int op_residual_norm(Device *dev, const ResidualNorm *a);
int op_residual_norm_backward(Device *dev, const ResidualNorm *a);
/* rotate q and k (act) in place; row r has position first + r mod L; inverse for gradients */
int op_rotary(Device *dev, Tensor x, int64_t heads, int64_t L, int64_t first, bool inverse);
int op_attention(Device *dev, const Attention *a);
int op_attention_backward(Device *dev, const Attention *a);
int op_attention_step(Device *dev, const AttentionStep *a);
int op_conv(Device *dev, const Conv *a);
int op_conv_backward(Device *dev, const Conv *a);
int op_scan(Device *dev, const Scan *a);
int op_scan_backward(Device *dev, const Scan *a);
/* gate: o = y ⊙ silu(z), all act, rows may be strided; backward: dy =, dz = */
int op_gate(Device *dev, Tensor o, Tensor y, Tensor z);
int op_gate_backward(Device *dev, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z);
int op_silu(Device *dev, Tensor y, Tensor x);
int op_silu_backward(Device *dev, Tensor dx, Tensor dy, Tensor x); /* dx = dy·silu'(x) */
/* y[G,W] = [cos(σω_k) | sin(σω_k)], ω_k = 10000^(−2k/W), k < W/2 */
int op_sinusoid(Device *dev, Tensor y, Tensor sigma);

/* rows, loss, draws: x and y are both act or both real; logits are act or real */
int op_gather_rows(Device *dev, Tensor y, Tensor x, Tensor rows);  /* y[i] = x[rows[i]]                          */
int op_scatter_rows(Device *dev, Tensor y, Tensor x, Tensor rows); /* y[rows[i]] = x[i], other rows 0; rows ascend */
/* With f = logits and f[:,forbid] := −∞ (forbid < 0: none):
 *   loss[r] = weight[r]·(lse(f[r]) − f[r,target[r]])
 * gradient: logits ← dloss/dlogits in place, 0 at forbid */
int op_cross_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                     bool gradient);
/* With p = softmax(f[r]) over all V, m = mask and (w1, w2, a, d) = terms[r]:
 *   loss[r] = w1·(log(1 + a p_m) − log p[target]) + w2·(log(1 + a p_m) − log(1 + (a + d) p_m))
 * gradient: as above. d is a term of its own, not a difference of two: w2 is large where d is small.
 * Source: arXiv:2107.03006 §3, for absorbing states */
int op_absorbing_bound(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                       bool gradient);
/* With g = f[r] − log(V − 1) and m = mask:
 *   loss[r] = weight[r]·(Σ_{y≠m} exp g_y − g[target] − 1)
 * gradient: as above, 0 at m
 * Source: arXiv:2310.16834 Eq. (5), with the logarithm of the true ratio taken out of the score */
int op_score_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask,
                     bool gradient);
/* With p = softmax(f[r]) over the K = V − 1 tokens besides m = mask, (w, b, z) = terms[r], where z is a token ≠ m written
 * as a number, a = K(1 − b), x_j = a [j = target] + b and y_j = a p_j + b:
 *   loss[r] = w/K·Σ_{j≠m} x_j/x_z·φ(y_j x_z/(y_z x_j)),  φ(q) = q − 1 − log q ≥ 0;  0 where w = 0
 * gradient: as above, 0 at m. Needs b > 0 where w ≠ 0
 * Source: arXiv:2412.10193 Eq. (17), with Σ p = 1 used so that no term is negative */
int op_uniform_bound(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask, bool gradient);
/* With p = softmax(f[r]), f[:,forbid] := −∞ (forbid < 0: none):
 *   out[r] = (−log p[target], max p, −Σ p log p)   out[R,3]
 * NaN where a logit is NaN; the logits stay as they are */
int op_prediction(Device *dev, Tensor out, Tensor logits, Tensor target, int32_t forbid);
/* ids[R] i32, uniform[R] f64: 53 random bits, keep[R] f64: none with KEEP_NEVER */
int op_draw(Device *dev, Tensor ids, Tensor logits, Tensor uniform, Tensor keep, const DrawRule *rule);
/* the first of equal maxima, −1 if a logit is NaN */
int op_argmax(Device *dev, Tensor ids, Tensor logits, int32_t forbid);
/* With p = softmax(f[r]) without `forbid` (< 0: none), p₁ ≥ p₂ its two largest values:
 *   out[r] = (p[ids[r]], p₁ − p₂, −Σ p log p),  out[R,3] f64, nat; ids[r] ≠ forbid, and < 0 where the row holds a NaN:
 *   then out[r] is NaN */
int op_confidence(Device *dev, Tensor out, Tensor logits, Tensor ids, int32_t forbid);
int op_exclude(Device *dev, Tensor logits, int32_t id); /* logits[:,id] = −∞ */

/* update */
int op_add(Device *dev, Tensor y, Tensor x); /* y += x */
/* y = a·y + b·x, each element in f64 and rounded once: with a + b = 1 nothing drifts in 10⁶ steps */
int op_blend(Device *dev, Tensor y, double a, double b, Tensor x);
int op_sum(Device *dev, Tensor total, Tensor x); /* total[1] f64 += Σ x, in f64, in a fixed order */
/* terms[⌈n/chunk⌉] f64 = Σ x² of each chunk of x[n], chunk = ops->chunk elements, in f64 in a fixed order: those of a part
 * that begins with a chunk are those of the whole */
int op_squares(Device *dev, Tensor terms, Tensor x);
int op_sum_terms(Device *dev, Tensor sum, Tensor terms); /* sum[1] f64 = Σ terms, in a fixed order */
int op_adamw(Device *dev, const AdamW *a);
int op_to_bf16(Device *dev, Tensor y, Tensor x); /* y[n] bf16 = round-to-nearest-even(x[n]) */

#ifdef __cplusplus
}
#endif
