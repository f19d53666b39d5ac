#include "network/posthoc.h"
#include "base/err.h"
#include "base/mem.h"
#include "network/power.h"

typedef struct Snapshots {
  MixPart *parts;
  Power *profiles;
  double *weights;
  int n;
} Snapshots;

static void snapshots_destroy(Snapshots *s) {
  mem_free(&s->parts);
  mem_free(&s->profiles);
  mem_free(&s->weights);
}

static int snapshots_create(Snapshots *s, int n) {
  *s = (Snapshots){0};
  TRY(mem_alloc(&s->parts, (size_t)n * sizeof *s->parts));
  TRY(mem_alloc(&s->profiles, (size_t)n * sizeof *s->profiles));
  return mem_alloc(&s->weights, (size_t)n * sizeof *s->weights);
}

static int take(Snapshots *s, const char *path, int64_t last) {
  CheckpointState state;
  int found = 0;
  TRY(checkpoint_read(path, &state));
  for (int i = 0; i < CKPT_TRACES; i++) {
    double sigma = state.trace_sigma[i];
    if (sigma < POWER_NARROW || sigma > POWER_WIDE) continue;
    found++;
    if (state.step < 1 || (last >= 0 && state.step > last)) continue;
    s->parts[s->n] = (MixPart){.path = path, .group = CKPT_TRACE + (CheckpointGroup)i};
    s->profiles[s->n++] = (Power){(double)state.step, power_gamma(sigma)};
  }
  checkpoint_state_destroy(&state);
  CHECK(found > 0, ERR_DATA, "%s holds no power-law averages: train with train.ema_traces = 0.05,0.10", path);
  return OK;
}

static int solve(Posthoc *o, Snapshots *s) {
  double last = 0;
  CHECK(s->n > 0, ERR_DATA, "no checkpoint is of step 1 to %lld", (long long)o->step);
  for (int i = 0; i < s->n; i++)
    if (s->profiles[i].step > last) last = s->profiles[i].step;
  if (o->step < 0) o->step = (int64_t)last;
  Power wanted = {(double)o->step, power_gamma(o->sigma)};
  TRY(power_solve(s->profiles, s->n, wanted, s->weights, &o->distance));
  int n = 0;
  for (int i = 0; i < s->n; i++) {
    s->parts[n] = s->parts[i];
    s->parts[n].weight = s->weights[i];
    n += s->weights[i] != 0;
  }
  s->n = n;
  return OK;
}

int posthoc_parts(Posthoc *o, const char *const *paths, int n, MixPart **parts, int *n_parts) {
  Snapshots s;
  int err = snapshots_create(&s, n * CKPT_TRACES);
  for (int i = 0; i < n && err == OK; i++) err = take(&s, paths[i], o->step);
  if (err == OK) err = solve(o, &s);
  if (err == OK) {
    *parts = s.parts;
    *n_parts = s.n;
    s.parts = NULL;
  }
  snapshots_destroy(&s);
  return err;
}
