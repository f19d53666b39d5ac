#include "measure/profile_bins.h"
#include "base/err.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

/* 0, 1, 2, 3–4, 5–8, … */
static int64_t distance_bin(int64_t distance) {
  int64_t k = distance > 0;
  while (k > 0 && INT64_C(1) << (k - 1) < distance) k++;
  return k;
}

/* Those of 0 … L − 1, and one without a visible token. */
static int64_t distance_bins(int64_t L) { return distance_bin(L - 1) + 2; }

void profile_bins_distance(const ProfileBins *b, int64_t k, int64_t *low, int64_t *high) {
  *low = *high = b->L;
  if (k + 1 == distance_bins(b->L)) return;
  *low = k < 2 ? k : (INT64_C(1) << (k - 2)) + 1;
  *high = k < 2 ? k : INT64_C(1) << (k - 1);
}

int profile_bins_create(ProfileBins *b, int64_t L, int64_t V) {
  const int64_t n[CUTS] = {PROFILE_SHARES, L, PROFILE_TENTHS, distance_bins(L), PROFILE_SHARES * PROFILE_TENTHS};
  *b = (ProfileBins){.L = L, .V = V, .sequence = -1};
  for (int c = 0; c < CUTS; c++) b->first[c + 1] = b->first[c] + n[c];
  TRY(mem_alloc(&b->tenth, (size_t)V));
  return mem_alloc(&b->distance, (size_t)L * sizeof *b->distance);
}

void profile_bins_destroy(ProfileBins *b) {
  mem_free(&b->tenth);
  mem_free(&b->distance);
}

typedef struct Type {
  int64_t id, count;
} Type;

static int by_count(const void *a, const void *b) {
  const Type *x = a, *y = b;
  if (x->count != y->count) return x->count < y->count ? 1 : -1;
  return (x->id > y->id) - (x->id < y->id);
}

static void cut_types(ProfileBins *b, const Type *types, int64_t total) {
  double before = 0;
  for (int64_t i = 0; i < b->V && types[i].count > 0; i++) {
    int64_t n = types[i].count, k = (int64_t)(PROFILE_TENTHS * (before + (double)n / 2) / (double)total);
    b->tenth[types[i].id] = (uint8_t)k;
    if (b->types[k]++ == 0) b->high[k] = n;
    b->low[k] = n;
    before += (double)n;
  }
}

int profile_bins_count(ProfileBins *b, const int64_t *count) {
  Type *types = NULL;
  int64_t total = 0;
  TRY(mem_alloc(&types, (size_t)b->V * sizeof *types));
  for (int64_t v = 0; v < b->V; v++) {
    types[v] = (Type){v, count[v]};
    total += count[v];
  }
  qsort(types, (size_t)b->V, sizeof *types, by_count);
  cut_types(b, types, total);
  mem_free(&types);
  return OK;
}

void profile_bins_begin(ProfileBins *b) { b->sequence = -1; }

/* Share and distances of positions from … to−1 of sequence s, which see those before: one sweep from each side. */
static void look_at(ProfileBins *b, const Objective *o, const Noised *z, int64_t s, int64_t from, int64_t to) {
  const int32_t *ids = z->z + s * z->L, *x0 = z->x0 + s * z->L;
  int64_t none = distance_bins(b->L) - 1, masked = 0;
  for (int64_t l = from, seen = from > 0 ? from - 1 : -b->L; l < to; l++) {
    bool visible = !o->diffusion || ids[l] == x0[l];
    masked += !visible;
    if (visible) seen = l;
    b->distance[l] = (int32_t)(l - seen < b->L ? l - seen : b->L);
  }
  for (int64_t l = to - 1, seen = 2 * b->L; l >= from; l--) {
    if (b->distance[l] == 0) seen = l;
    if (seen - l < b->distance[l]) b->distance[l] = (int32_t)(seen - l);
  }
  for (int64_t l = from; l < to; l++)
    b->distance[l] = (int32_t)(b->distance[l] < b->L ? distance_bin(b->distance[l]) : none);
  b->share = (10 * masked + to - from - 1) / (to - from);
  b->sequence = s;
  b->from = from;
}

void profile_bins_row(ProfileBins *b, const Objective *o, const Noised *z, int64_t i, const Prediction *p,
                      int64_t bin[CUTS]) {
  int64_t s = z->rows[i] / z->L, l = z->rows[i] % z->L, top = (int64_t)(p->top * PROFILE_TENTHS);
  int64_t size = z->L / objective_blocks(o, z->L), from = l / size * size, to = from + size, n = z->length[s];
  if (s != b->sequence || from != b->from) look_at(b, o, z, s, from, to < n ? to : n);
  if (top > PROFILE_TENTHS - 1) top = PROFILE_TENTHS - 1;
  bin[CUT_SHARE] = b->share;
  bin[CUT_POSITION] = o->diffusion ? l : l + 1;
  bin[CUT_FREQUENCY] = b->tenth[z->target[i]];
  bin[CUT_DISTANCE] = b->distance[l];
  bin[CUT_CALIBRATION] = b->share * PROFILE_TENTHS + top;
  for (int c = 0; c < CUTS; c++) bin[c] += b->first[c];
}
