#include "diffusion/objective.h"
#include "base/err.h"
#include "base/mem.h"
#include <string.h>

extern const ObjectiveTable objective_subs;
static const ObjectiveTable *const objectives[] = {&objective_subs, NULL};

int objective_create(Objective *o, const char *name, const Schedule *schedule, int32_t mask) {
  for (int i = 0; objectives[i]; i++) {
    if (strcmp(objectives[i]->name, name) != 0) continue;
    *o = (Objective){objectives[i], schedule, mask};
    return OK;
  }
  return RAISE(ERR_USAGE, "diffusion.objective = %s: no such objective", name);
}

int noised_create(Noised *n, int64_t capacity, int64_t L) {
  size_t rows = (size_t)(capacity * L);
  *n = (Noised){.capacity = capacity, .L = L};
  TRY(mem_alloc(&n->z, rows * sizeof *n->z));
  TRY(mem_alloc(&n->sigma, (size_t)capacity * sizeof *n->sigma));
  TRY(mem_alloc(&n->rows, rows * sizeof *n->rows));
  TRY(mem_alloc(&n->target, rows * sizeof *n->target));
  return mem_alloc(&n->weight, rows * sizeof *n->weight);
}

void noised_destroy(Noised *n) {
  mem_free(&n->z);
  mem_free(&n->sigma);
  mem_free(&n->rows);
  mem_free(&n->target);
  mem_free(&n->weight);
  *n = (Noised){0};
}

void noised_begin(Noised *n, int64_t B) {
  ASSERT(B <= n->capacity);
  n->B = B;
  n->n_rows = n->masked = n->scored = 0;
}

void noised_add(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t) {
  n->sigma[b] = schedule_sigma(o->schedule, t);
  n->scored += length;
  for (int64_t l = 0; l < n->L; l++) n->masked += n->z[b * n->L + l] == o->mask;
  o->table->score(o, n, b, x0, length, t);
}

int objective_loss(const Objective *o, Device *dev, Tensor loss, Tensor logits, Tensor target, Tensor weight,
                   bool gradient) {
  return o->table->loss(o, dev, loss, logits, target, weight, gradient);
}

int objective_denoise(const Objective *o, Device *dev, Tensor ids, Tensor logits, Tensor uniform) {
  return o->table->denoise(o, dev, ids, logits, uniform);
}
