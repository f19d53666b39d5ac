/* activity — what the main thread is doing at this moment, for the watchdog (dist/watch.h), and how long it has waited
 * for other ranks. Calls from other threads than the one that called activity_follow change nothing. */
#pragma once
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum ActivityKind {
  ACTIVITY_COMPUTE,    /* may take any time */
  ACTIVITY_COLLECTIVE, /* waits for other ranks */
  ACTIVITY_IO,         /* waits for a file */
  ACTIVITY_DEVICE      /* waits for the device, whose queue may hold collectives */
} ActivityKind;

typedef struct Activity {
  ActivityKind kind;
  const char *what; /* "an all-reduce", "the forward pass" */
  int64_t step;     /* of the training, −1: no step */
  uint64_t count;   /* grows with every call below */
} Activity;

/** activity_follow — the calling thread is the one to be followed. */
void activity_follow(void);
/** activity_step — the training step that begins. */
void activity_step(int64_t step);
/** activity_phase — the part of the computation that begins. `what` must outlive the process's activities: a literal. */
void activity_phase(const char *what);
/** activity_tick — there was progress. */
void activity_tick(void);
/** activity_begin, activity_end — around a call that may block; not nested. `what`: a literal. */
void activity_begin(ActivityKind kind, const char *what);
void activity_end(void);
/** activity_now — the present activity; from any thread. Its fields may belong to two moments in close succession. */
Activity activity_now(void);
/** activity_waited — seconds that the followed thread has spent in ACTIVITY_COLLECTIVE so far. */
double activity_waited(void);

#ifdef __cplusplus
}
#endif
