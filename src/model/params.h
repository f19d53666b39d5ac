/* params — a network's parameters: a list of names and shapes over flat buffers of values and gradients.
 *
 * The optimizer and the reduction work on flat buffers; layers use one view per parameter. Each parameter starts at a
 * multiple of 64 elements; the gaps are zero and stay zero, and so do the padding rows of a parameter and the padding at
 * the end where the buffers are to divide into parts. */
#pragma once
#include "ops/ops.h"

enum { PARAMS_UNIT = 64 };

typedef enum InitKind {
  INIT_ZERO,
  INIT_ONE,
  INIT_UNIFORM,   /* U(−bound, bound) */
  INIT_NORMAL,    /* N(0, bound²) */
  INIT_LOG_INDEX, /* log(n + 1), n the last index, so that a scan's states have A = −1, −2, … */
  INIT_STEP       /* softplus⁻¹ of a step, log-uniform in [1e-3, 1e-1] */
} InitKind;

typedef struct Param {
  char name[96];
  int rank;
  int64_t dims[4];
  int64_t offset, count; /* elements in the flat buffers; the offset is known after params_commit */
  int64_t padded;        /* rows in the flat buffers, at least dims[0] */
  InitKind init;
  double bound;  /* for INIT_UNIFORM and INIT_NORMAL */
  bool frozen;   /* not trained (train.freeze) */
  bool tokens;   /* has a row for each token of the vocabulary */
  int64_t gate;  /* > 0: the bias of a modulation, every third part of which, of so many elements, opens a branch */
  bool extra;    /* at zero it changes nothing: so it begins where the other weights come from a file without it */
  bool matrix;   /* used in large products, which take its bf16 copy if there is one */
  Tensor value;  /* view of the bound values, in the device's real type */
  Tensor low;    /* view of its bf16 copy; none if the device does not use bf16 */
  Tensor weight; /* the factor in products: low for a matrix that has it, else value */
  Tensor grad;   /* view of the gradients; none without training */
} Param;

typedef struct Params {
  Device *dev; /* not owned */
  int n, capacity;
  Param *list;
  int64_t count; /* elements of a flat buffer */
  int64_t parts; /* set before params_commit: count is padded to that many equal parts of whole chunks of op_squares;
                         0: not padded */
  Tensor value, grad; /* [count] */
  Tensor low;         /* [count] bf16, or none */
  int64_t bindings;   /* how often params_bind has been called: without training, weights change in no other way */
} Params;

/** params_add — append a parameter; *index := its index. Only before params_commit. */
int params_add(Params *p, int *index, InitKind init, double bound, bool matrix, int rank, const int64_t *dims,
               const char *name_format, ...) __attribute__((format(printf, 8, 9)));
/** params_pad — reserve rows for the parameter up to a multiple of PARAMS_UNIT. Only before params_commit. */
void params_pad(Params *p, int index);
/** params_padded — view of t, a view of parameter x, with its padding rows. */
Tensor params_padded(const Param *x, Tensor t);
/** params_commit — lay the parameters out in the order in which they were added, allocate the buffers, zeroed (gradients only for training), and bind the views. */
int params_commit(Params *p, Device *dev, bool training);
/** params_init — initial weights from the seed; each parameter has its own stream. */
int params_init(Params *p, uint64_t seed);
/** params_bind — make the layers use `values` [count] (the moving average); params_bind(p, p->value) undoes it. */
int params_bind(Params *p, Tensor values);
/** params_find — the parameter of that name, or NULL. */
Param *params_find(Params *p, const char *name);
/** params_elements — the number of weights, without the gaps. */
int64_t params_elements(const Params *p);
/** params_destroy — NULL-safe, clears p. */
void params_destroy(Params *p);
