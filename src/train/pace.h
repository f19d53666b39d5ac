/* pace — each rank's own time for a step, without what it waits for other ranks: it shows which host is slow. */
#pragma once
#include "dist/comm.h"

enum { PACE_HOST = 64 };

typedef struct Pace {
  double start, waited; /* of the step that runs */
  double own;           /* seconds of the finished steps since pace_compare, waiting left out */
} Pace;

typedef struct PaceResult { /* seconds per step */
  double median, slowest;   /* of even numbers of ranks the lower median */
  int32_t rank;             /* the slowest */
  char host[PACE_HOST];     /* its host */
} PaceResult;

/** pace_begin, pace_end — around a step; not pace_end for a step that is given up. pace_end returns the seconds that the
 *  step took, waiting included. */
void pace_begin(Pace *p);
double pace_end(Pace *p);
/** pace_compare — the ranks' times for the `steps` steps that have ended, which are then forgotten. Collective. */
int pace_compare(Pace *p, int64_t steps, Comm *comm, PaceResult *result);
/** pace_uneven — whether a rank takes so much longer than the others that it is worth a line in the log; `steps`: how
 *  many were compared. Differences over less than a second are noise. */
bool pace_uneven(const PaceResult *r, int64_t steps);
