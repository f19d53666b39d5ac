/* model — a network: noisy tokens and noise levels in, hidden rows out; and the head, which turns hidden rows into
 * logits.
 *
 * The forward pass stops before the output Linear, and gives the hidden rows that the caller wants: those that are
 * scored or sampled. What a network computes only for them it skips for the others. Backward is explicit. One table of functions per network; models[] lists them. */
#pragma once
#include "model/linear.h"
#include "ops/arena.h"

typedef struct ModelOptions {
  const char *name;
  int64_t vocab, length; /* V with the mask token, L */
  int64_t batch;         /* maximum number of sequences per pass */
  int64_t positions;     /* learned positions, at least L; 0: L */
  int64_t block;         /* block diffusion: positions of a block, a divisor of L; 0: none */
  int64_t draws;         /* noisy sequences that share a clean one, of a whole batch; a divisor of it. 0: 1 */
  int64_t width, blocks, heads, cond_dim, mlp_ratio;
  double dropout;
  bool time_conditioning; /* false: sigma is 0 for every sequence */
  int64_t classes;        /* of sequences, which the network is conditioned on; 0: it is not */
  int64_t mixed;          /* most entries of a token that is a mixture; 0: there are none */
  bool mask_padding;      /* attention is restricted to the real positions of a sequence */
  bool training;          /* keep activations for backward, allocate gradients */
  int64_t parts;          /* of the flat buffers, see params.h */
} ModelOptions;

/* Ready — a callback invoked by backward as gradients become final, from the last parameters to the first: all those at
 * flat offsets ≥ first are final. The last call has first = 0. call NULL: no callback. */
typedef struct Ready {
  int (*call)(void *arg, int64_t first);
  void *arg; /* not owned */
} Ready;

/* Tap — a callback invoked by forward with the residual stream: after 0, 1, … branches x[n,D], real, on the device. It has
 * all rows of the pass, or with `chosen` the wanted ones, then padding. call NULL: no callback. */
typedef struct Tap {
  int (*call)(void *arg, int64_t branches, Tensor x, bool chosen);
  void *arg; /* not owned */
} Tap;

/* TokenMix — tokens that are mixtures: the entries of row r are begin[r] … begin[r+1]−1, of n in all (see Mixture). Host. */
typedef struct TokenMix {
  int32_t n, *begin, *ids, *rows; /* n of row R−1 is begin[R] */
  double *weights;
} TokenMix;

typedef struct ModelInput {
  int64_t B;              /* sequences in this pass, ≤ options.batch */
  int64_t L;              /* their positions; 0: options.length. Networks with a step also take fewer */
  const int32_t *ids;     /* [B,L] host: noisy tokens */
  const TokenMix *mix;    /* of the B·L rows, instead of ids, with options.mixed; NULL: ids. Not with clean */
  const int32_t *clean;   /* [B,L] host: clean tokens, of model_forward with options.block; else NULL */
  int64_t draws;          /* with clean: consecutive sequences with the same clean tokens, which pass once; 0: 1 */
  const double *sigma;    /* [B] host: noise levels; read only with time conditioning */
  const int32_t *labels;  /* [B] host: classes, −1: none; NULL: none for all; read only with options.classes */
  const int32_t *lengths; /* [B] host: real positions; NULL: all; read only with mask_padding */
  const int32_t *rows;    /* [n_rows] host: the wanted rows of the B·L, none of them twice; NULL: all */
  int64_t n_rows;
  Dropout dropout; /* p = 0: evaluation. The network sets L, and counts up layer */
  Ready ready;     /* read by backward */
  Tap tap;         /* read by forward */
} ModelInput;

/** model_sequences — for networks, which get L, draws and n_rows filled in: the sequences of this pass. The noisy ones come
 *  first; then, in block diffusion, the clean ones. */
static inline int64_t model_sequences(const ModelInput *in) { return in->B + (in->clean ? in->B / in->draws : 0); }
/** model_noisy — the noisy sequence i, or the first noisy one of the clean sequence i. */
static inline int64_t model_noisy(const ModelInput *in, int64_t i) { return i < in->B ? i : (i - in->B) * in->draws; }
/** model_rows — those of the sequences of this pass. */
static inline int64_t model_rows(const ModelInput *in) { return model_sequences(in) * in->L; }

typedef struct Model Model;
typedef struct ModelTable {
  const char *name;
  bool causal;  /* a position sees itself and those before it only */
  bool timed;   /* may be conditioned on the noise level and on a class */
  bool attends; /* has attention: heads and an MLP */
  bool halves;  /* takes a clean half: options.block may be set */
  int (*create)(Model *);
  int (*forward)(Model *, const ModelInput *);
  int (*backward)(Model *, const ModelInput *);
  void (*destroy)(Model *);
  int (*step)(Model *, const ModelInput *, int64_t position); /* NULL: none */
} ModelTable;

extern const ModelTable *const models[]; /* NULL-ended */

struct Model {
  const ModelTable *table;
  ModelOptions options;
  Device *dev; /* not owned */
  Params params;
  Arena arena;
  int64_t unit;               /* numbers of wanted rows are padded to a multiple of this; below it to a power of two */
  int64_t capacity;           /* padded batch·L: of wanted rows */
  int64_t most;               /* rows of a pass: capacity, and those of a clean half */
  Tensor ids;                 /* [most] i32 */
  Mixture mix;                /* memory for that of a pass */
  double *mix_scratch;        /* host, for the conversion of its weights */
  Tensor index;               /* [capacity] i32 */
  Tensor rows;                /* view of index: the wanted rows of the last pass, then row 0 as padding; none: all */
  int64_t n_rows;             /* wanted rows of the last pass, without padding */
  Tensor h;                   /* [≤ capacity, D] act: output of forward, the wanted rows and the padding */
  Tensor picked;              /* [capacity, D] act: memory for h where a network computes all rows */
  Tensor dh;                  /* [capacity, D] act: input of backward, the gradient of the loss with respect to h */
  int head_weight, head_bias; /* parameters of the output Linear; bias −1: none */
  int64_t
      columns; /* C of logits: V, on a GPU the next multiple of 64, since products with other numbers of columns take
                      twice as long there; the logits of the columns from V on are zero */
  double attention_flops; /* per position of a forward pass, without the products by weights */
  double late_flops;      /* the part of the body that only wanted rows pass through, per row */
  double spared_flops;    /* per position, of the body's products that a clean half does without */
  void *impl;
};

/** model_create — the network called options->name, with zero weights (params_init or a checkpoint fills them).
 *  Errors  ERR_USAGE for an unknown name or inconsistent sizes, ERR_MEMORY */
int model_create(Model *m, Device *dev, const ModelOptions *options);
/** model_find — the table of that word. ERR_USAGE if there is none. */
int model_find(const ModelTable **table, const char *name);
/** heads_check — for networks with attention: ERR_USAGE unless the width divides into heads of even width. */
int heads_check(const ModelOptions *options);
/** model_destroy — NULL-safe, clears m. */
void model_destroy(Model *m);
/** model_padded — the number of rows that a pass computes where n are wanted: at least one. */
int64_t model_padded(const Model *m, int64_t n);
/** model_batch — the sequences of the largest pass with `draws` noisy ones to each clean one, a multiple of draws. */
int64_t model_batch(const Model *m, int64_t draws);
/** model_forward — m->h[i] := the hidden row in->rows[i]. With options.block, in->clean has the clean tokens: each block of
 *  in->ids sees itself and the clean blocks before it. Hidden rows do not depend on in->draws: on the CPU bit for bit. */
int model_forward(Model *m, const ModelInput *in);
/** model_step — the same for the in->L tokens of each sequence from `position` on, which see each other and all earlier
 *  positions. Of causal networks, in->L = 1; or with options.block, where in->L is that of a block. Earlier positions are
 *  those of the last step at them: keys and values are cached, in memory that the first step allocates. In block diffusion
 *  the last step at a block has its clean tokens. Not in training.
 *  Errors  ERR_MEMORY, ERR_DEVICE */
int model_step(Model *m, const ModelInput *in, int64_t position);
/** model_backward — parameter gradients += from m->dh, for the input of the last model_forward; the padding's rows of
 *  m->dh must be zero. */
int model_backward(Model *m, const ModelInput *in);
/** model_plan — for networks: the memory of the wanted rows. `all`: the network computes all rows. */
void model_plan(Arena *a, Model *m, bool all);
/** model_embed — for networks: x[R,D] = the embeddings of the tokens of the pass, rows of the parameter `table`. */
int model_embed(Model *m, const ModelInput *in, Tensor x, int table);
/** model_embed_backward — for networks: the gradient of the table += from dx[R,D]. */
int model_embed_backward(Model *m, const ModelInput *in, Tensor dx, int table);
/** model_pick — for networks: m->h := the wanted rows of all[R,D], the rows of the noisy tokens. */
int model_pick(Model *m, const ModelInput *in, Tensor all);
/** model_unpick — for networks: *dall := the gradient of all[R,D] in memory of that size, from m->dh. */
int model_unpick(Model *m, const ModelInput *in, Tensor memory, Tensor *dall);
/** model_ready — for a network's backward: the gradients of this parameter and of those added after it are final. */
int model_ready(const Model *m, const ModelInput *in, int parameter);
/** model_head — the output Linear; its rows are padded. Called by a network's create. */
void model_head(Model *m, Linear head);
/** model_logits — logits[R,C] = head(h[R,D]). */
int model_logits(Model *m, Tensor logits, Tensor h);
/** model_logits_backward — dh[R,D] =, and gradients of the head +=, from dlogits[R,C] and h[R,D]; the
 *  columns from V on must be zero. */
int model_logits_backward(Model *m, Tensor dh, Tensor dlogits, Tensor h);
/** model_flops — floating-point operations of a forward pass: the matrix products of body and attention per position, in
 *  block diffusion those of both halves, with options.draws; those of the head per wanted row, with the part of the body
 *  that only wanted rows pass through. Returns their sum. */
double model_flops(const Model *m, double *body, double *attention, double *head);
