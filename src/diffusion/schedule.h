/* schedule — how much of the signal is left at time t: alpha(t) = exp(−σ(t)); a token is masked with probability
 * 1 − alpha(t). One file and one row of keys.def each: schedule_WORD.c. Source: arXiv:2406.07524 §3, App. E. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

typedef struct Schedule Schedule;
typedef struct ScheduleTable {
  const char *name;
  double sigma_max;                               /* default of diffusion.sigma_max; 0: uses neither σmin nor σmax */
  bool linear_masking;                            /* 1 − alpha = t for ε → 0: what the bound in T steps assumes */
  bool invertible_weight;                         /* times may be drawn so that log(1 − e^−σ) is uniform */
  double (*sigma)(const Schedule *, double t);    /* total noise σ(t), nat */
  double (*rate)(const Schedule *, double t);     /* σ'(t) */
  double (*time)(const Schedule *, double sigma); /* the t at which σ(t) = sigma */
} ScheduleTable;
struct Schedule {
  const ScheduleTable *table;
  double eps, sigma_min, sigma_max;
};

extern const ScheduleTable *const schedules[]; /* NULL-ended */

/** schedule_create — the schedule of that name; sigma_max 0: its default.
 *  Errors  ERR_USAGE: no such name, or sigma_min ≥ sigma_max */
int schedule_create(Schedule *s, const char *name, double eps, double sigma_min, double sigma_max);
double schedule_sigma(const Schedule *s, double t);
double schedule_rate(const Schedule *s, double t);
/** schedule_time — the inverse of schedule_sigma. */
double schedule_time(const Schedule *s, double sigma);
/** schedule_masked — 1 − alpha(t), the probability that a token is masked at t. */
double schedule_masked(const Schedule *s, double t);
/** schedule_weight — σ'/(e^σ − 1): the weight of −log p in the continuous-time bound. */
double schedule_weight(const Schedule *s, double t);
/** schedule_ends — the smallest and the largest σ between which log(1 − e^−σ) is made uniform. */
void schedule_ends(const Schedule *s, double *least, double *most);
/** schedule_span — between these ends log(1 − e^−σ) goes from low to low + slope. */
void schedule_span(const Schedule *s, double *low, double *slope);
