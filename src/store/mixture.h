/* mixture — the training data: one set of rows, or several that are drawn in fixed shares.
 *
 *   "FILES"                                         one set, in the form of shards_open
 *   "NAME=WEIGHT:FILES; NAME=WEIGHT:FILES; …"       several; a list is one if it has a ";" or begins as this one does
 *
 * The sets are in the order of their names. The weights become integers: a cycle of C = Σ share draws has share_s draws of
 * set s, in an order that is the same in every cycle. After any number j of draws set s has had ⌊j·share_s/C⌋ or
 * ⌈j·share_s/C⌉ of them. Ratios of weights that C ≤ 2^20 can hold are kept, others are rounded to such.
 *
 * Draw j of a run is number n = first_s + (draws of s among the draws start … j−1) of the endless stream of set s, which
 * runs through the set's epochs (loader_row). A new run has start = first_s = 0. Where a run goes on with other sets or
 * weights, they hold from draw `start` on, and first_s is how much of the set was drawn before. */
#pragma once
#include "store/shards.h"
#include <stdbool.h>

enum { MIXTURE_SETS = 64, MIXTURE_NAME = 32 };

typedef struct MixtureSet { /* as a checkpoint keeps it */
  char name[MIXTURE_NAME], digest[40];
  int64_t share, first, rows;
  int64_t drawn; /* number of its draws so far, first included */
} MixtureSet;

typedef struct MixtureState {
  int n;
  int64_t start;
  MixtureSet sets[MIXTURE_SETS];
} MixtureState;

typedef struct Mixture Mixture;

/** mixture_open — open the sets of `spec`, which must have the vocabulary, the length of rows and the framing in common;
 *  source, split and detokenizer may differ. Not collective.
 *  Errors  ERR_USAGE: a wrong list, name or weight, a name or data twice; ERR_DATA: those of shards_open, or sets that
 *          differ */
int mixture_open(Mixture **m, const char *spec);
/** mixture_close — NULL-safe, clears the handle. */
void mixture_close(Mixture **m);
int mixture_sets(const Mixture *m);
const char *mixture_name(const Mixture *m, int set); /* "data" where there is one set without a name */
double mixture_share(const Mixture *m, int set);     /* of all draws */
Shards *mixture_shards(const Mixture *m, int set);
int64_t mixture_rows(const Mixture *m);   /* of all sets */
int64_t mixture_length(const Mixture *m); /* L */
/** mixture_classes, mixture_class_names — as for shards: the most classes of any set, and the names of the first set with
 *  labels. */
int64_t mixture_classes(const Mixture *m);
const char *mixture_class_names(const Mixture *m);
const Vocab *mixture_vocab(const Mixture *m);
/** mixture_protocol — that of the first set; with several sets, the digest of their digests, the names and shares as
 *  source, and "mixed" for what differs. */
const Protocol *mixture_protocol(const Mixture *m);
const char *mixture_spec(const Mixture *m);
/** mixture_draw — draw j ≥ start is number *n of the stream of *set. */
void mixture_draw(const Mixture *m, int64_t j, int *set, int64_t *n);
/** mixture_drawn — how much of the stream of a set precedes draw j ≥ start. */
int64_t mixture_drawn(const Mixture *m, int set, int64_t j);
/** mixture_read — shards_read of n rows, each of its own set. */
int mixture_read(const Mixture *m, const int32_t *sets, const int64_t *rows, int64_t n, int32_t *tokens,
                 int32_t *lengths);
/** mixture_labels — shards_labels of n rows, each of its own set; −1 for sets without labels. */
int mixture_labels(const Mixture *m, const int32_t *sets, const int64_t *rows, int64_t n, int32_t *labels);
/** mixture_state — what a checkpoint after j draws keeps. */
MixtureState mixture_state(const Mixture *m, int64_t j);
/** mixture_single — that of a checkpoint of a run on one set, after j draws. */
MixtureState mixture_single(const char *digest, int64_t j);
/** mixture_find — the set with that digest, or NULL. */
const MixtureSet *mixture_find(const MixtureState *state, const char *digest);
/** mixture_same — whether sets and weights are those of a checkpoint. */
bool mixture_same(const Mixture *m, const MixtureState *was);
/** mixture_resume — go on after j draws with the state of a checkpoint: as it says if sets and weights are the same, else
 *  with each set where it stood, known by its digest, or from its beginning. */
void mixture_resume(Mixture *m, const MixtureState *was, int64_t j);
