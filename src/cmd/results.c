#include "cmd/results.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "diffusion/objective.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Whether the evaluation masked tokens: a network that predicts the next token has an exact loss. */
static int deck_masks(Config *deck, H5 *f, bool *masks) {
  const ObjectiveTable *objective;
  char *text = NULL, *gone = NULL;
  TRY(h5_get_str(f, "/", "deck", &text));
  int err = config_load_text(deck, text, h5_path(f), &gone);
  mem_free(&text);
  mem_free(&gone);
  TRY(err);
  TRY(objective_find(&objective, deck->diffusion_objective));
  *masks = objective->gives != GIVES_NEXT;
  return OK;
}

/* Numbers that the intervals are computed from. */
static int check(const Results *r, H5 *f, int64_t n) {
  int64_t scored = 0;
  for (int64_t i = 0; i < n; i++) {
    CHECK(r->tokens[i] >= 0 && r->tokens[i] <= INT32_MAX, ERR_DATA, "%s: /tokens of row %lld is %lld", h5_path(f),
          (long long)i, (long long)r->tokens[i]);
    CHECK(isfinite(r->loss[i]), ERR_DATA, "%s: /loss of row %lld is %g", h5_path(f), (long long)i, r->loss[i]);
    CHECK(!r->square || r->square[i] >= 0, ERR_DATA, "%s: /square of row %lld is %g", h5_path(f), (long long)i,
          r->square[i]);
    scored += r->tokens[i];
  }
  CHECK(scored > 0, ERR_DATA, "%s: /tokens has no scored token", h5_path(f));
  return OK;
}

static int series(H5 *f, const char *name, H5Type type, int64_t n, void *values) {
  TRY(mem_alloc(values, (size_t)n * sizeof(double)));
  return h5_read(f, name, type, 1, &n, *(void **)values);
}

static int read_all(Results *r, H5 *f) {
  H5Info info;
  bool masks = false;
  int64_t draws = 0, wrap = 0;
  TRY(h5_info(f, "/loss", &info));
  CHECK(info.rank == 1 && info.dims[0] > 0, ERR_DATA, "%s: /loss is not a list of numbers", h5_path(f));
  int64_t n = info.dims[0];
  TRY(series(f, "/loss", H5_F64, n, &r->loss));
  TRY(series(f, "/tokens", H5_I64, n, &r->tokens));
  if (h5_exists(f, "/square")) TRY(series(f, "/square", H5_F64, n, &r->square));
  TRY(check(r, f, n));
  if (h5_has(f, "/", "draws")) { /* an evaluation, not a score */
    TRY(h5_get_within(f, "/", "draws", 0, INT32_MAX, &draws));
    TRY(h5_get_within(f, "/", "wrap", 0, 1, &wrap));
    TRY(deck_masks(&r->deck, f, &masks));
  }
  if (!masks) draws = 0;
  if (draws > 0 && !r->square) draws = 1;
  r->losses = (Losses){.n = n, .loss = r->loss, .square = r->square, .tokens = r->tokens, .draws = draws};
  r->block = interval_block(n, wrap);
  return OK;
}

static int text_read(TextRate *t, H5 *f) {
  *t = (TextRate){NAN, NAN};
  if (h5_has(f, "/", "bytes_per_token")) TRY(h5_get_real(f, "/", "bytes_per_token", &t->bytes));
  if (h5_has(f, "/", "words_per_token")) TRY(h5_get_real(f, "/", "words_per_token", &t->words));
  return OK;
}

int results_read(Results *r, H5 *f) {
  *r = (Results){0};
  int err = read_all(r, f);
  if (err == OK) err = text_read(&r->text, f);
  if (err) results_destroy(r);
  return err;
}

void results_destroy(Results *r) {
  if (r == NULL) return;
  mem_free(&r->loss);
  mem_free(&r->square);
  mem_free(&r->tokens);
  config_free(&r->deck);
  *r = (Results){0};
}

const char *results_origin(const Spread *s, char text[64]) {
  if (s->block > 1) {
    snprintf(text, 64, "%lld blocks of %lld neighbouring rows", (long long)s->blocks, (long long)s->block);
  } else {
    snprintf(text, 64, "%lld rows", (long long)s->blocks);
  }
  return text;
}

static void show_interval(const char *name, const Spread *s, const char *origin) {
  log_info("  %-18s nll %.5f to %.5f, ppl %.4f to %.4f; %s", name, s->low, s->high, exp(s->low), exp(s->high), origin);
}

double results_bits_per_byte(const TextRate *text, double nll) { return nll / log(2.0) / text->bytes; }

void results_show(const Losses *l, int64_t block, const TextRate *text) {
  char origin[64];
  Spread masks = interval_masks(l), rows = interval_sequences(l, block);
  log_info("  %-18s %.5f nat per token, %.5f bits", "nll", rows.value, rows.value / log(2.0));
  log_info("  %-18s %.4f", "ppl", exp(rows.value));
  if (!isnan(text->bytes)) log_info("  %-18s %.5f", "bits per byte", results_bits_per_byte(text, rows.value));
  if (!isnan(text->words)) log_info("  %-18s %.6g", "ppl of words", exp(rows.value / text->words));
  if (l->draws > 1) {
    snprintf(origin, sizeof origin, "%lld draws of the masks", (long long)l->draws);
    show_interval("ci95 of the rows", &masks, origin);
  } else if (l->draws == 1) {
    log_info("  %-18s unknown: it needs eval.draws = 2 or more", "ci95 of the rows");
  }
  if (isnan(rows.se)) {
    log_info("  %-18s unknown: it needs more rows", "ci95 of the source");
  } else {
    show_interval("ci95 of the source", &rows, results_origin(&rows, origin));
  }
}
