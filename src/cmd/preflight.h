/* preflight — what would stop, slow or crowd a run on these hosts, found before it starts: one line a finding. */
#pragma once
#include "cmd/timing.h"

enum { PREFLIGHT_HOST = 64, PREFLIGHT_LINE = 512 };

/* RankFacts — what a rank knows of its place before the backend pins its threads. */
typedef struct RankFacts {
  char host[PREFLIGHT_HOST];
  char network[128]; /* its interfaces */
  int64_t allowed;   /* cores that it may run on */
  int64_t cores;     /* cores of its host */
} RankFacts;

typedef struct Preflight {
  Comm *comm;       /* not owned */
  RankFacts *ranks; /* [size] on rank 0, else NULL */
  /* set by the caller once the trainer has run a step */
  Trainer *trainer; /* not owned */
  double micro;     /* seconds of a micro-batch, the slowest rank's */
  double step;      /* seconds of a step */
  double resident;  /* bytes that a rank is expected to hold in host memory, without the copy that rank 0 saves */
  /* found on the way */
  double state; /* bytes of a checkpoint */
  double save;  /* seconds to write it; 0: unknown */
  int code;     /* of the last finding that would stop the run, OK if there is none … */
  char line[PREFLIGHT_LINE];
} Preflight;

/** preflight_begin — gather hosts, cores and interfaces of all ranks; before a device is opened. Collective.
 *  Errors  ERR_MEMORY, ERR_COMM, agreed */
int preflight_begin(Preflight *p, Comm *comm);
void preflight_end(Preflight *p);
/** preflight_run — print the findings. Collective, agreed.
 *  Errors  that of the last finding that would stop a run; the others are printed as errors */
int preflight_run(Preflight *p);
/** preflight_stop — note a finding that would stop the run, and how to change that. Rank 0. */
void preflight_stop(Preflight *p, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* preflight_disk.c: the run directory; rank 0 */
/** find_disk — free space beside what the run will write; speed of writing. */
void find_disk(Preflight *p);
/** find_locks — whether the run directory can be locked. */
void find_locks(Preflight *p);

/* preflight_time.c; rank 0 */
/** find_time — the allocation's end and its signal beside steps, validations and saves. */
void find_time(Preflight *p);
