/* ops — the checked calls in front of the backend's table: check shapes and types, run the backend's op, and account
 * for its time and work. */
#include "ops/ops.h"
#include "base/clock.h"
#include "base/err.h"

#define SHAPE(op, cond) CHECK(cond, ERR_SHAPE, "%s: shapes or types disagree: %s", op, #cond)

/* t is [rows, cols], its rows possibly strided */
static bool is(Tensor t, DType type, int64_t rows, int64_t cols) {
  return t.rank >= 2 && t.type == type && rows_of(t) == rows && cols_of(t) == cols && t.ld >= cols;
}
static bool maybe(Tensor t, DType type, int64_t rows, int64_t cols) {
  return tensor_none(t) || is(t, type, rows, cols);
}
/* t has n contiguous elements */
static bool vec(Tensor t, DType type, int64_t n) {
  return t.rank >= 1 && t.type == type && tensor_count(t) == n && tensor_packed(t);
}
static bool maybe_vec(Tensor t, DType type, int64_t n) { return tensor_none(t) || vec(t, type, n); }
static bool floating(const Device *dev, DType type) { return type == dev->act || type == dev->real; }

/* Run the backend's op and add its time and work to a group. Work is the number of floating-point operations and the
 * minimum of bytes moved: every input read once, every output written once. For matrix products only operations
 * count. */
#define RUN(group, work, moved, call)                                                                                  \
  do {                                                                                                                 \
    double start_ = clock_now();                                                                                       \
    int err_ = (call);                                                                                                 \
    if (dev->serial && !err_) err_ = dev->ops->sync(dev);                                                              \
    dev->seconds[group] += clock_now() - start_;                                                                       \
    dev->flops[group] += (double)(work);                                                                               \
    dev->bytes[group] += (double)(moved);                                                                              \
    if (err_) return err_trace(err_, __FILE__, __LINE__, #call);                                                       \
    return OK;                                                                                                         \
  } while (0)

int op_dense(Device *dev, Tensor y, Tensor pre, Tensor x, Tensor w, Tensor b) {
  int64_t R = rows_of(x), K = cols_of(x), N = w.dims[0];
  SHAPE("dense", floating(dev, x.type) && is(x, x.type, R, K) && is(w, w.type, N, K));
  SHAPE("dense", w.type == DT_BF16 || (w.type == dev->real && x.type == w.type));
  SHAPE("dense", (y.type == x.type || y.type == dev->real) && is(y, y.type, R, N) && maybe(pre, y.type, R, N));
  SHAPE("dense", maybe_vec(b, x.type, N));
  RUN(GROUP_DENSE, 2 * R * K * N, 0, dev->ops->dense(dev, y, pre, x, w, b));
}

int op_dense_backward(Device *dev, Tensor dx, bool dx_add, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor w) {
  int64_t R = rows_of(dy), N = cols_of(dy), K = tensor_none(x) ? cols_of(w) : cols_of(x);
  SHAPE("dense_backward", floating(dev, dy.type) && is(dy, dy.type, R, N));
  SHAPE("dense_backward", maybe(x, dy.type, R, K) && maybe(dx, dy.type, R, K));
  SHAPE("dense_backward", tensor_none(w) || w.type == DT_BF16 || (w.type == dev->real && dy.type == w.type));
  SHAPE("dense_backward", maybe(w, w.type, N, K));
  SHAPE("dense_backward", maybe(dw, dev->real, N, K) && maybe_vec(db, dev->real, N));
  SHAPE("dense_backward", (tensor_none(dx) || !tensor_none(w)) && (tensor_none(dw) || !tensor_none(x)));
  int64_t products = !tensor_none(dx) + !tensor_none(dw);
  RUN(GROUP_DENSE, 2 * R * K * N * products, 0, dev->ops->dense_backward(dev, dx, dx_add, dw, db, dy, x, w));
}

int op_gelu_backward(Device *dev, Tensor dy, Tensor pre, Tensor db) {
  SHAPE("gelu_backward", is(pre, dev->act, rows_of(pre), cols_of(pre)) && is(dy, dev->act, rows_of(pre), cols_of(pre)));
  SHAPE("gelu_backward", maybe_vec(db, dev->real, cols_of(pre)));
  RUN(GROUP_BLOCK, 0, 3 * tensor_bytes(pre), dev->ops->gelu_backward(dev, dy, pre, db));
}

/* Whether the backend computed dx by one product. */
static int fused_gelu_backward(Device *dev, Tensor dx, Tensor dy, Tensor w, Tensor pre, bool *done) {
  RUN(GROUP_DENSE, *done ? 2 * rows_of(dy) * cols_of(dy) * cols_of(w) : 0, 0,
      dev->ops->dense_gelu_backward(dev, dx, dy, w, pre, done));
}

int op_dense_gelu_backward(Device *dev, Tensor dx, Tensor dy, Tensor w, Tensor pre, Tensor db) {
  int64_t R = rows_of(dy), N = cols_of(dy), K = cols_of(w);
  bool done = false;
  SHAPE("dense_gelu_backward", is(dy, dev->act, R, N) && is(dx, dev->act, R, K) && is(pre, dev->act, R, K));
  SHAPE("dense_gelu_backward",
        is(w, w.type, N, K) && (w.type == DT_BF16 || (w.type == dev->real && dev->act == w.type)));
  SHAPE("dense_gelu_backward", maybe_vec(db, dev->real, K));
  if (dev->ops->dense_gelu_backward) TRY(fused_gelu_backward(dev, dx, dy, w, pre, &done));
  if (done) return op_dense_backward(dev, TENSOR_NONE, false, TENSOR_NONE, db, dx, TENSOR_NONE, TENSOR_NONE);
  TRY(op_dense_backward(dev, dx, false, TENSOR_NONE, TENSOR_NONE, dy, TENSOR_NONE, w));
  return op_gelu_backward(dev, dx, pre, db);
}

int op_embed(Device *dev, Tensor x, Tensor ids, Tensor table) {
  SHAPE("embed",
        is(x, dev->real, tensor_count(ids), cols_of(table)) && vec(ids, DT_I32, rows_of(x)) && table.type == dev->real);
  RUN(GROUP_BLOCK, 0, 2 * tensor_bytes(x), dev->ops->embed(dev, x, ids, table));
}

int op_embed_backward(Device *dev, Tensor dtable, Tensor dx, Tensor ids) {
  SHAPE("embed_backward", is(dx, dev->real, tensor_count(ids), cols_of(dtable)) && vec(ids, DT_I32, rows_of(dx)) &&
                              dtable.type == dev->real);
  RUN(GROUP_BLOCK, 0, 3 * tensor_bytes(dx), dev->ops->embed_backward(dev, dtable, dx, ids));
}

static int residual_norm_check(const Device *dev, const ResidualNorm *a) {
  DType t = dev->real;
  int64_t R = rows_of(a->x), D = cols_of(a->x);
  SHAPE("residual_norm", a->rows_per_group > 0 && R % a->rows_per_group == 0);
  int64_t G = R / a->rows_per_group;
  SHAPE("residual_norm", is(a->x, t, R, D) && maybe(a->branch, dev->act, R, D) && vec(a->weight, t, D));
  SHAPE("residual_norm", maybe(a->gate, t, G, D) && maybe(a->shift, t, G, D) && maybe(a->scale, t, G, D));
  SHAPE("residual_norm", tensor_none(a->scale) || !tensor_none(a->shift));
  SHAPE("residual_norm", tensor_none(a->branch) ? tensor_none(a->gate) : is(a->x_out, t, R, D));
  SHAPE("residual_norm", (a->kind == NORM_RMS || vec(a->mean, t, R)) && vec(a->rstd, t, R));
  SHAPE("residual_norm", maybe_vec(a->index, DT_I32, R));
  SHAPE("residual_norm", a->dropout.p == 0 || (a->dropout.L > 0 && D % 8 == 0));
  SHAPE("residual_norm", a->dropout.p == 0 || !tensor_none(a->index) || R % a->dropout.L == 0);
  return OK;
}

static int mixture_check(const Device *dev, const Mixture *m, Tensor x, Tensor table) {
  int64_t n = tensor_count(m->ids);
  SHAPE("embed_mix", is(x, dev->real, rows_of(x), cols_of(table)) && table.type == dev->real);
  SHAPE("embed_mix", vec(m->begin, DT_I32, rows_of(x) + 1) && vec(m->ids, DT_I32, n) && vec(m->rows, DT_I32, n) &&
                         vec(m->weights, dev->real, n));
  return OK;
}

/* Bytes of the entries' rows, and of the other tensor. */
static double mixture_bytes(const Mixture *m, Tensor x) {
  return tensor_bytes(x) + (double)tensor_count(m->ids) * (double)cols_of(x) * (double)dtype_size(x.type);
}

int op_embed_mix(Device *dev, Tensor x, const Mixture *m, Tensor table) {
  TRY(mixture_check(dev, m, x, table));
  RUN(GROUP_BLOCK, 0, mixture_bytes(m, x), dev->ops->embed_mix(dev, x, m, table));
}

int op_embed_mix_backward(Device *dev, Tensor dtable, Tensor dx, const Mixture *m) {
  TRY(mixture_check(dev, m, dx, dtable));
  RUN(GROUP_BLOCK, 0, 2 * mixture_bytes(m, dx), dev->ops->embed_mix_backward(dev, dtable, dx, m));
}

int op_residual_norm(Device *dev, const ResidualNorm *a) {
  TRY(residual_norm_check(dev, a));
  SHAPE("residual_norm", is(a->h, dev->act, rows_of(a->x), cols_of(a->x)));
  size_t added = tensor_none(a->branch) ? 0 : tensor_bytes(a->branch) + tensor_bytes(a->x_out);
  RUN(GROUP_BLOCK, 0, tensor_bytes(a->x) + tensor_bytes(a->h) + added, dev->ops->residual_norm(dev, a));
}

int op_residual_norm_backward(Device *dev, const ResidualNorm *a) {
  TRY(residual_norm_check(dev, a));
  DType t = dev->real;
  int64_t R = rows_of(a->x), D = cols_of(a->x), G = R / a->rows_per_group;
  SHAPE("residual_norm_backward", is(a->dh, dev->act, R, D) && is(a->dx, t, R, D) && vec(a->dweight, t, D));
  SHAPE("residual_norm_backward", tensor_none(a->branch) || is(a->dbranch, dev->act, R, D));
  SHAPE("residual_norm_backward", tensor_none(a->gate) || is(a->dgate, t, G, D));
  SHAPE("residual_norm_backward", tensor_none(a->scale) || is(a->dscale, t, G, D));
  SHAPE("residual_norm_backward", tensor_none(a->shift) || is(a->dshift, t, G, D));
  size_t added = tensor_none(a->branch) ? 0 : tensor_bytes(a->branch) + tensor_bytes(a->dbranch);
  RUN(GROUP_BLOCK, 0, tensor_bytes(a->x) + tensor_bytes(a->dh) + 2 * tensor_bytes(a->dx) + added,
      dev->ops->residual_norm_backward(dev, a));
}

int op_rotary(Device *dev, Tensor x, int64_t heads, int64_t L, int64_t first, bool inverse) {
  SHAPE("rotary",
        heads > 0 && L > 0 && first >= 0 && x.type == dev->act && cols_of(x) % (2 * heads) == 0 && rows_of(x) % L == 0);
  RUN(GROUP_BLOCK, 0, tensor_bytes(x) * 2, dev->ops->rotary(dev, x, heads, L, first, inverse));
}

static int attention_check(const Device *dev, const Attention *a) {
  int64_t R = rows_of(a->o), D = cols_of(a->o);
  SHAPE("attention", a->heads > 0 && D % a->heads == 0 && a->L > 0 && R % a->L == 0);
  SHAPE("attention", a->block >= 0 && (a->block ? a->draws > 0 : !a->keys_only && a->draws == 0));
  SHAPE("attention", is(a->o, dev->act, R, D) && is(a->qkv, dev->act, R, 3 * D));
  SHAPE("attention", vec(a->lse, dev->real, R * a->heads) && is(a->lse, dev->real, R, a->heads) &&
                         maybe_vec(a->lengths, DT_I32, attention_noisy(a)));
  SHAPE("attention", a->block == 0 || (a->L % a->block == 0 && R / a->L % (a->draws + 1) == 0 && !a->causal));
  return OK;
}

/* The pairs of a query and a key that it sees, of one head. */
static double attention_pairs(const Attention *a) {
  double R = (double)rows_of(a->o), L = (double)a->L;
  if (a->block) return (a->keys_only ? (double)attention_noisy(a) * L : R) * (L + (double)a->block) / 2;
  return R * L / (a->causal ? 2 : 1);
}

int op_attention(Device *dev, const Attention *a) {
  TRY(attention_check(dev, a));
  RUN(GROUP_ATTENTION, 4 * (double)cols_of(a->o) * attention_pairs(a), 0, dev->ops->attention(dev, a));
}

int op_attention_backward(Device *dev, const Attention *a) {
  TRY(attention_check(dev, a));
  SHAPE("attention_backward", is(a->d_o, dev->act, rows_of(a->o), cols_of(a->o)));
  SHAPE("attention_backward", is(a->dqkv, dev->act, rows_of(a->o), 3 * cols_of(a->o)));
  RUN(GROUP_ATTENTION, 8 * (double)cols_of(a->o) * attention_pairs(a), 0, dev->ops->attention_backward(dev, a));
}

int op_attention_step(Device *dev, const AttentionStep *a) {
  int64_t R = rows_of(a->o), D = cols_of(a->o), seen = a->position + a->count;
  SHAPE("attention_step", a->heads > 0 && D % a->heads == 0 && a->position >= 0 && a->block >= 0);
  SHAPE("attention_step", a->count > 0 && seen <= a->L && R % a->count == 0);
  int64_t B = R / a->count;
  SHAPE("attention_step", is(a->o, dev->act, R, D) && is(a->qkv, dev->act, R, 3 * D));
  SHAPE("attention_step", is(a->cache, dev->act, B * a->L, 2 * D));
  RUN(GROUP_ATTENTION, 4 * R * D * seen, 2 * B * D * seen * (int64_t)dtype_size(dev->act),
      dev->ops->attention_step(dev, a));
}

static int conv_check(const Device *dev, const Conv *a) {
  DType t = dev->real;
  int64_t R = rows_of(a->x), E = cols_of(a->x), W = cols_of(a->weight);
  SHAPE("conv", a->L > 0 && R % a->L == 0 && W > 0 && W <= CONV_TAPS);
  SHAPE("conv", is(a->x, dev->act, R, E) && vec(a->weight, t, E * W) && is(a->weight, t, E, W) && vec(a->bias, t, E));
  return OK;
}

int op_conv(Device *dev, const Conv *a) {
  TRY(conv_check(dev, a));
  int64_t R = rows_of(a->x), E = cols_of(a->x);
  SHAPE("conv", is(a->y, dev->act, R, E));
  RUN(GROUP_SCAN, 2 * R * E * cols_of(a->weight), 2 * tensor_bytes(a->x), dev->ops->conv(dev, a));
}

int op_conv_backward(Device *dev, const Conv *a) {
  TRY(conv_check(dev, a));
  DType t = dev->real;
  int64_t R = rows_of(a->x), E = cols_of(a->x), W = cols_of(a->weight);
  SHAPE("conv_backward", is(a->dy, dev->act, R, E) && is(a->dx, dev->act, R, E));
  SHAPE("conv_backward", vec(a->dweight, t, E * W) && is(a->dweight, t, E, W) && vec(a->dbias, t, E));
  RUN(GROUP_SCAN, 6 * R * E * W, (a->add ? 4 : 3) * tensor_bytes(a->x), dev->ops->conv_backward(dev, a));
}

static int scan_check(const Device *dev, const Scan *a, bool stateless) {
  DType t = dev->real;
  int64_t R = rows_of(a->x), E = cols_of(a->x), S = cols_of(a->B);
  SHAPE("scan", a->L > 0 && R % a->L == 0);
  SHAPE("scan",
        is(a->x, dev->act, R, E) && is(a->dt, dev->act, R, E) && is(a->B, dev->act, R, S) && is(a->C, dev->act, R, S));
  SHAPE("scan", vec(a->A_log, t, E * S) && is(a->A_log, t, E, S) && vec(a->D, t, E));
  int64_t chunks = R / a->L * ((a->L + SCAN_CHUNK - 1) / SCAN_CHUNK);
  SHAPE("scan", (stateless && tensor_none(a->states)) ||
                    (vec(a->states, t, chunks * E * S) && is(a->states, t, chunks, E * S)));
  return OK;
}

/* Work: the operations of the recurrence, with an exponential counted as one. Backward repeats those of forward. */
int op_scan(Device *dev, const Scan *a) {
  TRY(scan_check(dev, a, true));
  int64_t R = rows_of(a->x), E = cols_of(a->x), S = cols_of(a->B);
  SHAPE("scan", is(a->y, dev->act, R, E));
  RUN(GROUP_SCAN, 7 * R * E * S, (a->add ? 4 : 3) * tensor_bytes(a->x), dev->ops->scan(dev, a));
}

int op_scan_backward(Device *dev, const Scan *a) {
  TRY(scan_check(dev, a, false));
  DType t = dev->real;
  int64_t R = rows_of(a->x), E = cols_of(a->x), S = cols_of(a->B);
  SHAPE("scan_backward", is(a->dy, dev->act, R, E) && is(a->dx, dev->act, R, E) && is(a->ddt, dev->act, R, E));
  SHAPE("scan_backward", is(a->dB, dev->act, R, S) && is(a->dC, dev->act, R, S));
  SHAPE("scan_backward", vec(a->dA_log, t, E * S) && is(a->dA_log, t, E, S) && vec(a->dD, t, E));
  RUN(GROUP_SCAN, 19 * R * E * S, 5 * tensor_bytes(a->x), dev->ops->scan_backward(dev, a));
}

int op_gate(Device *dev, Tensor o, Tensor y, Tensor z) {
  int64_t R = rows_of(y), E = cols_of(y);
  SHAPE("gate", is(y, dev->act, R, E) && is(o, dev->act, R, E) && is(z, dev->act, R, E));
  RUN(GROUP_SCAN, 0, 3 * tensor_bytes(y), dev->ops->gate(dev, o, y, z));
}

int op_gate_backward(Device *dev, Tensor dy, Tensor dz, Tensor d_o, Tensor y, Tensor z) {
  DType t = dev->act;
  int64_t R = rows_of(y), E = cols_of(y);
  SHAPE("gate_backward", is(y, t, R, E) && is(z, t, R, E) && is(d_o, t, R, E) && is(dy, t, R, E) && is(dz, t, R, E));
  RUN(GROUP_SCAN, 0, 5 * tensor_bytes(y), dev->ops->gate_backward(dev, dy, dz, d_o, y, z));
}

int op_silu(Device *dev, Tensor y, Tensor x) {
  SHAPE("silu", vec(x, dev->real, tensor_count(x)) && vec(y, dev->real, tensor_count(x)));
  RUN(GROUP_BLOCK, 0, 2 * tensor_bytes(x), dev->ops->silu(dev, y, x));
}

int op_silu_backward(Device *dev, Tensor dx, Tensor dy, Tensor x) {
  int64_t n = tensor_count(x);
  SHAPE("silu_backward", vec(x, dev->real, n) && vec(dx, dev->real, n) && vec(dy, dev->real, n));
  RUN(GROUP_BLOCK, 0, 3 * tensor_bytes(x), dev->ops->silu_backward(dev, dx, dy, x));
}

int op_sinusoid(Device *dev, Tensor y, Tensor sigma) {
  SHAPE("sinusoid",
        is(y, dev->real, tensor_count(sigma), cols_of(y)) && vec(sigma, dev->real, rows_of(y)) && cols_of(y) % 2 == 0);
  RUN(GROUP_BLOCK, 0, tensor_bytes(y), dev->ops->sinusoid(dev, y, sigma));
}

int op_gather_rows(Device *dev, Tensor y, Tensor x, Tensor rows) {
  SHAPE("gather_rows",
        is(y, x.type, tensor_count(rows), cols_of(x)) && vec(rows, DT_I32, rows_of(y)) && floating(dev, x.type));
  RUN(GROUP_LOSS, 0, 2 * tensor_bytes(y), dev->ops->gather_rows(dev, y, x, rows));
}

int op_scatter_rows(Device *dev, Tensor y, Tensor x, Tensor rows) {
  SHAPE("scatter_rows",
        is(x, y.type, tensor_count(rows), cols_of(y)) && vec(rows, DT_I32, rows_of(x)) && floating(dev, x.type));
  RUN(GROUP_LOSS, 0, tensor_bytes(y) + tensor_bytes(x), dev->ops->scatter_rows(dev, y, x, rows));
}

int op_cross_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t forbid,
                     bool gradient) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  SHAPE("cross_entropy",
        floating(dev, logits.type) && is(logits, logits.type, R, V) && vec(loss, dev->real, R) && forbid < V);
  SHAPE("cross_entropy", vec(target, DT_I32, R) && vec(weight, dev->real, R));
  RUN(GROUP_LOSS, 0, (gradient ? 2 : 1) * tensor_bytes(logits),
      dev->ops->cross_entropy(dev, loss, logits, target, weight, forbid, gradient));
}

int op_absorbing_bound(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                       bool gradient) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  SHAPE("absorbing_bound", floating(dev, logits.type) && is(logits, logits.type, R, V) && vec(loss, dev->real, R) &&
                               mask >= 0 && mask < V);
  SHAPE("absorbing_bound", vec(target, DT_I32, R) && is(terms, dev->real, R, 4) && tensor_packed(terms));
  RUN(GROUP_LOSS, 0, (gradient ? 2 : 1) * tensor_bytes(logits),
      dev->ops->absorbing_bound(dev, loss, logits, target, terms, mask, gradient));
}

int op_score_entropy(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight, int32_t mask,
                     bool gradient) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  SHAPE("score_entropy", floating(dev, logits.type) && is(logits, logits.type, R, V) && vec(loss, dev->real, R) &&
                             mask >= 0 && mask < V && V > 1);
  SHAPE("score_entropy", vec(target, DT_I32, R) && vec(weight, dev->real, R));
  RUN(GROUP_LOSS, 0, (gradient ? 2 : 1) * tensor_bytes(logits),
      dev->ops->score_entropy(dev, loss, logits, target, weight, mask, gradient));
}

int op_uniform_bound(Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor terms, int32_t mask,
                     bool gradient) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  SHAPE("uniform_bound", floating(dev, logits.type) && is(logits, logits.type, R, V) && vec(loss, dev->real, R) &&
                             mask >= 0 && mask < V && V > 1);
  SHAPE("uniform_bound", vec(target, DT_I32, R) && is(terms, dev->real, R, 3) && tensor_packed(terms));
  RUN(GROUP_LOSS, 0, (gradient ? 2 : 1) * tensor_bytes(logits),
      dev->ops->uniform_bound(dev, loss, logits, target, terms, mask, gradient));
}

int op_prediction(Device *dev, Tensor out, Tensor logits, Tensor target, int32_t forbid) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  SHAPE("prediction", floating(dev, logits.type) && is(logits, logits.type, R, V) && vec(target, DT_I32, R));
  SHAPE("prediction", is(out, dev->real, R, 3) && tensor_packed(out) && forbid < V);
  RUN(GROUP_LOSS, 0, tensor_bytes(logits), dev->ops->prediction(dev, out, logits, target, forbid));
}

int op_draw(Device *dev, Tensor ids, Tensor logits, Tensor uniform, Tensor keep, const DrawRule *rule) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  bool none = rule->keep == KEEP_NEVER;
  SHAPE("draw", floating(dev, logits.type) && is(logits, logits.type, R, V) && vec(ids, DT_I32, R));
  SHAPE("draw", vec(uniform, DT_F64, R) && maybe_vec(keep, DT_F64, R) && rule->forbid < V);
  SHAPE("draw", rule->temperature > 0 && rule->nucleus > 0 && rule->nucleus <= 1);
  SHAPE("draw", tensor_none(keep) ? none : !none && rule->forbid >= 0 && V > 1);
  SHAPE("draw", rule->f32 ? rule->keep != KEEP_SCORE : rule->keep != KEEP_CHANCE);
  RUN(GROUP_LOSS, 0, tensor_bytes(logits), dev->ops->draw(dev, ids, logits, uniform, keep, rule));
}

int op_argmax(Device *dev, Tensor ids, Tensor logits, int32_t forbid) {
  SHAPE("argmax", logits.rank >= 2 && floating(dev, logits.type) && vec(ids, DT_I32, rows_of(logits)) &&
                      forbid < cols_of(logits));
  RUN(GROUP_LOSS, 0, tensor_bytes(logits), dev->ops->argmax(dev, ids, logits, forbid));
}

int op_confidence(Device *dev, Tensor out, Tensor logits, Tensor ids, int32_t forbid) {
  int64_t R = rows_of(logits), V = cols_of(logits);
  SHAPE("confidence", floating(dev, logits.type) && is(logits, logits.type, R, V) && forbid < V);
  SHAPE("confidence", is(out, DT_F64, R, 3) && tensor_packed(out) && vec(ids, DT_I32, R));
  RUN(GROUP_LOSS, 0, tensor_bytes(logits), dev->ops->confidence(dev, out, logits, ids, forbid));
}

int op_exclude(Device *dev, Tensor logits, int32_t id) {
  SHAPE("exclude", floating(dev, logits.type) && is(logits, logits.type, rows_of(logits), cols_of(logits)));
  SHAPE("exclude", id >= 0 && id < cols_of(logits));
  RUN(GROUP_LOSS, 0, (size_t)rows_of(logits) * dtype_size(logits.type), dev->ops->exclude(dev, logits, id));
}

int op_add(Device *dev, Tensor y, Tensor x) {
  SHAPE("add", vec(x, dev->real, tensor_count(x)) && vec(y, dev->real, tensor_count(x)));
  RUN(GROUP_UPDATE, 0, 3 * tensor_bytes(x), dev->ops->add(dev, y, x));
}

int op_blend(Device *dev, Tensor y, double a, double b, Tensor x) {
  SHAPE("blend", vec(x, dev->real, tensor_count(x)) && vec(y, dev->real, tensor_count(x)));
  RUN(GROUP_UPDATE, 0, 3 * tensor_bytes(x), dev->ops->blend(dev, y, a, b, x));
}

int op_sum(Device *dev, Tensor total, Tensor x) {
  SHAPE("sum", vec(x, dev->real, tensor_count(x)) && vec(total, DT_F64, 1));
  RUN(GROUP_LOSS, 0, tensor_bytes(x), dev->ops->sum(dev, total, x));
}

int op_squares(Device *dev, Tensor terms, Tensor x) {
  int64_t n = tensor_count(x), chunk = dev->ops->chunk;
  SHAPE("squares", vec(x, dev->real, n) && vec(terms, DT_F64, (n + chunk - 1) / chunk));
  RUN(GROUP_UPDATE, 0, tensor_bytes(x), dev->ops->squares(dev, terms, x));
}

int op_sum_terms(Device *dev, Tensor sum, Tensor terms) {
  SHAPE("sum_terms", vec(terms, DT_F64, tensor_count(terms)) && vec(sum, DT_F64, 1));
  RUN(GROUP_UPDATE, 0, tensor_bytes(terms), dev->ops->sum_terms(dev, sum, terms));
}

int op_adamw(Device *dev, const AdamW *a) {
  int64_t n = tensor_count(a->p);
  DType t = dev->real;
  SHAPE("adamw", vec(a->p, t, n) && vec(a->g, t, n) && vec(a->m, t, n) && vec(a->v, t, n) && vec(a->ema, t, n));
  SHAPE("adamw", maybe_vec(a->low, DT_BF16, n) && vec(a->squares, DT_F64, 1));
  RUN(GROUP_UPDATE, 0, 9 * tensor_bytes(a->p) + tensor_bytes(a->low), dev->ops->adamw(dev, a));
}

int op_to_bf16(Device *dev, Tensor y, Tensor x) {
  SHAPE("to_bf16", vec(x, dev->real, tensor_count(x)) && vec(y, DT_BF16, tensor_count(x)));
  RUN(GROUP_UPDATE, 0, tensor_bytes(x) + tensor_bytes(y), dev->ops->to_bf16(dev, y, x));
}
