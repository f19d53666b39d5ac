/* draws — masked positions of a batch that are filled in one pass of the network, and what their tokens are drawn by.
 */
#pragma once
#include "base/rng.h"
#include "diffusion/sampler.h"

typedef struct Draws {
  int64_t n;
  int32_t *rows, *ids;    /* row of [sequences of the pass · L]; its token */
  double *uniform, *stay; /* stay: of draws_masked only */
  bool staying, odds;     /* how `stay` is meant: Draw of ops.h */
} Draws;

/* Streams of random numbers of one sample and purpose, in each of its blocks. */
typedef enum DrawsStream {
  DRAWS_STEPS = 0,     /* of samplers that go step by step: they share their draws */
  DRAWS_CONTINUOUS = 1 /* of those to whom no step means anything */
} DrawsStream;
enum { DRAWS_STREAM_BITS = 4 }; /* which leaves 2^20 blocks */

/** draws_key — the stream of that purpose of a sample, in the job's block. */
RngKey draws_key(const SamplerJob *job, RngPurpose purpose, DrawsStream stream, int64_t sample, int64_t step);
/** draws_create — room for n positions. */
int draws_create(Draws *d, int64_t n);
void draws_destroy(Draws *d);
/** draws_add — position l of sequence b, whose token is drawn by that number. */
void draws_add(Draws *d, const SamplerJob *job, int64_t b, int64_t l, double uniform);
/** draws_chosen — the masked positions that unmask in this step, each with chance (chance 1: all of them): d->n = 0
 *  first. A function of (seed, sample, step, position). */
void draws_chosen(Draws *d, const SamplerJob *job, int64_t step, double chance);
/** draws_masked — all masked positions, each of which unmasks with the chance of the step as it is weighed. */
void draws_masked(Draws *d, const SamplerJob *job, int64_t step, double chance, Weighing weighing);
/** draws_unmasks — whether position l of a sample unmasks in that step, if it is still masked. */
bool draws_unmasks(const SamplerJob *job, int64_t sample, int64_t step, int64_t l, double chance);
/** draws_token — the number by which the token of position l of a sample is drawn in that step. */
double draws_token(const SamplerJob *job, int64_t sample, int64_t step, int64_t l);
/** draws_look — one pass of the network over z[B,L] at time t. */
int draws_look(SamplerJob *job, const int32_t *z, int64_t B, double t);
/** draws_fill — tokens of the positions from the last pass into z: by their numbers, or the likeliest ones. *changed
 * (may be NULL): whether one of them is no mask. */
int draws_fill(SamplerJob *job, Draws *d, int32_t *z, bool likeliest, bool *changed);
/** draws_finish — the noise removal after the last step, if the job wants it: all masks that are left are filled, at
 * the last time, with the likeliest tokens or with drawn ones. */
int draws_finish(SamplerJob *job, Draws *d, bool likeliest);
