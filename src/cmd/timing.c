#include "cmd/timing.h"
#include "base/clock.h"
#include "base/err.h"
#include "dist/device_comm.h"
#include <string.h>
#include <unistd.h>

/* A longer step is extrapolated from its first micro-batches. */
static const double MOST_SECONDS = 20;

/* Device work is asynchronous: the time is taken after a sync. */
static int timed_micro(Trainer *t, Timing *m, StepResult *r) {
  device_profile_reset(&t->net.dev);
  m->plan.events = 0;
  m->start = clock_now();
  TRY(trainer_micro(t, r));
  TRY(device_sync(&t->net.dev));
  m->micro = clock_now() - m->start;
  m->micros++;
  return OK;
}

/* Forward and backward of as many micro-batches of the step as fit the time, then the update. */
static int time_step(Trainer *t, Timing *m, StepResult *r) {
  Device *dev = &t->net.dev;
  double start = clock_now(), n = (double)t->local_micro;
  m->micros = 0;
  m->work = (Work){0};
  TRY(reduction_begin(&t->reduction));
  TRY(timed_micro(t, m, r));
  while (m->micros < t->local_micro) {
    bool late = clock_now() - start + m->micro >= MOST_SECONDS;
    TRY(comm_any(t->comm, late, &late)); /* clocks differ, and the last micro-batch is collective */
    if (late) break;
    TRY(timed_micro(t, m, r));
  }
  work_add(&m->work, dev, n);
  device_profile_reset(dev);
  m->whole = m->micros == t->local_micro;
  start = clock_now();
  if (m->whole) TRY(trainer_update(t, r));
  TRY(device_sync(dev));
  m->update = clock_now() - start;
  m->seconds = m->micro * n + m->update;
  work_add(&m->work, dev, 1);
  return OK;
}

/* Ready.call: gradients from `first` on are final */
static int became_final(void *arg, int64_t first) {
  Trainer *t = ((void **)arg)[0];
  Timing *m = ((void **)arg)[1];
  Plan *p = &m->plan;
  double bytes = (double)(t->net.model.params.count - first) * (double)dtype_size(t->net.dev.real), before = 0;
  for (int i = 0; i < p->events; i++) before += p->final_bytes[i];
  if (p->events == PLAN_EVENTS) p->events--, before -= p->final_bytes[p->events];
  p->final_at[p->events] = clock_now() - m->start;
  p->final_bytes[p->events++] = bytes - before;
  return OK;
}

/* On a GPU the host does not wait for ops: once more, waiting for each, to learn the shares of their times, which are
 * scaled to the time of the step. */
static int time_ops(Trainer *t, Timing *m) {
  Timing each = *m;
  StepResult r = {0};
  t->net.dev.serial = true;
  int err = time_step(t, &each, &r);
  t->net.dev.serial = false;
  TRY(err);
  double scale = m->seconds / each.seconds;
  for (int g = 0; g < GROUPS; g++) m->work.seconds[g] = scale * each.work.seconds[g];
  for (int i = 0; i < each.plan.events; i++) each.plan.final_at[i] *= m->micro / each.micro;
  m->plan = each.plan;
  return OK;
}

static int measure(Trainer *t, Timing *m) {
  TRY(time_step(t, m, &m->result));
  bool enough = !m->whole || m->seconds > MOST_SECONDS / 2;
  TRY(comm_any(t->comm, enough, &enough));
  if (enough) return OK;
  StepResult r = {0};
  TRY(time_step(t, m, &r));
  return t->net.dev.ops->host ? OK : time_ops(t, m);
}

int timing_measure(Timing *m, Trainer *t) {
  *m = (Timing){0};
  void *arg[] = {t, m};
  t->reduction.watch = (Ready){became_final, arg};
  int err = measure(t, m);
  t->reduction.watch = (Ready){0};
  return err;
}

void timing_plan(Timing *m, const Trainer *t, const Ceilings *ceilings) {
  const Config *cfg = t->cfg;
  bool host = t->net.dev.ops->host;
  Plan *p = &m->plan;
  p->micro = m->micro;
  p->update = m->update;
  p->gradient = (double)tensor_bytes(t->net.model.params.grad);
  p->bucket = (double)device_comm_bucket;
  p->sum = ceilings->bytes;
  p->micros = cfg->train_global_batch / cfg->train_micro_batch;
  p->leaves = t->reduction.tree ? t->reduction.leaves : 0;
  p->threads = host ? t->net.dev.threads : 0;
  p->cores = host ? sysconf(_SC_NPROCESSORS_ONLN) : 0;
  p->per_node = cfg->plan_per_node;
  if (p->per_node == 0) p->per_node = host ? p->cores / p->threads : 8;
  if (p->per_node == 0) p->per_node = 1;
  p->overlap = !host;
  p->divided = cfg->dist_shard_optimizer;
  plan_links(p, cfg);
}
