#include "measure/interval.h"
#include "measure/student.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static Spread spread(double value, double se, double freedom) {
  double half = se == 0 ? 0 : se * student_quantile(0.05, freedom);
  return (Spread){.value = value, .se = se, .low = value - half, .high = value + half, .freedom = freedom};
}

/* Of the losses, or of their differences to `minus` where that is not NULL. */
static double loss_at(const Losses *l, const double *minus, int64_t i) { return l->loss[i] - (minus ? minus[i] : 0); }

static int64_t total(const Losses *l, const double *minus, double *nll) {
  double sum = 0;
  int64_t tokens = 0;
  for (int64_t i = 0; i < l->n; i++) {
    sum += loss_at(l, minus, i);
    tokens += l->tokens[i];
  }
  *nll = sum / (double)tokens;
  return tokens;
}

Spread interval_masks(const Losses *l) {
  double nll, D = (double)l->draws, variance = 0, fourth = 0; /* Σ v, Σ v² */
  double tokens = (double)total(l, NULL, &nll);
  if (l->draws == 0) return spread(nll, 0, INFINITY);
  if (l->draws == 1 || l->square == NULL) return spread(nll, NAN, NAN);
  for (int64_t i = 0; i < l->n; i++) {
    double v = l->square[i] / (D * (D - 1));
    variance += v;
    fourth += v * v;
  }
  double freedom = variance > 0 ? variance * variance / (fourth / (D + 1)) - 2 : INFINITY;
  return spread(nll, sqrt(variance) / tokens, freedom > D - 1 ? freedom : D - 1);
}

static Spread by_blocks(const Losses *l, const double *minus, int64_t block) {
  double nll, square = 0, K = 0;
  double tokens = (double)total(l, minus, &nll);
  for (int64_t i = 0; i < l->n; i += block) {
    double residual = 0;
    int64_t scored = 0;
    for (int64_t j = i; j < l->n && j < i + block; j++) {
      residual += loss_at(l, minus, j) - nll * (double)l->tokens[j];
      scored += l->tokens[j];
    }
    square += residual * residual;
    K += scored > 0;
  }
  Spread s = spread(nll, K > 1 ? sqrt(K / (K - 1) * square) / tokens : NAN, K - 1);
  s.block = block;
  s.blocks = (int64_t)K;
  return s;
}

Spread interval_sequences(const Losses *l, int64_t block) { return by_blocks(l, NULL, block); }

Split interval_split(const Losses *l) {
  double nll, between = 0, within = 0, n = (double)l->n, D = (double)l->draws;
  total(l, NULL, &nll);
  for (int64_t i = 0; i < l->n; i++) {
    double residual = l->loss[i] - nll * (double)l->tokens[i];
    between += residual * residual;
    if (l->square && l->draws > 1) within += l->square[i] / (D - 1);
  }
  between = l->n > 1 ? between / (n - 1) : NAN;
  if (l->draws == 0) return (Split){.rows = between};
  if (l->draws == 1 || !l->square) return (Split){NAN, NAN};
  return (Split){.rows = between - within / n / D, .draws = within / n};
}

int64_t interval_block(int64_t n, bool running) {
  enum { ROWS = 50, BLOCKS = 25 };
  int64_t block = running ? n / BLOCKS : 1;
  return block > ROWS ? ROWS : block > 1 ? block : 1;
}

const char *interval_text(char text[INTERVAL_TEXT], double low, double high, int digits) {
  if (isnan(low)) return strcpy(text, "unknown");
  snprintf(text, INTERVAL_TEXT, "[%.*f,%.*f]", digits, low, digits, high);
  return text;
}

Interval interval_of(const double *loss, const int64_t *tokens, int64_t n) {
  double nll;
  Losses l = {.n = n, .loss = loss, .tokens = tokens};
  Spread s = interval_sequences(&l, 1);
  return (Interval){.nll = s.value, .low = s.low, .high = s.high, .tokens = total(&l, NULL, &nll)};
}

Difference interval_difference(const Losses *a, const Losses *b, int64_t block) {
  Difference d = {.spread = by_blocks(b, a->loss, block)};
  Spread *s = &d.spread;
  bool same = true;
  for (int64_t i = 0; i < a->n; i++) same = same && a->loss[i] == b->loss[i];
  if (same) s->se = s->low = s->high = 0;
  d.p = same ? 1 : s->se == 0 ? 0 : student_p(s->value / s->se, s->freedom);
  return d;
}
