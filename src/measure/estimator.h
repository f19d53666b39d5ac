/* estimator — the menu of estimators of the bound: how a sequence is masked and how its scored rows are weighted; or a
 * likelihood that needs no draws.
 *
 * One file, estimator_WORD.c, and one row of keys.def each. */
#pragma once
#include "base/config.h"
#include "network/network.h"

/* One draw of one sequence: everything its noise is a function of. */
typedef struct EstimatorDraw {
  uint64_t seed;
  int64_t draw, row; /* which draw; row of the data */
  int64_t cell, n;   /* stratum of the row among n */
  bool stratified;
} EstimatorDraw;

/* One row of an estimator without draws. */
typedef struct EstimatorRow {
  const int32_t *x0;  /* [L], not owned */
  int64_t first, end; /* tokens first … end−1 are scored, given the others */
  int64_t length;     /* of the row as the network sees it: with model.mask_padding it does not see the rest */
  int32_t label;      /* its class, −1: none */
  double loss;        /* out: nat */
  bool likeliest;     /* out: every scored token was the most likely one when it was filled in */
} EstimatorRow;

enum { ESTIMATOR_TEXT = 64, ESTIMATOR_KEYS = 8 };
typedef struct EstimatorTable {
  const char *name;
  bool whole; /* estimates the complete bound, ε = τ = 0; false: over the times of training only */
  bool part;  /* is defined for a part of a row given the rest */
  /* of the deck, NULL-ended: its values depend on these, those of some other estimators do not */
  const char *keys[ESTIMATOR_KEYS];
  /* ERR_USAGE with the reason where the objective has no such bound; NULL: every objective has */
  int (*check)(const Objective *);
  /* sequence b of net->noised: x0[L] with its real length; NULL: it draws nothing, and has the next three */
  void (*noise)(Network *, int64_t b, const int32_t *x0, int64_t length, const EstimatorDraw *);
  /* text := its keys of section eval, as in " order=confidence". ERR_USAGE if they do not go together */
  int (*describe)(const Config *, char text[ESTIMATOR_TEXT]);
  int64_t (*passes)(const Config *, int64_t length); /* of the network for a row, about */
  /* loss and likeliest of n rows, n ≤ the network's batch. Errors  ERR_NUMERIC, ERR_MEMORY, ERR_STOPPED (items.h) */
  int (*exact)(Network *, const Config *, EstimatorRow *rows, int64_t n);
} EstimatorTable;

extern const EstimatorTable *const estimators[]; /* NULL-ended; the first suits every objective */

/** estimator_find — the estimator of that word; "auto": the last one with draws of the menu that the objective has.
 *  ERR_USAGE if it does not have it, with one that fits. */
int estimator_find(const EstimatorTable **table, const char *name, const Objective *o);
/** estimator_reads — whether values of e can depend on that key of the deck, as they can on every key that no estimator
 *  lists. e NULL: no estimator is used, since the network's value is exact. */
bool estimator_reads(const EstimatorTable *e, const char *key);
