/* model — a network: noisy tokens and noise level in, hidden rows out; the head that makes logits of rows.
 *
 * The forward pass stops before the output Linear: logits are made only of the rows that are scored or drawn
 * (diffusion/loss.h, diffusion/sampler.h). Backward is explicit. One table per network; models[] lists them. */
#pragma once
#include "model/params.h"
#include "ops/arena.h"

typedef struct ModelOptions {
  const char *name;
  int64_t vocab, length; /* V with the mask token, L                           */
  int64_t batch;         /* the most sequences in one pass                     */
  int64_t positions;     /* learned ones of gpt2, at least L; 0: L              */
  int64_t width, blocks, heads, cond_dim, mlp_ratio;
  double dropout;
  bool time_conditioning; /* false: sigma is 0 for every sequence               */
  bool mask_padding;      /* attention sees the real positions of a sequence only */
  bool training;          /* keep activations for backward, allocate gradients  */
} ModelOptions;

/* Ready — whom backward tells, from the last parameters to the first, which gradients are final: all at flat offsets ≥
 * first, in the end with first = 0. call NULL: nobody. */
typedef struct Ready {
  int (*call)(void *arg, int64_t first);
  void *arg; /* not owned */
} Ready;

typedef struct ModelInput {
  int64_t B;              /* sequences in this pass, ≤ options.batch                               */
  int64_t L;              /* their positions; 0: options.length. Fewer: of networks that have a step   */
  const int32_t *ids;     /* [B,L] host: noisy tokens                                              */
  const double *sigma;    /* [B] host: noise levels; read only with time conditioning              */
  const int32_t *lengths; /* [B] host: real positions, NULL: L; read only with mask_padding   */
  Dropout dropout;        /* p = 0: evaluation. L is filled in, layer counted up by the network           */
  Ready ready;            /* of backward                                                           */
} ModelInput;

typedef struct Model Model;
typedef struct ModelTable {
  const char *name;
  bool causal;  /* a position sees itself and those before it only */
  bool timed;   /* may be conditioned on the noise level */
  bool attends; /* has attention: heads and an MLP */
  int (*create)(Model *);
  int (*forward)(Model *, const ModelInput *);
  int (*backward)(Model *, const ModelInput *);
  void (*destroy)(Model *);
  int (*step)(Model *, int64_t B, int64_t position); /* NULL: its positions see later ones */
} ModelTable;

extern const ModelTable *const models[]; /* NULL-ended */

struct Model {
  const ModelTable *table;
  ModelOptions options;
  Device *dev; /* not owned */
  Params params;
  Arena arena;
  Tensor ids;                 /* [batch·L] i32                                          */
  Tensor h;                   /* [batch·L, D] act, out of forward                            */
  Tensor dh;                  /* [batch·L, D] act, in of backward: gradient of the loss of h */
  int head_weight, head_bias; /* parameters of the output Linear; bias −1: none      */
  double attention_flops;     /* of one forward pass of one row, weights apart        */
  void *impl;
};

/** model_create — the network called options->name, weights zero (params_init or a checkpoint fills them).
 *  Errors  ERR_USAGE for a name or sizes that do not fit, ERR_MEMORY */
int model_create(Model *m, Device *dev, const ModelOptions *options);
/** model_find — the table of that word. ERR_USAGE if there is none. */
int model_find(const ModelTable **table, const char *name);
/** heads_check — for networks with attention: ERR_USAGE unless the width splits into heads of even width. */
int heads_check(const ModelOptions *options);
/** model_destroy — NULL-safe, clears m. */
void model_destroy(Model *m);
/** model_forward — m->h[r] for the B·L rows of the input. */
int model_forward(Model *m, const ModelInput *in);
/** model_step — m->h[b] for b < B: the hidden rows of `position` of B sequences, which have ids[B] (host) there, after
 * a step for each position before it. The keys and values of those are kept, in memory that the first step asks for.
 * Not in training. Errors  ERR_MEMORY */
int model_step(Model *m, const int32_t *ids, int64_t B, int64_t position);
/** model_backward — parameter gradients += from m->dh, for the input of the last model_forward. */
int model_backward(Model *m, const ModelInput *in);
/** model_ready — for a network's backward: the gradients of parameters ≥ that one, as they were added, are final. */
int model_ready(const Model *m, const ModelInput *in, int parameter);
/** model_logits — logits[R,V] = head(h[R,D]). */
int model_logits(Model *m, Tensor logits, Tensor h);
/** model_logits_backward — dh[R,D] = , head gradients += from dlogits[R,V] and h[R,D]. */
int model_logits_backward(Model *m, Tensor dh, Tensor dlogits, Tensor h);
/** model_flops — floating-point operations of one forward pass of one row: matrix products of body, attention and head.
 */
double model_flops(const Model *m, double *body, double *attention, double *head);
