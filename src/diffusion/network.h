/* network — a model with its schedule, objective and scored rows, as a deck describes it: what training, evaluation and
 * sampling all hold. */
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
  Ready ready;      /* whom the last pass of network_loss tells which gradients are final */
} Network;

typedef struct NetworkOptions {
  const Config *cfg; /* not owned */
  Place place;
  int64_t vocab, length; /* V with the mask token, L */
  int32_t mask;
  int64_t batch;     /* the most sequences a pass */
  int64_t positions; /* learned ones of gpt2; 0: L */
  bool training;
} NetworkOptions;

/** network_create — weights are zero. Not movable once made. Not collective.
 *  Errors  ERR_USAGE, ERR_MEMORY (network_too_large tells what would fit), ERR_DEVICE */
int network_create(Network *n, const NetworkOptions *options);
/** network_too_large — what network_create's ERR_MEMORY means to the user: key = batch does not fit, and the largest
 *  divisor of `of` (with `of` 0: power of two) up to half of it that does. It is found by trying, with `flats` more
 *  buffers of the weights' size. Returns ERR_MEMORY. Not collective. */
int network_too_large(const NetworkOptions *options, const char *key, int64_t of, int64_t flats);
/** network_loss — loss[B] (nat) of the sequences of net->noised, through every pass of the objective; adds the rows
 * whose logits were made to *rows. gradient: parameter gradients += those of the sum. net->noised is used up.
 *  loss NULL: the losses are added up on the device, for rows_total, and nothing waits. */
int network_loss(Network *n, const Dropout *dropout, bool gradient, double *loss, int64_t *rows);
/** network_warn — say so where the times of the deck's schedule cover less than 99 % of the bound. */
void network_warn(const Network *n);
/** network_passes — how often a sequence goes through the network for its loss. */
int network_passes(const Network *n);
/** network_same — OK if weights trained under the deck `trained` mean under `cfg` what they meant there.
 *  Errors  ERR_USAGE naming `path` and the first key that differs */
int network_same(const Config *cfg, const Config *trained, const char *path);
/** network_destroy — NULL-safe, clears n. */
void network_destroy(Network *n);
