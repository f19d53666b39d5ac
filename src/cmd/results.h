/* results — the values of each sequence in a file that eval or score wrote, and how far their nll can be trusted. */
#pragma once
#include "base/config.h"
#include "measure/interval.h"
#include "store/h5.h"

/* How much text a scored token stands for, in the whole data set; NaN where the data do not say. */
typedef struct TextRate {
  double bytes, words;
} TextRate;

typedef struct Results {
  Losses losses; /* draws: 0 where nothing was masked, 1 where the spread between draws is not in the file */
  int64_t block; /* interval_block of the rows */
  TextRate text;
  Config deck; /* of an evaluation */
  double *loss, *square;
  int64_t *tokens;
} Results;

/** results_read — from /loss, /tokens and /square. Errors  ERR_DATA; ERR_MEMORY */
int results_read(Results *r, H5 *f);
/** results_destroy — NULL-safe, clears r. */
void results_destroy(Results *r);
/** results_origin — where the degrees of freedom of s come from: "25 blocks of 40 neighbouring rows", "63 rows". */
const char *results_origin(const Spread *s, char text[64]);
/** results_bits_per_byte — of an nll in nat per token; NaN where it is not known. */
double results_bits_per_byte(const TextRate *text, double nll);
/** results_show — print nll, ppl, those of bytes and words where known, and both 95 % intervals. */
void results_show(const Losses *l, int64_t block, const TextRate *text);
