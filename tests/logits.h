/* logits — for tests of ops on logits, whose type may be act or real: logits_every runs a case with both where they
 * differ. Row layouts are those of the program and others. */
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

/* Rows without gaps; with gaps and at odd offsets; with each row aligned to 128 bytes. */
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
