#include "diffusion/latent.h"
#include "base/special.h"
#include <math.h>
#include <stddef.h>

static const double PI = 3.14159265358979323846;

/* The logarithm of the probability that a standard normal deviate is below x. */
static double log_below(double x) { return x > 0 ? log1p(-special_normal(-x)) : log(special_normal(x)); }

/* P and its derivative by a = e^(−γ/2), by the trapezoidal rule, which converges exponentially here: P' = ∫ y φ(y)
 * Φ(y + a)^(K−1) dy. */
static double largest(int64_t tokens, double a, double *slope) {
  const double END = 9.5, STEP = 1 / 64.0;
  double P = 0, dP = 0;
  for (double y = -END; y <= END; y += STEP) {
    double f = STEP * exp(-y * y / 2 + (double)(tokens - 1) * log_below(y + a)) / sqrt(2 * PI);
    P += f, dP += y * f;
  }
  *slope = dP;
  return P;
}

void latent_create(Latent *g, int64_t tokens, double low, double high) {
  double K = (double)tokens;
  *g = (Latent){.tokens = tokens, .low = low, .high = high};
  for (int i = 0; i < LATENT_NODES; i++) {
    double a = exp(-(low + (high - low) * i / (LATENT_NODES - 1)) / 2), dP, P = largest(tokens, a, &dP);
    g->alpha[i] = (K * P - 1) / (K - 1);
    g->slope[i] = -K / (K - 1) * dP * a / 2 * (high - low);
  }
}

double latent_alpha(const Latent *g, double place, double *slope) {
  const int last = LATENT_NODES - 2;
  int i = (int)(place * (last + 1));
  i = i < 0 ? 0 : i > last ? last : i;
  double h = 1.0 / (last + 1), s = place / h - i, y0 = g->alpha[i], y1 = g->alpha[i + 1];
  double m0 = h * g->slope[i], m1 = h * g->slope[i + 1], rise = y1 - y0;
  double square = 3 * rise - 2 * m0 - m1, cube = m0 + m1 - 2 * rise;
  if (slope) *slope = (m0 + s * (2 * square + 3 * s * cube)) / h;
  return y0 + s * (m0 + s * (square + s * cube));
}

double latent_place(const Latent *g, double alpha) {
  enum { HALVES = 60 };
  double low = 0, high = 1;
  for (int i = 0; i < HALVES; i++) {
    double middle = low + (high - low) / 2;
    if (latent_alpha(g, middle, NULL) > alpha)
      low = middle;
    else
      high = middle;
  }
  return high;
}

/* Halley's steps for log q, from the leading terms of the tail. */
double latent_upper(double q) {
  enum { STEPS = 50 };
  if (q > 0.5) return -latent_upper(1 - q);
  double goal = log(q), u = -2 * goal, x = u > 3 ? sqrt(u - log(2 * PI * u)) : 0;
  for (int i = 0; i < STEPS; i++) {
    double above = special_normal(-x), rate = exp(-x * x / 2) / sqrt(2 * PI) / above; /* −d log(above)/dx */
    double off = log(above) - goal, newton = off / rate, bend = rate - x;
    double step = newton / (1 - newton * bend / 2);
    x += step;
    if (fabs(step) < 1e-14 * (1 + x)) break;
  }
  return x;
}

/* The r-th token that is none of the n used ones, which ascend. It is added to them. */
static int32_t unused(int32_t r, int32_t *used, int n) {
  int i = 0;
  while (i < n && used[i] <= r) i++, r++;
  for (int k = n; k > i; k--) used[k] = used[k - 1];
  return used[i] = r;
}

/* Draws — the entries of ε of the tokens other than x, the largest first. */
typedef struct Draws {
  RngKey key;
  uint64_t next;
  int64_t left;                  /* tokens that have not been drawn */
  double log_rank;               /* log Φ of the last one */
  int32_t used[LATENT_MOST + 2]; /* x, the mask and those drawn, ascending */
  int n;
} Draws;

static double uniform(Draws *d) {
  double u = rng_uniform(d->key, d->next++);
  return u > 0 ? u : 1e-300;
}

/* The largest of `left` deviates below the last one: its rank is that one's times U^(1/left). */
static double next(Draws *d, int32_t *id) {
  d->log_rank += log(uniform(d)) / (double)d->left;
  int32_t r = (int32_t)(uniform(d) * (double)d->left);
  *id = unused(r < d->left ? r : (int32_t)d->left - 1, d->used, d->n++);
  d->left--;
  double above = -expm1(d->log_rank);
  return latent_upper(above < 1 ? above : 1 - 1e-16);
}

/* Insert an entry, keeping scores descending. */
static int insert(int32_t *ids, double *scores, int n, int32_t id, double score) {
  int i = n;
  for (; i > 0 && scores[i - 1] < score; i--) ids[i] = ids[i - 1], scores[i] = scores[i - 1];
  ids[i] = id, scores[i] = score;
  return n + 1;
}

int latent_draw(const Latent *g, double place, double temperature, int32_t x, int32_t mask, RngKey key,
                int32_t ids[LATENT_MOST], double weights[LATENT_MOST]) {
  const double LEAST = 1e-9;
  double gamma = g->low + (g->high - g->low) * place, sigma = sqrt(1 / (1 + exp(-gamma))), sum = 0;
  Draws d = {.key = key, .left = g->tokens - 1, .used = {x < mask ? x : mask, x < mask ? mask : x}, .n = 2};
  double radius = sqrt(-2 * log(uniform(&d))), own = exp(-gamma / 2) + radius * cos(2 * PI * uniform(&d)); /* w_x/σ̃ */
  int n = insert(ids, weights, 0, x, own);
  for (int i = 0; i < LATENT_MOST - 1 && d.left > 0; i++) {
    int32_t id;
    double score = next(&d, &id);
    n = insert(ids, weights, n, id, score);
    double cut = weights[0] + temperature / sigma * log(LEAST / (double)(d.left + 1));
    if (score < cut) break; /* all that are left together weigh less than LEAST */
  }
  for (int i = n - 1; i >= 0; i--) {
    weights[i] = exp((weights[i] - weights[0]) * sigma / temperature);
    if (i > 0 && weights[i] < LEAST) n = i, weights[i] = 0;
    sum += weights[i];
  }
  for (int i = 0; i < n; i++) weights[i] /= sum;
  return n;
}
