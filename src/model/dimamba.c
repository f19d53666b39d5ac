/* dimamba — a bidirectional state-space network (Mamba), pre-norm, modulated by the noise level (adaLN-zero).
 *
 *   x = E[z];  c = SiLU(MLP(sinusoid(σ)))  (with model.classes: + SiLU(C[y]), y the class)
 *   block:  (shift,scale,gate) = Linear(c)
 *           x ← x + gate ⊙ dropout(M_f(u) + flip(M_r(flip(u)))),  u = mod(RMSNorm(x), shift, scale)
 *   M(u):   (x|z) = W_in u;  x ← SiLU(conv(x));  (δ|B|C) = W_x x;  y = scan(x, W_dt δ + b_dt, B, C)
 *           M = W_out(y ⊙ SiLU(z))
 *   final:  h = mod(RMSNorm(x), shift, scale), logits = W h
 *
 * M_f and M_r share W_in and W_out, which are linear and act on each row by itself: (x|z) is computed once, the scans
 * of both directions add into one y, and the gate and W_out are applied once. The shared weights are stored under
 * mamba_fwd. Each residual addition is done by the norm that follows it.
 *
 * Source: arXiv:2406.07524, arXiv:2403.03234, arXiv:2312.00752. */
#include "base/err.h"
#include "base/mem.h"
#include "model/seam.h"
#include <math.h>
#include <stdio.h>

enum { EXPAND = 2, STATES = 16, TAPS = 4, RANK_DIVISOR = 16, DIRECTIONS = 2 };
enum { SHIFT, SCALE, GATE, MODS };

typedef struct Direction {
  int A_log, D, conv_weight, conv_bias;
  Linear x_proj, dt_proj;
  Tensor x, dbc, dt, states; /* x after the convolution; (δ|B|C); dt before softplus; states: see Scan */
} Direction;

typedef struct Block {
  Seam norm;
  Linear in, out;
  Direction way[DIRECTIONS];
  Tensor xz, y, branch;
} Block;

typedef struct Dimamba {
  int64_t E, rank; /* channels, width of δ */
  int embedding;
  Conditioning conditioning;
  Block *blocks;
  Seam final;
  Tensor x0, o; /* [R,D] embedded tokens; [R,E] gated y of the current block */
  Tensor dx, dbranch, dnorm, d_o, dxz, dconv, ddt, ddbc;
} Dimamba;

/* ---- parameters */
#define BACKBONE "model.bimamba.backbone."

/* The parameters of one direction, in the order of a checkpoint; the forward direction has the shared ones. */
static int direction_add(Params *p, const Dimamba *d, Block *b, int way, int i, const ModelOptions *o) {
  Direction *x = &b->way[way];
  int64_t A_log[2] = {d->E, STATES}, conv[3] = {d->E, 1, TAPS}, out[2] = {o->width, d->E};
  char name[80];
#define NAME(part)                                                                                                     \
  (snprintf(name, sizeof name, BACKBONE "layers.%d.mixer.mamba_%s." part, i, way ? "rev" : "fwd"), name)
  TRY(params_add(p, &x->A_log, INIT_LOG_INDEX, 0, false, 2, A_log, "%s", NAME("A_log")));
  TRY(params_add(p, &x->D, INIT_ONE, 0, false, 1, A_log, "%s", NAME("D")));
  if (way == 0) TRY(linear_add(p, &b->in, NAME("in_proj"), o->width, EXPAND * d->E, false, false, true));
  TRY(params_add(p, &x->conv_weight, INIT_UNIFORM, 1 / sqrt(TAPS), false, 3, conv, "%s", NAME("conv1d.weight")));
  TRY(params_add(p, &x->conv_bias, INIT_UNIFORM, 1 / sqrt(TAPS), false, 1, conv, "%s", NAME("conv1d.bias")));
  TRY(linear_add(p, &x->x_proj, NAME("x_proj"), d->E, d->rank + 2 * STATES, false, false, true));
  TRY(linear_add(p, &x->dt_proj, NAME("dt_proj"), d->rank, d->E, false, false, true));
  TRY(params_add(p, &x->dt_proj.bias, INIT_STEP, 0, false, 1, A_log, "%s", NAME("dt_proj.bias")));
  if (way == 1) return OK;
  b->out.bias = -1; /* the init below is scaled down by √blocks: each block adds to the residual stream once */
  return params_add(p, &b->out.weight, INIT_UNIFORM, 1 / sqrt((double)(d->E * o->blocks)), true, 2, out, "%s",
                    NAME("out_proj.weight"));
#undef NAME
}

static int block_add(Params *p, Dimamba *d, int i, const ModelOptions *o) {
  Block *b = &d->blocks[i];
  char name[64];
#define NAME(part) (snprintf(name, sizeof name, BACKBONE "layers.%d." part, i), name)
  TRY(seam_add(p, &b->norm, NAME("norm"), NORM_RMS, o->width, false));
  for (int way = 0; way < DIRECTIONS; way++) TRY(direction_add(p, d, b, way, i, o));
  return modulation_add(p, &d->conditioning, i, NAME("adaLN_modulation"), o, MODS);
#undef NAME
}

static int params_of(Model *m, Dimamba *d) {
  const ModelOptions *o = &m->options;
  Params *p = &m->params;
  int64_t table[2] = {o->vocab, o->width}, D = o->width;
  Linear head;
  TRY(embeddings_add(p, &d->conditioning, o->cond_dim));
  TRY(params_add(p, &d->embedding, INIT_NORMAL, 0.02, false, 2, table, BACKBONE "embeddings.word_embeddings.weight"));
  for (int i = 0; i < o->blocks; i++) TRY(block_add(p, d, i, o));
  TRY(modulation_add(p, &d->conditioning, o->blocks, BACKBONE "adaLN_modulation_final", o, FINAL_COLUMNS));
  TRY(seam_add(p, &d->final, BACKBONE "norm_f", NORM_RMS, D, false));
  TRY(linear_add(p, &head, "model.lm_head", D, o->vocab, false, false, true));
  model_head(m, head);
  p->list[d->embedding].tokens = p->list[head.weight].tokens = true;
  return OK;
}

/* ---- memory */
static void block_plan(Arena *a, Block *b, const Dimamba *d, const ModelOptions *o) {
  DType act = a->dev->act;
  int64_t R = o->batch * o->length, chunks = o->batch * ((o->length + SCAN_CHUNK - 1) / SCAN_CHUNK);
  seam_plan(a, &b->norm, R, o->width);
  b->xz = arena_tensor(a, act, R, EXPAND * d->E);
  for (int way = 0; way < DIRECTIONS; way++) {
    Direction *x = &b->way[way];
    x->x = arena_tensor(a, act, R, d->E);
    x->dbc = arena_tensor(a, act, R, d->rank + 2 * STATES);
    x->dt = arena_tensor(a, act, R, d->E);
    if (o->training) x->states = arena_tensor(a, a->dev->real, chunks, d->E * STATES);
  }
  b->y = arena_tensor(a, act, R, d->E);
  b->branch = arena_tensor(a, act, R, o->width);
}

/* Without training all blocks share the activations of one: nothing is read after the next block's norm, which may add
 * to the residual stream in place. */
static void block_share(Block *b, const Block *first) {
  seam_share(&b->norm, &first->norm);
  b->xz = first->xz, b->y = first->y, b->branch = first->branch;
  for (int way = 0; way < DIRECTIONS; way++) {
    const Direction *x = &first->way[way];
    b->way[way].x = x->x, b->way[way].dbc = x->dbc, b->way[way].dt = x->dt;
  }
}

static void gradients_plan(Arena *a, Model *m, Dimamba *d, int64_t R) {
  DType act = m->dev->act;
  int64_t D = m->options.width;
  d->dx = arena_tensor(a, m->dev->real, R, D);
  d->dbranch = arena_tensor(a, act, R, D);
  d->dnorm = arena_tensor(a, act, R, D);
  d->d_o = arena_tensor(a, act, R, d->E);
  d->dxz = arena_tensor(a, act, R, EXPAND * d->E);
  d->dconv = arena_tensor(a, act, R, d->E);
  d->ddt = arena_tensor(a, act, R, d->E);
  d->ddbc = arena_tensor(a, act, R, d->rank + 2 * STATES);
}

static void plan(Arena *a, Model *m, Dimamba *d) {
  const ModelOptions *o = &m->options;
  DType real = m->dev->real;
  int64_t R = o->batch * o->length, D = o->width;
  model_plan(a, m, true);
  d->x0 = arena_tensor(a, real, R, D);
  d->o = arena_tensor(a, m->dev->act, R, d->E);
  conditioning_plan(a, &d->conditioning, real, o, MODS);
  for (int i = 0; i < o->blocks; i++) {
    if (i == 0 || o->training)
      block_plan(a, &d->blocks[i], d, o);
    else
      block_share(&d->blocks[i], &d->blocks[0]);
  }
  seam_plan(a, &d->final, R, D);
  m->h = m->picked;
  if (o->training) gradients_plan(a, m, d, R);
}

static int dimamba_create(Model *m) {
  const ModelOptions *o = &m->options;
  Dimamba *d = NULL;
  CHECK(!o->mask_padding, ERR_USAGE, "model.mask_padding is for networks with attention; model.name is dimamba");
  TRY(mem_alloc(&d, sizeof *d));
  m->impl = d;
  d->E = EXPAND * o->width;
  d->rank = (o->width + RANK_DIVISOR - 1) / RANK_DIVISOR;
  TRY(mem_alloc(&d->blocks, (size_t)o->blocks * sizeof(Block)));
  TRY(conditioning_create(&d->conditioning, o));
  TRY(params_of(m, d));
  TRY(params_commit(&m->params, m->dev, o->training));
  arena_measure(&m->arena, m->dev);
  plan(&m->arena, m, d);
  TRY(arena_commit(&m->arena));
  plan(&m->arena, m, d);
  return OK;
}

static void dimamba_destroy(Model *m) {
  Dimamba *d = m->impl;
  if (d) conditioning_destroy(&d->conditioning);
  if (d) mem_free(&d->blocks);
  mem_free(&m->impl);
}

/* ---- arguments of the ops, for forward and backward */
/* The seam before block i, or the final one for i = blocks: it adds the branch of the previous block. */
static Join join_of(const Model *m, const ModelInput *in, int64_t i) {
  const Dimamba *d = m->impl;
  const Block *last = i ? &d->blocks[i - 1] : NULL;
  Join j = {.n = model_rows(in),
            .seam = i < m->options.blocks ? &d->blocks[i].norm : &d->final,
            .conditioning = &d->conditioning,
            .x = i > 1 ? last->norm.x : d->x0,
            .layer = (uint32_t)i,
            .modulated = &d->conditioning.list[i],
            .shift = SHIFT};
  if (last) j.branch = last->branch, j.gated = j.modulated - 1, j.gate = GATE;
  return j;
}

static Conv conv_of(const Model *m, const ModelInput *in, const Block *b, int way) {
  const Dimamba *d = m->impl;
  const Direction *x = &b->way[way];
  const Param *w = &m->params.list[x->conv_weight], *bias = &m->params.list[x->conv_bias];
  int64_t R = model_rows(in);
  Conv a = {.L = in->L, .reverse = way == 1, .add = way == 1};
  a.x = tensor_cols(tensor_rows(b->xz, 0, R), 0, d->E);
  a.weight = w->value, a.bias = bias->value;
  a.y = tensor_rows(x->x, 0, R);
  if (!m->options.training) return a;
  a.dy = tensor_rows(d->dconv, 0, R);
  a.dx = tensor_cols(tensor_rows(d->dxz, 0, R), 0, d->E);
  a.dweight = w->grad, a.dbias = bias->grad;
  return a;
}

static Scan scan_of(const Model *m, const ModelInput *in, const Block *b, int way) {
  const Dimamba *d = m->impl;
  const Direction *x = &b->way[way];
  const Param *A_log = &m->params.list[x->A_log], *D = &m->params.list[x->D];
  int64_t R = model_rows(in), L = in->L;
  Tensor dbc = tensor_rows(x->dbc, 0, R);
  Scan a = {.L = L, .reverse = way == 1, .add = way == 1};
  a.x = tensor_rows(x->x, 0, R);
  a.dt = tensor_rows(x->dt, 0, R);
  a.B = tensor_cols(dbc, d->rank, STATES);
  a.C = tensor_cols(dbc, d->rank + STATES, STATES);
  a.A_log = A_log->value, a.D = D->value;
  a.y = tensor_rows(b->y, 0, R);
  if (!m->options.training) return a;
  Tensor ddbc = tensor_rows(d->ddbc, 0, R);
  a.states = tensor_rows(x->states, 0, in->B * ((L + SCAN_CHUNK - 1) / SCAN_CHUNK));
  a.dy = tensor_rows(d->d_o, 0, R);
  a.dx = tensor_rows(d->dconv, 0, R);
  a.ddt = tensor_rows(d->ddt, 0, R);
  a.dB = tensor_cols(ddbc, d->rank, STATES);
  a.dC = tensor_cols(ddbc, d->rank + STATES, STATES);
  a.dA_log = A_log->grad, a.dD = D->grad;
  return a;
}

static Tensor z_of(const Dimamba *d, Tensor xz, int64_t R) { return tensor_cols(tensor_rows(xz, 0, R), d->E, d->E); }

/* ---- forward */
static int way_forward(Model *m, const ModelInput *in, const Block *b, int way) {
  const Dimamba *d = m->impl;
  const Direction *x = &b->way[way];
  Conv c = conv_of(m, in, b, way);
  Scan s = scan_of(m, in, b, way);
  Tensor dbc = tensor_rows(x->dbc, 0, model_rows(in));
  TRY(op_conv(m->dev, &c));
  TRY(linear_forward(&m->params, x->x_proj, dbc, TENSOR_NONE, c.y));
  TRY(linear_forward(&m->params, x->dt_proj, s.dt, TENSOR_NONE, tensor_cols(dbc, 0, d->rank)));
  return op_scan(m->dev, &s);
}

static int block_forward(Model *m, const ModelInput *in, int i) {
  const Dimamba *d = m->impl;
  const Block *b = &d->blocks[i];
  int64_t R = model_rows(in);
  Tensor y = tensor_rows(b->y, 0, R), o = tensor_rows(d->o, 0, R);
  TRY(seam_forward(m, in, join_of(m, in, i)));
  TRY(linear_forward(&m->params, b->in, tensor_rows(b->xz, 0, R), TENSOR_NONE, tensor_rows(b->norm.h, 0, R)));
  for (int way = 0; way < DIRECTIONS; way++) TRY(way_forward(m, in, b, way));
  TRY(op_gate(m->dev, o, y, z_of(d, b->xz, R)));
  return linear_forward(&m->params, b->out, tensor_rows(b->branch, 0, R), TENSOR_NONE, o);
}

static int dimamba_forward(Model *m, const ModelInput *in) {
  Dimamba *d = m->impl;
  int64_t R = model_rows(in), blocks = m->options.blocks;
  TRY(model_embed(m, in, tensor_rows(d->x0, 0, R), d->embedding));
  TRY(conditioning_forward(&m->params, &d->conditioning, in));
  for (int i = 0; i < blocks; i++) TRY(block_forward(m, in, i));
  TRY(seam_forward(m, in, join_of(m, in, blocks)));
  return model_pick(m, in, d->final.h);
}

/* ---- backward */
static int way_backward(Model *m, const ModelInput *in, const Block *b, int way) {
  const Dimamba *d = m->impl;
  const Direction *x = &b->way[way];
  int64_t R = model_rows(in);
  Conv c = conv_of(m, in, b, way);
  Scan s = scan_of(m, in, b, way);
  Tensor dbc = tensor_rows(x->dbc, 0, R), ddbc = tensor_rows(d->ddbc, 0, R);
  TRY(op_scan_backward(m->dev, &s));
  TRY(linear_backward(&m->params, x->dt_proj, tensor_cols(ddbc, 0, d->rank), false, s.ddt,
                      tensor_cols(dbc, 0, d->rank)));
  TRY(linear_backward(&m->params, x->x_proj, c.dy, true, ddbc, c.y));
  return op_conv_backward(m->dev, &c);
}

static int block_backward(Model *m, const ModelInput *in, int i) {
  const Dimamba *d = m->impl;
  const Block *b = &d->blocks[i];
  int64_t R = model_rows(in);
  Tensor o = tensor_rows(d->o, 0, R), d_o = tensor_rows(d->d_o, 0, R), y = tensor_rows(b->y, 0, R);
  Tensor dnorm = tensor_rows(d->dnorm, 0, R), dbranch = tensor_rows(d->dbranch, 0, R), z = z_of(d, b->xz, R);
  TRY(op_gate(m->dev, o, y, z));
  TRY(linear_backward(&m->params, b->out, d_o, false, dbranch, o));
  TRY(op_gate_backward(m->dev, d_o, z_of(d, d->dxz, R), d_o, y, z));
  for (int way = 0; way < DIRECTIONS; way++) TRY(way_backward(m, in, b, way));
  TRY(linear_backward(&m->params, b->in, dnorm, false, tensor_rows(d->dxz, 0, R), tensor_rows(b->norm.h, 0, R)));
  return seam_backward(m, in, join_of(m, in, i), dnorm, tensor_rows(d->dx, 0, R), dbranch);
}

static int dimamba_backward(Model *m, const ModelInput *in) {
  Dimamba *d = m->impl;
  int64_t R = model_rows(in), blocks = m->options.blocks;
  Tensor dx = tensor_rows(d->dx, 0, R), dh;
  TRY(tensor_zero(m->dev, dx));
  TRY(model_unpick(m, in, d->dnorm, &dh));
  TRY(seam_backward(m, in, join_of(m, in, blocks), dh, dx, tensor_rows(d->dbranch, 0, R)));
  TRY(modulation_backward(&m->params, &d->conditioning, blocks, in));
  TRY(model_ready(m, in, d->conditioning.list[blocks].linear.weight));
  for (int i = (int)blocks - 1; i >= 0; i--) {
    TRY(block_backward(m, in, i));
    TRY(modulation_backward(&m->params, &d->conditioning, i, in));
    TRY(model_ready(m, in, d->blocks[i].norm.weight));
  }
  TRY(conditioning_backward(&m->params, &d->conditioning, in));
  return model_embed_backward(m, in, dx, d->embedding);
}

extern const ModelTable model_dimamba;
const ModelTable model_dimamba = {.name = "dimamba",
                                  .timed = true,
                                  .create = dimamba_create,
                                  .forward = dimamba_forward,
                                  .backward = dimamba_backward,
                                  .destroy = dimamba_destroy};
