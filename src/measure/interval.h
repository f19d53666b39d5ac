/* interval — how far a measured nll may be from the true one: standard errors, and 95 % intervals by Student's t.
 *
 * nll = Σ loss_i / Σ tokens_i over sequences. Two questions have two standard errors:
 *
 *   masks      How well is the value of these very sequences known? A sequence's loss is the mean of D draws of its
 *              masks. With square_i = Σ over draws of (loss_id − loss_i)²,
 *                se² = Σ v_i / (Σ tokens_i)²,  v_i = square_i / (D(D − 1))
 *              It needs D ≥ 2. The draws of a sequence are independent. Strata of times that the sequences share make
 *              their errors cancel in part, so with stratified draws se is too large rather than too small.
 *   sequences  How well is the value of the text known from which the sequences were drawn? A ratio estimator over K
 *              blocks of neighbouring rows, which in running text are alike:
 *                se² = K/(K − 1) Σ (loss_k − nll·tokens_k)² / (Σ tokens_i)²
 *              It contains the masks' part. The last block may be shorter.
 *
 * A comparison of two networks on the same rows is the second one on the differences of their losses. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct Interval {
  double nll, low, high; /* nat per token; low and high NaN for a single sequence */
  int64_t tokens;        /* Σ tokens */
} Interval;

/** interval_of — the interval of n independent sequences: loss[n] in nat, tokens[n] scored tokens of each. */
Interval interval_of(const double *loss, const int64_t *tokens, int64_t n);

enum { INTERVAL_TEXT = 64 };
/** interval_text — text := "[low,high]" with so many digits after the point, or "unknown" for NaN. */
const char *interval_text(char text[INTERVAL_TEXT], double low, double high, int digits);

typedef struct Losses { /* of a data set; not owned */
  int64_t n;            /* sequences */
  const double *loss;   /* [n] nat: mean over draws */
  const double *square; /* [n] nat²: Σ over draws of the squared deviations from that mean; NULL: none with one draw */
  const int64_t *tokens; /* [n] scored tokens */
  int64_t draws;         /* 0: the losses are exact, since nothing is masked */
} Losses;

/* A standard error and its interval; all but value are NaN where the error is not known. */
typedef struct Spread {
  double value, se, low, high; /* nat per token */
  double freedom;              /* degrees of freedom of Student's t */
  int64_t block, blocks;       /* rows of a block and number of blocks with scored tokens; 0: not by blocks */
} Spread;

/** interval_masks — the masks' part; NaN with one draw, 0 for exact losses. Degrees of freedom by Welch and
 *  Satterthwaite: ν = (Σ v_i)² / Σ (v_i²/(D + 1)) − 2, at least D − 1. */
Spread interval_masks(const Losses *l);
/** interval_sequences — that of the text, by blocks of `block` ≥ 1 rows; NaN with a single block. */
Spread interval_sequences(const Losses *l, int64_t block);
/** interval_block — rows of a block for n rows: 1 where each row is a text of its own; for rows of running text up to
 *  50, fewer where there would be fewer than 25 blocks. */
int64_t interval_block(int64_t n, bool running);

/* The variance of a sequence's loss, nat²: of one draw around the sequence's mean, averaged over sequences, and of those
 * means between sequences, whose lengths are accounted for as above. For n rows and D draws
 *   se² ≈ n (rows + draws/D) / (Σ tokens)²
 * so that more draws help as far as draws/D is the larger part, and more rows always do. */
typedef struct Split {
  double rows, draws; /* NaN where unknown; rows is unbiased, and so may be below 0 */
} Split;

/** interval_split — needs two draws, or exact losses, and two sequences. */
Split interval_split(const Losses *l);

typedef struct Difference {
  Spread spread; /* of nll B − nll A */
  double p;      /* two-sided, of no difference */
} Difference;

/** interval_difference — of two evaluations of the same sequences and tokens. NaN with a single block, but for equal
 *  losses: no difference, p = 1. */
Difference interval_difference(const Losses *a, const Losses *b, int64_t block);
