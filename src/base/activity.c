#include "base/activity.h"
#include "base/clock.h"
#include <stdatomic.h>
#include <stdbool.h>

static _Thread_local bool followed;
static double waited, begun; /* of the followed thread, which alone uses them, as the next one */
static const char *phase = "start-up";

/* Relaxed order suffices: the watchdog looks for values that have not changed for seconds. */
static _Atomic int kind;
static _Atomic(const char *) what = "start-up";
static _Atomic int64_t step = -1;
static _Atomic uint64_t count;

static void set(ActivityKind k, const char *w) {
  atomic_store_explicit(&kind, (int)k, memory_order_relaxed);
  atomic_store_explicit(&what, w, memory_order_relaxed);
  activity_tick();
}

void activity_follow(void) { followed = true; }

void activity_tick(void) {
  if (followed) atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
}

void activity_step(int64_t s) {
  if (!followed) return;
  atomic_store_explicit(&step, s, memory_order_relaxed);
  activity_tick();
}

void activity_phase(const char *w) {
  if (!followed) return;
  phase = w;
  set(ACTIVITY_COMPUTE, w);
}

void activity_begin(ActivityKind k, const char *w) {
  if (!followed) return;
  begun = k == ACTIVITY_COLLECTIVE ? clock_now() : 0;
  set(k, w);
}

void activity_end(void) {
  if (!followed) return;
  if (begun > 0) waited += clock_now() - begun;
  begun = 0;
  set(ACTIVITY_COMPUTE, phase);
}

Activity activity_now(void) {
  return (Activity){.kind = (ActivityKind)atomic_load_explicit(&kind, memory_order_relaxed),
                    .what = atomic_load_explicit(&what, memory_order_relaxed),
                    .step = atomic_load_explicit(&step, memory_order_relaxed),
                    .count = atomic_load_explicit(&count, memory_order_relaxed)};
}

double activity_waited(void) { return waited; }
