#include "measure/profile_norms.h"
#include "base/err.h"
#include "base/mem.h"
#include <string.h>

static void plan(ProfileNorms *n) {
  const Model *m = &n->net->model;
  const ModelOptions *o = &m->options;
  int64_t chunk = m->dev->ops->chunk;
  n->x = arena_tensor(&n->arena, m->dev->real, m->capacity, o->width);
  n->terms = arena_tensor(&n->arena, DT_F64, (o->length * o->width + chunk - 1) / chunk, 0);
  n->sums = arena_tensor(&n->arena, DT_F64, n->seams * o->batch, 0);
}

int profile_norms_create(ProfileNorms *n, Network *net) {
  const ModelOptions *o = &net->model.options;
  *n = (ProfileNorms){.net = net, .seams = 2 * o->blocks + 1};
  TRY(mem_alloc(&n->rows, (size_t)o->batch * sizeof *n->rows));
  TRY(mem_alloc(&n->squares, (size_t)(n->seams * o->batch) * sizeof *n->squares));
  arena_measure(&n->arena, net->model.dev);
  plan(n);
  TRY(arena_commit(&n->arena));
  plan(n);
  return OK;
}

void profile_norms_destroy(ProfileNorms *n) {
  if (n->net) n->net->tap = (Tap){0};
  arena_destroy(&n->arena);
  mem_free(&n->rows);
  mem_free(&n->squares);
}

/* Of each sequence, whose predicted rows are neighbours. */
static int see(void *arg, int64_t branches, Tensor x, bool chosen) {
  ProfileNorms *n = arg;
  Model *m = &n->net->model;
  int64_t D = m->options.width, chunk = m->dev->ops->chunk, first = 0;
  ASSERT(branches < n->seams);
  if (!chosen && !tensor_none(m->rows)) { /* none: all rows are wanted */
    Tensor wanted = tensor_rows(n->x, 0, tensor_count(m->rows));
    TRY(op_gather_rows(m->dev, wanted, x, m->rows));
    x = wanted;
  }
  for (int64_t b = 0; b < n->net->noised.B; first += n->rows[b++]) {
    if (n->rows[b] == 0) continue;
    Tensor terms = tensor_rows(n->terms, 0, (n->rows[b] * D + chunk - 1) / chunk);
    TRY(op_squares(m->dev, terms, tensor_rows(x, first, n->rows[b])));
    TRY(op_sum_terms(m->dev, tensor_rows(n->sums, branches * m->options.batch + b, 1), terms));
  }
  return OK;
}

int profile_norms_begin(ProfileNorms *n) {
  const Noised *z = &n->net->noised;
  memset(n->rows, 0, (size_t)z->B * sizeof *n->rows);
  for (int64_t i = 0; i < z->n_rows; i++) n->rows[z->rows[i] / z->L]++;
  n->net->tap = (Tap){see, n};
  return tensor_zero(n->net->model.dev, n->sums);
}

int profile_norms_end(ProfileNorms *n) {
  n->net->tap = (Tap){0};
  return tensor_download(n->net->model.dev, n->squares, n->sums);
}
