/* logits — those of a test of the ops that take them, which may be act or real: a case run by logits_every meets both
 * where they differ; rows lie as the program lays them out and as it does not. */
#pragma once
#include "check.h"

static bool logits_are_real;
static inline DType logits_type(const Check *c) { return logits_are_real ? c->dev.real : c->dev.act; }

/** logits_every — check_every, and in mode bf16 once more with logits in f32. */
static inline void logits_every(CheckCase run, const void *shape) {
  check_every(run, shape);
  if (check_last() != CHECK_BF16) return;
  logits_are_real = true;
  check_case(run, shape, CHECK_BF16, CHECK_BF16);
  logits_are_real = false;
}

/* Rows one after the other; at odd places; each from a multiple of 128 bytes on, which V is not. */
typedef enum Layout { PACKED, STRIDED, PADDED } Layout;
static const char *const layout_names[] = {"", " strided", " padded"};

/** logits_random — [R,V] in (−scale, scale). */
static inline Tensor logits_random(Check *c, int64_t R, int64_t V, Layout layout, double scale) {
  int64_t ld = layout == PADDED ? (V + 63) / 64 * 64 : layout == STRIDED ? V + 5 : V;
  int64_t first = layout == STRIDED ? 3 : 0;
  Tensor t = logits_are_real ? check_random_cols(c, R, V, ld, first) : check_act_cols(c, R, V, ld, first);
  check_fill(c, t, scale);
  return t;
}
