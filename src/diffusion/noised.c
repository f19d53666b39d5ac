#include "diffusion/noised.h"
#include "base/err.h"
#include "base/mem.h"
#include "diffusion/latent.h"
#include "diffusion/timestep.h"
#include <string.h>

int noised_create(Noised *n, int64_t capacity, int64_t L, int terms) {
  size_t rows = (size_t)(capacity * L);
  *n = (Noised){.capacity = capacity, .L = L};
  TRY(mem_alloc(&n->x0, rows * sizeof *n->x0));
  TRY(mem_alloc(&n->z, rows * sizeof *n->z));
  TRY(mem_alloc(&n->length, (size_t)capacity * sizeof *n->length));
  TRY(mem_alloc(&n->label, (size_t)capacity * sizeof *n->label));
  TRY(mem_alloc(&n->sigma, (size_t)capacity * sizeof *n->sigma));
  TRY(mem_alloc(&n->rows, rows * sizeof *n->rows));
  TRY(mem_alloc(&n->target, rows * sizeof *n->target));
  TRY(mem_alloc(&n->t, (size_t)L * sizeof *n->t));
  TRY(mem_alloc(&n->time, rows * sizeof *n->time));
  return mem_alloc(&n->weight, rows * (size_t)terms * sizeof *n->weight);
}

int noised_soften(Noised *n) {
  size_t rows = (size_t)(n->capacity * n->L), entries = rows * LATENT_MOST;
  TRY(mem_alloc(&n->mix.begin, (rows + 1) * sizeof *n->mix.begin));
  TRY(mem_alloc(&n->mix.ids, entries * sizeof *n->mix.ids));
  TRY(mem_alloc(&n->mix.rows, entries * sizeof *n->mix.rows));
  return mem_alloc(&n->mix.weights, entries * sizeof *n->mix.weights);
}

void noised_destroy(Noised *n) {
  mem_free(&n->mix.begin);
  mem_free(&n->mix.ids);
  mem_free(&n->mix.rows);
  mem_free(&n->mix.weights);
  mem_free(&n->x0);
  mem_free(&n->z);
  mem_free(&n->length);
  mem_free(&n->label);
  mem_free(&n->sigma);
  mem_free(&n->rows);
  mem_free(&n->target);
  mem_free(&n->weight);
  mem_free(&n->t);
  mem_free(&n->time);
  *n = (Noised){0};
}

void noised_begin(Noised *n, int64_t B) {
  ASSERT(B <= n->capacity);
  n->B = B;
  n->draws = 1;
  n->mix.n = 0;
  n->end = -1;
  for (int64_t b = 0; b < B; b++) n->label[b] = -1;
  n->n_rows = n->masked = n->scored = 0;
}

/* Sequence b, whose blocks follow. sigma is read only where there is one block, at time t. */
static void begin_sequence(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t) {
  memcpy(n->x0 + b * n->L, x0, (size_t)n->L * sizeof *x0);
  n->length[b] = (int32_t)length;
  n->sigma[b] = o->options.change_of_variables ? t : schedule_sigma(o->schedule, t);
  n->scored += o->diffusion ? length : 0;
}

/* Rows and counts of block k of sequence b, whose z is there, at time t. Returns the first of the rows. */
static int64_t add_block(const Objective *o, Noised *n, int64_t b, int64_t k, double t) {
  int64_t blocks = objective_blocks(o, n->L), size = n->L / blocks, first = n->n_rows, length = n->length[b];
  n->time[b * blocks + k] = t;
  n->from = k * size;
  n->to = n->from + size < length ? n->from + size : length;
  for (int64_t l = n->from; l < n->to && o->diffusion; l++) n->masked += n->z[b * n->L + l] != n->x0[b * n->L + l];
  o->table->score(o, n, b, t);
  n->scored += o->diffusion ? 0 : n->n_rows - first;
  return first;
}

void noised_add(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, double t) {
  begin_sequence(o, n, b, x0, length, t);
  for (int64_t k = 0; k < objective_blocks(o, n->L); k++) add_block(o, n, b, k, t);
}

void noised_reweigh(const Objective *o, Noised *n, int64_t first, double t) {
  bool plain = o->options.plain;
  if (!plain && o->law.table->uniform) return;
  double density = plain ? 1 : law_density(&o->law, t);
  for (double *weight = n->weight + first * o->terms; first < n->n_rows; first++, weight += o->terms)
    *weight = plain ? 1 : *weight / density;
}

/* z of sequence b at `time`, and its softened tokens, behind those of the sequences before it. Each token is drawn in a
 * place with room for all its entries; then they move together. */
static void soften(const Objective *o, Noised *n, int64_t b, const int32_t *x0, double time, RngKey key) {
  TokenMix *m = &n->mix;
  double place = law_place(&o->law, time);
  int32_t *count = m->begin + 1; /* until the entries are in place */
  if (b == 0) m->n = 0, m->begin[0] = 0;
#pragma omp parallel for schedule(static)
  for (int64_t l = 0; l < n->L; l++) {
    int64_t r = b * n->L + l;
    RngKey own = key;
    own.stream += (uint32_t)(l + 1); /* a layer for each position */
    count[r] = latent_draw(&o->law.latent, place, o->options.input_temperature, x0[l], o->mask, own,
                           m->ids + r * LATENT_MOST, m->weights + r * LATENT_MOST);
    n->z[r] = m->ids[r * LATENT_MOST];
  }
  for (int64_t r = b * n->L; r < (b + 1) * n->L; r++) {
    memmove(m->ids + m->n, m->ids + r * LATENT_MOST, (size_t)count[r] * sizeof *m->ids);
    memmove(m->weights + m->n, m->weights + r * LATENT_MOST, (size_t)count[r] * sizeof *m->weights);
    for (int i = 0; i < count[r]; i++) m->rows[m->n + i] = (int32_t)r;
    m->begin[r + 1] = m->n += count[r];
  }
}

/* Sequence b with its blocks noised at the times of an evaluation, or of training and with its weights. */
static void draw_blocks(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, const double *t,
                        RngKey mask, bool train) {
  double (*time_of)(const Objective *, double) = train ? objective_train_time : objective_time;
  void (*corrupt)(const Objective *, int32_t *, const int32_t *, int64_t, int64_t, double, RngKey) =
      train ? objective_corrupt_train : objective_corrupt;
  int64_t blocks = objective_blocks(o, n->L), size = n->L / blocks;
  if (o->options.block == 1) {
    noised_count(o, n, b, x0, length, t, mask);
    return;
  }
  begin_sequence(o, n, b, x0, length, time_of(o, t[0]));
  for (int64_t k = 0; k < blocks; k++) {
    double time = time_of(o, t[k]);
    if (train && o->options.input_temperature > 0)
      soften(o, n, b, x0, time, mask);
    else
      corrupt(o, n->z + b * n->L, x0, k * size, (k + 1) * size, time, mask);
    int64_t first = add_block(o, n, b, k, time);
    if (train) noised_reweigh(o, n, first, time);
  }
}

void noised_draw(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, const double *t,
                 RngKey mask) {
  draw_blocks(o, n, b, x0, length, t, mask, false);
}

void noised_train(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, const double *t,
                  RngKey mask) {
  draw_blocks(o, n, b, x0, length, t, mask, true);
}

void noised_count(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t length, const double *t,
                  RngKey mask) {
  int64_t blocks = objective_blocks(o, n->L), size = n->L / blocks;
  begin_sequence(o, n, b, x0, length, 1);
  for (int64_t i = 0; i < blocks; i++) {
    int64_t k = 1 + (int64_t)(t[i] * (double)size);
    if (k > size) k = size;
    double time = objective_time_of(o, (double)k / (double)size);
    timestep_mask_count(n->z + b * n->L, x0, i * size, (i + 1) * size, o->mask, k, mask);
    int64_t first = add_block(o, n, b, i, time);
    n->sigma[b] = objective_condition(o, time);
    for (int64_t r = first; r < n->n_rows; r++) n->weight[r] = (double)size / (double)k;
  }
}

double noised_level(const Objective *o, const int32_t *z, int64_t length) {
  int64_t masked = 0;
  for (int64_t l = 0; l < length; l++) masked += z[l] == o->mask;
  return objective_condition(o, objective_time_of(o, (double)masked / (double)length));
}

void noised_part(const Objective *o, Noised *n, int64_t b, const int32_t *x0, int64_t first, int64_t end,
                 int64_t length, int64_t k, RngKey mask) {
  int32_t *z = n->z + b * n->L;
  memcpy(n->x0 + b * n->L, x0, (size_t)n->L * sizeof *x0);
  memcpy(z, x0, (size_t)n->L * sizeof *z);
  timestep_mask_count(z + first, x0 + first, 0, end - first, o->mask, k, mask);
  n->length[b] = (int32_t)length;
  n->sigma[b] = noised_level(o, z, length);
  for (int64_t l = first; l < end; l++)
    if (z[l] == o->mask) *noised_row(o, n, b, l, x0[l]) = (double)(end - first) / (double)k;
  n->masked += k;
  n->scored += end - first;
}

/* Tokens after the last one are 0: a causal network does not let them change what comes before. */
int64_t noised_next(const Objective *o, Noised *n, int64_t b, const int32_t *ids, int64_t length, const bool *scored) {
  int64_t before = n->n_rows;
  memset(n->z + b * n->L, 0, (size_t)n->L * sizeof *n->z);
  memcpy(n->z + b * n->L, ids, (size_t)length * sizeof *ids);
  n->length[b] = (int32_t)length;
  n->sigma[b] = 0;
  for (int64_t l = 1; l < length; l++)
    if (scored[l]) *noised_row(o, n, b, l - 1, ids[l]) = 1;
  n->scored += n->n_rows - before;
  return n->n_rows - before;
}

double *noised_row(const Objective *o, Noised *n, int64_t b, int64_t l, int32_t target) {
  n->rows[n->n_rows] = (int32_t)(b * n->L + l);
  n->target[n->n_rows] = target;
  return n->weight + n->n_rows++ * o->terms;
}

void noised_masked_rows(const Objective *o, Noised *n, int64_t b, double weight) {
  for (int64_t l = n->from; l < n->to; l++)
    if (n->z[b * n->L + l] == o->mask) *noised_row(o, n, b, l, n->x0[b * n->L + l]) = weight;
}
