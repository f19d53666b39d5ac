/* genppl — generative perplexity: the likelihood of given rows under another network, which predicts the next token.
 *
 * A row is cut into consecutive windows of the network's length, the last one shorter; each is scored by itself. Scored
 * are every token but eos, and the first eos of each window; never the first token of a window. So in a window that
 * begins with eos no other eos counts, and padding with eos costs nothing. Perplexity alone rewards repetition: it is
 * reported with the rows' mean entropy (entropy.h). Source: the protocol of arXiv:2406.07524 */
#pragma once
#include "dist/comm.h"
#include "measure/interval.h"
#include "network/network.h"
#include "store/tokens.h"

typedef struct Genppl {
  int64_t rows, windows; /* windows of at least two tokens */
  int stop;              /* the signal that stopped it: then there are no results; 0: complete */
  int64_t done;          /* finished windows */
  Interval interval;     /* over rows */
  double entropy;        /* mean over rows, nat */
  double *loss;          /* [rows] nat, rank 0 only */
  int64_t *scored;       /* [rows] scored tokens, rank 0 only */
  double *entropies;     /* [rows] rank 0 only */
} Genppl;

typedef struct GenpplOptions {
  const char *progress;      /* label of the progress line, NULL: quiet */
  const char *partial, *key; /* file of finished windows and its key (items.h); NULL: none */
} GenpplOptions;

/** genppl_run — scores all rows with a network that gives the next token. Batches, and so the results, are bitwise the
 *  same on any number of ranks. Collective; every rank gets interval and entropy. A stop signal is obeyed after a batch.
 *  Errors  ERR_DATA: tokens_read's, or no token is scored; those of items_run */
int genppl_run(Genppl *result, Network *net, Tokens *tokens, int32_t eos, Comm *comm, const GenpplOptions *options);
void genppl_destroy(Genppl *g);
