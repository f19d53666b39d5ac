#include "measure/choices.h"
#include "base/err.h"
#include "base/mem.h"
#include <math.h>

typedef struct Question {
  int64_t options, golds, best, best_norm; /* best: a request, −1: none yet */
} Question;

static double per_byte(const Requests *r, const double *ll, int64_t i) { return ll[i] / (double)r->bytes[i]; }

static void question_add(Question *q, const Requests *r, const double *ll, int64_t i) {
  if (q->options++ == 0) q->best = q->best_norm = i;
  q->golds += r->gold[i];
  if (ll[i] > ll[q->best]) q->best = i;
  if (r->bytes && per_byte(r, ll, i) > per_byte(r, ll, q->best_norm)) q->best_norm = i;
}

static void share(double *value, double *error, int64_t hits, int64_t n) {
  *value = (double)hits / (double)n;
  *error = n > 1 ? sqrt(*value * (1 - *value) / (double)(n - 1)) : NAN;
}

int choices_of(Choices *c, const Requests *r, const double *ll) {
  Question *list = NULL;
  int64_t hits = 0, norm_hits = 0;
  *c = (Choices){.acc = NAN, .acc_se = NAN, .norm = NAN, .norm_se = NAN};
  if (!r->option_of || !r->gold) return OK;
  TRY(mem_alloc(&list, (size_t)r->n * sizeof *list));
  for (int64_t i = 0; i < r->n; i++) question_add(&list[r->option_of[i]], r, ll, i);
  for (int64_t k = 0; k < r->n; k++) {
    if (list[k].options < 2 || list[k].golds == 0) continue;
    c->questions++;
    hits += r->gold[list[k].best];
    norm_hits += r->gold[list[k].best_norm];
  }
  mem_free(&list);
  if (c->questions == 0) return OK;
  share(&c->acc, &c->acc_se, hits, c->questions);
  if (r->bytes) share(&c->norm, &c->norm_se, norm_hits, c->questions);
  return OK;
}
