/* toy_sampler — a network with V = 4 and L = 3, for which the distribution of a sampler can be enumerated over 4³
 * states. In a step from t to s a visible token stays. A masked one stays with weight mc_s, where mc = 1 − alpha, and
 * becomes a token with weight (mc_t − mc_s)·p(x0 | z), where p is the network's at time t. p(m) is 0 except for d3pm.
 * The noise removal fills the remaining masks with the most likely tokens. */
#pragma once
#include "toy.h"

#include "sampling/guidance.h"
#include "sampling/sampler.h"

enum {
  V = 4,
  L = 3,
  MASK = 1,
  BOS = 0,
  EOS = 2,
  PAD = 3,
  STATES = V * V * V,
  STEPS = 4,
  BATCH = 1000,
  DRAWS = 200000,
  MANY = 4 * DRAWS
};
static const double EPS = 1e-3;
static const int32_t blank[L] = {MASK, MASK, MASK};

/** toy_under_test — whether the network runs on a device under test. */
bool toy_under_test(void);
typedef struct ToySampler {
  ObjectiveOptions objective; /* name NULL: subs */
  bool time, bf16;            /* conditioned on time; matrix products in bf16, on a device under test */
  int64_t classes;
  const char *model; /* NULL: dit, whose output is the same at all positions where all are masked */
  int64_t batch;
} ToySampler;
/** toy_open_sampler — create the network with these options. */
void toy_open_sampler(Network *n, ToySampler options);
/* A schedule that masks a quarter of the positions at t = 1e-5, so that the noise removal is tested; loglinear masks
 * one in 10⁵. */
extern const ScheduleTable toy_slow;

/* ---- states and their distribution */
int32_t toy_digit(int state, int l);
int toy_code(const int32_t *z);
int toy_likeliest(const double *p);
/** toy_masked — the probability of a mask at time t. */
double toy_masked(const Network *n, double t);
/** toy_conditionals — p(x0_l = y | z) for every state z at time t: a plain softmax of the logits, without m except for
 *  d3pm. */
void toy_conditionals(Network *n, double t, double p[STATES][L][V]);
/** toy_conditionals_of — the same given a class, −1: none. */
void toy_conditionals_of(Network *n, int32_t label, double t, double p[STATES][L][V]);
/** toy_law_finish — apply the noise removal to the distribution. */
void toy_law_finish(double law[STATES], double p[STATES][L][V]);
/** toy_law_of — the distribution of the reverse process with this number of steps. */
void toy_law_of(Network *n, const int32_t start[L], int steps, bool noise_removal, double law[STATES]);

/* ---- samples */
typedef struct Run {
  const char *sampler;
  int steps;
  bool noise_removal;
  uint64_t seed;
  int64_t first, n;
  enum { PAD_TOKEN, PAD_MASK, PAD_NONE } pad; /* what ends short rows: a token of its own, the mask, nothing */
  bool cache, f32, no_bos;                    /* sample.cache, sample.draw = f32, a tokenizer without bos */
  const char *remask;                         /* sample.remask; NULL: cap */
  double eta;                                 /* sample.remask_eta */
  bool likeliest;                             /* sample.temperature = 0 */
  double kappa;                               /* sample.kappa */
  const char *kappa_from;                     /* sample.kappa_from; NULL: constant */
  double hold, hold_time;                     /* sample.hold, sample.hold_time */
  bool guided;                                /* sample.guidance = guidance; false: 1 */
  double guidance;
  int32_t label; /* sample.label, of networks with classes; −1: none */
  /* of parallel: sample.commit, order, eos (NULL: top_k, confidence, free), the rule's number, block_length, stop_at_eos */
  const char *commit, *order, *eos;
  double number;
  int64_t block;
  bool stop;
} Run;
/** RUN — a Run with these values; further fields follow as designated initialisers. */
#define RUN(sampler_, steps_, removal_, seed_, first_, ...)                                                            \
  ((Run){.sampler = (sampler_),                                                                                        \
         .steps = (steps_),                                                                                            \
         .noise_removal = (removal_),                                                                                  \
         .seed = (seed_),                                                                                              \
         .first = (first_),                                                                                            \
         .n = __VA_ARGS__})
/** toy_sampler — sampler_create with the options of the run; returns its error. */
int toy_sampler(Sampler *s, const Network *n, Run r);
/** toy_refused — fail unless toy_sampler refuses the run with ERR_USAGE. */
void toy_refused(const Network *n, Run r, const char *why);
/** toy_job — the job for n samples z[n,L]. */
SamplerJob toy_job(Network *n, Run r, int32_t *z);
/** toy_samples — draw z[n,L] from `start`. Returns the finished job, which counts the network evaluations. */
SamplerJob toy_samples(Network *n, Run r, const int32_t start[L], int32_t *z);
/** toy_count_up — a SamplerJob.progress: *arg is the previous step (int64_t); asserts that `step` is the next one. */
int toy_count_up(void *arg, int64_t step);
/** toy_compare — compare toy_draws(draws) samples with the distribution `law`; count[s] is how often state s was drawn.
 *  Returns the number of evaluated sequences. */
int64_t toy_compare(Network *n, Run r, const int32_t start[L], int64_t draws, const double law[STATES],
                    int64_t count[STATES]);
/** toy_sharp — fail unless the chi-square test of toy_draws(draws) samples would reject the distribution `wrong`. */
void toy_sharp(const double *law, const double *wrong, int states, int64_t draws);
