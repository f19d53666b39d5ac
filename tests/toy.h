/* toy — networks small enough to enumerate or to differentiate numerically, and statistical tests of draws. */
#pragma once
#include "check.h"

#include "network/network.h"

typedef struct Toy {
  DeviceOptions device;
  ModelOptions model;
  int32_t mask;
  double eps;                 /* of the schedule */
  const char *schedule;       /* NULL: loglinear */
  ObjectiveOptions objective; /* name NULL: subs; schedule, mask and vocab are filled in */
} Toy;

/** toy_open — create the described network with zero weights; network_destroy frees it. */
void toy_open(Network *n, const Toy *toy);
/** toy_weights — make every parameter random: norms 1 ± ½, biases ± ½, matrices U(±gain/√in). None keeps its initial
 *  value. Values are rounded to f32, so that every backend has the same. */
void toy_weights(Network *n, uint64_t seed, double gain);
/** toy_values — t as double; the caller frees it with mem_free. */
double *toy_values(Network *n, Tensor t);
/** toy_masks — z = x0 with the positions masked whose bits are set in `set`. */
void toy_masks(int32_t *z, const int32_t *x0, int64_t L, int32_t mask, unsigned set);
/** toy_same — fail unless the n numbers are equal, bit for bit. */
void toy_same(const char *what, const double *got, const double *want, int64_t n);

/** toy_draws — the number of draws to make: n with LONG=1, else a quarter of n; few without check_statistics. */
int64_t toy_draws(int64_t n);
/** toy_need_speed — skip the test under a memory checker. */
void toy_need_speed(void);
/** toy_chi2 — Σ (count − expected)²/expected; cells with expected < 8 are pooled into one. *dof: cells − 1. */
double toy_chi2(const int64_t *count, const double *chance, int cells, int64_t draws, int *dof);
/** toy_chi2_limit — the quantile of chi-square that is exceeded once in 10⁴ trials (Wilson-Hilferty). */
double toy_chi2_limit(int dof);
/** toy_law — fail unless a chi-square test accepts the counts as draws from the distribution `chance`. */
void toy_law(const char *what, const int64_t *count, const double *chance, int cells, int64_t draws);

/** toy_tiny — one block of width 8, in f64 and without training: fast enough to evaluate under every mask. The test
 *  sets eps. */
Toy toy_tiny(int64_t vocab, int32_t mask, int64_t length, int64_t batch);

/* ---- one small DiT and a batch for it, to be differentiated and compared */
enum { TOY_B = 3, TOY_L = 5, TOY_V = 11, TOY_MASK = 10, TOY_D = 16, TOY_TOKENS = TOY_B * TOY_L };

typedef struct ToyBatch {
  int32_t x0[TOY_TOKENS], z[TOY_TOKENS], length[TOY_B];
  double t[TOY_B];
} ToyBatch;
extern const ToyBatch toy_mixed;        /* one sequence is padded; a masked pad is not scored, but attention sees it */
extern const int32_t toy_labels[TOY_B]; /* their classes, of networks with 4; −1: none */
extern const Dropout toy_none, toy_quarter;

/** toy_dit — two blocks of width TOY_D with two heads, for training. */
Toy toy_dit(const char *backend, bool time_conditioning);
/** toy_pass — Σ of the weighted losses of sequences first … first+count−1; with `gradient` it adds to the parameter
 *  gradients. */
double toy_pass(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, bool gradient);
/** toy_gradients — the gradients [params.count] of that pass alone; the caller frees them with mem_free. loss may be
 *  NULL. */
double *toy_gradients(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, double *loss);
/** toy_ready — fail unless backward of the whole batch invokes the Ready callback once per part, from the last gradient
 *  to the first: final norm and head, each block, the rest. A reported gradient must not change afterwards. */
void toy_ready(Network *n, const ToyBatch *b, Dropout dropout);
/** toy_hidden — the hidden rows of that pass. */
double *toy_hidden(Network *n, const ToyBatch *b, int first, int count, Dropout dropout);
/** toy_hidden_rows — the same for the rows [n_rows] of these sequences only; rows NULL: all. */
double *toy_hidden_rows(Network *n, const ToyBatch *b, int first, int count, Dropout dropout, const int32_t *rows,
                        int64_t n_rows);
/** toy_near — fail unless each parameter's part of the flat buffers agrees, relative to its largest element. */
void toy_near(const char *what, const Params *p, const double *got, const double *want, double tolerance);
