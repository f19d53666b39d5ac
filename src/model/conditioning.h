/* conditioning — how the noise level and the class of a sequence reach a network: embeddings of both, and adaLN
 * modulations computed from their sum. */
#pragma once
#include "model/linear.h"
#include "model/model.h"

/* TimeEmbedding — c = SiLU(MLP(sinusoid(σ))), the parameters `sigma_map`. Without time conditioning all sequences share
 * one row. */
typedef struct TimeEmbedding {
  Linear in, out;
  int64_t G; /* groups, see Conditioning */
  Tensor sigma, wave, pre1, act1, pre2, c, dc, dpre2, dact1, dpre1;
} TimeEmbedding;

enum { SINUSOID_WIDTH = 256 };

/* ClassEmbedding — SiLU(E[y]), which is added to c, the parameter `cond_map`: a row for each class, and the last one for
 * sequences without a class. */
typedef struct ClassEmbedding {
  int64_t classes; /* 0: there is none */
  int table;
  Tensor labels; /* [G] i32 */
  Tensor pre, act, dpre;
} ClassEmbedding;

/* Modulation — a Linear of c, initialised to zero (adaLN-zero). Its output has columns of D each (shift, scale, gate);
 * each network lists its own. */
typedef struct Modulation {
  Linear linear;
  Tensor value, grad; /* [G, columns·D] */
} Modulation;

/* Conditioning — the embeddings and the modulations: one for each block, the last for the final norm.
 * Zero-initialised: no conditioning. */
typedef struct Conditioning {
  bool timed;
  bool grouped; /* each sequence of a pass has its own modulation, noisy or clean, and G is their number; else G = 1 */
  TimeEmbedding time;
  ClassEmbedding label;
  int64_t n; /* blocks + 1 */
  Modulation *list;
  int64_t bindings; /* of the weights that the values are of */
} Conditioning;

enum { FINAL_COLUMNS = 2 }; /* shift and scale */

/** conditioning_create — for options->blocks blocks. The network adds the parameters, in the order of a checkpoint:
 *  embeddings_add first, then modulation_add for each modulation. */
int conditioning_create(Conditioning *c, const ModelOptions *options);
void conditioning_destroy(Conditioning *c);
/** embeddings_add — add the parameters sigma_map.mlp.0, sigma_map.mlp.2 and, with classes, cond_map.embedding_table. */
int embeddings_add(Params *p, Conditioning *c, int64_t cond_dim);
/** modulation_add — add the parameters of modulation i, `name`.weight and `name`.bias. */
int modulation_add(Params *p, Conditioning *c, int64_t i, const char *name, const ModelOptions *options,
                   int64_t columns);
/** conditioning_plan — its tensors, with `columns` columns per block. */
void conditioning_plan(Arena *a, Conditioning *c, DType real, const ModelOptions *options, int64_t columns);
/** conditioning_forward — the value of every modulation; sigma is read only if timed, labels only with classes. Those that
 *  are the same for all sequences are kept until weights are bound, unless in training. */
int conditioning_forward(Params *p, Conditioning *c, const ModelInput *in);
/** modulation_backward — parameter gradients += from the grad of modulation i. Call for every i, from last to first. */
int modulation_backward(Params *p, Conditioning *c, int64_t i, const ModelInput *in);
/** modulation_clear — the grad of modulation i := 0, for seams that have a part of the sequences only. */
int modulation_clear(Params *p, Conditioning *c, int64_t i);
/** conditioning_backward — parameter gradients of the embeddings +=. Call after all modulations. */
int conditioning_backward(Params *p, Conditioning *c, const ModelInput *in);
