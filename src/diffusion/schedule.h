/* schedule — how much of the signal is left at time t: alpha(t) = exp(−σ(t)); a token is masked with probability 1 −
 * alpha(t). Source: arXiv:2406.07524 §3, App. E. */
#pragma once

typedef struct Schedule Schedule;
typedef struct ScheduleTable {
  const char *name;
  double (*sigma)(const Schedule *, double t); /* total noise σ(t), nat */
  double (*rate)(const Schedule *, double t);  /* σ'(t)                 */
} ScheduleTable;
struct Schedule {
  const ScheduleTable *table;
  double eps;
};

/** schedule_create — the schedule of that name; ERR_USAGE if there is none. */
int schedule_create(Schedule *s, const char *name, double eps);
double schedule_sigma(const Schedule *s, double t);
double schedule_rate(const Schedule *s, double t);
/** schedule_masked — 1 − alpha(t), the probability that a token is masked at t. */
double schedule_masked(const Schedule *s, double t);
/** schedule_weight — σ'/(e^σ − 1): the weight of −log p in the continuous-time bound. */
double schedule_weight(const Schedule *s, double t);
