/* network — a model with its schedule, objective and scored rows, as a deck describes it: shared by training,
 * evaluation and sampling. */
#pragma once
#include "base/config.h"
#include "diffusion/rows.h"

typedef struct Network {
  Device dev;
  Model model;
  Rows rows;
  Schedule schedule;
  Objective objective;
  Noised noised;    /* one batch on the host */
  double *row_loss; /* [batch·L] */
  Ready ready;      /* callback of the last pass of network_loss: which gradients are final */
  Tap tap;          /* callback of the passes of network_predict */
} Network;

typedef struct NetworkOptions {
  const Config *cfg; /* not owned */
  Place place;
  int64_t vocab, length; /* V with the mask token, L */
  int32_t mask;
  int64_t batch;     /* maximum sequences per pass */
  int64_t draws;     /* of the noise of each of them, one after the other in net->noised; 0: 1 */
  int64_t positions; /* learned positions of networks that have them; 0: L */
  bool training;
  int64_t parts; /* of the flat buffers, see params.h */
} NetworkOptions;

/** network_objective — the objective and its schedule as a deck describes them; neither must be moved afterwards.
 *  ERR_USAGE */
int network_objective(Objective *o, Schedule *schedule, const Config *cfg, int64_t vocab, int32_t mask);
/** network_create — weights are zero. Must not be moved in memory afterwards. Not collective.
 *  Errors  ERR_USAGE, ERR_MEMORY (network_too_large tells what would fit), ERR_DEVICE */
int network_create(Network *n, const NetworkOptions *options);
/** network_loss — loss[B] (nat) of the sequences of net->noised, through every pass of the objective; adds the number
 *  of rows whose logits were computed to *rows. net->noised is overwritten.
 *  gradient: parameter gradients += those of the sum
 *  loss NULL: losses are summed on the device, for rows_total, without waiting for it */
int network_loss(Network *n, const Dropout *dropout, bool gradient, double *loss, int64_t *rows);
/** network_predict — net->row_loss and list[n_rows] of the rows of net->noised in pass 0, 1, … network_passes − 1, one
 *  after the other; a later pass replaces net->noised by its own rows first. Not in training. */
int network_predict(Network *n, int pass, Prediction *list);
/** network_warn — warn if the times of the deck's schedule cover less than 99 % of the bound. */
void network_warn(const Network *n);
/** network_passes — passes of the network per sequence and loss. */
int network_passes(const Network *n);
/** network_destroy — NULL-safe, clears n. */
void network_destroy(Network *n);
