#include "sampling/events.h"
#include "base/err.h"
#include "base/mem.h"
#include "sampling/draws.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Clock { /* one sequence: its events in order of time, and the next one */
  Event *list;
  int64_t n, next;
} Clock;

typedef struct Clocks {
  Clock *clock;  /* [job->n] */
  Event *events; /* [job->n · L] */
  int32_t *z;    /* [job->n · L] the sequences of a pass, side by side */
  int64_t *who;  /* [job->n] their indices in the job */
  Draws draws;
} Clocks;

static int earlier(const void *a, const void *b) {
  const Event *x = a, *y = b;
  if (x->time != y->time) return x->time < y->time ? -1 : 1;
  return x->l < y->l ? -1 : x->l > y->l;
}

static int clocks_create(Clocks *c, const SamplerJob *job) {
  size_t tokens = (size_t)(job->n * job->length);
  *c = (Clocks){0};
  TRY(mem_alloc(&c->clock, (size_t)job->n * sizeof *c->clock));
  TRY(mem_alloc(&c->events, tokens * sizeof *c->events));
  TRY(mem_alloc(&c->z, tokens * sizeof *c->z));
  TRY(mem_alloc(&c->who, (size_t)job->n * sizeof *c->who));
  return draws_create(&c->draws, (int64_t)tokens);
}

static void clocks_destroy(Clocks *c) {
  mem_free(&c->clock);
  mem_free(&c->events);
  mem_free(&c->z);
  mem_free(&c->who);
  draws_destroy(&c->draws);
}

/* The events at INFINITY are those of the noise removal, if there is one. */
static bool over(const SamplerJob *job, const Clock *k, bool removal) {
  return k->next == k->n || (k->list[k->next].time == INFINITY && !(removal && job->noise_removal));
}

/* The next event of each sequence that has one, in one pass of the network; *more: whether there was any. */
static int pass(SamplerJob *job, Clocks *c, bool removal, bool *more) {
  int64_t L = job->length, B = 0;
  c->draws.n = 0;
  for (int64_t b = 0; b < job->n; b++) {
    Clock *k = &c->clock[b];
    if (over(job, k, removal)) continue;
    memcpy(c->z + B * L, job->z + b * L, (size_t)L * sizeof *c->z);
    for (double now = k->list[k->next].time; k->next < k->n && k->list[k->next].time == now; k->next++)
      draws_add(&c->draws, job, B, k->list[k->next].l, k->list[k->next].uniform);
    c->who[B++] = b;
  }
  *more = B > 0;
  if (B == 0) return OK;
  c->draws.who = c->who;
  TRY(draws_evaluate(job, &c->draws, c->z, B, 1));
  TRY(draws_fill(job, &c->draws, c->z, removal, NULL));
  for (int64_t i = 0; i < B; i++) memcpy(job->z + c->who[i] * L, c->z + i * L, (size_t)L * sizeof *c->z);
  return OK;
}

static void start(SamplerJob *job, Clocks *c, void (*events)(const SamplerJob *, int64_t, Event *, int64_t)) {
  int64_t L = job->length;
#pragma omp parallel for schedule(dynamic)
  for (int64_t b = 0; b < job->n; b++) {
    Clock *k = &c->clock[b];
    *k = (Clock){.list = c->events + b * L};
    for (int64_t l = 0; l < L; l++)
      if (job->z[b * L + l] == job->objective->mask) k->list[k->n++] = (Event){.l = l};
    events(job, job->first + b, k->list, k->n);
    qsort(k->list, (size_t)k->n, sizeof *k->list, earlier);
  }
}

/* Progress of all sequences, in steps of the job. */
static int64_t progress(const SamplerJob *job, const Clocks *c) {
  double done = 0, all = 0;
  for (int64_t b = 0; b < job->n; b++) {
    done += (double)c->clock[b].next;
    all += (double)c->clock[b].n;
  }
  return all > 0 ? (int64_t)(done / all * (double)job->steps) : job->steps;
}

int events_run(SamplerJob *job, void (*events)(const SamplerJob *, int64_t, Event *, int64_t)) {
  Clocks c;
  int err = OK;
  TRY_TO(done, clocks_create(&c, job));
  start(job, &c, events);
  for (int removal = 0; removal < 2; removal++) {
    for (bool more = true; more;) {
      TRY_TO(done, pass(job, &c, removal, &more));
      if (job->progress) TRY_TO(done, job->progress(job->progress_arg, progress(job, &c)));
    }
  }
done:
  clocks_destroy(&c);
  return err;
}
