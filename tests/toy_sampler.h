/* toy_sampler — a network of V = 4 and L = 3, whose samplers' laws can be enumerated: 4³ states, and from each state at
 * t to those at s a visible token stays;  a masked one stays with a weight of mc_s, mc = 1 − alpha, against mc_t − mc_s
 * times p(x0 | z) of each token, with the network's p at time t. p(m) is 0 but of d3pm. The noise removal fills what is
 * left with the likeliest tokens. */
#pragma once
#include "toy.h"

#include "sampling/sampler.h"

enum { V = 4, L = 3, MASK = 1, BOS = 0, STATES = V * V * V, STEPS = 4, BATCH = 1000, DRAWS = 200000, MANY = 4 * DRAWS };
static const double EPS = 1e-3;
static const int32_t blank[L] = {MASK, MASK, MASK};

/** toy_under_test — whether the network is of a device under test. */
bool toy_under_test(void);
typedef struct ToySampler {
  ObjectiveOptions objective; /* name NULL: subs */
  bool time, bf16;            /* conditioned on time; products in bf16, on a device under test */
  int64_t batch;
} ToySampler;
/** toy_open_sampler — the network of that objective. */
void toy_open_sampler(Network *n, ToySampler options);
/* loglinear leaves a mask at t = 1e-5 once in 10⁵ positions; this one every third time, so that the end is tested too.
 */
extern const ScheduleTable toy_slow;

/* ---- states and their law */
int32_t toy_digit(int state, int l);
int toy_code(const int32_t *z);
int toy_likeliest(const double *p);
/** toy_masked — the chance of a mask at t. */
double toy_masked(const Network *n, double t);
/** toy_conditionals — p(x0_l = y | z) for every state z at time t: a softmax of the logits, without m but of d3pm, in
 * plain sight. */
void toy_conditionals(Network *n, double t, double p[STATES][L][V]);
/** toy_law_finish — the noise removal. */
void toy_law_finish(double law[STATES], double p[STATES][L][V]);
/** toy_law_of — the law of the reverse process in so many steps. */
void toy_law_of(Network *n, const int32_t start[L], int steps, bool noise_removal, double law[STATES]);

/* ---- samples */
typedef struct Run {
  const char *sampler;
  int steps;
  bool noise_removal;
  uint64_t seed;
  int64_t first, n;
  bool cache, f32, no_bos; /* sample.cache, sample.draw = f32, a tokenizer without bos */
  const char *remask;      /* sample.remask; NULL: cap */
  double eta;              /* sample.remask_eta */
} Run;
/** RUN — a Run of these; others as designated initialisers behind them. */
#define RUN(sampler_, steps_, removal_, seed_, first_, ...)                                                            \
  ((Run){.sampler = (sampler_),                                                                                        \
         .steps = (steps_),                                                                                            \
         .noise_removal = (removal_),                                                                                  \
         .seed = (seed_),                                                                                              \
         .first = (first_),                                                                                            \
         .n = __VA_ARGS__})
/** toy_sampler — sampler_create of the run for that network; its error is returned. */
int toy_sampler(Sampler *s, const Network *n, Run r);
/** toy_refused — fail unless toy_sampler refuses the run with ERR_USAGE. */
void toy_refused(const Network *n, Run r, const char *why);
/** toy_job — of n samples z[n,L], to be done. */
SamplerJob toy_job(Network *n, Run r, int32_t *z);
/** toy_samples — z[n,L] from the start. The job as it was done is returned: it counts the passes of the network. */
SamplerJob toy_samples(Network *n, Run r, const int32_t start[L], int32_t *z);
/** toy_count_up — SamplerJob.progress: *arg is the int64_t step before; asserts that this one comes next. */
void toy_count_up(void *arg, int64_t step);
/** toy_compare — toy_draws(draws) samples with a law; count: how often each state was drawn. Evaluated sequences are
 *  returned. */
int64_t toy_compare(Network *n, Run r, const int32_t start[L], int64_t draws, const double law[STATES],
                    int64_t count[STATES]);
/** toy_sharp — fail unless the chi-square test of toy_draws(draws) samples would reject a law that is a little wrong.
 */
void toy_sharp(const double law[STATES], const double wrong[STATES], int64_t draws);
