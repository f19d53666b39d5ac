#include "cmd/profile_file.h"
#include "base/err.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>

typedef struct Column {
  const char *name, *unit, *description;
  double (*of)(const ProfileCell *c, double scale); /* scale: 1/(draws · scored tokens) */
} Column;

static double of_loss(const ProfileCell *c, double scale) { return c->loss * scale; }
static double of_nll(const ProfileCell *c, double scale) { return (void)scale, c->nll / c->rows; }
static double of_std(const ProfileCell *c, double scale) {
  double mean = of_nll(c, scale);
  return sqrt(fmax(0, c->square / c->rows - mean * mean));
}
static double of_accuracy(const ProfileCell *c, double scale) { return (void)scale, c->hits / c->rows; }
static double of_confidence(const ProfileCell *c, double scale) { return (void)scale, c->top / c->rows; }
static double of_entropy(const ProfileCell *c, double scale) { return (void)scale, c->entropy / c->rows; }

/* NaN in an empty bin, but for loss. The calibration has those from accuracy on. */
static const Column columns[] = {
    {"loss", "nat/token", "what the bin adds to the bound: their sum is nll", of_loss},
    {"nll", "nat", "mean of -log p(token) over the predicted tokens, without the weights of the bound", of_nll},
    {"std", "nat", "standard deviation of -log p(token)", of_std},
    {"entropy", "nat", "mean entropy of the predicted distribution", of_entropy},
    {"accuracy", "", "share of the tokens that are the likeliest one of their prediction", of_accuracy},
    {"confidence", "", "mean probability of the likeliest token", of_confidence},
    {NULL, NULL, NULL, NULL}};

enum { CALIBRATED = 4 };

static const char *const groups[CUTS] = {[CUT_SHARE] = "/share",
                                         [CUT_POSITION] = "/position",
                                         [CUT_FREQUENCY] = "/frequency",
                                         [CUT_DISTANCE] = "/distance",
                                         [CUT_CALIBRATION] = "/calibration"};

/* A data set of a group. */
static int put(H5 *f, const char *group, const char *name, H5Type type, int rank, const int64_t *dims, const void *data,
               const char *unit, const char *description) {
  char path[64];
  snprintf(path, sizeof path, "%s/%s", group, name);
  TRY(h5_write(f, path, type, rank, dims, data));
  return h5_describe(f, path, unit, description);
}

/* ---- the edges of the bins */
static int put_edges(H5 *f, const char *group, int64_t n, const double *low, const double *high, const char *unit,
                     const char *description) {
  TRY(put(f, group, "low", H5_F64, 1, &n, low, unit, description));
  return put(f, group, "high", H5_F64, 1, &n, high, unit, description);
}

static int share_edges(H5 *f, int64_t first, int64_t n) {
  double low[PROFILE_SHARES], high[PROFILE_SHARES];
  for (int64_t i = 0; i < n; i++) {
    int64_t k = first + i;
    low[i] = k ? (double)(k - 1) / 10 : 0, high[i] = (double)k / 10;
  }
  return put_edges(f, groups[CUT_SHARE], n, low, high, "",
                   "masked tokens over all tokens of the sequence, more than low and at most high");
}

static int frequency_edges(H5 *f, const ProfileBins *b) {
  const char *group = groups[CUT_FREQUENCY];
  const int64_t n = PROFILE_TENTHS;
  TRY(put(f, group, "types", H5_I64, 1, &n, b->types, "", "token types of the bin, the most frequent ones first"));
  TRY(put(f, group, "low", H5_I64, 1, &n, b->low, "token", "occurrences of its rarest type in the sequences"));
  return put(f, group, "high", H5_I64, 1, &n, b->high, "token", "occurrences of its most frequent type");
}

static int distance_edges(H5 *f, const ProfileBins *b, int64_t first, int64_t n) {
  double low[72], high[72]; /* bins of a 64-bit length */
  for (int64_t i = 0; i < n; i++) {
    int64_t from, to;
    profile_bins_distance(b, first + i, &from, &to);
    low[i] = (double)from, high[i] = (double)to;
  }
  return put_edges(f, groups[CUT_DISTANCE], n, low, high, "token",
                   "distance to the nearest visible token, low to high; the length of a row: none is visible");
}

static int calibration_edges(H5 *f, const Profile *p, int64_t first, int64_t n) {
  double low[PROFILE_TENTHS], high[PROFILE_TENTHS], ece[PROFILE_SHARES];
  for (int64_t k = 0; k < PROFILE_TENTHS; k++) low[k] = (double)k / 10, high[k] = (double)(k + 1) / 10;
  for (int64_t i = 0; i < n; i++) ece[i] = profile_ece(p, first + i, 1);
  TRY(put_edges(f, groups[CUT_CALIBRATION], PROFILE_TENTHS, low, high, "",
                "probability of the likeliest token, at least low and less than high"));
  return put(f, groups[CUT_CALIBRATION], "ece", H5_F64, 1, &n, ece, "",
             "expected calibration error of each share of masked tokens");
}

static int cut_edges(H5 *f, const Profile *p, Cut cut, int64_t first, int64_t n) {
  switch (cut) {
  case CUT_SHARE:
    return share_edges(f, first, n);
  case CUT_FREQUENCY:
    return frequency_edges(f, &p->bins);
  case CUT_DISTANCE:
    return distance_edges(f, &p->bins, first, n);
  case CUT_CALIBRATION:
    return calibration_edges(f, p, first, n);
  default:
    return OK;
  }
}

/* ---- the quantities */
typedef struct CutCells {
  const char *group;
  const ProfileCell *cells;
  int rank;
  int64_t dims[2], n;
  double scale;
} CutCells;

static int put_count(H5 *f, const CutCells *c) {
  int64_t *count = NULL;
  TRY(mem_alloc(&count, (size_t)c->n * sizeof *count));
  for (int64_t i = 0; i < c->n; i++) count[i] = (int64_t)c->cells[i].rows;
  int err = put(f, c->group, "tokens", H5_I64, c->rank, c->dims, count, "token", "predicted tokens, of all draws");
  mem_free(&count);
  return err;
}

static int put_columns(H5 *f, const CutCells *c, const Column *column) {
  double *values = NULL;
  int err = OK;
  TRY(mem_alloc(&values, (size_t)c->n * sizeof *values));
  for (; column->name && err == OK; column++) {
    for (int64_t i = 0; i < c->n; i++) values[i] = column->of(&c->cells[i], c->scale);
    err = put(f, c->group, column->name, H5_F64, c->rank, c->dims, values, column->unit, column->description);
  }
  mem_free(&values);
  return err;
}

static double scale_of(const Evaluation *e) { return 1 / ((double)e->draws * (double)e->result.interval.tokens); }

static int put_cut(H5 *f, const ProfileOutput *o, Cut cut) {
  const Profile *p = o->profile;
  const bool table = cut == CUT_CALIBRATION;
  int64_t first, n = profile_cut(p, &o->evaluation->task.net, cut, &first), width = table ? PROFILE_TENTHS : 1;
  if (n == 0) return OK;
  CutCells c = {.group = groups[cut],
                .cells = p->cells + p->bins.first[cut] + first * width,
                .rank = table ? 2 : 1,
                .dims = {n, width},
                .n = n * width,
                .scale = scale_of(o->evaluation)};
  TRY(h5_group(f, c.group));
  TRY(cut_edges(f, p, cut, first, n));
  TRY(put_count(f, &c));
  return put_columns(f, &c, table ? columns + CALIBRATED : columns);
}

/* ---- the residual stream */
static int put_norms(H5 *f, const Profile *p, int64_t width) {
  double *rms = NULL;
  TRY(mem_alloc(&rms, (size_t)p->seams * sizeof *rms));
  for (int64_t i = 0; i < p->seams; i++) rms[i] = sqrt(p->norms[i].squares / p->norms[i].rows / (double)width);
  int err = put(f, "/residual", "rms", H5_F64, 1, &p->seams, rms, "",
                "root mean square of the residual stream at the predicted positions, after 0, 1, ... branches");
  mem_free(&rms);
  return err;
}

/* ---- all rows together; of masks: the masked ones */
typedef struct Totals {
  double accuracy, confidence, entropy, ece;
} Totals;

static Totals totals_of(const ProfileOutput *o) {
  const Profile *p = o->profile;
  const Objective *objective = &o->evaluation->task.net.objective;
  int64_t first = objective->diffusion, n = first ? PROFILE_SHARES - 1 : 1;
  const ProfileCell t = profile_total(p->cells + p->bins.first[CUT_SHARE] + first, n);
  return (Totals){.accuracy = of_accuracy(&t, 1),
                  .confidence = of_confidence(&t, 1),
                  .entropy = of_entropy(&t, 1),
                  .ece = profile_ece(p, first, n)};
}

const char *profile_line(char text[PROFILE_LINE], const ProfileOutput *o) {
  const Totals t = totals_of(o);
  snprintf(text, PROFILE_LINE, " accuracy=%.5f confidence=%.5f entropy=%.5f ece=%.5f", t.accuracy, t.confidence,
           t.entropy, t.ece);
  return text;
}

int profile_fill(H5 *f, const void *arg) {
  const ProfileOutput *o = arg;
  const Losses l = evaluation_losses(o->evaluation);
  const Split split = interval_split(&l);
  const Totals t = totals_of(o);
  TRY(evaluation_fill(f, o->evaluation));
  TRY(h5_set_real(f, "/", "accuracy", t.accuracy));
  TRY(h5_set_real(f, "/", "confidence", t.confidence));
  TRY(h5_set_real(f, "/", "prediction_entropy", t.entropy));
  TRY(h5_set_real(f, "/", "ece", t.ece));
  TRY(h5_set_real(f, "/", "variance_rows", split.rows));
  TRY(h5_set_real(f, "/", "variance_draws", split.draws));
  for (int cut = 0; cut < CUTS; cut++) TRY(put_cut(f, o, (Cut)cut));
  TRY(h5_group(f, "/residual"));
  return put_norms(f, o->profile, o->evaluation->task.net.model.options.width);
}
