#include "train/pace.h"
#include "base/activity.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double EXCESS = 1.2, NOISE = 1; /* relative to the median; seconds */

void pace_begin(Pace *p) {
  p->start = clock_now();
  p->waited = activity_waited();
}

double pace_end(Pace *p) {
  double seconds = clock_now() - p->start;
  p->own += seconds - (activity_waited() - p->waited);
  return seconds;
}

typedef struct Mine {
  double seconds;
  int32_t rank;
  char host[PACE_HOST];
} Mine;

static int by_seconds(const void *a, const void *b) {
  double x = ((const Mine *)a)->seconds, y = ((const Mine *)b)->seconds;
  return (x > y) - (x < y);
}

int pace_compare(Pace *p, int64_t steps, Comm *comm, PaceResult *result) {
  int n = comm->size;
  Mine mine = {.seconds = p->own / (double)steps, .rank = comm->rank}, *all = NULL;
  gethostname(mine.host, sizeof mine.host - 1);
  *p = (Pace){0};
  TRY_ALL(comm, mem_alloc(&all, (size_t)n * sizeof *all));
  int err = comm_gather(comm, all, &mine, sizeof mine, 0);
  qsort(all, (size_t)n, sizeof *all, by_seconds);
  *result = (PaceResult){.median = all[(n - 1) / 2].seconds, .slowest = all[n - 1].seconds, .rank = all[n - 1].rank};
  memcpy(result->host, all[n - 1].host, sizeof result->host);
  mem_free(&all);
  return err != OK ? err : comm_broadcast(comm, result, sizeof *result, 0);
}

bool pace_uneven(const PaceResult *r, int64_t steps) {
  return r->slowest > EXCESS * r->median && r->slowest * (double)steps >= NOISE;
}
