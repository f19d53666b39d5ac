/* residual_norm and its backward against plain loops in double. test_dropout.c tests the dropout mask. */
#include "check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

typedef struct Shape {
  NormKind kind;
  int64_t B, L, D;
  bool one_group; /* G = 1, else G = B */
  bool branch, gate, shift, scale;
  double p;
  bool strided; /* gate, shift, scale are columns of one [G,6D]; the others have padded rows */
} Shape;

static const Shape shapes[] = {
    {NORM_LAYER, 1, 1, 8, true, true, true, true, true, 0, false},
    {NORM_LAYER, 1, 3, 24, true, true, false, false, false, 0, false},
    {NORM_LAYER, 1, 17, 40, false, true, true, true, true, 0.1, true},
    {NORM_LAYER, 3, 5, 72, false, true, true, true, true, 0.1, true},
    {NORM_LAYER, 2, 33, 72, true, true, true, true, true, 0.5, false},
    {NORM_LAYER, 1, 67, 24, true, false, false, true, true, 0, false},
    {NORM_LAYER, 3, 7, 40, false, false, false, true, true, 0, true},
    {NORM_LAYER, 4, 5, 8, true, false, false, false, false, 0, false},
    {NORM_LAYER, 2, 9, 24, true, true, false, true, true, 0.1, false},
    {NORM_RMS, 3, 5, 40, false, true, true, true, true, 0.1, true},
    {NORM_RMS, 1, 67, 72, true, true, true, true, true, 0, false},
    {NORM_RMS, 2, 3, 24, true, false, false, false, false, 0, false},
    {NORM_LAYER, 3, 100, 264, false, true, true, true, true, 0.1, true},
    {NORM_LAYER, 2, 130, 72, true, true, true, true, true, 0.1, false},
    {NORM_LAYER, 2, 33, 40, true, true, false, true, false, 0, false},
    {NORM_LAYER, 3, 5, 24, false, false, false, true, false, 0, true},
    {NORM_LAYER, 40, 3, 8, false, true, true, true, true, 0.1, false},
    {NORM_LAYER, 2, 1100, 8, false, true, true, true, true, 0.1, false},
    {NORM_LAYER, 2, 5, 768, false, true, true, true, true, 0.1, false},
    {NORM_RMS, 1, 9, 1024, true, true, false, false, false, 0.1, false},
    {NORM_LAYER, 2, 3, 1160, false, true, true, true, true, 0.1, false},
    {NORM_LAYER, 2, 3, 300, true, true, true, true, true, 0, true},
    {NORM_LAYER, 1, 3, 13, true, true, true, true, true, 0, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void title(Check *c, const Shape *s) {
  check_title(c, "%s B=%d L=%d D=%d G=%s%s%s%s%s p=%g%s", s->kind == NORM_RMS ? "rms" : "layer", (int)s->B, (int)s->L,
              (int)s->D, s->one_group ? "1" : "B", s->branch ? " branch" : "", s->gate ? " gate" : "",
              s->shift ? " shift" : "", s->scale ? " scale" : "", s->p, s->strided ? " strided" : "");
}

static int64_t groups(const Shape *s) { return s->one_group ? 1 : s->B; }

static Tensor wide(Check *c, const Shape *s, bool out) { /* [R,D] */
  int64_t ld = s->D + (s->strided ? 3 : 0), first = s->strided ? 1 : 0, R = s->B * s->L;
  return out ? check_out_cols(c, R, s->D, ld, first) : check_random_cols(c, R, s->D, ld, first);
}

static Tensor wide_act(Check *c, const Shape *s, bool out) { /* the same in the type of activations */
  int64_t ld = s->D + (s->strided ? 3 : 0), first = s->strided ? 1 : 0, R = s->B * s->L;
  return out ? check_act_out_cols(c, R, s->D, ld, first) : check_act_cols(c, R, s->D, ld, first);
}

/* The forward arguments with random inputs and poisoned outputs. */
static ResidualNorm make(Check *c, const Shape *s) {
  int64_t R = s->B * s->L, D = s->D, G = groups(s);
  ResidualNorm a = {.kind = s->kind, .rows_per_group = R / G};
  a.dropout = (Dropout){.p = s->p, .seed = 42, .step = 1000, .layer = 3, .first = 5, .L = s->L};
  a.x = wide(c, s, false);
  if (s->branch) a.branch = wide_act(c, s, false);
  Tensor all = check_random_cols(c, G, 6 * D, 6 * D, 0);
  if (s->gate) a.gate = s->strided ? tensor_cols(all, 2 * D, D) : check_random(c, G, D);
  if (s->shift) a.shift = s->strided ? tensor_cols(all, 0, D) : check_random(c, G, D);
  if (s->scale) a.scale = s->strided ? tensor_cols(all, D, D) : check_random(c, G, D);
  a.weight = check_random(c, D, 0);
  if (s->branch) a.x_out = wide(c, s, true);
  a.h = wide_act(c, s, true);
  if (s->kind == NORM_LAYER) a.mean = check_out(c, R, 0);
  a.rstd = check_out(c, R, 0);
  return a;
}

/* Add the backward's arguments: random gradients in, poisoned gradients out. */
static void make_backward(Check *c, const Shape *s, ResidualNorm *a) {
  int64_t D = s->D, G = groups(s), ld = s->strided ? 6 * D : D;
  a->dh = wide_act(c, s, false);
  a->dx = wide(c, s, false);
  if (s->branch) a->dbranch = wide_act(c, s, true);
  if (s->gate) a->dgate = check_out_cols(c, G, D, ld, s->strided ? 2 * D : 0);
  if (s->shift) a->dshift = check_out_cols(c, G, D, ld, 0);
  if (s->scale) a->dscale = check_out_cols(c, G, D, ld, s->strided ? D : 0);
  a->dweight = check_random(c, D, 0);
}

/* ---- the reference: all tensors on the host; absent ones are replaced by neutral constants */
typedef struct Host {
  int64_t R, D, G, per;
  double *x, *branch, *gate, *shift, *scale, *weight, *mask;
  double *x_out, *h, *mean, *rstd, *hat;
} Host;

static double *or_constant(Check *c, Tensor t, int64_t n, double constant) {
  if (!tensor_none(t)) return check_read(c, t);
  double *v = check_host(c, n);
  for (int64_t i = 0; i < n; i++) v[i] = constant;
  return v;
}

static Host host_forward(Check *c, const Shape *s, const ResidualNorm *a) {
  Host m = {.R = s->B * s->L, .D = s->D, .G = groups(s), .per = a->rows_per_group};
  int64_t n = m.R * m.D;
  m.x = check_read(c, a->x);
  m.branch = or_constant(c, a->branch, n, 0);
  m.gate = or_constant(c, a->gate, m.G * m.D, 1);
  m.shift = or_constant(c, a->shift, m.G * m.D, 0);
  m.scale = or_constant(c, a->scale, m.G * m.D, 0);
  m.weight = check_read(c, a->weight);
  m.mask = check_mask(c, &a->dropout, m.R, m.D);
  m.x_out = check_host(c, n), m.h = check_host(c, n), m.hat = check_host(c, n);
  m.mean = check_host(c, m.R), m.rstd = check_host(c, m.R);
  for (int64_t r = 0; r < m.R; r++) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < m.D; i++) {
      int64_t at = r * m.D + i, of = r / m.per * m.D + i;
      m.x_out[at] = m.x[at] + m.gate[of] * m.mask[at] * m.branch[at];
      sum += m.x_out[at];
    }
    m.mean[r] = s->kind == NORM_LAYER ? sum / (double)m.D : 0;
    for (int64_t i = 0; i < m.D; i++) squares += pow(m.x_out[r * m.D + i] - m.mean[r], 2);
    m.rstd[r] = 1 / sqrt(squares / (double)m.D + 1e-5);
    for (int64_t i = 0; i < m.D; i++) {
      int64_t at = r * m.D + i, of = r / m.per * m.D + i;
      m.hat[at] = (m.x_out[at] - m.mean[r]) * m.rstd[r];
      m.h[at] = m.hat[at] * m.weight[i] * (1 + m.scale[of]) + m.shift[of];
    }
  }
  return m;
}

/* dx is the gradient of x_out from later layers on entry, the gradient of x on exit. The other gradients accumulate. */
static void host_backward(const Host *m, NormKind kind, const double *dh, double *dx, double *dbranch, double *dgate,
                          double *dshift, double *dscale, double *dweight) {
  for (int64_t r = 0; r < m->R; r++) {
    double along = 0, sum = 0;
    for (int64_t i = 0; i < m->D; i++) {
      int64_t at = r * m->D + i, of = r / m->per * m->D + i;
      double dhat = dh[at] * m->weight[i] * (1 + m->scale[of]);
      along += dhat * m->hat[at] / (double)m->D;
      sum += dhat / (double)m->D;
      dshift[of] += dh[at];
      dscale[of] += dh[at] * m->hat[at] * m->weight[i];
      dweight[i] += dh[at] * m->hat[at] * (1 + m->scale[of]);
    }
    if (kind == NORM_RMS) sum = 0;
    for (int64_t i = 0; i < m->D; i++) {
      int64_t at = r * m->D + i, of = r / m->per * m->D + i;
      double dhat = dh[at] * m->weight[i] * (1 + m->scale[of]);
      dx[at] += m->rstd[r] * (dhat - sum - m->hat[at] * along);
      dbranch[at] = dx[at] * m->gate[of] * m->mask[at];
      dgate[of] += dx[at] * m->mask[at] * m->branch[at];
    }
  }
}

/* ---- values */
static void values(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  ResidualNorm a = make(c, s);
  Host m = host_forward(c, s, &a);
  title(c, s);
  MUST(op_residual_norm(&c->dev, &a));
  double row = c->mode->sum * sqrt((double)s->D), all = c->mode->sum * sqrt((double)(m.R + s->D));
  if (s->branch) check_near(c, "x_out", a.x_out, m.x_out, c->mode->point);
  check_near(c, "h", a.h, m.h, row);
  if (s->kind == NORM_LAYER) check_near(c, "mean", a.mean, m.mean, 4 * row);
  check_near(c, "rstd", a.rstd, m.rstd, row);
  check_same(c, "x afterwards", a.x, m.x);

  make_backward(c, s, &a);
  int64_t gd = m.G * m.D;
  double *dx = check_read(c, a.dx), *dbranch = check_host(c, m.R * m.D), *dgate = check_host(c, gd),
         *dshift = check_host(c, gd);
  double *dscale = check_host(c, gd), *dweight = check_read(c, a.dweight), *dh = check_read(c, a.dh);
  host_backward(&m, s->kind, dh, dx, dbranch, dgate, dshift, dscale, dweight);
  check_poison(c, a.h); /* backward must not read h */
  MUST(op_residual_norm_backward(&c->dev, &a));
  check_near(c, "dx", a.dx, dx, row);
  if (s->branch) check_near(c, "dbranch", a.dbranch, dbranch, row);
  if (s->gate) check_near(c, "dgate", a.dgate, dgate, all);
  if (s->shift) check_near(c, "dshift", a.dshift, dshift, all);
  if (s->scale) check_near(c, "dscale", a.dscale, dscale, all);
  check_near(c, "dweight", a.dweight, dweight, all);
  check_same(c, "dh afterwards", a.dh, dh);
}

static void test_values(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) check_every(values, &shapes[i]);
}

/* A row of equal values has variance 0: rstd is 1/√ε, h is the shift, and nothing is NaN. A large mean must not cancel
 * the variance. */
static void hard_rows(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  ResidualNorm a = make(c, s);
  double *x = check_read(c, a.x);
  for (int64_t i = 0; i < s->D; i++) {
    x[i] = 3;
    x[s->D + i] = (float)(1000 + (double)(i % 5));
  }
  check_write(c, a.x, x);
  Host m = host_forward(c, s, &a);
  MUST(op_residual_norm(&c->dev, &a));
  check_near(c, "h", a.h, m.h, 100 * c->mode->sum * sqrt((double)s->D)); /* a mean of 1000 costs three digits */
  check_near(c, "rstd", a.rstd, m.rstd, 1e-4);
}

static void test_hard_rows(void **state) {
  (void)state;
  static const Shape plain = {NORM_LAYER, 1, 3, 40, true, false, false, true, true, 0, false};
  check_every(hard_rows, &plain);
}

/* ---- gradients of Σ k1·x_out + k2·h by finite differences */
typedef struct Net {
  ResidualNorm a;
  double *k1, *k2;
} Net;

static double net_loss(Check *c, void *state, double *size) {
  Net *n = state;
  MUST(op_residual_norm(&c->dev, &n->a));
  int64_t count = tensor_count(n->a.x);
  return check_terms(n->k1, check_read(c, tensor_none(n->a.branch) ? n->a.x : n->a.x_out), count, size) +
         check_terms(n->k2, check_read(c, n->a.h), count, size);
}

static void slopes(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  Net n = {.a = make(c, s)};
  make_backward(c, s, &n.a);
  n.k1 = check_read(c, n.a.dx), n.k2 = check_read(c, n.a.dh);
  double *zeros = check_host(c, s->D);
  check_write(c, n.a.dweight, zeros);
  MUST(op_residual_norm(&c->dev, &n.a));
  MUST(op_residual_norm_backward(&c->dev, &n.a));
  check_slope(c, "x", net_loss, &n, n.a.x, check_read(c, n.a.dx));
  check_slope(c, "weight", net_loss, &n, n.a.weight, check_read(c, n.a.dweight));
  if (s->branch) check_slope(c, "branch", net_loss, &n, n.a.branch, check_read(c, n.a.dbranch));
  if (s->gate) check_slope(c, "gate", net_loss, &n, n.a.gate, check_read(c, n.a.dgate));
  if (s->shift) check_slope(c, "shift", net_loss, &n, n.a.shift, check_read(c, n.a.dshift));
  if (s->scale) check_slope(c, "scale", net_loss, &n, n.a.scale, check_read(c, n.a.dscale));
  check_record(c, n.a.dx);
}

static void test_slopes(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++)
    if (shapes[i].B * shapes[i].L < 70) check_once(slopes, &shapes[i], CHECK_F64);
}

/* ---- slices */
/* Sequences 2 and 3 alone, with first = 2, have the same bits as among sequences 0 … 3. */
static ResidualNorm slice(const ResidualNorm *a, int64_t L, int64_t first, int64_t n) {
  ResidualNorm b = *a;
  b.dropout.first += first;
  Tensor *rows[] = {&b.x, &b.branch, &b.x_out, &b.h, &b.dh, &b.dx, &b.dbranch};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) *rows[i] = tensor_rows(*rows[i], first * L, n * L);
  Tensor *vectors[] = {&b.mean, &b.rstd};
  for (int i = 0; i < 2; i++) *vectors[i] = tensor_rows(*vectors[i], first * L, n * L);
  Tensor *perseq[] = {&b.gate, &b.shift, &b.scale, &b.dgate, &b.dshift, &b.dscale};
  for (size_t i = 0; i < sizeof perseq / sizeof *perseq; i++) *perseq[i] = tensor_rows(*perseq[i], first, n);
  return b;
}

static void slices(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  ResidualNorm a = make(c, s);
  make_backward(c, s, &a);
  double *dx = check_read(c, a.dx);
  MUST(op_residual_norm(&c->dev, &a));
  MUST(op_residual_norm_backward(&c->dev, &a));
  ResidualNorm b = slice(&a, s->L, 2, 2);
  Tensor outs[] = {b.x_out, b.h, b.mean, b.rstd, b.dx, b.dbranch, b.dgate, b.dshift, b.dscale};
  enum { OUTS = sizeof outs / sizeof *outs };
  double *want[OUTS];
  for (int i = 0; i < OUTS; i++) {
    want[i] = check_read(c, outs[i]);
    check_poison(c, outs[i]);
  }
  check_write(c, a.dx, dx);
  MUST(op_residual_norm(&c->dev, &b));
  MUST(op_residual_norm_backward(&c->dev, &b));
  static const char *const name[] = {"x_out", "h", "mean", "rstd", "dx", "dbranch", "dgate", "dshift", "dscale"};
  for (int i = 0; i < OUTS; i++) check_same(c, name[i], outs[i], want[i]);
}

static void test_slices(void **state) {
  (void)state;
  static const Shape four = {NORM_LAYER, 4, 7, 40, false, true, true, true, true, 0.1, true};
  check_every(slices, &four);
}

/* ---- chosen rows: with their index they have the bits that they have among all rows, if nothing flows back into the
 * others; sums over rows agree within rounding */
enum { CHOSEN = 9 };
static const int32_t some[CHOSEN] = {0, 3, 4, 7, 8, 9, 11, 13, 14}; /* of 15 */

static Tensor chosen(Check *c, Tensor t, Tensor index) {
  Tensor y = t.type == c->dev.act ? check_act_out(c, CHOSEN, cols_of(t)) : check_out(c, CHOSEN, cols_of(t));
  MUST(op_gather_rows(&c->dev, y, t, index));
  return y;
}

/* t with zeros in the rows that are not chosen. */
static void zero_others(Check *c, Tensor t) {
  double *v = check_read(c, t);
  for (int64_t r = 0, i = 0; r < rows_of(t); r++) {
    bool is = i < CHOSEN && some[i] == r;
    i += is;
    for (int64_t d = 0; d < cols_of(t) && !is; d++) v[r * cols_of(t) + d] = 0;
  }
  check_write(c, t, v);
}

static void chosen_rows(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  ResidualNorm all = make(c, s), few = all;
  make_backward(c, s, &all);
  zero_others(c, all.dh), zero_others(c, all.dx);
  few = all;
  few.index = check_ids(c, CHOSEN, some);
  few.rows_per_group = CHOSEN;
  Tensor *in[] = {&few.x, &few.branch, &few.dh, &few.dx};
  for (int i = 0; i < 4; i++) *in[i] = chosen(c, *in[i], few.index);
  few.x_out = few.x;
  few.h = check_act_out(c, CHOSEN, s->D), few.dbranch = check_act_out(c, CHOSEN, s->D);
  few.mean = check_out(c, CHOSEN, 0), few.rstd = check_out(c, CHOSEN, 0);
  few.dgate = check_out(c, 1, s->D), few.dshift = check_out(c, 1, s->D), few.dscale = check_out(c, 1, s->D);
  few.dweight = check_random(c, s->D, 0);
  check_write(c, few.dweight, check_read(c, all.dweight));
  MUST(op_residual_norm(&c->dev, &all));
  MUST(op_residual_norm(&c->dev, &few));
  check_same(c, "x_out of chosen rows", few.x_out, check_read(c, chosen(c, all.x_out, few.index)));
  check_same(c, "h of chosen rows", few.h, check_read(c, chosen(c, all.h, few.index)));
  MUST(op_residual_norm_backward(&c->dev, &all));
  MUST(op_residual_norm_backward(&c->dev, &few));
  check_same(c, "dx of chosen rows", few.dx, check_read(c, chosen(c, all.dx, few.index)));
  check_same(c, "dbranch of chosen rows", few.dbranch, check_read(c, chosen(c, all.dbranch, few.index)));
  double sums = 4 * c->mode->sum; /* of nine terms */
  check_near(c, "dweight", few.dweight, check_read(c, all.dweight), sums);
  check_near(c, "dgate", few.dgate, check_read(c, all.dgate), sums);
  check_near(c, "dshift", few.dshift, check_read(c, all.dshift), sums);
  check_near(c, "dscale", few.dscale, check_read(c, all.dscale), sums);
}

static void test_chosen_rows(void **state) {
  (void)state;
  static const Shape list[] = {{NORM_LAYER, 3, 5, 72, true, true, true, true, true, 0.5, false},
                               {NORM_LAYER, 1, 15, 264, true, true, true, true, true, 0.1, false},
                               {NORM_LAYER, 3, 5, 1160, true, true, true, true, true, 0.1, false}};
  for (int i = 0; i < 3; i++) check_every(chosen_rows, &list[i]);
}

/* ---- in place: a network that gathers rows into x_out passes it as x, too */
static void in_place(Check *c, const void *shape) {
  const Shape *s = shape;
  title(c, s);
  ResidualNorm a = make(c, s);
  MUST(op_residual_norm(&c->dev, &a));
  double *x_out = check_read(c, a.x_out), *h = check_read(c, a.h);
  a.x_out = a.x;
  check_poison(c, a.h);
  MUST(op_residual_norm(&c->dev, &a));
  check_same(c, "x_out in place", a.x, x_out);
  check_same(c, "h of x_out in place", a.h, h);
}

static void test_in_place(void **state) {
  (void)state;
  static const Shape list[] = {{NORM_LAYER, 3, 5, 72, false, true, true, true, true, 0.1, true},
                               {NORM_LAYER, 2, 3, 264, true, true, true, true, true, 0.1, false},
                               {NORM_RMS, 2, 3, 1160, true, true, false, false, false, 0, false}};
  for (int i = 0; i < 3; i++) check_every(in_place, &list[i]);
}

/* ---- refusals */
static void refusals(Check *c, const void *shape) {
  const Shape *s = shape;
  check_title(c, "residual_norm refusals");
  ResidualNorm good = make(c, s);
  make_backward(c, s, &good);
  Tensor odd = check_random(c, s->B * s->L + 1, s->D), thin = check_random(c, s->B * s->L, s->D - 1),
         word = check_random(c, s->D + 1, 0);
#define REFUSED(op, change, what)                                                                                      \
  do {                                                                                                                 \
    ResidualNorm a = good;                                                                                             \
    change;                                                                                                            \
    check_refused(op(&c->dev, &a), ERR_SHAPE, what);                                                                   \
  } while (0)
  REFUSED(op_residual_norm, a.rows_per_group = 0, "no rows per group");
  REFUSED(op_residual_norm, a.rows_per_group = s->L + 1, "rows that are no whole groups");
  REFUSED(op_residual_norm, a.branch = odd, "branch of other rows");
  REFUSED(op_residual_norm, a.x_out = thin, "x_out of another width");
  REFUSED(op_residual_norm, a.h = thin, "h of another width");
  REFUSED(op_residual_norm, a.h = TENSOR_NONE, "no h");
  REFUSED(op_residual_norm, a.weight = word, "weight of another width");
  REFUSED(op_residual_norm, a.rstd = word, "rstd of other rows");
  REFUSED(op_residual_norm, a.mean = TENSOR_NONE, "no mean");
  REFUSED(op_residual_norm, a.gate = odd, "gate of other groups");
  REFUSED(op_residual_norm, a.shift = TENSOR_NONE, "scale without shift");
  REFUSED(op_residual_norm, a.dropout.L = 0, "dropout without L");
  REFUSED(op_residual_norm, a.dropout.L = s->L + 1, "dropout of rows that are no whole sequences");
  REFUSED(op_residual_norm, a.index = word, "an index that is no integers");
  REFUSED(op_residual_norm, a.index = check_ids(c, 2, some), "an index of other rows");
  REFUSED(op_residual_norm_backward, a.dh = odd, "dh of other rows");
  REFUSED(op_residual_norm_backward, a.dx = thin, "dx of another width");
  REFUSED(op_residual_norm_backward, a.dbranch = TENSOR_NONE, "no dbranch");
  REFUSED(op_residual_norm_backward, a.dgate = odd, "dgate of other groups");
  REFUSED(op_residual_norm_backward, a.dshift = TENSOR_NONE, "no dshift");
  REFUSED(op_residual_norm_backward, a.dscale = TENSOR_NONE, "no dscale");
  REFUSED(op_residual_norm_backward, a.dweight = word, "dweight of another width");
#undef REFUSED
  check_record(c, good.x);
}

static void test_refusals(void **state) {
  (void)state;
  static const Shape three = {NORM_LAYER, 3, 5, 24, false, true, true, true, true, 0.1, false};
  check_every(refusals, &three);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),      cmocka_unit_test(test_hard_rows), cmocka_unit_test(test_slopes),
      cmocka_unit_test(test_slices),      cmocka_unit_test(test_in_place),  cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_chosen_rows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
