/* uniform_bound — what both backends compute once per row of op_uniform_bound, in f64.
 *
 * With z the token that the network saw, x the target, K the number of tokens, b = 1 − alpha, a = K alpha:
 *   x_j = a [j = x] + b,  y_j = a p_j + b,  r_j = x_j/x_z,  q_j = y_j/(y_z r_j)
 *   loss = w/K·Σ_j r_j φ(q_j),  φ(q) = q − 1 − log q
 * r is the same for all tokens but z and x, and φ(q_z) = 0. With g = a/x_z, which shifts all derivatives by a constant and
 * cancels in those with respect to logits, h_j = K/w·dloss/dp_j + g is
 *   h_j = g a p_j/y_j besides z and x,   h_z = g (y_z − x_z)/y_z·(K/y_z + 1),   h_x = −g a (1 − p_x)/y_x if x ≠ z
 * and dloss/df_j = w/K·p_j (h_j − Σ p h).
 * Shared with CUDA: keep it C++-clean. */
#pragma once
#include <math.h>
#include <stdbool.h>

#ifdef __CUDACC__
#define UNIFORM_FN __host__ __device__ static inline
#else
#define UNIFORM_FN static inline
#endif

typedef struct UniformBound {
  bool same;              /* z = x */
  double weight, K, a, b; /* weight = w/K */
  double p_z, y_z, p_x, y_x;
  double ratio;            /* r_j of the tokens besides z and x */
  double q_slope, q_shift; /* q_j = q_slope·p_j + q_shift of these */
} UniformBound;

typedef struct UniformSlopes {
  double rest, mean; /* dloss/df_j = p_j (rest·a p_j/y_j − mean) at tokens besides z and x */
  double at_z, at_x; /* dloss/df there */
} UniformSlopes;

/** uniform_bound — w and b = 1 − alpha are those of the row's terms. */
UNIFORM_FN UniformBound uniform_bound(double w, double b, double K, bool same, double p_z, double p_x) {
  UniformBound u;
  u.same = same;
  u.weight = w / K;
  u.K = K;
  u.a = K * (1 - b);
  u.b = b;
  u.p_z = p_z;
  u.p_x = p_x;
  u.y_z = u.a * p_z + b;
  u.y_x = u.a * p_x + b;
  u.ratio = same ? b / (u.a + b) : 1;
  u.q_slope = u.a / (u.ratio * u.y_z);
  u.q_shift = b / (u.ratio * u.y_z);
  return u;
}

/** uniform_bound_loss — from Σ φ(q_j) of the tokens besides z and x. */
UNIFORM_FN double uniform_bound_loss(const UniformBound *u, double sum) {
  double r_x = (u->a + u->b) / u->b, q_x = u->y_x / (u->y_z * r_x);
  return u->weight * (u->ratio * sum + (u->same ? 0 : r_x * (q_x - 1 - log(q_x))));
}

/** uniform_bound_slopes — from Σ p_j·a p_j/y_j of the tokens besides z and x. */
UNIFORM_FN UniformSlopes uniform_bound_slopes(const UniformBound *u, double sum) {
  UniformSlopes s;
  double x_z = u->same ? u->a + u->b : u->b, g = u->a / x_z;
  double above = u->same ? -u->a * (1 - u->p_z) : u->a * u->p_z; /* y_z − x_z */
  double h_z = g * above / u->y_z * (u->K / u->y_z + 1), h_x = u->same ? h_z : -g * u->a * (1 - u->p_x) / u->y_x;
  double mean = u->p_z * h_z + (u->same ? 0 : u->p_x * h_x) + g * sum;
  s.rest = u->weight * g;
  s.mean = u->weight * mean;
  s.at_z = u->weight * u->p_z * (h_z - mean);
  s.at_x = u->weight * u->p_x * (h_x - mean);
  return s;
}
