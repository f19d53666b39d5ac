#include "sampling/job.h"

double job_time(int64_t i, int64_t steps) { return 1 - (double)i * (1 - 1e-5) / (double)steps; }

double job_chance(const SamplerJob *job, int64_t step) {
  const Schedule *s = job->objective->schedule;
  double now = schedule_masked(s, job_time(step, job->steps)),
         next = schedule_masked(s, job_time(step + 1, job->steps));
  return (now - next) / now;
}
