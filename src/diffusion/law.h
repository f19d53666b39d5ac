/* law — how the times of training batches are distributed.
 *
 * A time begins as t uniform in [τ,1], stratified over the global batch (timestep.h); a law maps it by the inverse of
 * its distribution function, so its times are stratified, too, and a function of the same random numbers. `density` is
 * that of its times relative to the uniform one: the weight of the bound divided by it leaves the expected loss as it
 * is. Evaluations do not use it: their times are uniform. One file and one row of keys.def each: law_WORD.c. */
#pragma once
#include "base/menu.h"
#include "diffusion/latent.h"
#include "diffusion/schedule.h"

typedef struct LawOptions { /* each for the law of its name only */
  const char *name;         /* NULL: the first of the menu */
  bool search;              /* the ends of its times are set by law_narrow, from clip_low and clip_high on */
  double clip_low, clip_high, normal_mean, normal_width, beta_a, beta_b, gamma_low, gamma_high;
  int64_t tokens; /* K of uniform noise */
} LawOptions;

typedef struct Law Law;
typedef struct LawTable {
  const char *name;
  bool uniform;        /* times are as they begin */
  bool partial;        /* its times are those between two ends only, so the loss is a part of the bound */
  bool clips;          /* these ends are clip_low and clip_high */
  bool replaces;       /* is for noise that replaces tokens by uniform ones */
  int (*begin)(Law *); /* checks its options, and makes what it keeps. ERR_USAGE with the reason; may be NULL */
  double (*time)(const Law *, double t);
  double (*density)(const Law *, double time);
} LawTable;
struct Law {
  const LawTable *table;
  LawOptions options;
  const Schedule *schedule; /* not owned */
  double tau;               /* smallest time of all laws */
  double low, high;         /* the ends of its times: with `partial` those of its options, else τ and 1 */
  Latent latent;            /* of time = gaussian */
};

extern const LawTable *const laws[]; /* NULL-ended; the first is the uniform one */

/** law_create — the law of those options over times from tau to 1. ERR_USAGE naming the key and the reason. */
int law_create(Law *law, const LawOptions *options, const Schedule *schedule, double tau);
/** law_narrow — other ends of the times of a law with `clips`, low < high. */
void law_narrow(Law *law, double low, double high);
/** law_clips — the laws with `clips`, for a message. */
const char *law_clips(char text[MENU_TEXT]);
/** law_time — the time for t uniform in [τ,1]; it grows with t. */
double law_time(const Law *law, double t);
/** law_density — the density of its times, divided by that of uniform times in [τ,1]. */
double law_density(const Law *law, double time);
/** law_place — of a law with `replaces`: the place in its Gaussian noise (latent.h) at that time. */
double law_place(const Law *law, double time);

/* ---- for laws of a known distribution function F over the whole line, which are cut to [τ,1] */
typedef double (*LawFunction)(const Law *, double);
/** law_invert — the time for t: F(time) = F(τ) + (F(1) − F(τ))·(t − τ)/(1 − τ), by Newton's method. */
double law_invert(const Law *law, LawFunction F, LawFunction dF, double t);
/** law_check — whether enough of the law lies in [τ,1] to draw from it: at least a millionth. keys names its parameters.
 *  Errors  ERR_USAGE */
int law_check(const Law *law, LawFunction F, const char *keys);
/** law_cut — the relative density from dF. */
double law_cut(const Law *law, LawFunction F, LawFunction dF, double time);
