/* bench_ops DEVICE f32|bf16 small|tiny [NAME] — the speed of each op on a device, on the shapes of the network `small`;
 * with NAME only of ops whose name contains it, and the ceilings.
 *
 * Prints one JSON object per line: the seconds of one call, its floating-point operations and the fewest bytes it can
 * move. These count every input read once and every output written once; of a table only the rows that occur. Attention
 * backward counts five products, since it recomputes the weights. The first two lines are the ceilings: a large copy
 * and a large matrix product. Inputs are random and larger than the caches. `tiny` is for trying this program. */
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/median.h"
#include "ops/ops.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Sizes {
  const char *name;
  int64_t B, L, D, H, V, chunk, params, square, copy; /* chunk: rows of logits; copy: f32 elements */
  double batch_s;                                     /* how long calls are timed together */
} Sizes;
static const Sizes sizes[] = {
    {"small", 64, 1024, 768, 12, 50258, 8192, 169625600, 8192, (int64_t)1 << 29, 0.05},
    {"tiny", 2, 64, 64, 2, 510, 32, 100000, 128, 1 << 16, 0},
};
enum { MOST = 64, PIECE = 1 << 20, BATCHES = 5, STATES = 16, TAPS = 4 };

typedef struct Lab {
  Device dev;
  Sizes n;
  int64_t R;
  struct {
    void *p;
    size_t bytes;
  } held[MOST];
  int count;
  float *f32; /* [PIECE] random numbers in (−1, 1), also as bf16 */
  uint16_t *bf16;
  int32_t *ids;
  const char *only; /* part of a name */
} Lab;

/* ---- tensors, filled with random numbers */
static int numbers(Lab *lab) {
  RngKey key = rng_key(1, RNG_TEST, 0, 0, 0);
  TRY(mem_alloc(&lab->f32, PIECE * sizeof *lab->f32));
  TRY(mem_alloc(&lab->bf16, PIECE * sizeof *lab->bf16));
  TRY(mem_alloc(&lab->ids, PIECE * sizeof *lab->ids));
  for (int64_t i = 0; i < PIECE; i++) {
    uint32_t bits;
    double u = rng_uniform(key, (uint64_t)i);
    lab->f32[i] = (float)(2 * u - 1);
    memcpy(&bits, &lab->f32[i], sizeof bits);
    lab->bf16[i] = (uint16_t)(bits >> 16);
    lab->ids[i] = (int32_t)(u * (double)(lab->n.V - 1));
  }
  return OK;
}

static int make(Lab *lab, Tensor *t, DType type, int64_t rows, int64_t cols) {
  ASSERT(lab->count < MOST);
  size_t bytes = (size_t)(rows * (cols ? cols : 1)) * dtype_size(type);
  const void *from = type == DT_F32 ? (void *)lab->f32 : type == DT_BF16 ? (void *)lab->bf16 : (void *)lab->ids;
  void *p;
  TRY(device_alloc(&lab->dev, &p, bytes));
  lab->held[lab->count].p = p;
  lab->held[lab->count++].bytes = bytes;
  *t = cols ? tensor_2d(p, type, rows, cols) : tensor_1d(p, type, rows);
  Tensor flat = tensor_1d(p, type, tensor_count(*t));
  for (int64_t at = 0; at < flat.dims[0] && type != DT_F64; at += PIECE) {
    int64_t n = flat.dims[0] - at < PIECE ? flat.dims[0] - at : PIECE;
    TRY(tensor_upload(&lab->dev, tensor_1d((char *)p + (size_t)at * dtype_size(type), type, n), from));
  }
  return OK;
}
static void clear(Lab *lab) {
  for (int i = 0; i < lab->count; i++) device_release(&lab->dev, lab->held[i].p, lab->held[i].bytes);
  lab->count = 0;
}

/* bytes of tensors that are each read or written once; absent tensors count 0 */
#define BYTES(...)                                                                                                     \
  bytes_of((const Tensor[]){__VA_ARGS__}, (int)(sizeof((const Tensor[]){__VA_ARGS__}) / sizeof(Tensor)))
static double bytes_of(const Tensor *t, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += tensor_none(t[i]) ? 0 : (double)tensor_bytes(t[i]);
  return sum;
}

/* Columns of logits (Model.columns). */
static int64_t columns(const Lab *lab) { return (lab->n.V + 63) / 64 * 64; }

/* ---- timing */
typedef int (*Call)(Device *dev, const void *args);

static int batch(Lab *lab, Call call, const void *args, int64_t n, double *seconds) {
  double start = clock_now();
  for (int64_t i = 0; i < n; i++) TRY(call(&lab->dev, args));
  TRY(device_sync(&lab->dev));
  *seconds = (clock_now() - start) / (double)n;
  return OK;
}

static int measure(Lab *lab, const char *name, double flops, double bytes, Call call, const void *args) {
  double t[BATCHES], once = 0;
  if (strstr(name, lab->only) == NULL && strcmp(name, "copy") != 0 && strcmp(name, "product") != 0) return OK;
  TRY(batch(lab, call, args, 2, &once));
  TRY(batch(lab, call, args, 1, &once));
  int64_t n = (int64_t)fmin(1000, 1 + floor(lab->n.batch_s / once));
  for (int i = 0; i < BATCHES; i++) TRY(batch(lab, call, args, n, &t[i]));
  double middle = median(t, BATCHES);
  printf("{\"op\": \"%s\", \"matmul\": \"%s\", \"seconds\": %.4e, \"least\": %.4e, \"most\": %.4e, \"flops\": %.6e, "
         "\"bytes\": %.6e}\n",
         name, lab->dev.bf16 ? "bf16" : "f32", middle, t[0], t[BATCHES - 1], flops, bytes);
  fflush(stdout);
  return OK;
}

/* ---- copy */
static int call_copy(Device *dev, const void *args) {
  const Tensor *t = args;
  return tensor_copy(dev, t[0], t[1]);
}
static int bench_copy(Lab *lab) {
  Tensor t[2];
  for (int i = 0; i < 2; i++) TRY(make(lab, &t[i], DT_F32, lab->n.copy, 0));
  return measure(lab, "copy", 0, BYTES(t[0], t[1]), call_copy, t);
}

/* ---- matrix products */
typedef struct Dense {
  Tensor y, pre, x, w, b, dx, dw, db, dy;
} Dense;
static int call_dense(Device *dev, const void *args) {
  const Dense *a = args;
  return op_dense(dev, a->y, a->pre, a->x, a->w, a->b);
}
static int call_dense_backward(Device *dev, const void *args) {
  const Dense *a = args;
  return op_dense_backward(dev, a->dx, false, a->dw, a->db, a->dy, a->x, a->w);
}
static int bench_dense(Lab *lab, const char *name, int64_t R, int64_t N, int64_t K, bool gelu, bool bias,
                       bool backward) {
  Device *dev = &lab->dev;
  DType low = dev->bf16 ? DT_BF16 : DT_F32;
  char title[64];
  double work = 2.0 * (double)R * (double)N * (double)K;
  Dense a = {0};
  TRY(make(lab, &a.y, dev->act, R, N));
  TRY(make(lab, &a.x, dev->act, R, K));
  TRY(make(lab, &a.w, low, N, K));
  if (gelu) TRY(make(lab, &a.pre, dev->act, R, N));
  if (bias) TRY(make(lab, &a.b, dev->act, N, 0));
  TRY(measure(lab, name, work, BYTES(a.y, a.pre, a.x, a.w, a.b), call_dense, &a));
  if (!backward) return OK;
  TRY(make(lab, &a.dx, dev->act, R, K));
  TRY(make(lab, &a.dw, dev->real, N, K));
  if (bias) TRY(make(lab, &a.db, dev->real, N, 0));
  a.dy = a.y;
  snprintf(title, sizeof title, "%s, backward", name);
  return measure(lab, title, 2 * work, BYTES(a.dx, a.dw, a.dw, a.dy, a.x, a.w), call_dense_backward, &a);
}
/* dx from dy [R,N] through w and the GELU whose input is `pre`, and the gradient of the bias before it */
static int call_dense_gelu_backward(Device *dev, const void *args) {
  const Dense *a = args;
  return op_dense_gelu_backward(dev, a->dx, a->dy, a->w, a->pre, a->db);
}
static int bench_gelu_backward(Lab *lab, const char *name, int64_t R, int64_t N, int64_t K) {
  Dense a = {0};
  TRY(make(lab, &a.dy, lab->dev.act, R, N));
  TRY(make(lab, &a.w, lab->dev.bf16 ? DT_BF16 : DT_F32, N, K));
  TRY(make(lab, &a.pre, lab->dev.act, R, K));
  TRY(make(lab, &a.dx, lab->dev.act, R, K));
  TRY(make(lab, &a.db, lab->dev.real, K, 0));
  return measure(lab, name, 2.0 * (double)R * (double)N * (double)K, BYTES(a.dx, a.dy, a.w, a.pre),
                 call_dense_gelu_backward, &a);
}
static int bench_products(Lab *lab) {
  int64_t R = lab->R, D = lab->n.D, square = lab->n.square;
  TRY(bench_dense(lab, "product", square, square, square, false, false, false));
  clear(lab);
  TRY(bench_dense(lab, "dense qkv", R, 3 * D, D, false, false, true));
  clear(lab);
  TRY(bench_dense(lab, "dense attn_out", R, D, D, false, false, true));
  clear(lab);
  TRY(bench_dense(lab, "dense mlp.0 + gelu", R, 4 * D, D, true, true, true));
  clear(lab);
  TRY(bench_dense(lab, "dense mlp.2", R, D, 4 * D, false, true, true));
  clear(lab);
  TRY(bench_gelu_backward(lab, "dense mlp.2, backward through gelu", R, D, 4 * D));
  clear(lab);
  return bench_dense(lab, "dense head", lab->n.chunk, columns(lab), D, false, true, true);
}

/* ---- attention */
static int call_attention(Device *dev, const void *args) { return op_attention(dev, args); }
static int call_attention_backward(Device *dev, const void *args) { return op_attention_backward(dev, args); }
static int call_rotary(Device *dev, const void *args) {
  const Attention *a = args;
  return op_rotary(dev, tensor_cols(a->qkv, 0, 2 * cols_of(a->o)), 2 * a->heads, a->L, 0, false);
}
static int call_attention_step(Device *dev, const void *args) { return op_attention_step(dev, args); }
/* the last position, with a cache as long as a training sequence */
static int bench_attention_step(Lab *lab) {
  DType act = lab->dev.act;
  int64_t R = lab->R, D = lab->n.D, B = R / lab->n.L;
  AttentionStep a = {.heads = lab->n.H, .L = lab->n.L, .position = lab->n.L - 1, .count = 1};
  TRY(make(lab, &a.qkv, act, B, 3 * D));
  TRY(make(lab, &a.cache, act, R, 2 * D));
  TRY(make(lab, &a.o, act, B, D));
  return measure(lab, "attention_step", 4.0 * (double)R * (double)D, BYTES(a.qkv, a.cache, a.o), call_attention_step,
                 &a);
}
static int bench_attention(Lab *lab) {
  DType act = lab->dev.act;
  int64_t R = lab->R, D = lab->n.D;
  double work = 4.0 * (double)R * (double)D * (double)lab->n.L;
  Attention a = {.heads = lab->n.H, .L = lab->n.L};
  TRY(make(lab, &a.qkv, act, R, 3 * D));
  TRY(make(lab, &a.o, act, R, D));
  TRY(make(lab, &a.lse, DT_F32, R, lab->n.H));
  TRY(make(lab, &a.d_o, act, R, D));
  TRY(make(lab, &a.dqkv, act, R, 3 * D));
  TRY(measure(lab, "attention", work, BYTES(a.qkv, a.o, a.lse), call_attention, &a));
  TRY(measure(lab, "attention, backward", 2.5 * work, BYTES(a.qkv, a.o, a.lse, a.d_o, a.dqkv), call_attention_backward,
              &a));
  return measure(lab, "rotary", 0, BYTES(a.qkv) * 4 / 3, call_rotary, &a);
}

/* ---- the other, fused ops of a block */
static int call_norm(Device *dev, const void *args) { return op_residual_norm(dev, args); }
static int call_norm_backward(Device *dev, const void *args) { return op_residual_norm_backward(dev, args); }
static int bench_norm(Lab *lab) {
  DType act = lab->dev.act;
  int64_t R = lab->R, D = lab->n.D, L = lab->n.L;
  ResidualNorm a = {.kind = NORM_LAYER, .rows_per_group = R, .dropout = {.p = 0.1, .seed = 1, .L = L}};
  Tensor *real[] = {&a.x, &a.x_out, &a.dx}, *low[] = {&a.branch, &a.h, &a.dh, &a.dbranch};
  Tensor *modulation[] = {&a.gate, &a.shift, &a.scale, &a.dgate, &a.dshift, &a.dscale};
  for (int i = 0; i < 3; i++) TRY(make(lab, real[i], DT_F32, R, D));
  for (int i = 0; i < 4; i++) TRY(make(lab, low[i], act, R, D));
  for (int i = 0; i < 6; i++) TRY(make(lab, modulation[i], DT_F32, 1, D));
  TRY(make(lab, &a.weight, DT_F32, D, 0));
  TRY(make(lab, &a.dweight, DT_F32, D, 0));
  TRY(make(lab, &a.mean, DT_F32, R, 0));
  TRY(make(lab, &a.rstd, DT_F32, R, 0));
  TRY(measure(lab, "residual_norm", 0, BYTES(a.x, a.branch, a.x_out, a.h, a.mean, a.rstd), call_norm, &a));
  return measure(lab, "residual_norm, backward", 0,
                 BYTES(a.x_out, a.branch, a.dh, a.dx, a.dx, a.dbranch, a.mean, a.rstd), call_norm_backward, &a);
}

typedef struct Pair {
  Tensor x, y, ids; /* ids: of gelu_backward the bias gradient */
} Pair;
static int call_gelu_backward(Device *dev, const void *args) {
  const Pair *a = args;
  return op_gelu_backward(dev, a->y, a->x, a->ids);
}
static int call_embed(Device *dev, const void *args) {
  const Pair *a = args;
  return op_embed(dev, a->x, a->ids, a->y);
}
static int call_embed_backward(Device *dev, const void *args) {
  const Pair *a = args;
  return op_embed_backward(dev, a->y, a->x, a->ids);
}
static int bench_rows(Lab *lab) {
  int64_t R = lab->R, D = lab->n.D;
  Pair gelu = {0}, rows = {0};
  TRY(make(lab, &gelu.x, lab->dev.act, R, 4 * D));
  TRY(make(lab, &gelu.y, lab->dev.act, R, 4 * D));
  TRY(make(lab, &gelu.ids, DT_F32, 4 * D, 0));
  TRY(measure(lab, "gelu_backward", 0, BYTES(gelu.x, gelu.y, gelu.y), call_gelu_backward, &gelu));
  TRY(make(lab, &rows.x, DT_F32, R, D));
  TRY(make(lab, &rows.y, DT_F32, lab->n.V, D));
  TRY(make(lab, &rows.ids, DT_I32, R, 0));
  /* the distinct rows among R random ones of V */
  double occur = BYTES(rows.y) * (1 - exp(-(double)R / (double)lab->n.V));
  TRY(measure(lab, "embed", 0, BYTES(rows.x, rows.ids) + occur, call_embed, &rows));
  return measure(lab, "embed_backward", 0, BYTES(rows.x, rows.ids) + 2 * occur, call_embed_backward, &rows);
}

/* ---- loss: the gradient overwrites the logits, which are therefore small from the second call on */
typedef struct Loss {
  Tensor loss, logits, target, weight;
} Loss;
static int call_cross_entropy(Device *dev, const void *args) {
  const Loss *a = args;
  return op_cross_entropy(dev, a->loss, a->logits, a->target, a->weight, 3, true);
}
typedef struct Sure {
  Tensor out, logits, ids;
} Sure;
static int call_confidence(Device *dev, const void *args) {
  const Sure *a = args;
  return op_confidence(dev, a->out, a->logits, a->ids, 3);
}
static int bench_confidence(Lab *lab) {
  int64_t R = lab->n.chunk;
  Sure a = {0};
  TRY(make(lab, &a.out, DT_F64, R, 3));
  TRY(make(lab, &a.logits, DT_F32, R, columns(lab)));
  a.logits = tensor_cols(a.logits, 0, lab->n.V);
  TRY(make(lab, &a.ids, DT_I32, R, 0));
  return measure(lab, "confidence", 0, BYTES(a.logits), call_confidence, &a);
}
static int bench_loss(Lab *lab) {
  int64_t R = lab->n.chunk;
  Loss a = {0};
  TRY(make(lab, &a.loss, DT_F32, R, 0));
  TRY(make(lab, &a.logits, lab->dev.act, R, columns(lab)));
  a.logits = tensor_cols(a.logits, 0, lab->n.V);
  TRY(make(lab, &a.target, DT_I32, R, 0));
  TRY(make(lab, &a.weight, DT_F32, R, 0));
  return measure(lab, "cross_entropy", 0, BYTES(a.logits, a.logits), call_cross_entropy, &a);
}

/* ---- update */
static int call_adamw(Device *dev, const void *args) { return op_adamw(dev, args); }
typedef struct Squares {
  Tensor sum, terms, x;
} Squares;
static int call_sum_squares(Device *dev, const void *args) {
  const Squares *a = args;
  TRY(op_squares(dev, a->terms, a->x));
  return op_sum_terms(dev, a->sum, a->terms);
}
static int bench_update(Lab *lab) {
  int64_t n = lab->n.params;
  AdamW a = {.scale = 1, .clip = 1, .lr = 3e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .ema_decay = 0.9999};
  a.correct1 = a.correct2 = 1;
  Tensor *all[] = {&a.p, &a.g, &a.m, &a.v, &a.ema};
  for (int i = 0; i < 5; i++) TRY(make(lab, all[i], DT_F32, n, 0));
  TRY(tensor_zero(&lab->dev, a.v)); /* no negative squares */
  if (lab->dev.bf16) TRY(make(lab, &a.low, DT_BF16, n, 0));
  TRY(make(lab, &a.squares, DT_F64, 1, 0));
  Squares s = {.sum = a.squares, .x = a.g};
  TRY(make(lab, &s.terms, DT_F64, (n + lab->dev.ops->chunk - 1) / lab->dev.ops->chunk, 0));
  TRY(measure(lab, "sum_squares", 0, BYTES(a.g), call_sum_squares, &s));
  double bytes = BYTES(a.p, a.g, a.m, a.v, a.ema, a.p, a.m, a.v, a.ema, a.low);
  return measure(lab, "adamw", 0, bytes, call_adamw, &a);
}

/* ---- state space */
static int call_conv(Device *dev, const void *args) { return op_conv(dev, args); }
static int call_conv_backward(Device *dev, const void *args) { return op_conv_backward(dev, args); }
static int call_scan(Device *dev, const void *args) { return op_scan(dev, args); }
static int call_scan_backward(Device *dev, const void *args) { return op_scan_backward(dev, args); }

static int bench_conv(Lab *lab) {
  int64_t R = lab->R, E = 2 * lab->n.D;
  Conv a = {.L = lab->n.L};
  Tensor *all[] = {&a.x, &a.y, &a.dy, &a.dx};
  for (int i = 0; i < 4; i++) TRY(make(lab, all[i], lab->dev.act, R, E));
  TRY(make(lab, &a.weight, DT_F32, E, TAPS));
  TRY(make(lab, &a.dweight, DT_F32, E, TAPS));
  TRY(make(lab, &a.bias, DT_F32, E, 0));
  TRY(make(lab, &a.dbias, DT_F32, E, 0));
  TRY(measure(lab, "conv", 2.0 * TAPS * (double)(R * E), BYTES(a.x, a.y), call_conv, &a));
  return measure(lab, "conv, backward", 6.0 * TAPS * (double)(R * E), BYTES(a.x, a.dy, a.dx), call_conv_backward, &a);
}

static int bench_scan(Lab *lab) {
  int64_t R = lab->R, E = 2 * lab->n.D, chunks = lab->n.B * ((lab->n.L + SCAN_CHUNK - 1) / SCAN_CHUNK);
  double work = (double)R * (double)E * STATES;
  Scan a = {.L = lab->n.L};
  Tensor *wide[] = {&a.x, &a.dt, &a.y, &a.dy, &a.dx, &a.ddt}, *narrow[] = {&a.B, &a.C, &a.dB, &a.dC};
  for (int i = 0; i < 6; i++) TRY(make(lab, wide[i], lab->dev.act, R, E));
  for (int i = 0; i < 4; i++) TRY(make(lab, narrow[i], lab->dev.act, R, STATES));
  TRY(make(lab, &a.A_log, DT_F32, E, STATES));
  TRY(make(lab, &a.dA_log, DT_F32, E, STATES));
  TRY(make(lab, &a.D, DT_F32, E, 0));
  TRY(make(lab, &a.dD, DT_F32, E, 0));
  TRY(make(lab, &a.states, DT_F32, chunks, E * STATES));
  TRY(measure(lab, "scan", 7 * work, BYTES(a.x, a.dt, a.B, a.C, a.y, a.states), call_scan, &a));
  return measure(lab, "scan, backward", 19 * work, BYTES(a.x, a.dt, a.B, a.C, a.dy, a.dx, a.ddt, a.dB, a.dC, a.states),
                 call_scan_backward, &a);
}

static int bench(Lab *lab) {
  int (*const all[])(Lab *) = {bench_copy,   bench_products, bench_attention, bench_attention_step,
                               bench_norm,   bench_rows,     bench_loss,      bench_confidence,
                               bench_update, bench_conv,     bench_scan};
  TRY(numbers(lab));
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    TRY(all[i](lab));
    clear(lab);
  }
  return OK;
}

int main(int argc, char **argv) {
  static Lab lab;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes && argc >= 4; i++)
    if (strcmp(argv[3], sizes[i].name) == 0) lab.n = sizes[i];
  if (lab.n.name == NULL) {
    fprintf(stderr, "usage: bench_ops DEVICE f32|bf16 small|tiny [NAME]\n");
    return ERR_USAGE;
  }
  lab.only = argc > 4 ? argv[4] : "";
  lab.R = lab.n.B * lab.n.L;
  DeviceOptions options = {
      .name = argv[1], .threads = 1, .bf16 = strcmp(argv[2], "bf16") == 0, .place = {.local_size = 1, .share_size = 1}};
  int err = device_open(&lab.dev, &options);
  if (err == OK) err = bench(&lab);
  if (err) fprintf(stderr, "bench_ops: error: %s\n", err_message());
  clear(&lab);
  device_close(&lab.dev);
  mem_free(&lab.f32);
  mem_free(&lab.bf16);
  mem_free(&lab.ids);
  return err;
}
