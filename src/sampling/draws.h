/* draws — masked positions of a batch that are filled after one pass of the network, and their random numbers. */
#pragma once
#include "base/rng.h"
#include "sampling/job.h"

struct Draws {
  int64_t n;
  const int64_t *who;  /* indices in the job of the sequences of a pass; NULL: all of the job. Not owned */
  int32_t *rows, *ids; /* row of [sequences of the pass · L]; its token */
  double *uniform;     /* decides the token */
  double *keep;        /* decides whether the mask stays, by `rule`; of draws_masked only */
  KeepRule rule;
};

/* Streams of random numbers of one sample and purpose, in each of its blocks. */
typedef enum DrawsStream {
  DRAWS_STEPS = 0,      /* of samplers that go step by step: they share their numbers */
  DRAWS_CONTINUOUS = 1, /* of continuous-time samplers */
  DRAWS_ORDER = 2       /* of random orders */
} DrawsStream;
enum { DRAWS_STREAM_BITS = 4, DRAWS_BLOCK_BITS = 20 };

/** draws_key — the stream of that purpose of a sample, in the job's block. */
RngKey draws_key(const SamplerJob *job, RngPurpose purpose, DrawsStream stream, int64_t sample, int64_t step);
/** draws_create — room for n positions. */
int draws_create(Draws *d, int64_t n);
void draws_destroy(Draws *d);
/** draws_add — position l of sequence b, whose token `uniform` decides. */
void draws_add(Draws *d, const SamplerJob *job, int64_t b, int64_t l, double uniform);
/** draws_chosen — d := the masked positions that unmask in this step, each with probability `chance`. A function of
 *  (seed, sample, step, position). */
void draws_chosen(Draws *d, const SamplerJob *job, int64_t step, double chance);
/** draws_masked — d := all masked positions; `rule` and the step's chance decide in draws_fill which of them unmask.
 *  KEEP_NEVER is for f32 draws: the chance alone decides. */
void draws_masked(Draws *d, const SamplerJob *job, int64_t step, double chance, KeepRule rule);
/** draws_unmasks — whether position l of a sample unmasks in that step, if it is still masked. */
bool draws_unmasks(const SamplerJob *job, int64_t sample, int64_t step, int64_t l, double chance);
/** draws_token — the random number that decides the token of position l of a sample in that step. */
double draws_token(const SamplerJob *job, int64_t sample, int64_t step, int64_t l);
/** draws_pass_size — how many sequences a pass over B of at most `most` has. A GPU's libraries plan per shape, and a plan
 *  takes longer than many passes: there batches that shrink go down in powers of two. */
int64_t draws_pass_size(const Device *dev, int64_t B, int64_t most);
/** draws_evaluate — one pass of the network over z[B,L] at time t, B ≤ job->n, for d's positions; guided if the job is, which
 *  job->evaluated counts as two sequences each. z has room for [job->n,L]: on a GPU the pass may be padded by copies of
 *  sequence 0, which job->evaluated does not count. */
int draws_evaluate(SamplerJob *job, const Draws *d, int32_t *z, int64_t B, double t);
/** draws_fill — tokens of d's positions, for which the last pass was, into z: drawn, or the most likely ones. *changed
 *  (may be NULL): whether one of them is not the mask. */
int draws_fill(SamplerJob *job, Draws *d, int32_t *z, bool likeliest, bool *changed);
/** draws_finish — the noise removal after the last step, if the job wants it: all remaining masks are filled at the
 *  last time, with the most likely tokens or with drawn ones. */
int draws_finish(SamplerJob *job, Draws *d, bool likeliest);
