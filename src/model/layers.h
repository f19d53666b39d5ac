/* layers — what networks are made of: Linears and how the noise level reaches them. */
#pragma once
#include "model/model.h"

typedef struct Linear { /* indices of parameters; bias −1: none */
  int weight, bias;
} Linear;

/** linear_add — parameters `name`.weight [out,in] and, if asked, `name`.bias [out]: U(±1/√in), or zero.
 *  matrix: see Param. */
int linear_add(Params *p, Linear *l, const char *name, int64_t in, int64_t out, bool bias, bool zero, bool matrix);
/** linear_forward — y = l(x); with pre: pre = l(x), y = gelu(pre). */
int linear_forward(Params *p, Linear l, Tensor y, Tensor pre, Tensor x);
/** linear_backward — dx = or += (dx may be none); parameter gradients +=. */
int linear_backward(Params *p, Linear l, Tensor dx, bool dx_add, Tensor dy, Tensor x);

/* TimeEmbedding — c = SiLU(MLP(sinusoid(σ))): `sigma_map`. One row for all sequences when there is no time
 * conditioning. */
typedef struct TimeEmbedding {
  Linear in, out;
  int64_t G; /* groups: 1 or the batch */
  Tensor sigma, wave, pre1, act1, pre2, c, dc, dpre2, dact1, dpre1;
} TimeEmbedding;

enum { SINUSOID_WIDTH = 256 };

/** time_embedding_add — its parameters, sigma_map.mlp.0 and 2. */
int time_embedding_add(Params *p, TimeEmbedding *t, int64_t cond_dim);

/* Modulation — a Linear of c, zero at first (adaLN-zero): columns of D each, which a network's file names. */
typedef struct Modulation {
  Linear linear;
  Tensor value, grad; /* [G, columns·D] */
} Modulation;

/* Conditioning — the time MLP and what it modulates: each block, and the final norm last. All zero: there is none. */
typedef struct Conditioning {
  bool timed; /* the modulation of each sequence is its own: G is the batch, else 1 */
  TimeEmbedding time;
  int64_t n; /* blocks + 1 */
  Modulation *list;
} Conditioning;

enum { FINAL_COLUMNS = 2 }; /* shift and scale */

/** conditioning_create — for options->blocks blocks; the parameters are the network's to add, in a file's order, the
 *  MLP's by time_embedding_add. */
int conditioning_create(Conditioning *c, const ModelOptions *options);
void conditioning_destroy(Conditioning *c);
/** modulation_add — the parameters of number i, `name`.weight and `name`.bias. */
int modulation_add(Params *p, Conditioning *c, int64_t i, const char *name, const ModelOptions *options,
                   int64_t columns);
/** conditioning_plan — memory, with `columns` of a block. */
void conditioning_plan(Arena *a, Conditioning *c, DType real, const ModelOptions *options, int64_t columns);
/** conditioning_forward — every modulation's value; sigma is read only if timed. */
int conditioning_forward(Params *p, Conditioning *c, const double *sigma, int64_t B);
/** modulation_backward — parameter gradients += from the grad of number i; for every i, from the last to the first. */
int modulation_backward(Params *p, Conditioning *c, int64_t i, int64_t B);
/** conditioning_backward — those of the MLP, after all modulations. */
int conditioning_backward(Params *p, Conditioning *c);
